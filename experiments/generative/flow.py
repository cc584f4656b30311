"""RealNVP on vectors (arXiv:1605.08803): affine couplings whose Jacobian is triangular.

Levels are dequantised with uniform noise and stretched by a logit, so that the density of the
continuous values bounds the probability of the levels (arXiv:1511.01844).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.generative.trunk import RATES, Task, Trial, adam, descend, mlp, mlp_init
from experiments.generative.vae import normal_logp

COUPLINGS, EDGE, NOISES = 6, 0.05, 8
"""Couplings; share of the logit's range that is left free on both sides; noises of `nll`."""


@dataclass(frozen=True)
class RealNvp:
    """COUPLINGS affine couplings; each changes one half of the values, given the other half."""

    task: Task
    width: int
    steps: ClassVar[tuple[int, ...]] = (1,)
    trials: ClassVar[tuple[Trial, ...]] = RATES

    def halves(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices that coupling `index` keeps, and those that it changes.

        Even couplings take a checkerboard of the values, odd ones a fixed random half, and every
        second pair the other side of it.
        """
        size = self.task.size
        board = np.indices(self.task.shape).sum(0).reshape(-1) % 2
        mixed = np.random.default_rng(index // 4).permutation(size) % 2
        chosen = (mixed if index % 4 > 1 and size > 2 else board) ^ index % 2
        return np.flatnonzero(chosen == 0), np.flatnonzero(chosen == 1)

    def init(self, key: Any) -> Any:
        t, keys = self.task, jax.random.split(key, COUPLINGS)
        made = []
        for i in range(COUPLINGS):
            kept, changed = self.halves(i)
            depth = max(1, t.depth - 1)
            made.append(mlp_init(keys[i], len(kept), self.width, depth, 2 * len(changed), 0.0))
        return made

    def moments(self, params: Any) -> Any:
        return adam().init(params)

    def encode(self, params: Any, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return z (B, D) and log |dz / dy| (B,)."""
        logdet = jnp.zeros(len(y))
        for i, p in enumerate(params):
            kept, changed = self.halves(i)
            log_scale, shift = self._affine(p, y[:, kept])
            y = y.at[:, changed].set(y[:, changed] * jnp.exp(log_scale) + shift)
            logdet = logdet + log_scale.sum(1)
        return y, logdet

    def decode(self, params: Any, z: jax.Array) -> jax.Array:
        """Invert `encode`."""
        for i in reversed(range(COUPLINGS)):
            kept, changed = self.halves(i)
            log_scale, shift = self._affine(params[i], z[:, kept])
            z = z.at[:, changed].set((z[:, changed] - shift) * jnp.exp(-log_scale))
        return z

    def _affine(self, p: Any, kept: jax.Array) -> tuple[jax.Array, jax.Array]:
        log_scale, shift = jnp.split(mlp(p, kept), 2, axis=1)
        return 3 * jnp.tanh(log_scale / 3), shift

    def logp(self, params: Any, x: jax.Array, key: Any) -> jax.Array:
        """Return the log-density (B,), or for levels one draw of its lower bound."""
        if not self.task.levels:
            z, logdet = self.encode(params, x)
            return normal_logp(z, 0.0, jnp.zeros((1, 1))) + logdet
        n = self.task.levels
        u = ((x + 1) / 2 * (n - 1) + jax.random.uniform(key, x.shape)) / n  # in [0, 1)
        p = EDGE + (1 - 2 * EDGE) * u
        z, logdet = self.encode(params, jnp.log(p) - jnp.log1p(-p))
        stretch = math.log(1 - 2 * EDGE) - jnp.log(p) - jnp.log1p(-p)
        logdet = logdet + stretch.sum(1) - self.task.size * math.log(n)
        return normal_logp(z, 0.0, jnp.zeros((1, 1))) + logdet

    def train_step(self, params: Any, moments: Any, x: Any, key: Any, trial: Trial) -> Any:
        loss = lambda params: -self.logp(params, x, key).mean() / self.task.size
        return descend(loss, params, moments, trial.rate)

    def sampling(self, params: Any) -> Any:
        return params

    def sample(self, params: Any, key: Any, num: int, steps: int) -> jax.Array:
        x = self.decode(params, jax.random.normal(key, (num, self.task.size)))
        if not self.task.levels:
            return x
        n, u = self.task.levels, (jax.nn.sigmoid(x) - EDGE) / (1 - 2 * EDGE)
        return jnp.clip(jnp.floor(u * n), 0, n - 1) / (n - 1) * 2 - 1

    def nll(self, params: Any, x: jax.Array, key: Any) -> jax.Array:
        """Return -log p(x) of a density; for levels the bound by NOISES draws of the noise."""
        if not self.task.levels:
            return -self.logp(params, x, key)
        each = jax.lax.map(lambda k: self.logp(params, x, k), jax.random.split(key, NOISES))
        return math.log(NOISES) - jax.nn.logsumexp(each, axis=0)
