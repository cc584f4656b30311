"""The protocol of guidance, and the guidance that a reference and a rule make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.guidance.references import Null, Reference
from diffjax.guidance.rules import Linear, Memory, Rule, moved
from diffjax.guidance.thresholds import Threshold
from diffjax.prediction import Denoise, Prediction, Sample, Time


@runtime_checkable
class Guidance(Protocol):
    """Called with the scalar weight of a row; it alone decides which passes run.

    The prediction of a guided row is that of a denoiser that predicts x0, as in `predict`: its
    `output` is x0.
    """

    def init(self, x: Sample) -> Memory:
        """What is carried from row to row: arrays of fixed shapes."""
        ...

    def passes(self, weights: np.ndarray) -> int:
        """Network passes per sample of rows with these weights (R,), in this order."""
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

    def passes(self, weights: np.ndarray) -> int:
        return len(weights)

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
class Guided:
    """The conditional prediction away from that of `reference`, by `rule`.

    By default classifier-free guidance (arXiv:2207.12598, eq. 6). A row of weight 1 makes the
    conditional pass only, and leaves the memory as it is. Raises ValueError where the reference
    needs a condition and there is none.
    """

    reference: Reference = field(default=Null())
    rule: Rule = field(default=Linear(), metadata={"static": True})

    def init(self, x: Sample) -> Memory:
        return self.reference.init(x), self.rule.init(x)

    def passes(self, weights: np.ndarray) -> int:
        guided = int((weights != 1).sum())
        return len(weights) - guided + self.reference.passes(guided)

    def __call__(
        self,
        denoise: Denoise,
        x: Sample,
        t: Time,
        cond: Cond | None,
        weight: Float[Array, ""],
        memory: Memory,
    ) -> tuple[Prediction, Memory]:
        def guided() -> tuple[Prediction, Memory]:
            seen, kept = memory
            told, ref, seen = self.reference(denoise, x, t, cond, seen)
            made, kept = self.rule(denoise.sde, t, told, ref, weight, kept)
            return made, (seen, kept)

        def alone() -> tuple[Prediction, Memory]:
            made = denoise(x, t, cond)
            return made._replace(output=made.x0), memory

        return jax.lax.cond(weight == 1, alone, guided)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Thresholded:
    """The x0 of `guidance` through `threshold`, at every weight; eps follows from x_t."""

    guidance: Guidance
    threshold: Threshold = field(metadata={"static": True})

    def init(self, x: Sample) -> Memory:
        return self.guidance.init(x)

    def passes(self, weights: np.ndarray) -> int:
        return self.guidance.passes(weights)

    def __call__(
        self,
        denoise: Denoise,
        x: Sample,
        t: Time,
        cond: Cond | None,
        weight: Float[Array, ""],
        memory: Memory,
    ) -> tuple[Prediction, Memory]:
        made, memory = self.guidance(denoise, x, t, cond, weight, memory)
        return moved(denoise.sde, t, made, self.threshold(made.x0)), memory
