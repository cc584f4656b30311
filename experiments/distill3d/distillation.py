"""Score distillation: images of a differentiable renderer follow the score of a diffusion prior.

At noise levels t the images x of a scene are noised to x_t = alpha x + sigma eps. The scene moves
along the vector-Jacobian product of its renderer with

    sigma (eps_hat(x_t) - eps)          SDS, score distillation sampling (arXiv:2209.14988)
    sigma (eps_hat(x_t) - eps_q(x_t))   VSD, variational score distillation (arXiv:2305.16213)

where eps_hat is that of the prior and eps_q that of the law of the rendered images. For N scenes
this law has equal parts at their images, so eps_q is known exactly, and no second network is
trained. For one scene it is eps itself, and VSD is SDS: only several scenes can spread.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.analytic import Mixture, MixtureDenoiser
from diffjax.arrays import Cond, expand
from diffjax.prediction import Denoise
from diffjax.sde import SDE

LEAST = 1e-6
"""The variance of a part at an image; the law of the images is a sum of points in its limit."""
RANGE = (0.02, 0.98)
"""The times of noise, as shares of t_max."""

Density = Float[Array, "d d d"]
Images = Float[Array, "b *d"]


def render(density: Density, size: int, thickness: float = 1.0) -> Float[Array, "3 s s 1"]:
    """Return three shadows of a cube of densities, along its axes, in [-1, 1].

    Light of intensity 1 that crosses the cube is absorbed; a shadow shows what is lost,
    2 (1 - exp(-thickness * mean density)) - 1, so that an empty cube is black. density: (D, D, D),
    at least 0. size: the side of the images; D is a multiple of it, and pixels are means.
    """
    through = [1 - jnp.exp(-thickness * density.mean(axis)) for axis in range(3)]
    k = density.shape[0] // size
    pooled = [a.reshape(size, k, size, k).mean((1, 3)) for a in through]
    return 2 * jnp.stack(pooled)[..., None] - 1


def of_images(x: Images, sde: SDE) -> MixtureDenoiser:
    """Return the exact denoiser of the law with equal parts at the images x (N, ...)."""
    return MixtureDenoiser(sde, Mixture(jnp.full(len(x), 1 / len(x)), x, jnp.full_like(x, LEAST)))


def direction(
    prior: Denoise,
    x: Images,
    key: Key[Array, ""],
    cond: Cond | None = None,
    law: Denoise | None = None,
) -> Images:
    """Return what images x (B, ...) move against, at one drawn time for each.

    law: the denoiser of the law of the images, for VSD; without it, SDS.
    """
    sde, (late, noise) = prior.sde, jax.random.split(key)
    low, high = (share * sde.t_max for share in RANGE)
    t = jax.random.uniform(late, (len(x),), x.dtype, low, high)
    eps = jax.random.normal(noise, x.shape, x.dtype)
    sigma = expand(sde.sigma(t), x)
    noised = expand(sde.alpha(t), x) * x + sigma * eps
    own = eps if law is None else law(noised, t).eps
    return jax.lax.stop_gradient(sigma * (prior(noised, t, cond).eps - own))
