"""Schedules that are derived from another schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import float64
from diffjax.schedules.base import Derived, LogSNR, Schedule, Times


@dataclass(frozen=True)
class Shifted(Derived):
    """A schedule whose log-SNR is translated: l + by, by finite.

    Every published shift is such a translation. Shift by resolution (arXiv:2301.11093, eq. 3): by =
    2 log(64 / side). SD3 (arXiv:2403.03206, eq. 23), t to s t / (1 + (s - 1) t) in Flow: by = -2
    log s. CogVideoX (arXiv:2408.06072), SNR / s: by = -log s. Raises ValueError unless `by` is
    finite.

    >>> from diffjax.schedules import Logit
    >>> t, s = jnp.array([0.2, 0.7]), 3.0
    >>> shifted = Shifted(Logit(), by=-2 * math.log(s))
    >>> moved = Logit()(s * t / (1 + (s - 1) * t))
    >>> bool(jnp.allclose(shifted(t), moved, atol=1e-5))
    True
    """

    by: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not math.isfinite(self.by):
            raise ValueError(f"by={self.by}: needs a finite number")

    def __call__(self, t: Times) -> LogSNR:
        return self.schedule(t) + self.by

    def to_end(self, t: Times) -> LogSNR:
        return self.schedule.to_end(t)

    def inverse(self, l: LogSNR) -> Times:
        return self.schedule.inverse(l - self.by)


@dataclass(frozen=True)
class Truncated(Derived):
    """The part of a schedule with logsnr_min <= l <= logsnr_max, mapped linearly to t in [0, 1].

    Raises ValueError for a range that the schedule does not cover.

    >>> from diffjax.schedules import Logit
    >>> print(Truncated(Logit(), -10.0, 10.0)(jnp.array([0.0, 1.0])).round(2))
    [ 10. -10.]
    """

    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self):
        super().__post_init__()
        _check_range(self)
        first, last = _at(self.schedule, 0.0), _at(self.schedule, 1.0)
        if not (last <= self.logsnr_min and self.logsnr_max <= first):
            raise ValueError(
                f"{self}: the schedule goes from {first:g} to {last:g}; needs a part of that range"
            )

    @property
    def first(self) -> float:
        return 0.0

    @property
    def _times(self) -> tuple[float, float]:
        back = float64(self.schedule.inverse)
        start, end = float(back(self.logsnr_max)), float(back(self.logsnr_min))
        return start, end - start

    def __call__(self, t: Times) -> LogSNR:
        start, width = self._times
        return self.schedule(start + width * t)

    def inverse(self, l: LogSNR) -> Times:
        start, width = self._times
        return (self.schedule.inverse(l) - start) / width


@dataclass(frozen=True)
class Clamped(Derived):
    """A schedule whose log-SNR is clipped to [logsnr_min, logsnr_max].

    The inverse clips l to that range and returns the time at which the schedule itself is at l.

    >>> from diffjax.schedules import Logit
    >>> print(Clamped(Logit(), -10.0, 10.0)(jnp.array([0.0, 1.0])))
    [ 10. -10.]
    """

    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def __post_init__(self):
        super().__post_init__()
        _check_range(self)

    def __call__(self, t: Times) -> LogSNR:
        return jnp.clip(self.schedule(t), self.logsnr_min, self.logsnr_max)

    def to_end(self, t: Times) -> LogSNR:
        """Return l(t) - l(1) as a difference, since the clipped schedule is not smooth."""
        return self(t) - _at(self, 1.0)

    def inverse(self, l: LogSNR) -> Times:
        return self.schedule.inverse(jnp.clip(l, self.logsnr_min, self.logsnr_max))


@dataclass(frozen=True)
class ZeroTerminal(Derived):
    """A schedule with zero terminal SNR (arXiv:2305.08891, Alg. 1).

    alpha of VP is shifted and scaled so that it is 0 at t = 1 and unchanged at the start. The start
    is t = 0, or index 0 of a table, as in the paper; below it the log-SNR is that of the schedule.

    >>> from diffjax.schedules import Linear
    >>> round(float(Linear()(jnp.array(1.0))), 2), float(ZeroTerminal(Linear())(jnp.array(1.0)))
    (-10.05, -inf)
    """

    @property
    def _ends(self) -> tuple[float, float, float]:
        """Return alpha at the start, log alpha at t = 1 and l at the start, in float64."""
        first, last = _at(self.schedule, self.first), _at(self.schedule, 1.0)
        log_alpha = lambda l: -0.5 * float(np.logaddexp(0.0, -l))
        return math.exp(log_alpha(first)), log_alpha(last), first

    def __call__(self, t: Times) -> LogSNR:
        first, last, _ = self._ends
        base = self.schedule(t)
        if last == -math.inf:
            return base
        log_alpha = jax.nn.log_sigmoid(base) / 2
        log_alpha = jnp.where(t < self.first, math.log(first), log_alpha)
        width = first - math.exp(last)
        # log alpha - log alpha(1). Near t = 1 both are nearly equal; there sigmoid(m + d) over
        # sigmoid(m) is 1 / (1 + sigmoid(-m) (exp(-d) - 1)), which has no cancellation in d.
        d = self.schedule.to_end(t)
        near = -jnp.log1p(-math.expm1(2 * last) * jnp.expm1(-jnp.minimum(d, 1.0))) / 2
        rise = jnp.where(d < 1, near, log_alpha - last)
        rise = jnp.where(t < 1, jnp.maximum(rise, 0.0), 0.0)  # rounding may make it negative at 1
        above = math.exp(last) * jnp.expm1(rise)
        alpha = above * (first / width)
        below = (first * -jnp.expm1(log_alpha) - math.exp(last) * (1 - first)) / width  # 1 - alpha
        moved = 2 * jnp.log(alpha) - jnp.log(below) - jnp.log1p(alpha)
        return jnp.where(t < self.first, base, moved) if self.first else moved

    def inverse(self, l: LogSNR) -> Times:
        first, last, start = self._ends
        if last == -math.inf:
            return self.schedule.inverse(l)
        width = first - math.exp(last)
        alpha = jnp.exp(jax.nn.log_sigmoid(l) / 2)
        below = jnp.exp(jax.nn.log_sigmoid(-l)) / (1 + alpha)  # 1 - alpha
        base = math.exp(last) + alpha * (width / first)
        base_below = (below * width + math.exp(last) * (1 - first)) / first
        moved = 2 * jnp.log(base) - jnp.log(base_below) - jnp.log1p(base)
        return self.schedule.inverse(jnp.where(l > start, l, moved) if self.first else moved)


@dataclass(frozen=True)
class ClassicSubVP(Derived):
    """The sub-VP schedule of the paper for a VP schedule, in the frame SubVP.

    There alpha is that of the VP process and sigma its sigma^2, so l = log(alpha^2 / sigma^4) in
    terms of the VP process (arXiv:2011.13456, eq. 29).

    >>> from diffjax.schedules import Linear
    >>> from diffjax.sde import SubVP, VP
    >>> t = jnp.array(0.25)
    >>> round(float(SubVP(ClassicSubVP(Linear())).sigma(t) - VP(Linear()).sigma(t) ** 2), 5)
    0.0
    """

    def __call__(self, t: Times) -> LogSNR:
        l = self.schedule(t)
        return jax.nn.log_sigmoid(l) - 2 * jax.nn.log_sigmoid(-l)

    def inverse(self, l: LogSNR) -> Times:
        return self.schedule.inverse(vp_logsnr(l))


def vp_logsnr(l: LogSNR) -> LogSNR:
    """Return the log-SNR of the VP process whose alpha is that of sub-VP at log-SNR l.

    With y = alpha^2 / (1 - alpha^2) sub-VP has exp(l) = y (1 + y), so y = (sqrt(1 + 4 exp(l)) - 1)
    / 2 = 2 exp(l / 2) / (exp(-l / 2) + sqrt(exp(-l) + 4)), which neither cancels nor overflows.
    """
    return math.log(2) + l / 2 - jnp.log(jnp.exp(-l / 2) + jnp.sqrt(jnp.exp(-l) + 4))


def _at(schedule: Schedule, t: float) -> float:
    return float(float64(schedule)(t))


def _check_range(schedule: Truncated | Clamped) -> None:
    if not -math.inf < schedule.logsnr_min < schedule.logsnr_max < math.inf:
        raise ValueError(f"{schedule}: needs logsnr_min < logsnr_max, both finite")
