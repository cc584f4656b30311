"""Particles whose energy is known exactly: DW4 and LJ13, the standard tests of equivariant models.

With distances d_ij and coordinates in the units of the literature, energies are in units of kT,

    DW4:  U = sum over pairs of 0.9 (d - 4)^4 - 4 (d - 4)^2,
    LJ13: U = sum over pairs of d^-12 - 2 d^-6, plus half the sum of |x_i - mean|^2

(arXiv:2006.02425, arXiv:2105.09016). Both are invariant to the place, the orientation and the order
of the particles, so their density exp(-U) / Z exists in the space of centred points alone. Stored
coordinates are those of the literature divided by `System.scale`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax import checks
from diffjax.data.form import Form
from diffjax.data.source import SPLITS, Memory, check_split
from diffjax.spaces import Centred

CHAINS, WARM_UP, APART = 1000, 500, 20
"""The number of Markov chains, and the sweeps before the first item and between two items."""
ENERGY = "energy"
"""The unit of a form that names the entry of `SYSTEMS` with the energy of its items."""


@dataclass(frozen=True)
class System:
    """Particles with a known energy.

    particles, axes: N and d of an item (N, d). pair: the energy of two particles at a squared
    distance. trap: the factor of half the sum of squared distances to the mean. scale: length of a
    unit of stored coordinates, which have about unit variance. steps: the least and the largest
    deviation of a proposal, in units of the literature. start: deviation of the initial coordinates
    there. log_z: log of Z in stored coordinates, with respect to lengths in the space of centred
    points; nan where it is unknown.

    >>> SYSTEMS["dw4"].energy(np.array([[[0, 0], [0, 0], [0, 0], [0, 0]]])).round(1).tolist()
    [998.4]
    """

    particles: int
    axes: int
    pair: Callable[[Any], Any]
    scale: float
    steps: tuple[float, float]
    start: float
    trap: float = 0.0
    log_z: float = math.nan

    @property
    def rank(self) -> int:
        """The number of dimensions of centred items."""
        return int(Centred().rank((self.particles, self.axes)))

    def energy(self, x: np.ndarray) -> np.ndarray:
        """Return the energies (B,) in kT of stored items x (B, N, d), in float64."""
        x = self.scale * np.asarray(x, np.float64)
        first, second = np.triu_indices(self.particles, 1)
        pairs = self.pair(squares(x[:, first], x[:, second])).sum(1)
        centred = x - x.mean(1, keepdims=True)
        return pairs + self.trap / 2 * (centred**2).sum((1, 2))

    def logp(self, x: np.ndarray) -> np.ndarray:
        """Return the log-density (B,) of stored items x (B, N, d) in nats; nan without `log_z`."""
        return -self.energy(x) - self.log_z


def squares(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared distances (...) of points a and b (..., d).

    >>> float(squares(np.zeros(2), np.array([3.0, 4.0])))
    25.0
    """
    off = a - b
    return np.einsum("...d,...d->...", off, off)


def double_well(square: Any) -> Any:
    """Return 0.9 (d - 4)^4 - 4 (d - 4)^2 of d^2; the minima are at d = 4 +- 1.49.

    >>> round(float(double_well(25.0)), 6)  # at d = 5
    -3.1
    """
    off = np.sqrt(square) - 4.0
    off = off * off
    return (0.9 * off - 4.0) * off


def lennard_jones(square: Any) -> Any:
    """Return d^-12 - 2 d^-6 of d^2; the minimum -1 is at d = 1.

    >>> lennard_jones(1.0)
    -1.0
    """
    attraction = 1.0 / (square * square * square)
    return (attraction - 2.0) * attraction


SYSTEMS = {
    "dw4": System(
        4,
        2,
        double_well,
        scale=2.0,
        steps=(0.3, 4.0),
        start=2.0,
        log_z=29.667232232904 - 6 * math.log(2.0),
    ),
    "lj13": System(13, 3, lennard_jones, scale=1.0, steps=(0.1, 1.0), start=1.0, trap=1.0),
}


def system_of(form: Form) -> System | None:
    """Return the system whose particles the items are, None for other items.

    >>> system_of(dw4("train", size=10).form) == SYSTEMS["dw4"]
    True
    """
    return SYSTEMS.get(dict(form.units).get(ENERGY, ""))


def dw4(split: str, size: int = 10_000) -> Memory:
    """Draw `size` centred items (4, 2) of the double-well system, see `metropolis`.

    Their entropy is known, and log-densities of networks are compared with the exact ones. Raises
    ValueError for size < 1.

    >>> dw4("train", size=10)
    Memory(10 cloud items of (4, 2) float32, classes=0)
    """
    return _drawn("dw4", split, size)


def lj13(split: str, size: int = 10_000) -> Memory:
    """Draw `size` centred items (13, 3) of the Lennard-Jones system, see `metropolis`.

    Raises ValueError for size < 1.

    >>> lj13("train", size=10)
    Memory(10 cloud items of (13, 3) float32, classes=0)
    """
    return _drawn("lj13", split, size)


def _drawn(name: str, split: str, size: int) -> Memory:
    checks.at_least(1, size=size)
    check_split(split, name)
    rng = np.random.Generator(np.random.Philox(key=SPLITS.index(split)))
    x = metropolis(SYSTEMS[name], size, rng)
    return Memory(x.astype(np.float32), kind="cloud", units=((ENERGY, name),))


def metropolis(system: System, size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw items (size, N, d) with density exp(-U) / Z by Markov chains, in stored coordinates.

    At most 1,000 chains start at Gaussian coordinates and run side by side. In a sweep each
    particle in turn proposes a Gaussian step, which is accepted with probability
    min(1, exp(-change of U)). The logarithm of the deviation of a step is uniform in the range of
    `System.steps`: with short steps alone, a chain of DW4 needs 2,000 sweeps to reach the exact
    share of short distances, and with these 250. Items are taken after 500 sweeps and then every
    20 sweeps. Their order is random.
    """
    chains = min(CHAINS, size)
    x = system.start * rng.normal(size=(chains, system.particles, system.axes))
    kept = []
    for k in range(-(-size // chains)):
        for _ in range(APART if k else WARM_UP):
            for i in range(system.particles):
                _move(system, x, i, rng)
        kept.append(x - x.mean(1, keepdims=True))
    return rng.permutation(np.concatenate(kept))[:size] / system.scale


def _move(system: System, x: np.ndarray, i: int, rng: np.random.Generator) -> None:
    """Move particle i of each chain x (C, N, d) in place, or leave it where it is."""
    here = x[:, i]
    deviation = np.exp(rng.uniform(*np.log(system.steps), size=(len(x), 1)))
    there = here + deviation * rng.normal(size=here.shape)
    others = np.arange(system.particles) != i
    energy = lambda a: system.pair(squares(a[:, None], x)[:, others]).sum(1)
    change = energy(there) - energy(here)
    if system.trap:
        # |x_i - mean|^2 of all particles changes by that of particle i around the mean of the rest.
        centre = x[:, others].mean(1)
        trap = system.trap / 2 * (1 - 1 / system.particles)
        change = change + trap * (squares(there, centre) - squares(here, centre))
    accepted = np.log(rng.random(len(x))) < -change
    x[accepted, i] = there[accepted]
