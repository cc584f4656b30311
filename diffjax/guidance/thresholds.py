"""Thresholds: x0 (B, ...) to x0, each sample on its own."""

from __future__ import annotations

import jax.numpy as jnp

from diffjax.arrays import dims, expand
from diffjax.denoiser import Sample


def static(x0: Sample, bound: float = 1.0) -> Sample:
    """Clip x0 to [-bound, bound] (arXiv:2205.11487, sec. 2.3)."""
    return jnp.clip(x0, -bound, bound)


def dynamic(x0: Sample, share: float = 0.995, bound: float = 1.0) -> Sample:
    """Clip x0 to its quantile s and scale it to [-bound, bound] (arXiv:2205.11487, sec. 2.3).

    clip(x0, -s, s) bound / s, where s is the quantile `share` of |x0| of the sample, and at least
    `bound`: a sample within it stays as it is.
    """
    s = jnp.quantile(jnp.abs(x0).reshape(len(x0), -1), share, axis=1)
    s = expand(jnp.maximum(s, bound), x0)
    return jnp.clip(x0, -s, s) * (bound / s)
