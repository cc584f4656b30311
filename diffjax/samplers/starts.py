"""Where samples start: draws from the prior, or items with the noise of a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import normal
from diffjax.checks import within
from diffjax.sde import SDE


def start_from(
    sde: SDE,
    x0: Float[Array, "b *d"],
    times: np.ndarray,
    strength: float,
    keys: Key[Array, " b"],
) -> tuple[np.ndarray, Float[Array, "b *d"], Key[Array, " b"]]:
    """Image to image: the last part of a grid, x0 noised to where it begins, and keys for `sample`.

    strength: share of the steps that are made, in (0, 1]; 1 keeps as little of x0 as the process
    does (arXiv:2108.01073).
    """
    part = last_part(times, strength)
    checks.samples(x0, "x0")
    checks.keys(keys, len(x0))
    return part, *noised(sde, x0, part[0], keys)


def last_part(times: np.ndarray, strength: float) -> np.ndarray:
    """The last steps of a grid, a share `strength` of them, in (0, 1], to the nearest whole number
    of steps and at least one."""
    within(0, 1, "(]", strength=strength)
    steps = len(times) - 1
    return times[steps - max(1, round(strength * steps)) :]


def noised(
    sde: SDE, x0: Float[Array, "b *d"], t: Any, keys: Key[Array, " b"]
) -> tuple[Float[Array, "b *d"], Key[Array, " b"]]:
    """x0 with the noise of time t, and the keys to give to `sample` with it."""
    first, remaining = jax.vmap(jax.random.split, out_axes=1)(keys)
    eps = normal(first, x0.shape[1:]).astype(x0.dtype)
    return sde.perturb(x0, eps, jnp.full(x0.shape[:1], t, x0.dtype)), remaining


def initial(
    sde: SDE, keys: Key[Array, " b"], shape: tuple[int, ...], t: Any = None
) -> tuple[Float[Array, "b *d"], Key[Array, " b"]]:
    """Draws from the prior (B, *shape), and the keys to give to `sample` with them.

    t: where the grid begins, if that is not t_max.
    """
    checks.keys(keys, np.size(keys))
    first, later = jax.vmap(jax.random.split, out_axes=1)(keys)
    return jax.vmap(lambda key: sde.prior(key, shape, t))(first), later
