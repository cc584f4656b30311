"""The protocol of guidance, and the guidance that a reference and a rule make."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from diffjax.guidance.query import Answer, Memory, Query, Weight, chosen, with_x0
from diffjax.guidance.references import Null, Reference
from diffjax.guidance.rules import Linear, Rule
from diffjax.guidance.thresholds import Threshold
from diffjax.prediction import Prediction, Sample


@jax.custom_batching.custom_vmap
def everywhere(mask: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Whether all are true: also those along axes that `vmap` maps over.

    The answer is one for the whole batch, so that `lax.cond` stays a branch where samples are
    mapped one by one, as in adaptive steps; a mapped answer would run both branches.
    """
    return mask.all()


@everywhere.def_vmap
def _(size: int, mapped: list[bool], mask: Bool[Array, "..."]) -> tuple[Bool[Array, ""], bool]:
    return everywhere(mask), False


@runtime_checkable
class Guidance(Protocol):
    """Called with the weight of a row, () or (B,); it alone decides which passes run.

    The result of a sample depends on its own weights only, up to rounding. A row makes the passes
    of guidance for all samples as soon as one needs them.

    The prediction of a guided row is that of a denoiser that predicts x0, as in `predict`: its
    `output` is x0.
    """

    @property
    def weighs(self) -> bool:
        """Whether the weight of a row counts."""
        ...

    def init(self, x: Sample) -> Memory:
        """What is carried from row to row: arrays (B, ...) of fixed shapes, each sample its own."""
        ...

    def passes(self, weights: np.ndarray) -> int:
        """Network passes of a sample that has these weights in the rows, (R,), in this order."""
        ...

    def __call__(
        self, query: Query, weight: Weight, memory: Memory
    ) -> tuple[Prediction, Memory]: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Conditional:
    """The conditional prediction as it is; the weight of a row is not used."""

    @property
    def weighs(self) -> bool:
        return False

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weights: np.ndarray) -> int:
        return len(weights)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        return query.predict(), memory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Guided:
    """The conditional prediction away from that of `reference`, by `rule`.

    By default classifier-free guidance (arXiv:2207.12598, eq. 6). A row of weight 1 makes the
    conditional pass only, and leaves the memory as it is; so does a sample of weight 1 beside
    others that are guided. Raises ValueError where the reference needs a condition and there is
    none.
    """

    reference: Reference = field(default=Null())
    rule: Rule = field(default=Linear(), metadata={"static": True})

    @property
    def weighs(self) -> bool:
        return True

    def init(self, x: Sample) -> Memory:
        return self.reference.init(x), self.rule.init(x)

    def passes(self, weights: np.ndarray) -> int:
        guided = int((weights != 1).sum())
        return len(weights) - guided + self.reference.passes(guided)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        each = jnp.broadcast_to(weight, query.t.shape)
        is_guided = each != 1

        def guided() -> Answer:
            of_reference, of_rule = memory
            pair, of_reference = self.reference(query, of_reference, guided=is_guided)
            combined, of_rule = self.rule(pair, each, of_rule)
            conditional = pair.conditional._replace(output=pair.conditional.x0)
            return chosen(is_guided, (combined, (of_reference, of_rule)), (conditional, memory))

        def alone() -> Answer:
            conditional = query.predict()
            return conditional._replace(output=conditional.x0), memory

        return jax.lax.cond(everywhere(weight == 1), alone, guided)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Thresholded:
    """The x0 of `guidance` through `threshold`, at every weight; eps follows from x_t."""

    guidance: Guidance
    threshold: Threshold = field(metadata={"static": True})

    @property
    def weighs(self) -> bool:
        return self.guidance.weighs

    def init(self, x: Sample) -> Memory:
        return self.guidance.init(x)

    def passes(self, weights: np.ndarray) -> int:
        return self.guidance.passes(weights)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        guided, memory = self.guidance(query, weight, memory)
        return with_x0(query, guided, self.threshold(guided.x0)), memory
