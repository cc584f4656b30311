"""Schedules from a table of betas, as discrete-time models are trained with."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from diffjax.schedules.base import LogSNR, Schedule, Times


@dataclass(frozen=True)
class Discrete(Schedule):
    """A table of betas as a schedule in continuous time.

    betas: T >= 2 numbers in (0, 1). Index k of T stands for t = (k + 1) / T, where alpha^2 =
    prod_{i <= k} (1 - beta_i) in VP exactly. Between two indices, and below the first down to
    t = 0, l is linear in t. The last beta may be 1 (arXiv:2305.08891, Alg. 1): then l = -inf at
    t = 1, and alpha is linear in the last interval. Elsewhere l is finite.

    Raises ValueError for other betas.

    >>> l = Discrete(betas=(0.1, 0.2, 0.5))(jnp.array([1 / 3, 1.0]))
    >>> [round(float(a), 4) for a in jax.nn.sigmoid(l)]  # alpha^2: 0.9, and 0.9 * 0.8 * 0.5
    [0.9, 0.36]
    """

    betas: tuple[float, ...] = ()

    def __post_init__(self):
        if len(self.betas) < 2:
            raise ValueError(f"betas={self.betas}: needs at least two")
        for k, beta in enumerate(self.betas):
            if not (0 < beta < 1 or (beta == 1 and k == self.steps - 1)):
                raise ValueError(f"betas[{k}]={beta}: needs 0 < beta < 1, or 1 for the last one")

    @property
    def steps(self) -> int:
        return len(self.betas)

    @property
    def first(self) -> float:
        return 1 / self.steps

    def __call__(self, t: Times) -> LogSNR:
        # Differences of neighbouring nodes are taken in float64; in float32 three digits are left.
        l, change = _nodes(self.betas)
        k = self._cell(t * self.steps)
        finite = np.where(np.isfinite(change), change, 0.0)  # the last cell is handled below
        line = jnp.asarray(l[:-1], t.dtype)[k] + jnp.asarray(finite, t.dtype)[k] * (
            t * self.steps - k
        )
        if np.isfinite(l[-1]):
            return line
        log_alpha = jnp.log(jnp.maximum(self.steps * (1 - t), 0.0)) - np.logaddexp(0.0, -l[-2]) / 2
        inside = jnp.minimum(log_alpha, -np.logaddexp(0.0, -l[-2]) / 2)
        last = 2 * inside - jnp.log(-jnp.expm1(2 * inside))
        return jnp.where(k == self.steps - 1, last, line)

    def to_end(self, t: Times) -> LogSNR:
        """Return l(t) - l(1), with positions counted from t = 1, where they keep their digits."""
        l, change = _nodes(self.betas)
        away = (1 - t) * self.steps
        k = self._cell(away)
        passed = jnp.asarray((l - l[-1])[:0:-1], t.dtype)[k]
        return passed - jnp.asarray(change[::-1], t.dtype)[k] * (away - k)

    def inverse(self, l: LogSNR) -> Times:
        """Return the time at log-SNR l; the nearer of 0 and 1 for l beyond the table."""
        nodes, change = _nodes(self.betas)
        falling = jnp.asarray(-nodes[:-1], l.dtype)
        k = jnp.clip(jnp.searchsorted(falling, -l, side="right") - 1, 0, self.steps - 1)
        finite = np.where(np.isfinite(change), change, -1.0)  # the last cell is handled below
        share = (l + falling[k]) / jnp.asarray(finite, l.dtype)[k]
        line = (k + jnp.clip(share, 0, 1)) / self.steps
        if np.isfinite(nodes[-1]):
            return line
        left = jnp.exp((jax.nn.log_sigmoid(l) + np.logaddexp(0.0, -nodes[-2])) / 2)
        return jnp.where(l < nodes[-2], 1 - left / self.steps, line)

    def _cell(self, position: Times) -> Int[Array, "*b"]:
        """Return the index of the interval between two nodes that contains `position` = T t."""
        return jnp.clip(jnp.floor(position), 0, self.steps - 1).astype(jnp.int32)

    def __repr__(self) -> str:
        return f"Discrete({len(self.betas)} betas, {self.betas[0]:g} to {self.betas[-1]:g})"


@functools.lru_cache(32)
def _nodes(betas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-SNR at t = 0, 1 / T, ..., 1 and its differences, in float64."""
    with np.errstate(divide="ignore"):  # the last beta may be 1
        log_alpha2 = np.cumsum(np.log1p(-np.asarray(betas)))
    l = log_alpha2 - np.log(-np.expm1(log_alpha2))
    l = np.append(2 * l[0] - l[1], l)
    return l, np.diff(l)


def from_betas(betas: Iterable[float]) -> Discrete:
    """Construct the schedule of a table of two or more betas in (0, 1), the last of which may be 1.

    >>> from_betas([0.1, 0.2]).steps
    2
    """
    return Discrete(tuple(float(beta) for beta in betas))


def ddpm_linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Discrete:
    """Return the schedule of DDPM's table, in which beta is linear (arXiv:2006.11239, sec. 4).

    steps: number of betas, >= 2 (ValueError otherwise). beta_min, beta_max: the first and the last.

    >>> ddpm_linear()
    Discrete(1000 betas, 0.0001 to 0.02)
    """
    _at_least_two(steps)
    return from_betas(np.linspace(beta_min, beta_max, steps))


def ddpm_scaled_linear(
    steps: int = 1000, beta_min: float = 0.00085, beta_max: float = 0.012
) -> Discrete:
    """Return the schedule of latent diffusion's table, in which sqrt(beta) is linear.

    Source: the code of arXiv:2112.10752. steps: number of betas, >= 2 (ValueError otherwise).
    beta_min, beta_max: the first and the last.

    >>> ddpm_scaled_linear()
    Discrete(1000 betas, 0.00085 to 0.012)
    """
    _at_least_two(steps)
    return from_betas(np.linspace(beta_min**0.5, beta_max**0.5, steps) ** 2)


def ddpm_cosine(steps: int = 1000, s: float = 0.008, most: float = 0.999) -> Discrete:
    """Return the schedule of improved DDPM's table, with betas of at most `most`.

    Source: arXiv:2102.09672, eq. 17. steps: number of betas, >= 2 (ValueError otherwise). s: offset
    in time, as in `Cosine`.

    >>> ddpm_cosine(steps=1000)
    Discrete(1000 betas, 4.12842e-05 to 0.999)
    """
    _at_least_two(steps)
    alpha2 = np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * math.pi / 2) ** 2
    return from_betas(np.minimum(1 - alpha2[1:] / alpha2[:-1], most))


def _at_least_two(steps: int) -> None:
    if steps < 2:
        raise ValueError(f"steps={steps}: needs steps >= 2")
