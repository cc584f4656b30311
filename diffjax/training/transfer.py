"""Transfer of weights between networks: parameters by name, renamed by explicit rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from diffjax.arrays import Params
from diffjax.config import ConfigError
from diffjax.io.trees import flat, nested, some
from diffjax.nets import Adapted
from diffjax.nets.adapted import PARAMS
from diffjax.nets.rows import TABLE, Rows
from diffjax.training.experiment import Experiment


class Transfer(NamedTuple):
    """The result of a transfer.

    params: the parameters that fit, as a tree without the others. missing: the paths that the
    source lacks, except for an adapter that begins with this run. surplus: the paths of the source
    that the network lacks. reshaped: the paths whose shape in the source differs, with both shapes.
    """

    params: Params
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    reshaped: tuple[str, ...]

    def __str__(self) -> str:
        return "; ".join(
            (
                some("missing, so initialised at random", self.missing),
                some("of other shapes, so initialised at random", self.reshaped),
                some("not used", self.surplus),
            )
        )

    @property
    def complete(self) -> bool:
        """True if source and network have exactly the same parameters."""
        return not (self.missing or self.surplus or self.reshaped)


def transfer(experiment: Experiment, params: Params, renames: Sequence[str] = ()) -> Transfer:
    """Return the parameters of another network that fit the network of the experiment.

    params: the parameters of the source. renames: rules `OLD=NEW`, applied in order; OLD is a
    regular expression that is searched in the paths of the source, such as `network/blocks`, and
    NEW its replacement. Raises ConfigError for a rule that matches nothing, and where two
    parameters receive one name.
    """
    loaded: dict[str, Any] = flat(params)
    for text in renames:
        loaded = renamed(loaded, text)
    wanted = flat(jax.eval_shape(experiment.parameters))
    loaded |= grown(experiment.model.network, loaded, wanted)
    both = [path for path in wanted if path in loaded]
    shapes = lambda path: (tuple(loaded[path].shape), wanted[path].shape)
    reshaped = {path: shapes(path) for path in both if len({*shapes(path)}) > 1}
    return Transfer(
        params=nested({path: loaded[path] for path in both if path not in reshaped}),
        missing=tuple(sorted(set(wanted) - set(loaded) - begins(wanted, loaded))),
        surplus=tuple(sorted(set(loaded) - set(wanted))),
        reshaped=tuple(f"{k} {old}, needs {new}" for k, (old, new) in reshaped.items()),
    )


def begins(wanted: Iterable[str], loaded: Iterable[str]) -> set[str]:
    """Return the paths of the adapter among `wanted`, or none where the source has one as well.

    >>> begins(["network/w", "network/adapter/w/up"], ["network/w"])
    {'network/adapter/w/up'}
    """
    own = {path for path in wanted if path.startswith(f"network/{PARAMS}/")}
    return set() if own & set(loaded) else own


def grown(network: Any, loaded: dict[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables among `loaded` that lack new rows which the adapter of a network trains.

    They have these rows, which begin at the mean of all others.
    """
    parts = network.adapter.parts if isinstance(network, Adapted) else ()
    rows = [part for part in parts if isinstance(part, Rows)]
    larger = {}
    for path, table in loaded.items() if rows else ():
        like = wanted.get(path)
        if path.rpartition("/")[2] != TABLE or like is None or table.shape[1:] != like.shape[1:]:
            continue
        for part in rows:
            inner = path.removeprefix("network/")
            if (new := part.grown(inner, table, len(like))) is not None:
                larger[path] = new
    return larger


def renamed(tensors: dict[str, Any], text: str) -> dict[str, Any]:
    """Return the tensors under the paths that one rule `OLD=NEW` gives them.

    The last `=` separates OLD and NEW, so OLD may contain `=`. Raises ConfigError for a rule
    without effect or of another form, and where two parameters receive one name.
    """
    old, sign, new = text.rpartition("=")
    place = f"--resume_map={text}"
    if not sign or not old:
        raise ConfigError(f"{place}: the form is OLD=NEW, a regular expression and its replacement")
    try:
        paths = {path: re.sub(old, new, path) for path in tensors}
    except (re.error, IndexError) as error:
        raise ConfigError(f"{place}: not a regular expression ({error})") from error
    if not any(re.search(old, path) for path in tensors):
        known = sorted({"/".join(path.split("/")[:2]) for path in tensors})
        raise ConfigError(f"{place}: matches no parameter; known: {', '.join(known)}")
    targets = list(paths.values())
    if twice := sorted({path for path in targets if targets.count(path) > 1}):
        raise ConfigError(f"{place}: renames several parameters to {twice[0]!r}")
    return {paths[path]: value for path, value in tensors.items()}
