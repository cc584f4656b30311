"""Frechet distances of Gaussians fitted to features, such as FID, in float64 on the host."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.devices.processes import first
from diffjax.evaluation import reference as statistics
from diffjax.evaluation.beforehand import Counts, checked, counting, needing
from diffjax.evaluation.moments import moments
from diffjax.evaluation.resampling import FEWEST, Rows, extrapolated, with_intervals
from diffjax.evaluation.samples import Real, Samples
from diffjax.files import check_writable, reason


class Gaussian(NamedTuple):
    """A Gaussian: its mean (D,), and a root R (r, D) of its covariance R^T R."""

    mean: np.ndarray
    root: np.ndarray


def gaussian(mean: np.ndarray, covariance: np.ndarray) -> Gaussian:
    """Construct a Gaussian from its mean (D,) and its covariance (D, D).

    The root is the Cholesky factor or, for a singular covariance, that of the eigenvalues above 0.
    """
    with contextlib.suppress(np.linalg.LinAlgError):
        return Gaussian(mean, np.linalg.cholesky(covariance).T)
    values, vectors = np.linalg.eigh(covariance)
    kept = values > 0
    return Gaussian(mean, np.sqrt(values[kept])[:, None] * vectors.T[kept])


def fitted(x: np.ndarray) -> Gaussian:
    """Fit a Gaussian to the mean and covariance of features x (N, D).

    Where N <= D the centred items themselves are a root, which is exact and fast. Raises ValueError
    for fewer than two items.
    """
    if len(x) < 2:
        raise ValueError(f"a covariance of {len(x)} samples: needs at least 2")
    if len(x) > x.shape[1]:
        moment = moments(x)
        return gaussian(moment.mean, moment.covariance)
    mean = x.mean(0, dtype=np.float64)
    return Gaussian(mean, (x - mean) / np.sqrt(len(x) - 1))


def distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Frechet distance of two Gaussians (arXiv:1706.08500, eq. 6).

    It is |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2). The last trace is the sum
    of the singular values of R_a R_b^T for any roots, singular ones included, so no matrix root of
    a product is needed.

    >>> one = gaussian(np.zeros(2), np.eye(2))
    >>> round(distance(one, gaussian(np.array([3.0, 0.0]), 4 * np.eye(2))), 6)  # 3^2 + 2 (2 - 1)^2
    11.0
    """
    cross = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    apart = ((a.mean - b.mean) ** 2).sum()
    return float(apart + (a.root**2).sum() + (b.root**2).sum() - 2 * cross)


def _files(kind: str, reference: str = "", write: str = "", **_: Any) -> None:
    """Raise ValueError for a file without valid statistics, and for one that cannot be written."""
    if reference:
        statistics.opened(Path(reference), kind)
    if write and first():
        try:
            Path(write).parent.mkdir(parents=True, exist_ok=True)
            check_writable(Path(write))
        except OSError as error:
            raise ValueError(f"write={write}: cannot be written ({reason(error)})") from error


@checked(functools.partial(_files, "pool"))
def fid(
    real: Real, samples: Samples, reference: str = "", write: str = "", resamples: int = 20
) -> dict[str, Any]:
    """Compute the Frechet distance of all samples to all training items, or to saved statistics.

    It is FID (arXiv:1706.08500) with the features of Inception, and FD-DINOv2 (arXiv:2306.04675)
    with those of DINOv2. reference: an .npz file of statistics to compare with. write: the path to
    which statistics of the training items are written.

    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> fid(real, Samples(real.train.x, None), resamples=0)["distance"] < 1e-9  # the training items
    True
    """
    if write and first():
        kinds = {k: moments(v) for k, v in real.extracted.items() if k in statistics.KEYS}
        statistics.write(Path(write), kinds, real.facts(real.train))
    return _from_all(real, samples, "pool", reference, resamples)


@needing("spatial")
@checked(functools.partial(_files, "spatial"))
def sfid(real: Real, samples: Samples, reference: str = "", resamples: int = 20) -> dict[str, Any]:
    """Compute the Frechet distance of spatial features, sFID (arXiv:2103.03841).

    reference: as in `fid`. Raises ValueError for an extractor without spatial features.

    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> sfid(real, Samples(real.train.x, None))
    Traceback (most recent call last):
    ValueError: features=pixels: ...
    """
    return _from_all(real, samples, "spatial", reference, resamples)


def _extrapolates(counts: Counts, **_: Any) -> None:
    """Raise ValueError where there are too few samples for a line in 1 / N."""
    if counts.samples < FEWEST:
        raise ValueError(f"there are {counts.samples} samples; needs at least {FEWEST}")


@counting(_extrapolates)
@checked(functools.partial(_files, "pool"))
def fid_infinity(
    real: Real, samples: Samples, reference: str = "", points: int = 15
) -> dict[str, Any]:
    """Extrapolate `fid` to infinitely many samples, which removes its bias (arXiv:1911.07023).

    The bias from the number of training items remains. reference: as in `fid`. points: number of
    sample counts on the line, >= 2.

    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> sorted(fid_infinity(real, Samples(real.test.x, None)))
    ['count', 'distance', 'points', 'reference']
    """
    x = real.need(samples, "pool")
    law, about = _law(real, "pool", x.shape[1], reference)
    limit = extrapolated(lambda rows: distance(fitted(x[rows]), law), len(x), points)
    return {"distance": limit, "count": len(x), "points": points} | about


def _of_each_class(counts: Counts, resamples: int = 20, **_: Any) -> None:
    """Raise ValueError for samples without classes, and for fewer than a covariance needs of each:
    two, also in the half that an interval is of."""
    if not counts.classes:
        raise ValueError("the samples have no classes; allowed: fid")
    least = counts.asked * (4 if resamples else 2)
    if counts.samples < least:
        raise ValueError(
            f"there are {counts.samples} samples of {counts.asked} classes; needs at least {least}"
        )


@counting(_of_each_class)
def fid_per_class(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Compute the Frechet distance of each class, with the mean and the worst.

    Each is biased upwards, since a class has few samples. Raises ValueError where samples or items
    have no classes.

    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=40), data.Reading(), 40, Path())
    >>> sorted(fid_per_class(real, Samples(real.test.x, real.test.label), resamples=0))
    ['class 0', 'class 1', 'mean', 'worst']
    """
    if samples.label is None or real.train.label is None:
        raise ValueError("fid_per_class: the samples or the data have no classes; allowed: fid")
    x, label = real.need(samples, "pool"), samples.label
    laws = {int(c): fitted(real.features[real.train.label == c]) for c in np.unique(label)}

    def values(rows: Rows) -> dict[str, float]:
        of_class = {c: x[rows][label[rows] == c] for c in laws}
        each = {f"class {c}": distance(fitted(of_class[c]), law) for c, law in laws.items()}
        return {"mean": float(np.mean([*each.values()])), "worst": max(each.values())} | each

    return with_intervals(values, len(x), resamples, label)


def _from_all(
    real: Real, samples: Samples, kind: str, reference: str, resamples: int
) -> dict[str, Any]:
    x = real.need(samples, kind)
    law, about = _law(real, kind, x.shape[1], reference)
    values = lambda rows: {"distance": distance(fitted(x[rows]), law)}
    measured = with_intervals(values, len(x), resamples, samples.label)
    return measured | {"count": len(x)} | about


def _law(real: Real, kind: str, width: int, reference: str) -> tuple[Gaussian, dict[str, Any]]:
    """Return the Gaussian that samples are compared with, and its description for the result."""
    if not reference:
        return fitted(real.extracted[kind]), {"reference": real.facts(real.train)}
    mean, covariance, about = statistics.read(Path(reference), kind, width, real.facts(real.train))
    return gaussian(mean, covariance), {"reference": about}


class Frechet(NamedTuple):
    """The Frechet distance of samples to data, and of data to data, at equal sample counts.

    Both are means over `splits` random halves of the data, with `count` samples on each side.
    """

    distance: float
    floor: float
    ratio: float
    count: int
    splits: int


def frechet_with_floor(
    samples: np.ndarray, data: np.ndarray, splits: int = 8, seed: int = 0
) -> Frechet:
    """Compute the Frechet distance of samples to random halves of the data, and of half to half.

    The estimate is biased upwards by the sample count, so a single value is hard to interpret; the
    distance of half to half is the floor that a perfect model reaches at equal counts. samples,
    data: features (N, D) and (M, D). splits: number of pairs of halves. Raises ValueError for data
    without variation.

    >>> rng = np.random.default_rng(0)
    >>> data, samples = rng.normal(size=(400, 2)), rng.normal(size=(200, 2)) + 3
    >>> frechet_with_floor(samples, data).ratio > 100  # far above the floor
    True
    """
    count = min(len(samples), len(data) // 2)
    rng = np.random.Generator(np.random.Philox(key=seed))
    distances, floors = [], []
    for _ in range(splits):
        order = rng.permutation(len(data))
        half, other = fitted(data[order[:count]]), fitted(data[order[count : 2 * count]])
        drawn = fitted(samples[rng.permutation(len(samples))[:count]])
        distances.append(distance(drawn, half))
        floors.append(distance(other, half))
    apart, floor = float(np.mean(distances)), float(np.mean(floors))
    if floor <= 0:
        raise ValueError("the halves of the data are equal: a Frechet floor needs varied data")
    return Frechet(apart, floor, apart / floor, count, splits)


def frechet(real: Real, samples: Samples, splits: int = 8) -> dict[str, Any]:
    """Compute the Frechet distance of samples to training items, with its floor, half to half.

    Counts are equal; both are means over `splits` random halves of the training items.

    >>> from diffjax import data
    >>> real = Real(functools.partial(data.moons, size=400), data.Reading(), 400, Path())
    >>> frechet(real, Samples(real.test.x, None))["ratio"] < 5
    True
    """
    return frechet_with_floor(real.of(samples)["pool"], real.features, splits)._asdict()
