"""Optimizers: optax chains from a few settings."""

from __future__ import annotations

from typing import Any

import jax
import optax

from diffjax.arrays import Params, catalogue
from diffjax.nets.network import fixed


def adamw(
    learning_rate: float = 2e-4,
    warmup: int = 0,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """AdamW (arXiv:1711.05101). warmup: steps of linear warm-up. clip: largest gradient norm.

    Weight decay is for what is trained of the network alone, not for a learned schedule or
    parameters of the loss.
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
    adam = optax.adamw(rate, b1, b2, weight_decay=weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(clip), adam)


def decays(params: Params) -> Params:
    """Whether weight decay is for a parameter, as a tree like `params`."""

    def one(path: tuple[Any, ...], _: Any) -> bool:
        return path[0].key not in ("schedule", "loss") and not fixed(path)

    return jax.tree_util.tree_map_with_path(one, params)


OPTIMIZERS = catalogue(adamw)
