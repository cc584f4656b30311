"""A variational autoencoder (arXiv:1312.6114) with the bound of importance weights (1509.00519).

The decoder of levels is a discretised logistic (arXiv:1606.04934), with a mean and a scale
of each value and unbounded outer bins; that of real numbers is a normal with one scale for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from experiments.generative.trunk import Task, Trial, adam, descend, mlp, mlp_init

WEIGHTS = 128
"""Draws of z for each item in the bound of `nll`."""


def logistic_logp(x: jax.Array, mean: jax.Array, log_scale: jax.Array, levels: int) -> jax.Array:
    """Return log P of each value x, one of `levels` even values in [-1, 1], as x has them.

    P = s((x + h - mean) / scale) - s((x - h - mean) / scale), with s the logistic function and h
    half a bin; the outer bins reach to infinity.
    """
    half, rate = 1 / (levels - 1), jnp.exp(-log_scale)
    high = jnp.where(x > 1 - half, jnp.inf, rate * (x + half - mean))
    low = jnp.where(x < -1 + half, -jnp.inf, rate * (x - half - mean))
    # s(b) - s(a) = s(b) s(-a) (1 - exp(a - b)), which loses no digits in either tail.
    width = jnp.where(jnp.isfinite(low) & jnp.isfinite(high), 2 * half * rate, jnp.inf)
    inner = jnp.log(-jnp.expm1(-width))
    return jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + inner


@dataclass(frozen=True)
class Vae:
    """An encoder and a decoder of one width; beta, the knob, weighs the KL in training alone."""

    task: Task
    width: int
    steps: ClassVar[tuple[int, ...]] = (1,)
    trials: ClassVar[tuple[Trial, ...]] = tuple(
        Trial(rate, beta) for rate in (1e-3, 3e-3) for beta in (0.5, 1.0)
    )

    def init(self, key: Any) -> Any:
        encoder, decoder = jax.random.split(key)
        t = self.task
        return {
            "encoder": mlp_init(encoder, t.size, self.width, t.depth, 2 * t.latent, 0.1),
            "decoder": mlp_init(decoder, t.latent, self.width, t.depth, t.size),
            "log_scale": jnp.full((1, t.size if t.levels else 1), -1.0),
        }

    def moments(self, params: Any) -> Any:
        return adam().init(params)

    def posterior(self, params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return mean and log-deviation of z (B, latent)."""
        mean, log_std = jnp.split(mlp(params["encoder"], x), 2, axis=1)
        return mean, jnp.clip(log_std, -7, 3)

    def log_likelihood(self, params: Any, x: jax.Array, z: jax.Array) -> jax.Array:
        """Return log p(x | z) in nats, (B,)."""
        mean, log_scale = mlp(params["decoder"], z), jnp.clip(params["log_scale"], -6, 3)
        if self.task.levels:
            return logistic_logp(x, mean, log_scale, self.task.levels).sum(1)
        return normal_logp(x, mean, log_scale)

    def train_step(self, params: Any, moments: Any, x: Any, key: Any, trial: Trial) -> Any:
        eps = jax.random.normal(key, (len(x), self.task.latent))

        def loss(params: Any) -> jax.Array:
            mean, log_std = self.posterior(params, x)
            kl = 0.5 * (mean**2 + jnp.exp(2 * log_std) - 1 - 2 * log_std).sum(1)
            fit = self.log_likelihood(params, x, mean + jnp.exp(log_std) * eps)
            return (trial.knob * kl - fit).mean() / self.task.size

        return descend(loss, params, moments, trial.rate)

    def sampling(self, params: Any) -> Any:
        return {k: params[k] for k in ("decoder", "log_scale")}

    def sample(self, params: Any, key: Any, num: int, steps: int) -> jax.Array:
        """Draw z and then x from the decoder, its noise included: samples of the model."""
        first, second = jax.random.split(key)
        mean = mlp(params["decoder"], jax.random.normal(first, (num, self.task.latent)))
        scale = jnp.exp(jnp.clip(params["log_scale"], -6, 3))
        draw = jax.random.logistic if self.task.levels else jax.random.normal
        x = mean + scale * draw(second, mean.shape)
        return jnp.clip(x, -1, 1) if self.task.levels else x

    def nll(self, params: Any, x: jax.Array, key: Any) -> jax.Array:
        """Bound -log p(x) from above by -log mean_k p(x, z_k) / q(z_k | x), k up to WEIGHTS."""
        mean, log_std = self.posterior(params, x)

        def one(key: Any) -> jax.Array:
            z = mean + jnp.exp(log_std) * jax.random.normal(key, mean.shape)
            ratio = normal_logp(z, 0.0, jnp.zeros((1, 1))) - normal_logp(z, mean, log_std)
            return self.log_likelihood(params, x, z) + ratio

        each = jax.lax.map(one, jax.random.split(key, WEIGHTS))
        return math.log(WEIGHTS) - jax.nn.logsumexp(each, axis=0)


def normal_logp(x: jax.Array, mean: Any, log_std: jax.Array) -> jax.Array:
    """Return log N(x; mean, std^2) of items x (B, D) in nats, (B,)."""
    u = (x - mean) * jnp.exp(-log_std)
    return (-0.5 * (u**2 + math.log(2 * math.pi)) - log_std).sum(1)
