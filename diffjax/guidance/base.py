"""The protocol of guidance, and the guidance that is composed of a reference and a rule."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from diffjax.arrays import pytree
from diffjax.guidance.query import Answer, Memory, Query, Weight, chosen, with_x0
from diffjax.guidance.references import Null, Reference
from diffjax.guidance.rules import Linear, Rule
from diffjax.guidance.thresholds import Threshold
from diffjax.prediction import Prediction, Sample


@jax.custom_batching.custom_vmap
def everywhere(mask: Bool[Array, "..."]) -> Bool[Array, ""]:
    """Return whether all values are true, including those along axes that `vmap` maps over.

    The result is one for the whole batch, so that `lax.cond` stays a branch where samples are
    mapped one by one, as in adaptive steps; with a mapped result both branches would run.
    """
    return mask.all()


@everywhere.def_vmap
def _(size: int, mapped: list[bool], mask: Bool[Array, "..."]) -> tuple[Bool[Array, ""], bool]:
    return everywhere(mask), False


@runtime_checkable
class Guidance(Protocol):
    """The interface of guidance: a call with a query, the weight of a row and a memory.

    weight: () or (B,). Only the weight decides which network passes run; as soon as one sample of a
    batch needs the passes of guidance, the row runs them for all. The result of a sample depends on
    its own weights only, up to rounding. The prediction of a guided row has x0 as its `output`, as
    in `predict`.
    """

    @property
    def weighs(self) -> bool:
        """Whether the weight of a row has an effect."""
        ...

    def init(self, x: Sample) -> Memory:
        """Return the initial memory: arrays (B, ...) of fixed shapes, carried from row to row."""
        ...

    def passes(self, weights: np.ndarray) -> int:
        """Return the NFE of a sample with these weights in its rows, (R,), in this order."""
        ...

    def steady(self) -> Guidance:
        """Return the guidance that runs the same passes in every row, whatever the weights are.

        A sample then has equal bits beside any others.
        """
        ...

    def __call__(
        self, query: Query, weight: Weight, memory: Memory
    ) -> tuple[Prediction, Memory]: ...


@pytree
@dataclass(frozen=True)
class Conditional:
    """No guidance: the conditional prediction, whatever the weight of a row.

    >>> Conditional().passes(np.array([1.0, 2.0, 2.0]))
    3
    """

    @property
    def weighs(self) -> bool:
        return False

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weights: np.ndarray) -> int:
        return len(weights)

    def steady(self) -> Guidance:
        return self

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        return query.predict(), memory


@pytree
@dataclass(frozen=True)
class Distilled:
    """The prediction of a network that receives the weight as its condition `guidance`.

    A row takes one pass at any weight (arXiv:2210.03142).

    >>> Distilled().passes(np.array([1.0, 2.0, 2.0]))
    3
    """

    @property
    def weighs(self) -> bool:
        return True

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, weights: np.ndarray) -> int:
        return len(weights)

    def steady(self) -> Guidance:
        return self

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        each = jnp.broadcast_to(weight, query.t.shape).astype(query.x.dtype)
        return query.under({**(query.cond or {}), "guidance": each}), memory


@pytree
@dataclass(frozen=True)
class Guided:
    """Guidance of the conditional prediction away from that of `reference`, combined by `rule`.

    The default is classifier-free guidance (arXiv:2207.12598, eq. 6). A row of weight 1 runs the
    conditional pass only and leaves the memory unchanged; a sample of weight 1 beside guided ones
    gets the same result. skips: whether rows of weight 1 do so; otherwise every row takes all
    passes. Raises ValueError where the reference needs a condition and there is none.

    >>> Guided()
    Guided(reference=Null(), rule=Linear())
    >>> Guided().passes(np.array([1.0, 2.0, 2.0]))  # one row of weight 1, and two of two passes
    5
    """

    reference: Reference = field(default=Null())
    rule: Rule = field(default=Linear(), metadata={"static": True})
    skips: bool = field(default=True, metadata={"static": True}, repr=False)

    @property
    def weighs(self) -> bool:
        return True

    def init(self, x: Sample) -> Memory:
        return self.reference.init(x), self.rule.init(x)

    def passes(self, weights: np.ndarray) -> int:
        guided = int((weights != 1).sum()) if self.skips else len(weights)
        return len(weights) - guided + self.reference.passes(guided)

    def steady(self) -> Guidance:
        return replace(self, skips=False)

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

        return jax.lax.cond(everywhere(weight == 1), alone, guided) if self.skips else guided()


class Around:
    """The base class of guidance around another one, `inside`, whose weights and NFE it has.

    A subclass adds the call. `inside` predicts what the call then changes.
    """

    inside: Guidance

    @property
    def weighs(self) -> bool:
        return self.inside.weighs

    def init(self, x: Sample) -> Memory:
        return self.inside.init(x)

    def passes(self, weights: np.ndarray) -> int:
        return self.inside.passes(weights)

    def steady(self: Any) -> Any:
        return replace(self, inside=self.inside.steady())


@pytree
@dataclass(frozen=True)
class Thresholded(Around):
    """Guidance whose x0 is thresholded at every weight; eps follows from x0 and x_t.

    >>> from diffjax.guidance import Static
    >>> Thresholded(Guided(), Static())
    Thresholded(inside=Guided(reference=Null(), rule=Linear()), threshold=Static(bound=1.0))
    """

    inside: Guidance
    threshold: Threshold = field(metadata={"static": True})

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        guided, memory = self.inside(query, weight, memory)
        return with_x0(query, guided, self.threshold(guided.x0)), memory
