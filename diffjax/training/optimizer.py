"""Optimizers: optax chains from a few settings."""

from __future__ import annotations

import jax
import optax

from diffjax.arrays import catalogue


def adamw(
    learning_rate: float = 2e-4,
    warmup: int = 0,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101). warmup: steps of linear warm-up. clip: largest gradient norm.

    Weight decay is for the network alone, not for a learned schedule or parameters of the loss.
    """
    for name, value in (("learning_rate", learning_rate), ("clip", clip)):
        if not value > 0:
            raise ValueError(f"{name}={value}: needs {name} > 0")
    for name, value in (("warmup", warmup), ("weight_decay", weight_decay)):
        if not value >= 0:
            raise ValueError(f"{name}={value}: needs {name} >= 0")
    for name, value in (("b1", b1), ("b2", b2)):
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value}: needs 0 <= {name} < 1")
    rate = optax.linear_schedule(learning_rate / (warmup + 1), learning_rate, warmup)
    own = lambda params: {
        part: jax.tree.map(lambda _, part=part: part not in ("schedule", "loss"), tree)
        for part, tree in params.items()
    }
    adam = optax.adamw(rate, b1, b2, weight_decay=weight_decay, mask=own)
    return optax.chain(optax.clip_by_global_norm(clip), adam)


OPTIMIZERS = catalogue(adamw)
