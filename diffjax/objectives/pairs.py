"""Distributions of the times of a flow map: `(sde, draw, u, state, step) -> MapTimes`.

A map leads from t to s; rules that compose or discretise it also need a time r between the two. The
joint distribution of the three is part of each published method, so each has a name here.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from diffjax.arrays import catalogue
from diffjax.checks import at_least
from diffjax.draws import Draw
from diffjax.grids import nested
from diffjax.sde import SDE, Times, ends


class MapTimes(NamedTuple):
    """The times t >= r >= s of a flow map, each (B,): it leads from t to s, through r."""

    t: Times
    r: Times
    s: Times


Positions = Float[Array, "3 b"]
"""Independent uniform numbers in [0, 1), for t, s and r."""
Step = int | Int[Array, ""]


@dataclass(frozen=True)
class Pair(abc.ABC):
    """A joint distribution of t, r and s, given that of single times, `draw` in config.loss.

    settled: whether t alone determines s.
    """

    settled: ClassVar[bool] = False

    def grids(self, sde: SDE) -> tuple[np.ndarray, ...]:
        """Return the grids of times that sampling may take, as in `grids`; () for any."""
        return ()

    def check(self, sde: SDE) -> None:  # noqa: B027
        """Raise ValueError where the process does not admit this distribution."""

    @abc.abstractmethod
    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes: ...


@dataclass(frozen=True)
class Ordered(Pair):
    """t and s are the larger and the smaller of two draws (arXiv:2505.13447).

    r is uniform between them. middle: r is their mean instead, as in shortcuts of two equal halves.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.25], [0.75], [0.5]])
    >>> times = Ordered()(sde.Flow(schedules.Logit()), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 2) for t in times]  # t, r and s
    [0.75, 0.5, 0.25]
    """

    middle: bool = False

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        first, second = (draw(sde, part, state)[0] for part in u[:2])
        t, s = jnp.maximum(first, second), jnp.minimum(first, second)
        return MapTimes(t, _inner(t, s, u[2], self.middle), s)


@dataclass(frozen=True)
class ToData(Pair):
    """s = 0, as in consistency models, and r is uniform between t and 0.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.5], [0.75], [0.5]])
    >>> times = ToData()(sde.Flow(schedules.Logit()), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 2) for t in times]  # t, r and s
    [0.5, 0.25, 0.0]
    """

    settled: ClassVar[bool] = True

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        t = draw(sde, u[0], state)[0]
        return MapTimes(t, t * u[2], jnp.zeros_like(t))


@dataclass(frozen=True)
class Segments(Pair):
    """s is the lower end of the segment that t lies in (arXiv:2403.06807).

    There are `count` >= 1 equal segments in time; r is uniform between t and s. The sampler is
    `flow_map` with as many steps on the grid `nested`.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.6], [0.75], [0.5]])
    >>> times = Segments(count=4)(sde.Flow(schedules.Logit()), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 2) for t in times]  # t, r and s
    [0.6, 0.55, 0.5]
    """

    settled: ClassVar[bool] = True

    count: int = 4

    def __post_init__(self):
        at_least(1, count=self.count)

    def grids(self, sde: SDE) -> tuple[np.ndarray, ...]:
        return (np.linspace(sde.t_max, 0, self.count + 1),)

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        t = draw(sde, u[0], state)[0]
        s = (jnp.ceil(t / sde.t_max * self.count) - 1) / self.count * sde.t_max
        s = jnp.clip(s, 0.0, t)
        return MapTimes(t, _inner(t, s, u[2]), s)


@dataclass(frozen=True)
class Dyadic(Pair):
    """t and s are the ends of a dyadic step, and r is its middle (arXiv:2410.12557).

    The length t - s is a power of two times t_max / steps, and t a multiple of that length. steps:
    a power of 2, at least 2. The distribution of single times is not used. Raises ValueError for
    other steps.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.4], [0.75], [0.5]])
    >>> times = Dyadic(steps=8)(sde.Flow(schedules.Logit()), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 3) for t in times]  # t, r and s
    [1.0, 0.75, 0.5]
    """

    steps: int = 128

    def __post_init__(self):
        if self.steps < 2 or self.steps & (self.steps - 1):
            raise ValueError(f"steps={self.steps}: needs a power of 2, at least 2")

    def grids(self, sde: SDE) -> tuple[np.ndarray, ...]:
        counts = [2**k for k in range(self.steps.bit_length())]
        return tuple(np.linspace(sde.t_max, 0, count + 1) for count in counts)

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        levels = self.steps.bit_length() - 1
        count = 2 ** jnp.floor(u[0] * levels)  # 1, 2, ..., steps / 2 steps of this length
        end = jnp.floor(u[1] * count)
        t, s = (end + 1) / count * sde.t_max, end / count * sde.t_max
        return MapTimes(t, (t + s) / 2, s)


@dataclass(frozen=True)
class Neighbours(Pair):
    """t and r are neighbours on a grid of N + 1 times, and s = 0 (arXiv:2310.14189).

    The grid has equal steps in rho^(1 / power), rho = sigma / alpha, from t_min to t_max
    (arXiv:2206.00364, eq. 5); t is the next grid time above the one drawn. N begins at `first` and
    doubles every `every` training steps up to `most`; it is constant for every = 0.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.5], [0.75], [0.5]])
    >>> times = Neighbours(first=10)(sde.VE(schedules.Edm(), t_min=1e-4), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 3) for t in times]  # t, r and s
    [0.587, 0.33, 0.0]
    """

    settled: ClassVar[bool] = True

    first: int = 10
    most: int = 1280
    every: int = 0
    power: float = 7.0

    def __post_init__(self):
        at_least(1, first=self.first, most=self.most, power=self.power)
        at_least(0, every=self.every)

    def check(self, sde: SDE) -> None:
        if not np.isfinite(ends(sde).lam).all():
            raise ValueError(
                f"pair='neighbours': its grid needs a finite sigma / alpha, which {sde} does not "
                f"have at t_max; allowed: t_max < 1, or pair='ratio'"
            )

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        count = jnp.float32(self.first)
        if self.every:
            count = jnp.minimum(self.first * 2.0 ** (step // self.every), self.most)
        root = lambda t: jnp.exp(-sde.logsnr(jnp.asarray(t)) / (2 * self.power))
        low, high = root(sde.t_min), root(sde.t_max)
        t = draw(sde, u[0], state)[0]
        place = jnp.ceil((root(t) - low) / (high - low) * count)
        place = jnp.clip(place, 1, count)

        def time(place: Times) -> Times:
            level = low + place / count * (high - low)
            return jnp.clip(sde.inverse(-2 * self.power * jnp.log(level)), sde.t_min, sde.t_max)

        return MapTimes(time(place), time(place - 1), jnp.zeros_like(t))


@dataclass(frozen=True)
class Ratio(Pair):
    """r approaches t as training proceeds, and s = 0 (arXiv:2406.14548).

    In rho = sigma / alpha, rho_r = max(0, rho_t (1 - (1 + 8 sigmoid(-rho_t)) / base^k)) with k =
    min(first + step // every, most), where step counts training steps. base: > 1. Raises ValueError
    for settings out of range.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.5], [0.75], [0.5]])
    >>> times = Ratio(first=4)(sde.VE(schedules.Edm(), t_min=1e-4), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 3) for t in times]  # t, r and s
    [0.5, 0.469, 0.0]
    """

    settled: ClassVar[bool] = True

    base: float = 2.0
    first: int = 1
    most: int = 8
    every: int = 10_000

    def __post_init__(self):
        at_least(1, first=self.first, most=self.most, every=self.every)
        if not self.base > 1:
            raise ValueError(f"base={self.base}: needs base > 1")

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        t = draw(sde, u[0], state)[0]
        rho = jnp.exp(-sde.logsnr(t) / 2)
        k = jnp.minimum(self.first + step // self.every, self.most)
        kept = 1 - (1 + 8 * jax.nn.sigmoid(-rho)) / self.base**k
        inside = sde.inverse(-2 * jnp.log(jnp.maximum(kept, 1e-6) * rho))
        r = jnp.where(kept > 0, jnp.clip(inside, 0.0, t), 0.0)
        return MapTimes(t, jnp.where(r < sde.t_min, 0.0, r), jnp.zeros_like(t))


@dataclass(frozen=True)
class Rows(Pair):
    """t, r and s are successive times of a grid, in which (t, s) is one of `steps` rows.

    A student of `steps` rows then learns from a teacher of twice as many (arXiv:2202.00512). times:
    those of the grid `nested`, which takes every k-th of them: k * 2 steps + 1 times from at most
    t_max to 0; by default, equal steps. The distribution of single times is not used. Raises
    ValueError for other times.

    >>> from diffjax import draws, schedules, sde
    >>> u = jnp.array([[0.6], [0.0], [0.0]])
    >>> pair = Rows(steps=2, times=(1.0, 0.8, 0.6, 0.3, 0.0))
    >>> times = pair(sde.Flow(schedules.Logit()), draws.Uniform(), u, (), 0)
    >>> [round(float(t[0]), 2) for t in times]  # t, r and s
    [0.6, 0.3, 0.0]
    """

    settled: ClassVar[bool] = True

    steps: int = 16
    times: tuple[float, ...] = ()

    def __post_init__(self):
        at_least(1, steps=self.steps)
        object.__setattr__(self, "times", tuple(self.times))
        rows = len(self.times) - 1
        if not self.times:
            return
        if rows < 1 or rows % (2 * self.steps):
            raise ValueError(
                f"times: {rows + 1} of them; needs k * {2 * self.steps} + 1 for steps={self.steps}"
            )
        if self.times[-1] != 0 or not (np.diff(self.times) < 0).all():
            raise ValueError("times: need to decrease, and to end at 0")

    def grids(self, sde: SDE) -> tuple[np.ndarray, ...]:
        return (nested(sde, self.steps, self.times),)

    def __call__(self, sde: SDE, draw: Draw, u: Positions, state: Any, step: Step) -> MapTimes:
        times = jnp.asarray(nested(sde, 2 * self.steps, self.times), u.dtype)
        first = 2 * jnp.floor(u[0] * self.steps).astype(int)
        return MapTimes(times[first], times[first + 1], times[first + 2])


def _inner(t: Times, s: Times, u: Times, middle: bool = False) -> Times:
    return (t + s) / 2 if middle else s + u * (t - s)


PAIRS = catalogue(Ordered, ToData, Segments, Dyadic, Neighbours, Ratio, Rows)
