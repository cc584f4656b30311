"""How conditional and reference predictions combine.

The weight w here is x = x_ref + w (x_cond - x_ref): w = 1 is the conditional model, w = 0 the
reference, w > 1 guides. Papers that write (1 + omega) x_cond - omega x_ref have omega = w - 1.
Guidance objects are pytrees: networks that they hold are traced, settings are static.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from diffjax.arrays import Cond, catalogue, null
from diffjax.denoiser import Denoise, Prediction, Sample, Time

Memory = Any


@runtime_checkable
class Guidance(Protocol):
    """Called with the scalar weight of a row; it alone decides which passes run."""

    def init(self, x: Sample) -> Memory:
        """What is carried from row to row."""
        ...

    def passes(self, weight: float) -> int:
        """Network passes per sample of a row with this weight."""
        ...

    def __call__(
        self,
        denoise: Denoise,
        x: Sample,
        t: Time,
        cond: Cond | None,
        weight: Float[Array, ""],
        memory: Memory,
    ) -> tuple[Prediction, Memory]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditional:
    """The conditional prediction as it is; the weight of a row is not used."""

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weight: float) -> int:
        return 1

    def __call__(
        self,
        denoise: Denoise,
        x: Sample,
        t: Time,
        cond: Cond | None,
        weight: Float[Array, ""],
        memory: Memory,
    ) -> tuple[Prediction, Memory]:
        return denoise(x, t, cond), memory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ClassifierFree:
    """Classifier-free guidance (arXiv:2207.12598, eq. 6): both predictions in one batched call.

    A row of weight 1 makes the conditional call only. Raises ValueError without a condition.
    """

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weight: float) -> int:
        return 1 if weight == 1 else 2

    def __call__(
        self,
        denoise: Denoise,
        x: Sample,
        t: Time,
        cond: Cond | None,
        weight: Float[Array, ""],
        memory: Memory,
    ) -> tuple[Prediction, Memory]:
        if not cond:
            raise ValueError("classifier-free guidance needs a condition; cond is empty")

        def guided() -> Prediction:
            twice = lambda a, b: jnp.concatenate([a, b])
            both = denoise(twice(x, x), twice(t, t), jax.tree.map(twice, cond, null(cond)))
            mix = lambda p: p[len(x) :] + weight * (p[: len(x)] - p[len(x) :])
            return jax.tree.map(mix, both)

        return jax.lax.cond(weight == 1, lambda: denoise(x, t, cond), guided), memory


GUIDANCES = catalogue(Conditional, ClassifierFree)
