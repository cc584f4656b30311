"""Metrics of clips: one class throughout, paths that bounce, and changes from frame to frame.

Each stands beside its value for held-out clips, and beside that for held-out clips whose frames
were put into another order, which a metric of motion has to punish.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import wasserstein_distance

from diffjax.data import Memory
from diffjax.data.moving_digits import ROOM, reflected
from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.gaussian import frechet_with_floor
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Real, Samples
from diffjax.features.judge import Judge, fit

STARTS, PACES = 64, 32
"""Places and speeds on the grid of a fit: speeds for 8 frames and a room of 16 pixels."""
BEST, ROUNDS = 16, 12
"""Points of the grid from which a fit is refined, and steps of the refinement."""
BLOCK = 64
"""Clips that are fitted at once."""


class Paths(NamedTuple):
    """Paths of centres of mass: residuals (B,) in pixels, and speeds (B,) in pixels per frame."""

    residual: np.ndarray
    speed: np.ndarray


def centres(x: np.ndarray) -> np.ndarray:
    """Return the centres of mass (B, T, 2) of clips uint8 (B, T, H, W, C), as (row, column).

    The mass of a pixel is its mean grey level; a black frame has its centre in its middle.

    >>> x = np.zeros((1, 1, 2, 2, 1), np.uint8)
    >>> x[0, 0, 1] = 100
    >>> centres(x).tolist()
    [[[1.0, 0.5]]]
    """
    mass = np.asarray(x, np.float64).mean(-1)
    total = mass.sum((2, 3))
    mass = np.where(total[..., None, None] > 0, mass, 1.0)
    total = mass.sum((2, 3))
    rows, columns = (np.arange(n) for n in mass.shape[2:])
    return np.stack([(mass.sum(3) @ rows) / total, (mass.sum(2) @ columns) / total], -1)


def fitted(place: np.ndarray, room: float) -> Paths:
    """Fit the path of a point that bounces in a box to places (B, T, 2).

    Along each axis the path is m + r(p + v t), where r reflects at 0 and `room`
    (`moving_digits.reflected`), t counts frames, and m, p and v minimise the squared distance: m is
    a mean, and the others are searched on a grid of all p and of v up to half the room, and refined
    by Gauss and Newton's method within the pieces where r is linear. The residual is the root of
    the mean over frames of the squared distance in the plane.

    >>> t = np.arange(8.0)
    >>> place = np.stack([3 + reflected(1 + 1.5 * t, 8.0), 2 + 0 * t], -1)
    >>> paths = fitted(place[None], 8.0)
    >>> paths.residual.round(6).tolist(), paths.speed.round(6).tolist()
    ([0.0], [1.5])
    """
    parts = []
    for start in range(0, len(place), BLOCK):
        lines = np.moveaxis(place[start : start + BLOCK], 2, 1)
        left, pace = _along(lines.reshape(-1, lines.shape[2]), room)
        parts.append((left.reshape(-1, 2).sum(1), (pace.reshape(-1, 2) ** 2).sum(1)))
    left, pace = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Paths(np.sqrt(left), np.sqrt(pace))


def _along(place: np.ndarray, room: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean squared residuals (n,) along one axis, and the fitted speeds (n,)."""
    time, centred = np.arange(place.shape[1]), place - place.mean(1, keepdims=True)
    found = _begun(centred, time, room)
    best = np.full(len(place), np.inf), np.zeros(len(place))
    for _ in range(ROUNDS):
        u = found[..., :1] + found[..., 1:] * time
        path, slope = reflected(u, room), np.where(np.mod(u, 2 * room) < room, 1.0, -1.0)
        off = centred[:, None] - (path - path.mean(-1, keepdims=True))
        best = _better(best, (off**2).mean(-1), found[..., 1])
        columns = np.stack([slope, slope * time], -1)
        columns = columns - columns.mean(-2, keepdims=True)
        square = np.einsum("nkta,nktb->nkab", columns, columns) + 1e-9 * np.eye(2)
        toward = np.einsum("nkta,nkt->nka", columns, off)
        found = found + np.linalg.solve(square, toward[..., None])[..., 0]
        found[..., 1] = np.clip(found[..., 1], -room / 2, room / 2)
    return best


def _begun(centred: np.ndarray, time: np.ndarray, room: float) -> np.ndarray:
    """Return (p, v) of paths near to places (n, T) whose mean is 0, (n, BEST, 2), from a grid.

    They are the nearest ones of each p and of each v: paths without a reflection do not depend on
    p, and those at rest are alike, so the nearest ones of all would often be one and the same.
    """
    starts = 2 * room * np.arange(STARTS) / STARTS
    count = int(PACES * len(time) * room / 16)
    paces = room / 2 * np.arange(1, count + 1) / count
    paths = reflected(starts[:, None, None] + paces[:, None] * time, room)
    paths = paths - paths.mean(-1, keepdims=True)
    flat = paths.reshape(-1, len(time))
    apart = ((flat**2).sum(1) - 2 * centred @ flat.T).reshape(-1, *paths.shape[:2])
    every = []
    for axis, half in ((1, BEST // 2), (2, BEST - BEST // 2)):
        nearest = np.argpartition(apart.min(axis), half, axis=1)[:, :half]
        other = np.take_along_axis(apart.argmin(axis), nearest, 1)
        p, v = (other, nearest) if axis == 1 else (nearest, other)
        every.append(np.stack([starts[p], paces[v]], -1))
    return np.concatenate(every, 1)


def _better(
    best: tuple[np.ndarray, np.ndarray], left: np.ndarray, pace: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the smaller residual of each row and its speed, so far or among these (n, BEST)."""
    k = left.argmin(1)[:, None]
    left, pace = (np.take_along_axis(a, k, 1)[:, 0] for a in (left, pace))
    smaller = left < best[0]
    return np.where(smaller, left, best[0]), np.where(smaller, pace, best[1])


def shuffled(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return clips (B, T, ...) whose frames are in another order, each in one of its own.

    >>> shuffled(np.arange(6).reshape(2, 3)).tolist()
    [[1, 2, 0], [3, 5, 4]]
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    order = rng.permuted(np.tile(np.arange(x.shape[1]), (len(x), 1)), axis=1)
    return x[np.arange(len(x))[:, None], order]


def exchanged(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return clips (B, T, ...) whose frames come from different clips.

    >>> exchanged(np.arange(6).reshape(3, 2)).tolist()
    [[2, 5], [4, 1], [0, 3]]
    """
    shift = np.random.Generator(np.random.Philox(key=seed)).permutation(len(x))[: x.shape[1]]
    shift = np.resize(np.sort(shift), x.shape[1])
    rows = (np.arange(len(x))[:, None] + shift) % len(x)
    return x[rows, np.arange(x.shape[1])]


def _clips(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no videos, and for nothing held out."""
    needs(counts, "video", "videos")


def _of_classes(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no videos, or have no classes."""
    _clips(counts)
    if not counts.classes:
        raise ValueError("the samples have no classes; allowed: the other metrics")


def _need_videos(real: Real, name: str) -> None:
    if real.test.form.kind != "video":
        raise ValueError(f"{name}: needs videos; the items are {real.test.form.kind}")


@counting(_clips)
def paths(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Compare paths of centres of mass with those of a point that bounces in a box.

    `residual` is the root mean square distance from the fitted path, in pixels, see `fitted`;
    `speed` the Wasserstein distance W1 of the fitted speeds from those of held-out clips, in pixels
    per frame. `real_` is each of these for held-out and for training clips, and `shuffled_` for
    held-out clips whose frames are in another order. Raises ValueError for items without walls.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moving_digits, size=40), data.Reading(), 40, Path())
    >>> paths(real, Samples(real.test.x, None), resamples=0)["speed"]
    0.0
    """
    room = dict(real.test.form.units).get(ROOM)
    if room is None:
        raise ValueError("paths: needs clips that state their walls, such as moving_digits")
    of = lambda x: fitted(centres(x), room)
    held, ours = of(real.test.x), of(samples.x)

    def values(found: Paths) -> dict[str, float]:
        residual = float(np.sqrt((found.residual**2).mean()))
        return {"residual": residual, "speed": float(wasserstein_distance(found.speed, held.speed))}

    at = lambda rows: values(Paths(ours.residual[rows], ours.speed[rows]))
    found = with_intervals(at, len(samples.x), resamples, samples.label)
    floor = values(of(real.train.x[: len(samples.x)])) | {"residual": values(held)["residual"]}
    mixed = values(of(shuffled(real.test.x)))
    found |= {f"real_{k}": v for k, v in floor.items()}
    return found | {f"shuffled_{k}": v for k, v in mixed.items()}


def judge_of_frames(real: Real) -> Judge:
    """Return a classifier of single frames, fitted to those of the training clips."""
    shown = real.train.labels() >= 0
    x, label = real.train.x[shown], real.train.labels()[shown]
    frames = Memory(
        x.reshape(-1, *x.shape[2:]), np.repeat(label, x.shape[1]), real.classes, kind="image"
    )
    return fit(frames, cache=real.folder)


def predicted(judge: Judge, x: np.ndarray) -> np.ndarray:
    """Return the classes (B, T) that a judge of frames sees in clips (B, T, H, W, C)."""
    return judge.predict(x.reshape(-1, *x.shape[2:])).reshape(x.shape[:2])


def throughout(classes: np.ndarray) -> np.ndarray:
    """Return whether all frames have one class (B, T), bool (B,).

    >>> throughout(np.array([[1, 1, 1], [1, 2, 1]])).tolist()
    [True, False]
    """
    return (classes == classes[:, :1]).all(1)


@counting(_of_classes)
def one_class(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Compute the share of clips in all frames of which a classifier sees one class.

    The classifier is fitted to frames of training clips. `frames` is the share of frames that have
    the class asked for. `real` is the share for held-out clips, which the errors of the classifier
    limit, and `exchanged` that for clips of frames from different held-out clips; the order of
    frames does not matter here. Raises ValueError for items that are no videos with classes.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(lambda split: data.moons(split, size=40), data.Reading(), 40, Path())
    >>> one_class(real, Samples(real.test.x, None))
    Traceback (most recent call last):
    ValueError: one_class: needs videos; the items are points
    """
    _need_videos(real, "one_class")
    if not real.classes:
        raise ValueError("one_class: the data have no classes; allowed: the other metrics")
    see = functools.partial(predicted, judge_of_frames(real))
    ours = see(samples.x)
    one = throughout(ours)
    right = None if samples.label is None else (ours == samples.label[:, None]).mean(1)

    def values(rows: Any) -> dict[str, float]:
        share = {"share": float(one[rows].mean())}
        return share if right is None else share | {"frames": float(right[rows].mean())}

    found = with_intervals(values, len(one), resamples, samples.label, shares=("share",))
    held = see(real.test.x)
    found["real"] = float(throughout(held).mean())
    return found | {"exchanged": float(throughout(exchanged(held)).mean())}


@counting(_clips)
def motion(real: Real, samples: Samples) -> dict[str, Any]:
    """Compute the Frechet distance of changes from frame to frame, over its floor.

    `ratio` is that of the differences of the pixels of consecutive frames, and `frames` that of
    single frames, which does not see their order; the floor is the distance between two halves of
    the training clips at equal counts. `real` is `ratio` for as many held-out clips, and `shuffled`
    for these with their frames in another order: few samples tell neither from the other. Each is a
    mean over the places in a clip, with one frame or difference of each clip at a time, so items
    are independent. Raises ValueError for items that are no videos.

    >>> import functools
    >>> from pathlib import Path
    >>> from diffjax import data
    >>> source = functools.partial(data.moving_digits, size=100, side=9, frames=3)
    >>> real = Real(source, data.Reading(), 100, Path())
    >>> found = motion(real, Samples(real.test.x, None))
    >>> found["ratio"] == found["real"] != found["shuffled"]
    True
    """
    _need_videos(real, "motion")
    changes = lambda x: np.diff(x.astype(np.float32), axis=1)
    over = lambda x: _over_floor(changes(x), changes(real.train.x))
    held = real.test.x[: len(samples.x)]
    return {
        "ratio": over(samples.x),
        "frames": _over_floor(samples.x, real.train.x),
        "real": over(held),
        "shuffled": over(shuffled(held)),
    }


def _over_floor(x: np.ndarray, data: np.ndarray) -> float:
    """Return the Frechet distance of frames (B, T, ...) to those of data, over its floor."""
    apart, floors, length = [], [], x.shape[1]
    for shift in range(length):
        of = lambda a: a[np.arange(len(a)), (np.arange(len(a)) + shift) % length]  # noqa: B023
        one, other = (of(a).reshape(len(a), -1) for a in (x, data))
        found = frechet_with_floor(one, other, splits=1, seed=shift)
        apart.append(found.distance)
        floors.append(found.floor)
    return float(np.mean(apart) / np.mean(floors))
