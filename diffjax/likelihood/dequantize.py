"""Dequantization: noise within the bin of each grey level, with its log-density.

P(x0) = integral over the bin of p >= exp E_q[log p(x0 + u) - log q(u | x0)] for any q on the bin
(arXiv:1902.00275, eq. 6). Values are in [-1, 1]; a bin of 256 levels is 2 / 255 wide.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.arrays import catalogue

HALF = 1 / 255
Noise = tuple[Float[Array, "*d"], Float[Array, ""]]
Dequantize = Callable[[Key[Array, ""], tuple[int, ...], Float[Array, ""]], Noise]
"""`(key, shape, rho) -> (u, log q(u))` for one image, with log q in nats and rho = sigma / alpha at
t_min."""


def none(key: Key[Array, ""], shape: tuple[int, ...], rho: Float[Array, ""]) -> Noise:
    """Add no noise, for the density of data that are not quantized.

    >>> u, log_q = none(jax.random.key(0), (8, 8, 1), jnp.asarray(0.01))
    >>> u.shape, float(log_q)
    ((8, 8, 1), 0.0)
    """
    return jnp.zeros(shape), jnp.zeros(())


def uniform(key: Key[Array, ""], shape: tuple[int, ...], rho: Float[Array, ""]) -> Noise:
    """Draw noise uniformly on the bin (arXiv:1511.01844, sec. 3.1).

    >>> u, log_q = uniform(jax.random.key(0), (2,), jnp.asarray(0.01))
    >>> bool((abs(u) <= 1 / 255).all()), round(float(log_q), 3)  # 2 log(255 / 2)
    (True, 9.696)
    """
    log_q = -math.prod(shape) * math.log(2 * HALF)
    return HALF * jax.random.uniform(key, shape, minval=-1.0), jnp.asarray(log_q, float)


def truncated_normal(key: Key[Array, ""], shape: tuple[int, ...], rho: Float[Array, ""]) -> Noise:
    """Draw the noise of the process at t_min, N(0, rho^2) truncated to the bin.

    The model is then evaluated on its training distribution, and no dequantizer has to be trained
    (arXiv:2305.03935, sec. 3.2).

    >>> u, log_q = truncated_normal(jax.random.key(0), (2,), jnp.asarray(0.01))
    >>> bool((abs(u) <= 1 / 255).all()), u.shape
    (True, (2,))
    """
    edge = HALF / rho
    u = rho * jax.random.truncated_normal(key, -edge, edge, shape)
    inside = jnp.log(jax.scipy.special.erf(edge / math.sqrt(2)))
    each = -0.5 * (u / rho) ** 2 - jnp.log(rho) - 0.5 * math.log(2 * math.pi) - inside
    return u, each.sum()


DEQUANTIZERS = catalogue(none, uniform, truncated_normal)
