"""Detection of bad steps on the device: non-finite steps are skipped, spikes are reported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

MEMORY = 100
"""Number of steps in the running means; during the first MEMORY steps no step counts as a spike."""


class Health(NamedTuple):
    """The record of bad steps, a part of the state of a run.

    skipped: the number of skipped steps. row: the number of consecutive skipped steps up to now.
    seen: the number of finite steps. mean: (2,), the running mean of (objective, gradient norm).
    spread: (2,), the running mean of the absolute deviations from it.
    """

    skipped: Int[Array | np.ndarray, ""] = np.zeros((), np.int32)
    row: Int[Array | np.ndarray, ""] = np.zeros((), np.int32)
    seen: Int[Array | np.ndarray, ""] = np.zeros((), np.int32)
    mean: Float[Array | np.ndarray, "2"] = np.zeros(2, np.float32)
    spread: Float[Array | np.ndarray, "2"] = np.zeros(2, np.float32)


class Verdict(NamedTuple):
    """The verdict on a step.

    skip: True if the step leaves the parameters unchanged. spike: True if the step is far from the
    previous ones.
    """

    skip: Bool[Array, ""]
    spike: Bool[Array, ""]


@dataclass(frozen=True)
class Watch:
    """The rule that decides which steps are bad.

    A step whose objective or gradient is not finite is always skipped. A step is a spike where its
    objective or gradient norm exceeds the mean by more than `spike` times the spread, which counts
    as at least 1 % of the mean. The running means clip a spike to this threshold, so they follow
    when the values of all steps have grown.

    spike: the multiple of the spread, 0 for no spikes. skip: skip spikes as well.
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
