"""R3GAN on perceptrons: relativistic pairing with R1 and R2 (arXiv:2501.05441).

Both networks are residual and without normalisation. With f(t) = softplus(-t) the discriminator
descends E f(D(x) - D(G(z))) + gamma / 2 (E |grad D(x)|^2 + E |grad D(G(z))|^2), the generator
E f(D(G(z)) - D(x)). Differences from the paper: perceptrons in place of convolutions, constant
gamma and rate, Adam with beta1 = 0 and beta2 = 0.99 from the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from experiments.generative.trunk import Task, Trial, adam, descend, mlp, mlp_init


def pair_loss(better: jax.Array, worse: jax.Array) -> jax.Array:
    """E softplus(-(better - worse)) of logits (B,): small where the first exceeds the second.

    >>> float(pair_loss(jnp.zeros(2), jnp.zeros(2)).round(4))  # log 2
    0.6931
    """
    return jax.nn.softplus(worse - better).mean()


def judged(discriminate: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return D(x) (B,) and E |grad D(x)|^2 over items x (B, D), from one forward pass.

    >>> logits, penalty = judged(lambda x: 3 * x[:, 0], jnp.ones((4, 2)))
    >>> float(logits[0]), float(penalty)
    (3.0, 9.0)
    """
    logits, pullback = jax.vjp(discriminate, x)
    (grads,) = pullback(jnp.ones_like(logits))
    return logits, (grads**2).sum(1).mean()


@dataclass(frozen=True)
class Gan:
    """Generator z (B, latent) -> x (B, size), and a discriminator of the same width."""

    task: Task
    width: int
    steps: ClassVar[tuple[int, ...]] = (1,)
    trials: ClassVar[tuple[Trial, ...]] = tuple(
        Trial(rate, gamma) for rate in (2e-4, 1e-3) for gamma in (0.1, 1.0)
    )
    nll: ClassVar[None] = None

    def init(self, key: Any) -> Any:
        g, d = jax.random.split(key)
        t = self.task
        return {
            "g": mlp_init(g, t.latent, self.width, t.depth, t.size),
            "d": mlp_init(d, t.size, self.width, t.depth, 1),
        }

    def moments(self, params: Any) -> Any:
        return {k: adam(0.0).init(v) for k, v in params.items()}

    def generate(self, g: Any, z: jax.Array) -> jax.Array:
        x = mlp(g, z)
        return jnp.tanh(x) if self.task.levels else x

    def train_step(self, params: Any, moments: Any, x: Any, key: Any, trial: Trial) -> Any:
        """Step the discriminator, then the generator; the watched loss is the discriminator's."""
        first, second = (
            jax.random.normal(k, (len(x), self.task.latent)) for k in jax.random.split(key)
        )
        fake = self.generate(params["g"], first)
        judge = lambda d: lambda x: mlp(d, x)[:, 0]

        def of_d(d: Any) -> jax.Array:
            (real, r1), (made, r2) = judged(judge(d), x), judged(judge(d), fake)
            return pair_loss(real, made) + trial.knob / 2 * (r1 + r2)

        d, moments_d, loss = descend(of_d, params["d"], moments["d"], trial.rate, 0.0)
        of_g = lambda g: pair_loss(judge(d)(self.generate(g, second)), judge(d)(x))
        g, moments_g, _ = descend(of_g, params["g"], moments["g"], trial.rate, 0.0)
        return {"g": g, "d": d}, {"g": moments_g, "d": moments_d}, loss

    def sampling(self, params: Any) -> Any:
        return params["g"]

    def sample(self, params: Any, key: Any, num: int, steps: int) -> jax.Array:
        return self.generate(params["g"], jax.random.normal(key, (num, self.task.latent)))
