"""Schedules from a table of betas: what discrete-time models were trained with."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from diffjax.schedules.base import LogSNR, Schedule, Times


@dataclass(frozen=True)
class Discrete(Schedule):
    """A table of betas as a schedule in continuous time.

    Index k of T stands for t = (k + 1) / T, where alpha^2 = prod_{i <= k} (1 - beta_i) in VP,
    exactly; between two indices, and from the first on to t = 0, l is linear in t. l is finite.
    """

    betas: tuple[float, ...] = ()

    def __post_init__(self):
        if len(self.betas) < 2:
            raise ValueError(f"betas={self.betas}: needs two or more")
        for k, beta in enumerate(self.betas):
            if not 0 < beta < 1:
                raise ValueError(f"betas[{k}]={beta}: needs 0 < beta < 1")

    @property
    def steps(self) -> int:
        return len(self.betas)

    def __call__(self, t: Times) -> LogSNR:
        # Differences of neighbours come from float64: in float32 they have three digits.
        l, change = _nodes(self.betas)
        k = self._cell(t * self.steps)
        return jnp.asarray(l[:-1], t.dtype)[k] + jnp.asarray(change, t.dtype)[k] * (
            t * self.steps - k
        )

    def to_end(self, t: Times) -> LogSNR:
        """Cells and their shares counted from the end, where they have all their digits."""
        l, change = _nodes(self.betas)
        away = (1 - t) * self.steps
        k = self._cell(away)
        passed = jnp.asarray((l - l[-1])[:0:-1], t.dtype)[k]
        return passed - jnp.asarray(change[::-1], t.dtype)[k] * (away - k)

    def inverse(self, l: LogSNR) -> Times:
        """The nearest end of time for l beyond the table."""
        nodes, change = _nodes(self.betas)
        falling = jnp.asarray(-nodes[:-1], l.dtype)
        k = jnp.clip(jnp.searchsorted(falling, -l, side="right") - 1, 0, self.steps - 1)
        share = (l + falling[k]) / jnp.asarray(change, l.dtype)[k]
        return (k + jnp.clip(share, 0, 1)) / self.steps

    def _cell(self, position: Times) -> Int[Array, "*b"]:
        """The number of the cell between two nodes that has this position, in cells."""
        return jnp.clip(jnp.floor(position), 0, self.steps - 1).astype(jnp.int32)

    def __repr__(self) -> str:
        return f"Discrete({len(self.betas)} betas, {self.betas[0]:g} to {self.betas[-1]:g})"


@functools.cache
def _nodes(betas: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The log-SNR at t = 0, 1 / T, ..., 1, and its changes from each to the next, in float64."""
    log_alpha2 = np.cumsum(np.log1p(-np.asarray(betas)))
    l = log_alpha2 - np.log(-np.expm1(log_alpha2))
    l = np.append(2 * l[0] - l[1], l)
    return l, np.diff(l)


def from_betas(betas: Iterable[float]) -> Discrete:
    """The schedule of a table of betas.

    >>> from_betas([0.1, 0.2]).steps
    2
    """
    return Discrete(tuple(float(beta) for beta in betas))


def ddpm_linear(steps: int = 1000, beta_min: float = 1e-4, beta_max: float = 0.02) -> Discrete:
    """DDPM's table (arXiv:2006.11239, sec. 4).

    >>> ddpm_linear()
    Discrete(1000 betas, 0.0001 to 0.02)
    """
    _at_least_two(steps)
    return from_betas(np.linspace(beta_min, beta_max, steps))


def ddpm_scaled_linear(
    steps: int = 1000, beta_min: float = 0.00085, beta_max: float = 0.012
) -> Discrete:
    """The table of latent diffusion: sqrt(beta) is linear (arXiv:2112.10752's code)."""
    _at_least_two(steps)
    return from_betas(np.linspace(beta_min**0.5, beta_max**0.5, steps) ** 2)


def ddpm_cosine(steps: int = 1000, s: float = 0.008, most: float = 0.999) -> Discrete:
    """The table of improved DDPM (arXiv:2102.09672, eq. 17): no beta above `most`."""
    _at_least_two(steps)
    alpha2 = np.cos((np.arange(steps + 1) / steps + s) / (1 + s) * math.pi / 2) ** 2
    return from_betas(np.minimum(1 - alpha2[1:] / alpha2[:-1], most))


def _at_least_two(steps: int) -> None:
    if steps < 2:
        raise ValueError(f"steps={steps}: needs steps >= 2")
