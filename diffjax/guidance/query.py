"""The query that guidance evaluates, and the pair of predictions that a rule combines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax.arrays import Cond, expand, normal, pytree
from diffjax.prediction import Denoise, FlowMap, Prediction, Sample, Time
from diffjax.sde import SDE

Memory = Any
"""The memory of guidance, carried from row to row: arrays (B, ...) of fixed shapes."""
Weight = Float[Array, "..."]
"""The guidance weight of a row: one number for all samples, (), or one for each, (B,)."""
Weights = Float[Array, " b"]
"""The guidance weight of each sample in a row."""
Mask = Bool[Array, " b"]
"""The samples that are guided in a row; the others have the weight 1."""

Answer = tuple[Prediction, Memory]
"""The prediction of a row, and the memory for the next row."""

STREAM = 2**32 - 1
"""The number folded into the key of a sample for guidance; the noises of rows have small ones."""


@runtime_checkable
class Draws(Protocol):
    """A source of standard normal numbers for a row: (index, shape) -> (B, *shape).

    Different indices, 0, 1, ..., are independent. It is a pytree.
    """

    def __call__(self, index: int, shape: tuple[int, ...]) -> Array: ...


@pytree
@dataclass(frozen=True)
class Normals:
    """The numbers that guidance draws in row `row`: those of sample b from keys[b].

    They are independent of the noises of the table.

    >>> normals = Normals(jax.random.split(jax.random.key(0), 3), row=0)
    >>> normals(0, (8, 8, 1)).shape
    (3, 8, 8, 1)
    """

    keys: Key[Array, " b"]
    row: Int[Array, ""] | int

    def __call__(self, index: int, shape: tuple[int, ...]) -> Array:
        fold = jax.vmap(jax.random.fold_in, (0, None))
        return normal(fold(fold(fold(self.keys, STREAM), self.row), index), shape)


@pytree
@dataclass(frozen=True)
class Query:
    """A denoiser at one state of the samples, for which guidance chooses the conditions.

    A pytree. x: x_t (B, ...). t: (B,). cond: the conditions of the samples by name, each (B, ...).
    to: the second times (B,) of a flow map; None for an ordinary denoiser. draws: the random
    numbers of the row, None where there are none, as in likelihoods.

        >>> from diffjax import analytic, schedules, sde
        >>> vp = sde.VP(schedules.Cosine())
        >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(vp)
        >>> query = Query(denoise, jnp.ones((3, 2)), jnp.full(3, 0.5))
        >>> query.predict().x0.shape
        (3, 2)
    """

    denoise: Denoise
    x: Sample
    t: Time
    cond: Cond | None = None
    to: Time | None = None
    draws: Draws | None = None

    @property
    def sde(self) -> SDE:
        return self.denoise.sde

    @property
    def conditions(self) -> dict[str, Array]:
        """The conditions `cond`; raises ValueError where there are none."""
        if not self.cond:
            raise ValueError("guidance needs a condition; cond is empty")
        return dict(self.cond)

    def predict(self) -> Prediction:
        """Predict under the conditions of the samples."""
        return self.under(self.cond)

    def under(self, cond: Cond | None) -> Prediction:
        """Predict under other conditions; None is the prediction without conditions."""
        if self.to is None:
            return self.denoise(self.x, self.t, cond)
        return cast(FlowMap, self.denoise)(self.x, self.t, cond, to=self.to)

    def normal(self, index: int, shape: tuple[int, ...] | None = None) -> Array:
        """Draw standard normal numbers (B, *shape), by default of the shape of x.

        index: the number of the draw within the row. Raises ValueError for a query without random
        numbers.
        """
        if self.draws is None:
            raise ValueError(
                "the guidance draws random numbers, and this use of a denoiser has none; allowed: "
                "a sampler's table"
            )
        return self.draws(index, self.x.shape[1:] if shape is None else shape).astype(self.x.dtype)

    def several(self, conds: Sequence[Cond]) -> list[Prediction]:
        """Predict under several conditions, in one call with a batch of len(conds) * B."""
        join = lambda *parts: jnp.concatenate(parts)
        repeat = lambda a: None if a is None else join(*[a] * len(conds))
        many = replace(self, x=repeat(self.x), t=repeat(self.t), to=repeat(self.to))
        whole, size = many.under(jax.tree.map(join, *conds)), self.x.shape[0]
        part = lambda i: jax.tree.map(lambda a: a[i * size : (i + 1) * size], whole)
        return [part(i) for i in range(len(conds))]

    def by(self, denoise: Denoise) -> Query:
        """Return the same query of another denoiser for this process."""
        return replace(self, denoise=denoise)

    def pair(self, conditional: Prediction, reference: Prediction) -> Pair:
        """Return a pair of two predictions for this query, as a rule takes it."""
        return Pair(self.sde, self.t, conditional, reference)


class Pair(NamedTuple):
    """The conditional and the reference prediction at one x_t.

    t: (B,). A pair exists within a row only: `sde` is no array, so a transformed function cannot
    return it.

    >>> from diffjax import schedules, sde
    >>> from diffjax.prediction import predict
    >>> flow, x, t = sde.Flow(schedules.Logit()), jnp.ones((1, 2)), jnp.array([0.5])
    >>> p, q = (predict(flow, x, t, jnp.array([x0])) for x0 in ([2.0, 0.0], [1.0, 1.0]))
    >>> Pair(flow, t, conditional=p, reference=q).mixed(jnp.array([2.0])).x0.tolist()
    [[3.0, -1.0]]
    """

    sde: SDE
    t: Time
    conditional: Prediction
    reference: Prediction

    def mixed(self, weight: Weights) -> Prediction:
        """Return reference + weight (conditional - reference) in each view, with x0 as output.

        The learned variance is that of the conditional prediction.
        """
        mix = lambda a, b: b + expand(weight, b) * (a - b)
        x0 = mix(self.conditional.x0, self.reference.x0)
        eps = mix(self.conditional.eps, self.reference.eps)
        return Prediction(x0, x0, eps, self.conditional.log_var)


def with_x0(at: Query | Pair, prediction: Prediction, x0: Sample) -> Prediction:
    """Replace x0 and move eps by -(alpha / sigma) times the change, which keeps x_t."""
    ratio = expand(jnp.exp(at.sde.logsnr(at.t) / 2), x0)
    return prediction._replace(output=x0, x0=x0, eps=prediction.eps - ratio * (x0 - prediction.x0))


def chosen(where: Mask, new: Any, old: Any) -> Any:
    """Select per sample from two trees of arrays (B, ...): `new` in `where`, `old` elsewhere."""
    return jax.tree.map(lambda a, b: jnp.where(expand(where, a), a, b), new, old)
