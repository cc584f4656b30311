"""Bad steps, found on the device: one that is not finite is skipped, a spike is reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MEMORY = 100
"""Steps that the running means reach back; before as many, nothing is called a spike."""


class Health(NamedTuple):
    """What a run remembers, a part of its state.

    skipped: steps that changed nothing. row: those of them up to now without a break. seen: finite
    steps. mean, spread: running means of (objective, gradient norm) and of their distance from it.
    """

    skipped: Int[Array | np.ndarray, ""] = np.zeros((), np.int32)
    row: Int[Array | np.ndarray, ""] = np.zeros((), np.int32)
    seen: Int[Array | np.ndarray, ""] = np.zeros((), np.int32)
    mean: Float[Array | np.ndarray, "2"] = np.zeros(2, np.float32)
    spread: Float[Array | np.ndarray, "2"] = np.zeros(2, np.float32)


class Verdict(NamedTuple):
    """skip: the step changes nothing. spike: it is far from the ones before."""

    skip: Bool[Array, ""]
    spike: Bool[Array, ""]


@dataclass(frozen=True)
class Watch:
    """A step whose objective or gradient is not finite is skipped, always.

    It is a spike where one of the two lies more than `spike` times its spread (at least 1 % of the
    mean) above its mean, 0 for never. A spike counts in the means as no more than that, so they
    follow when all steps have grown. skip: do not make steps that are spikes.
    """

    spike: float = 20.0
    skip: bool = False

    def __call__(
        self, health: Health, objective: Float[Array, ""], norm: Float[Array, ""]
    ) -> tuple[Verdict, Health]:
        seen, mean, spread = health.seen, health.mean, health.spread
        values = jnp.stack([objective, norm]).astype(jnp.float32)
        finite = jnp.isfinite(values).all()
        far = self.spike * jnp.maximum(spread, 0.01 * jnp.abs(mean))
        known = (seen >= MEMORY) & (self.spike > 0)
        spike = finite & known & (values > mean + far).any()
        skip = ~finite | (spike & self.skip)

        values = jnp.where(known, jnp.clip(values, mean - far, mean + far), values)
        share = 1 / (1 + jnp.minimum(seen, MEMORY - 1))
        off = jnp.where(seen > 0, values - mean, 0)
        mean = jnp.where(seen > 0, mean + share * off, values)
        spread = spread + share * (jnp.abs(off) - spread)
        return Verdict(skip, spike), Health(
            skipped=health.skipped + skip,
            row=jnp.where(skip, health.row + 1, 0),
            seen=seen + finite,
            mean=jnp.where(finite, mean, health.mean),
            spread=jnp.where(finite, spread, health.spread),
        )
