"""An autoregressive model of levels: MADE with categorical outputs (arXiv:1502.03509).

Pixel i sees the pixels before it in raster order, as one-hot vectors. Masks on the products of a
residual perceptron keep that order, so that one pass gives all conditionals, and a sample takes a
pass for each value. Real numbers have no levels: the toy data are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from experiments.generative.trunk import (
    RATES,
    Task,
    Trial,
    adam,
    affine,
    descend,
    levels_of,
    mlp_init,
)


@dataclass(frozen=True)
class Made:
    """One masked network; unit h of the hidden layers sees the pixels before its degree."""

    task: Task
    width: int
    trials: ClassVar[tuple[Trial, ...]] = RATES

    @property
    def steps(self) -> tuple[int, ...]:
        """A pass for each value."""
        return (self.task.size,)

    def masks(self) -> dict[str, np.ndarray]:
        """Return the masks of the products: first (in, width), inner, and last (width, out).

        Degrees of hidden units are even from 1 to size - 1; a unit of degree m sees pixels 0 to
        m - 1, and pixel i sees units of degree at most i.
        """
        n, k = self.task.size, self.task.levels
        pixel = np.repeat(np.arange(n), k)
        hidden = np.arange(self.width) * (n - 1) // self.width + 1
        return {
            "in": (pixel[:, None] < hidden[None]).astype(np.float32),
            "block": (hidden[:, None] <= hidden[None]).astype(np.float32),
            "out": (hidden[:, None] <= pixel[None]).astype(np.float32),
        }

    def init(self, key: Any) -> Any:
        t = self.task
        wide = t.size * t.levels
        # One of `levels` inputs is 1, so the sum over a pixel has variance 1 / levels without this.
        params = mlp_init(key, wide, self.width, t.depth, wide, 0.1)
        params["in"]["w"] = params["in"]["w"] * np.sqrt(t.levels)
        return params

    def moments(self, params: Any) -> Any:
        return adam().init(params)

    def logits(self, params: Any, index: jax.Array) -> jax.Array:
        """Return log P of each level given the pixels before, (B, size, levels), not normalised."""
        n, k, masks = self.task.size, self.task.levels, self.masks()
        masked = lambda p, mask: {"w": p["w"] * masks[mask], "b": p["b"]}
        h = affine(masked(params["in"], "in"), jax.nn.one_hot(index, k).reshape(-1, n * k))
        for block in params["blocks"]:
            u = jax.nn.silu(affine(masked(block["in"], "block"), jax.nn.silu(h)))
            h = h + affine(masked(block["out"], "block"), u)
        return affine(masked(params["out"], "out"), jax.nn.silu(h)).reshape(-1, n, k)

    def nll(self, params: Any, x: jax.Array, key: Any) -> jax.Array:
        """Return -log P(x) in nats, which is exact, (B,)."""
        index = levels_of(x, self.task.levels)
        logp = jax.nn.log_softmax(self.logits(params, index))
        return -jnp.take_along_axis(logp, index[..., None], 2)[..., 0].sum(1)

    def train_step(self, params: Any, moments: Any, x: Any, key: Any, trial: Trial) -> Any:
        loss = lambda params: self.nll(params, x, key).mean() / self.task.size
        return descend(loss, params, moments, trial.rate)

    def sampling(self, params: Any) -> Any:
        return params

    def sample(self, params: Any, key: Any, num: int, steps: int) -> jax.Array:
        def draw(index: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
            logits = self.logits(params, index)[:, i]
            level = jax.random.categorical(jax.random.fold_in(key, i), logits)
            return index.at[:, i].set(level), None

        first = jnp.zeros((num, self.task.size), int)
        index, _ = jax.lax.scan(draw, first, jnp.arange(self.task.size))
        return index / (self.task.levels - 1) * 2 - 1
