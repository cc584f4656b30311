"""Construction of tables of lanes from config.sampling.lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffjax.builder.construct import construct, refuse
from diffjax.config import Config, ConfigError, checked, parse
from diffjax.data.form import Form
from diffjax.denoiser import Model
from diffjax.objectives import Objective
from diffjax.objectives.forcing import check_sizes
from diffjax.samplers import ORDERS, Table
from diffjax.samplers.lanes import lanes, positions, times_of
from diffjax.sde import SDE


def construct_lanes(
    spec: Config | str,
    known: Sequence[int],
    plan: Any,
    sde: SDE,
    times: np.ndarray,
    form: Form,
    place: str,
    name: str = "",
) -> Table:
    """Construct the table of lanes of a sampler on a grid.

    spec: `name`, an entry of ORDERS, `full` by default, with its settings; `sizes`: those of the
    lanes, repeated until they cover the leading axis of items, (1,) by default. known: the
    positions that every sample is given. plan: `(sde, times) -> Table`, a sampler, with its name
    for messages. Raises ConfigError for what no items of this form can have.

    >>> from diffjax import samplers, schedules
    >>> from diffjax.data.form import labelled
    >>> from diffjax.sde import Flow
    >>> asked = Flow(schedules.Logit()), np.array([1.0, 0.5, 0.0]), labelled("sequence", (4, 1))
    >>> construct_lanes("pyramid", [0, 1], samplers.ddim, *asked, "config.sampling.lanes")
    Table(3 rows of 4 lanes, y = x0)
    """
    given = parse(spec) if isinstance(spec, str) else dict(spec)
    order = {"name": "full"} | {k: v for k, v in given.items() if k != "sizes"}
    length = form.shape[0]
    sizes = checked(given.get("sizes", (1,)), tuple[int, ...], f"{place}.sizes")
    lane = refuse(f"{place}.sizes")(positions)(length, tuple(sizes))
    is_known = known_positions(known, length)
    chosen = refuse(place)(construct(ORDERS, order, place, partial=True))
    at = refuse("--known" if is_known.any() else place)(times_of)(times, chosen, lane, is_known)
    return refuse(place)(lanes)(plan, sde, at, name)


def known_positions(known: Sequence[int], length: int) -> np.ndarray:
    """Return which of `length` positions are known, (length,); raise ConfigError for others.

    >>> known_positions((0, -1), 4).tolist()
    [True, False, False, True]
    """
    if bad := [k for k in known if not -length <= k < length]:
        raise ConfigError(f"--known: no position {bad[0]}; known: 0 to {length - 1}")
    return np.isin(np.arange(length), [k % length for k in known])


def check_lanes(config: Config, form: Form, model: Model, loss: Objective) -> None:
    """Raise ConfigError for lanes in config.sampling that the network was not trained for."""
    spec = config["sampling"].get("lanes")
    if not spec:
        return
    place = "config.sampling.lanes"
    check_trained(loss, place)
    spec = parse(spec) if isinstance(spec, str) else spec
    refuse(f"{place}.sizes")(check_sizes)(tuple(spec.get("sizes", (1,))), model, form.shape)


def check_trained(loss: Objective, place: str) -> None:
    """Raise ConfigError for an objective that trains one time for each item."""
    if not loss.lanes:
        raise ConfigError(
            f"{place}: config.loss trains one time for each item; allowed: name='forcing'"
        )
