"""Energies and distances of particles, beside those of held-out items and of training items."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.data.particles import System, squares, system_of
from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Real, Samples
from diffjax.evaluation.tables import kolmogorov_smirnov


def apart(system: System, x: np.ndarray) -> np.ndarray:
    """Return the distances (B, N (N - 1) / 2) of all pairs of items x (B, N, d), as stored.

    >>> from diffjax.data.particles import SYSTEMS
    >>> apart(SYSTEMS["dw4"], np.zeros((1, 4, 2))).shape
    (1, 6)
    """
    first, second = np.triu_indices(system.particles, 1)
    return np.sqrt(squares(x[:, first], x[:, second]))


def _particles(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no clouds, and for nothing held out."""
    needs(counts, "cloud", "particles of known energy")


@counting(_particles)
def energies(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Compare energies and distances of samples with those of held-out items.

    `energy` is the Kolmogorov-Smirnov distance of the energies, which a few large energies change
    little, `distances` that of the distances of all pairs, `median` the median energy in kT.
    `floor_` is each of these for training items, as many as there are samples where there are so
    many, and `median_held_out` the median of held-out items. Raises ValueError for items of no
    known energy, and without held-out items.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> real = Real(lambda split: data.dw4(split, size=40), data.Reading(), 40, Path())
    >>> energies(real, Samples(real.test.x, None), resamples=0)["energy"]
    0.0
    """
    system = system_of(real.test.form)
    if system is None:
        raise ValueError("energies: needs particles of known energy, such as those of dw4")
    of = lambda x: (system.energy(x), apart(system, np.asarray(x, np.float64)))
    held, ours = of(real.test.x), of(samples.x)

    def values(energy: np.ndarray, distances: np.ndarray) -> dict[str, float]:
        return {
            "energy": kolmogorov_smirnov(energy, held[0]),
            "distances": kolmogorov_smirnov(distances.ravel(), held[1].ravel()),
            "median": float(np.median(energy)),
        }

    floor = values(*of(real.train.x[: len(samples.x)]))
    found = with_intervals(lambda r: values(ours[0][r], ours[1][r]), len(samples.x), resamples)
    found |= {f"floor_{k}": v for k, v in floor.items()}
    return found | {"median_held_out": float(np.median(held[0]))}
