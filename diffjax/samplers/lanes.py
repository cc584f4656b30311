"""Tables of lanes: samplers with a time per position of the leading axis of items.

A lane is a set of positions that share their times, such as a frame of a video, a row of a series
or a part of a packed vector. Its rows are those of an ordinary table, and a row that leaves it
alone has the update x. So a schedule of lane times, (ticks + 1, L), is a sampler: all positions
together, one after the other, or each a few steps behind the one before (arXiv:2407.01392). A
position whose time is always 0 is known, which gives inpainting, forecasts and plans to a goal; one
that stays at t_max is left out, which gives the marginal of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from diffjax import checks
from diffjax.arrays import catalogue
from diffjax.samplers.table import NOISES, OUTPUTS, READ, WRITE, Table
from diffjax.sde import SDE


def full(steps: int, lanes: int) -> np.ndarray:
    """All lanes together, as without lanes.

    >>> full(2, 3).tolist()
    [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    """
    return pyramid(steps, lanes, delay=0)


def autoregressive(steps: int, lanes: int) -> np.ndarray:
    """One lane after the other, in order: each is done before the next one begins.

    >>> autoregressive(2, 2).tolist()
    [[0, 0], [1, 0], [2, 0], [2, 1], [2, 2]]
    """
    return pyramid(steps, lanes, delay=steps)


def pyramid(steps: int, lanes: int, delay: int = 1) -> np.ndarray:
    """Each lane `delay` steps behind the one before (arXiv:2407.01392).

    >>> pyramid(2, 3, delay=1).tolist()
    [[0, 0, 0], [1, 0, 0], [2, 1, 0], [2, 2, 1], [2, 2, 2]]
    """
    checks.whole(0, delay=delay)
    return _delayed(steps, delay * np.arange(lanes))


def trapezoid(steps: int, lanes: int, delay: int = 1) -> np.ndarray:
    """Both ends first, and each lane `delay` steps behind its outer neighbour (arXiv:2407.01392).

    >>> trapezoid(2, 3, delay=1).tolist()
    [[0, 0, 0], [1, 0, 1], [2, 1, 2], [2, 2, 2]]
    """
    checks.whole(0, delay=delay)
    place = np.arange(lanes)
    return _delayed(steps, delay * np.minimum(place, lanes - 1 - place))


def _delayed(steps: int, delays: np.ndarray) -> np.ndarray:
    """Return the step of each lane at each time: it begins after its delay."""
    ticks = np.arange(steps + delays.max() + 1)
    return np.clip(ticks[:, None] - delays, 0, steps)


ORDERS = catalogue(full, autoregressive, pyramid, trapezoid)
"""Functions `(steps, lanes) -> (ticks + 1, lanes)`: how many steps each lane has done by then."""


def positions(length: int, sizes: tuple[int, ...] = (1,)) -> np.ndarray:
    """Return the lane of each of `length` positions, (length,), for lanes of these sizes.

    sizes: numbers of consecutive positions, repeated until they cover the axis: (1,) is a lane for
    each position, (2,) one for each pair. Raises ValueError where they do not cover it exactly.

    >>> positions(6, (2,)).tolist(), positions(6, (1, 2)).tolist()
    ([0, 0, 1, 1, 2, 2], [0, 1, 1, 2, 3, 3])
    """
    if not sizes or any(size < 1 for size in sizes) or length % sum(sizes):
        raise ValueError(
            f"sizes={sizes}: needs sizes of at least 1 whose sum divides {length}, the length of "
            f"the leading axis of items"
        )
    whole = np.tile(sizes, length // sum(sizes))
    return np.repeat(np.arange(len(whole)), whole)


def times_of(
    grid: np.ndarray,
    order: Callable[[int, int], np.ndarray],
    lane: np.ndarray,
    known: np.ndarray,
) -> np.ndarray:
    """Return the times of all positions, (ticks + 1, L), for an order of the lanes that are free.

    grid: the times of a lane, (steps + 1,), decreasing. order: an entry of `ORDERS`. lane: the lane
    of each position, (L,). known: whether each is known, (L,); its time is 0 throughout. Raises
    ValueError where all are known, and for a lane of which a part is known.

    >>> grid, known = np.array([1.0, 0.5, 0.0]), np.array([True, False, False])
    >>> times_of(grid, autoregressive, np.arange(3), known).tolist()
    [[0.0, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]]
    """
    if known.all():
        raise ValueError("known: holds all positions; needs one that is free")
    free, place = np.unique(lane[~known], return_inverse=True)
    if split := sorted(set(free.tolist()) & set(lane[known].tolist())):
        where = np.flatnonzero(lane == split[0]).tolist()
        raise ValueError(f"known: holds a part of a lane, which are the positions {where}")
    times = np.zeros((len(steps := order(len(grid) - 1, len(free))), len(lane)))
    times[:, ~known] = grid[steps][:, place]
    return times


class _Lane(NamedTuple):
    """The rows of one lane: its table, or None for one at rest, and the rows of each tick."""

    table: Table | None
    ranges: list[range]
    times: np.ndarray


def lanes(plan: Callable[[SDE, np.ndarray], Table], sde: SDE, times: Any, name: str = "") -> Table:
    """Plan a table with a time per position, from the ordinary tables of a sampler.

    plan: a sampler with its settings. times: (ticks + 1, L), in [0, t_max]; the times of a position
    never increase. It takes a step of the sampler in each tick in which its time falls and rests in
    the others; at rest at 0 it has the time t_min, as no network knows less noise. The table of a
    position is that of its own times, so equal times of all positions give the ordinary sampler.
    name: that of the sampler, for messages.

    Raises ValueError for other times; for samplers that need a second time or a Langevin step; for
    those whose rows belong to no single step, unless all positions that move do so together; and
    for tables with guidance weights or a Brownian path.

    >>> from diffjax import samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> table = lanes(samplers.ddim, flow, [[1.0, 0.0], [0.5, 0.0], [0.0, 0.0]])
    >>> table, table.t.tolist()  # the second position is known
    (Table(2 rows of 2 lanes, y = x0), [[1.0, 0.001], [0.5, 0.001]])
    """
    times = _checked(sde, np.asarray(times, np.float64))
    moves = (np.diff(times, axis=0) < 0).any(1)
    times = times[np.append(True, moves)]  # no row for a tick in which all rest
    columns, which = np.unique(times, axis=1, return_inverse=True)
    alone = (columns[0] != columns[-1]).sum() == 1
    name = name or getattr(getattr(plan, "func", plan), "__name__", "the sampler")
    single = [_lane(plan, sde, column, "" if alone else name) for column in columns.T]
    counts = np.array([[len(part) for part in lane.ranges] for lane in single]).max(0)
    parts = [_rows(lane, counts, sde.t_min) for lane in single]
    of = lambda name: np.stack([part[name] for part in parts], 1)[:, which]
    first = next(lane.table for lane in single if lane.table is not None)
    rows = int(counts.sum())
    return Table(
        t=of("t"),
        to=of("t"),
        input=of("input"),
        update=of("update"),
        keep=of("keep"),
        keep_noise=of("keep_noise"),
        spread=of("spread"),
        noisy=of("noisy").any(1),
        clock=np.full((rows, 2), np.nan),
        nodes=np.arange(rows)[:, None],
        shares=np.ones((rows, 1)),
        snr=np.zeros(rows),
        weight=np.ones(rows),
        active=np.ones(rows, bool),
        begins=np.zeros(rows, bool),
        read=first.read,
        learned=first.learned,
        origin=first.origin,
    )


def _checked(sde: SDE, times: np.ndarray) -> np.ndarray:
    """Return the times; raise ValueError where they are no schedule of lanes."""
    if times.ndim != 2 or len(times) < 2 or not times.shape[1]:
        raise ValueError(f"times of shape {times.shape}: needs (ticks + 1, L), with a tick or more")
    if not ((times >= 0) & (times <= sde.t_max)).all():
        raise ValueError(f"times from {times.min():g} to {times.max():g}: needs 0 to {sde.t_max}")
    if (rise := (np.diff(times, axis=0) > 0).any(0)).any():
        k = int(np.argmax(rise))
        raise ValueError(f"the times of position {k}, {times[:, k].tolist()}, rise")
    if (times == times[0]).all():
        raise ValueError("all positions rest at all times; needs one that moves")
    return times


def _lane(
    plan: Callable[[SDE, np.ndarray], Table], sde: SDE, times: np.ndarray, name: str
) -> _Lane:
    """Plan the table of one lane, and find its rows in each tick.

    name: that of the sampler, for messages; "" for the only lane that moves, whose rows may all
    come in the first tick.
    """
    moves = np.diff(times) < 0
    if not moves.any():
        return _Lane(None, [range(0)] * len(moves), times)
    table = plan(sde, times[np.append(True, moves)])
    check_rows(table)
    starts = np.flatnonzero(table.begins)
    if len(starts) == moves.sum() and starts[0] == 0:
        ends = iter(pairwise([*starts.tolist(), len(table)]))
        return _Lane(table, [range(*next(ends)) if move else range(0) for move in moves], times)
    if name:
        raise ValueError(
            f"{name}: has rows that belong to no single step, so no lane can rest between its "
            f"steps; allowed: the samplers that begin each step at x, such as ddim and heun"
        )
    return _Lane(table, [range(len(table)), *[range(0)] * (len(moves) - 1)], times)


def check_rows(table: Table) -> None:
    """Raise ValueError for a table whose rows cannot be those of a lane."""
    if table.lanes:
        raise ValueError("the table has lanes already")
    if table.langevin:
        raise ValueError("lanes: the steps of the corrector langevin are not linear")
    if table.leads:
        raise ValueError("lanes: flow maps, which have a second time; allowed: other samplers")
    if table.nodes.shape[1] > 1 or np.any(table.weight != 1) or not np.all(table.active):
        raise ValueError("lanes: needs a plain table; allowed: noise paths and weights afterwards")


def _rows(lane: _Lane, counts: np.ndarray, t_min: float) -> dict[str, np.ndarray]:
    """Return the rows of one lane, with rest behind those of each tick up to their number."""
    rows: list[dict[str, Any]] = []
    keep = np.eye(len(READ))[0], np.eye(len(WRITE))[0]
    rest = {"input": keep[0], "update": keep[1], "keep": OUTPUTS, "keep_noise": NOISES}
    rest |= {"spread": 0.0, "noisy": False}
    for k, (part, count) in enumerate(zip(lane.ranges, counts, strict=True)):
        for i in part:
            rows.append({name: getattr(lane.table, name)[i] for name in ("t", *rest)})
        at = max(lane.times[k + 1], t_min)
        rows += [rest | {"t": at}] * (count - len(part))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}
