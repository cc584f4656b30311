"""What guidance asks of a denoiser, and the two predictions that a rule combines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from diffjax.arrays import Cond, expand
from diffjax.prediction import Denoise, FlowMap, Prediction, Sample, Time
from diffjax.sde import SDE

Memory = Any
"""What guidance carries from row to row: arrays (B, ...) of fixed shapes, each sample its own."""
Weight = Float[Array, "..."]
"""Of a row: one number for all samples, (), or one for each, (B,)."""
Weights = Float[Array, " b"]
"""Of a row, one for each sample."""
Mask = Bool[Array, " b"]
"""Which samples are guided in a row: the weight of the others is 1."""

Answer = tuple[Prediction, Memory]
"""The prediction of a row, and what is carried to the next one."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Query:
    """A denoiser at one state of the samples; guidance chooses the conditions it is asked with.

    x: x_t (B, ...). t: (B,). cond: the conditions of the samples, (B, ...) by name. to: the times
    (B,) where predictions lead, of a flow map; None for an ordinary denoiser. A pytree.

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

    @property
    def sde(self) -> SDE:
        return self.denoise.sde

    @property
    def conditions(self) -> dict[str, Array]:
        """`cond`; ValueError where there is none."""
        if not self.cond:
            raise ValueError("guidance needs a condition; cond is empty")
        return dict(self.cond)

    def predict(self) -> Prediction:
        """The conditional prediction: under the conditions of the samples."""
        return self.under(self.cond)

    def under(self, cond: Cond | None) -> Prediction:
        """The prediction under another condition; None drops all."""
        if self.to is None:
            return self.denoise(self.x, self.t, cond)
        return cast(FlowMap, self.denoise)(self.x, self.t, cond, to=self.to)

    def several(self, conds: Sequence[Cond]) -> list[Prediction]:
        """The predictions under several conditions, in one call with a batch of len(conds) B."""
        join = lambda *parts: jnp.concatenate(parts)
        repeat = lambda a: None if a is None else join(*[a] * len(conds))
        many = replace(self, x=repeat(self.x), t=repeat(self.t), to=repeat(self.to))
        whole, size = many.under(jax.tree.map(join, *conds)), len(self.x)
        part = lambda i: jax.tree.map(lambda a: a[i * size : (i + 1) * size], whole)
        return [part(i) for i in range(len(conds))]

    def by(self, denoise: Denoise) -> Query:
        """The same question to another denoiser of this process."""
        return replace(self, denoise=denoise)

    def pair(self, conditional: Prediction, reference: Prediction) -> Pair:
        """Two predictions that answer it, for a rule."""
        return Pair(self.sde, self.t, conditional, reference)


class Pair(NamedTuple):
    """The conditional prediction and the one that it is compared with, both of one x_t.

    t: (B,). It lives within a row: `sde` is no array, so no transformation of JAX returns it.
    """

    sde: SDE
    t: Time
    conditional: Prediction
    reference: Prediction

    def mixed(self, weight: Weights) -> Prediction:
        """reference + weight (conditional - reference) in each view, its variance as conditional.

        The output is x0.
        """
        mix = lambda a, b: b + expand(weight, b) * (a - b)
        x0 = mix(self.conditional.x0, self.reference.x0)
        eps = mix(self.conditional.eps, self.reference.eps)
        return Prediction(x0, x0, eps, self.conditional.log_var)


def with_x0(at: Query | Pair, prediction: Prediction, x0: Sample) -> Prediction:
    """`prediction` with another x0: eps moves by -(alpha / sigma) times as much, for x_t stays."""
    ratio = expand(jnp.exp(at.sde.logsnr(at.t) / 2), x0)
    return prediction._replace(output=x0, x0=x0, eps=prediction.eps - ratio * (x0 - prediction.x0))


def chosen(where: Mask, new: Any, old: Any) -> Any:
    """`new` of the samples in `where`, `old` of the others, in each array (B, ...) of a tree."""
    return jax.tree.map(lambda a, b: jnp.where(expand(where, a), a, b), new, old)
