"""What all families share: a residual perceptron without normalisation, Adam, and the task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

Params = Any


@dataclass(frozen=True)
class Task:
    """The data that a family is built for: vectors (B, size), and the scale of its networks.

    shape: of an item before it was made a vector, (H, W) or (H, W, C) of images. levels: number
    of values, even from -1 to 1, that an entry can take; 0 for real numbers. parameters: the
    number that sampling may use. depth: of residual blocks. latent: the size of the noise of
    GAN and VAE. batch: items of a training step.
    """

    name: str
    shape: tuple[int, ...]
    levels: int
    parameters: int
    depth: int
    latent: int
    batch: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Trial(NamedTuple):
    """A learning rate, and the knob of the family: gamma of GAN, beta of VAE; 0 without a knob."""

    rate: float
    knob: float = 0.0


class Family(Protocol):
    """A frozen dataclass with fields `task` and `width`.

    steps: the numbers of steps to sample in. trials: the settings to choose from, four for each
    family. `init(key) -> params`. `moments(params)`: the initial state of the optimizer.
    `train_step(params, moments, x, key, trial) -> (params, moments, loss)`.
    `sampling(params)`: the part of the parameters that samples need. `sample(params, key, num,
    steps) -> (num, size)`. `nll(params, x, key) -> (B,)` in nats per item, None where the family
    has no likelihood; of levels where the task has them, else of a density.
    """

    task: Task
    width: int
    steps: tuple[int, ...]
    trials: tuple[Trial, ...]
    nll: Callable[..., jax.Array] | None


RATES = tuple(Trial(rate) for rate in (5e-4, 1e-3, 2e-3, 4e-3))


def mlp_init(key: Any, into: int, width: int, depth: int, out: int, scale: float = 1.0) -> Params:
    """Return the parameters of `mlp`; the second product of each block starts at zero.

    scale: factor on the last layer. Without normalisation this start keeps the variance of deep
    networks (fix-up; arXiv:1901.09321).
    """
    keys = iter(jax.random.split(key, depth + 2))

    def dense(a: int, b: int, scale: float = 1.0) -> Params:
        w = scale * jax.random.normal(next(keys), (a, b)) / math.sqrt(a)
        return {"w": w, "b": jnp.zeros((1, b))}

    blocks = [
        {"in": dense(width, width, math.sqrt(2)), "out": _zeros(width, width)} for _ in range(depth)
    ]
    return {"in": dense(into, width), "blocks": blocks, "out": dense(width, out, scale)}


def _zeros(a: int, b: int) -> Params:
    return {"w": jnp.zeros((a, b)), "b": jnp.zeros((1, b))}


def affine(p: Params, x: jax.Array) -> jax.Array:
    return x @ p["w"] + p["b"]


def mlp(p: Params, x: jax.Array) -> jax.Array:
    """Map x (B, into) to (B, out): residual blocks h + W2 silu(W1 silu(h)), no normalisation."""
    h = affine(p["in"], x)
    for block in p["blocks"]:
        h = h + affine(block["out"], jax.nn.silu(affine(block["in"], jax.nn.silu(h))))
    return affine(p["out"], jax.nn.silu(h))


def adam(b1: float = 0.9) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(b1=b1, b2=0.99))


def descend(
    loss: Callable[[Params], jax.Array], params: Params, moments: Any, rate: Any, b1: float = 0.9
) -> tuple[Params, Any, jax.Array]:
    """Take one step of Adam on gradients of norm at most 1."""
    value, grads = jax.value_and_grad(loss)(params)
    updates, moments = adam(b1).update(grads, moments, params)
    updates = jax.tree.map(lambda u: -rate * u, updates)
    return optax.apply_updates(params, updates), moments, value


def levels_of(x: jax.Array, levels: int) -> jax.Array:
    """Return the index 0 to levels - 1 of values x in [-1, 1], or of the nearest level."""
    return jnp.clip(jnp.round((x + 1) / 2 * (levels - 1)), 0, levels - 1).astype(int)
