"""Stochastic Lorenz-96: states of a chaotic ring, and later states, whose law is known."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from diffjax import checks
from diffjax.data.pairs import Pairs
from diffjax.data.source import SPLITS, Memory, check_split

State = Float[np.ndarray, "*b d"]
SPIN_UP, GAP, PAIRS = 200, 20, 20
"""Steps until a trajectory has forgotten its start, steps between two of its pairs, and pairs."""
STEP = 0.05
"""Units of time of a step, about 6 hours of weather (Lorenz 1996)."""
MEMBERS = 1 << 58
"""Stream of the random numbers of true ensembles, to which the seed is added."""


@dataclass(frozen=True)
class Ring:
    """dx_i = ((x_(i+1) - x_(i-2)) x_(i-1) - x_i + forcing) dt + noise dw_i on a ring.

    A step is one of Runge-Kutta's fourth order for the drift, and then noise sqrt(STEP) z is added;
    this Markov chain is the system, without any error of discretisation. It is computed in float64
    by NumPy, whose elementary operations are alike on every machine, because a chaotic system would
    turn a rounding into another data set.

    >>> x = np.full(40, 8.0)
    >>> bool((Ring(noise=0.0)(x, np.zeros(40)) == x).all())  # the fixed point of the drift
    True
    """

    forcing: float = 8.0
    noise: float = 1.0

    def drift(self, x: State) -> State:
        """Return dx / dt without the noise, of states (..., D)."""
        near = np.roll(x, -1, -1) - np.roll(x, 2, -1)
        return near * np.roll(x, 1, -1) - x + self.forcing

    def __call__(self, x: State, z: State) -> State:
        """Return the states (..., D) a step later; z: standard normal numbers (..., D)."""
        k1 = self.drift(x)
        k2 = self.drift(x + STEP / 2 * k1)
        k3 = self.drift(x + STEP / 2 * k2)
        k4 = self.drift(x + STEP * k3)
        slope = (k1 + 2 * k2 + 2 * k3 + k4) / 6
        return x + STEP * slope + self.noise * np.sqrt(STEP) * z

    def run(self, x: State, steps: int, rng: np.random.Generator) -> State:
        """Return the states (..., D) after a number of steps with random noise."""
        for _ in range(steps):
            x = self(x, rng.normal(size=x.shape))
        return x

    def pairs(self, tracks: int, width: int, lead: int, seed: int) -> tuple[State, State]:
        """Return states (PAIRS, tracks, width) of trajectories, and those `lead` steps later."""
        rng = np.random.Generator(np.random.Philox(key=seed))
        x = self.run(self.forcing + rng.normal(size=(tracks, width)), SPIN_UP, rng)
        now, later = [], []
        for _ in range(PAIRS):
            now.append(x)
            later.append(self.run(x, lead, rng))
            x = self.run(later[-1], max(GAP - lead, 0), rng)
        return np.stack(now), np.stack(later)


@dataclass(frozen=True)
class Lorenz96(Pairs):
    """Pairs of states, with the law of the later state given the earlier one.

    pairs: items x (N, D, 1), the later states, with the condition `map` (N, D, 1), the earlier
    ones, both as (state - mean) / std. ring, lead: the system, and the steps between both.

    >>> source = lorenz96("test", size=1000)
    >>> source.ensemble(np.arange(3), members=5, seed=0).shape
    (5, 3, 40, 1)
    """

    ring: Ring
    lead: int

    def ensemble(self, index: np.ndarray, members: int, seed: int = 0) -> np.ndarray:
        """Draw later states (members, B, D, 1) given the earlier ones of the items at `index`."""
        scale = dict(self.form.units)
        x = np.float64(self.pairs.cond["map"][index][..., 0]) * scale["std"] + scale["mean"]
        rng = np.random.Generator(np.random.Philox(key=MEMBERS + seed))
        later = self.ring.run(np.repeat(x[None], members, 0), self.lead, rng)
        return ((later - scale["mean"]) / scale["std"]).astype(np.float32)[..., None]


@functools.lru_cache(maxsize=4)
def _trajectories(
    ring: Ring, split: str, tracks: int, width: int, lead: int
) -> tuple[State, State]:
    """Return the pairs of a split (N, width), in turn of all its trajectories."""
    now, later = ring.pairs(tracks, width, lead, SPLITS.index(split))
    return now.reshape(-1, width), later.reshape(-1, width)


def lorenz96(
    split: str,
    size: int = 20_000,
    width: int = 40,
    lead: int = 6,
    forcing: float = 8.0,
    noise: float = 1.0,
) -> Lorenz96:
    """Make pairs of states of Lorenz-96 on a ring, `lead` steps apart, for forecasts.

    The splits hold different trajectories of 20 pairs each. x is the later state, and the condition
    `map` the earlier one, both with mean 0 and variance 1; the units `mean` and `std` are those of
    the training states. size: the number of training pairs, a tenth of which is held out; both are
    rounded up to whole trajectories. width: values of a state. lead: steps of 0.05. forcing, noise:
    see `Ring`. Raises ValueError for settings out of range.

    >>> lorenz96("train", size=1000)  # doctest: +ELLIPSIS
    Lorenz96(pairs=Memory(1000 sequence items of (40, 1) float32, classes=0, map), ...
    """
    check_split(split, "lorenz96")
    checks.at_least(1, size=size, lead=lead)
    checks.at_least(4, width=width)
    checks.not_negative(noise=noise)
    checks.within(-100, 100, forcing=forcing)
    ring = Ring(forcing, noise)
    part = lambda s: -(-(size if s == "train" else max(size // 10, 1)) // PAIRS)
    states, _ = _trajectories(ring, "train", part("train"), width, lead)
    mean, std = float(states.mean()), float(states.std())
    if not std > 1e-3 or not np.isfinite(std):
        raise ValueError(
            f"forcing={forcing}, noise={noise}: the states have the standard deviation {std:g}; "
            f"allowed: chaotic systems, such as forcing=8"
        )
    pairs = _trajectories(ring, split, part(split), width, lead)
    now, later = (((x - mean) / std).astype(np.float32)[..., None] for x in pairs)
    units = (("mean", mean), ("std", std))
    return Lorenz96(Memory(later, kind="sequence", cond={"map": now}, units=units), ring, lead)
