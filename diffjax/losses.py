"""Denoising score matching in all its forms: one loss, a weight and a distribution of t.

DDPM's simple loss, v- and x0-prediction and score matching are settings of `denoising`: the
parameterization of the model says what F is, `weight` says how noise levels count, `draw` which
noise levels are seen (arXiv:2006.11239, eq. 14; arXiv:2303.00848).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.arrays import Params, catalogue, dims, drop, expand
from diffjax.denoiser import Model
from diffjax.sde import SDE

Batch = Mapping[str, Any]
"""x (B, ...); optionally cond {name: (B, ...)}, mask (broadcasts against x), weight (B,)."""
State = Any
Weight = Callable[[Model, Float[Array, " b"]], Float[Array, " b"]]
Draw = Callable[[SDE, Key[Array, ""], int, State], tuple[Float[Array, " b"], State]]
Loss = Callable[
    [Model, Params, Batch, Key[Array, ""], State], tuple[Array, dict[str, Array], State]
]


def uniform_output(model: Model, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """1 on the squared error of the network output F: DDPM's simple loss where F is eps."""
    return jnp.ones_like(t)


def uniform_x0(model: Model, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """Squared error of x0: (sigma / (a sigma - b alpha))^2 on that of F."""
    return (model.sde.sigma(t) / _determinant(model, t)) ** 2


def uniform_eps(model: Model, t: Float[Array, " b"]) -> Float[Array, " b"]:
    """Squared error of eps: (alpha / (a sigma - b alpha))^2 on that of F."""
    return (model.sde.alpha(t) / _determinant(model, t)) ** 2


def _determinant(model: Model, t: Float[Array, " b"]) -> Float[Array, " b"]:
    a, b = model.parameterization.target(model.sde, t)
    return a * model.sde.sigma(t) - b * model.sde.alpha(t)


WEIGHTS = catalogue(uniform_output, uniform_x0, uniform_eps)


def uniform(sde: SDE, key: Key[Array, ""], n: int, state: State) -> tuple[Array, State]:
    """t uniform on [t_min, t_max], independent."""
    return jax.random.uniform(key, (n,), minval=sde.t_min, maxval=sde.t_max), state


def stratified(sde: SDE, key: Key[Array, ""], n: int, state: State) -> tuple[Array, State]:
    """t_i = t_min + (t_max - t_min) ((u + i / n) mod 1), one u for all (arXiv:2107.00630, app. I).

    Each t is uniform; together they cover the range, which lowers the variance of the loss.
    """
    u = (jax.random.uniform(key) + jnp.arange(n) / n) % 1
    return sde.t_min + (sde.t_max - sde.t_min) * u, state


DRAWS = catalogue(uniform, stratified)


def denoising(
    weight: Weight = uniform_output, draw: Draw = uniform, condition_dropout: float = 0.0
) -> Loss:
    """E over t, eps of weight(t) mean((F - (a x0 + b eps))^2), F the network output at x_t.

    condition_dropout: share of samples trained with all conditions missing, for classifier-free
    guidance (arXiv:2207.12598). Metrics: `loss`.
    """
    if not 0 <= condition_dropout <= 1:
        raise ValueError(f"condition_dropout={condition_dropout}: needs 0 <= it <= 1")

    def loss(
        model: Model, params: Params, batch: Batch, key: Key[Array, ""], state: State
    ) -> tuple[Array, dict[str, Array], State]:
        key_t, key_eps, key_drop, key_network = jax.random.split(key, 4)
        x0, cond = batch["x"], drop(batch.get("cond", {}), key_drop, condition_dropout)
        t, state = draw(model.sde, key_t, x0.shape[0], state)
        eps = jax.random.normal(key_eps, x0.shape)
        output = model.output(params, model.sde.perturb(x0, eps, t), t, cond, key_network)
        a, b = model.parameterization.target(model.sde, t)
        error = (output - expand(a, x0) * x0 - expand(b, x0) * eps) ** 2 * batch.get("mask", 1.0)
        per_sample = weight(model, t) * error.mean(dims(x0)) * batch.get("weight", 1.0)
        value = per_sample.mean()
        return value, {"loss": value}, state

    return loss
