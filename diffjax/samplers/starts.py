"""Initial states of samples: draws from the prior, or items noised to a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import expand, normal
from diffjax.checks import within
from diffjax.sde import SDE


def start_from(
    sde: SDE,
    x0: Float[Array, "b *d"],
    times: np.ndarray,
    strength: float,
    keys: Key[Array, " b"],
) -> tuple[np.ndarray, Float[Array, "b *d"], Key[Array, " b"]]:
    """Prepare image-to-image sampling (arXiv:2108.01073).

    Returns the last part of the grid, x0 (B, ...) noised to its first time, and the keys for
    `sample`. strength: the share of the steps to run, in (0, 1]; 1 keeps as little of x0 as the
    process does at t_max.

    >>> from diffjax import schedules, sde
    >>> flow, keys = sde.Flow(schedules.Logit()), jax.random.split(jax.random.key(0), 3)
    >>> part, x, keys = start_from(flow, jnp.zeros((3, 2)), np.array([1.0, 0.5, 0.0]), 0.5, keys)
    >>> part.tolist(), x.shape
    ([0.5, 0.0], (3, 2))
    """
    part = last_part(times, strength)
    checks.samples(x0, "x0")
    checks.keys(keys, len(x0))
    return part, *noised(sde, x0, part[0], keys)


def last_part(times: np.ndarray, strength: float) -> np.ndarray:
    """Return the last steps of a grid: a share `strength` in (0, 1], rounded, at least one step."""
    within(0, 1, "(]", strength=strength)
    steps = len(times) - 1
    return times[steps - max(1, round(strength * steps)) :]


def noised(
    sde: SDE, x0: Float[Array, "b *d"], t: Any, keys: Key[Array, " b"]
) -> tuple[Float[Array, "b *d"], Key[Array, " b"]]:
    """Return x0 (B, ...) noised to time t, and the keys for `sample`.

    t: (), or (L,) for each position of the leading axis. Positions at t_min or below it are known,
    and keep their values: those at t_max are drawn from the prior, whatever x0 is.
    """
    first, remaining = jax.vmap(jax.random.split, out_axes=1)(keys)
    eps = normal(first, x0.shape[1:]).astype(x0.dtype)
    if not jnp.ndim(t):
        return sde.perturb(x0, eps, jnp.full(x0.shape[:1], t, x0.dtype)), remaining
    t = jnp.broadcast_to(jnp.asarray(t, x0.dtype), x0.shape[:2])
    at = expand(t, x0)
    drawn = expand(sde.sigma(t), x0) * eps
    noisy = jnp.where(at < sde.t_max, sde.perturb(x0, eps, t), drawn)
    return jnp.where(at <= sde.t_min, x0, noisy), remaining


def initial(
    sde: SDE, keys: Key[Array, " b"], shape: tuple[int, ...], t: Any = None
) -> tuple[Float[Array, "b *d"], Key[Array, " b"]]:
    """Draw initial states (B, *shape) from the prior, and return them with the keys for `sample`.

    keys: (B,). t: the first time of the grid, t_max by default; (L,) for a table of lanes.

    >>> from diffjax import schedules, sde
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> x, keys = initial(sde.VP(schedules.Linear()), keys, (8, 8, 1))
    >>> x.shape
    (3, 8, 8, 1)
    """
    checks.keys(keys, np.size(keys))
    first, later = jax.vmap(jax.random.split, out_axes=1)(keys)
    return jax.vmap(lambda key: sde.prior(key, shape, t))(first), later
