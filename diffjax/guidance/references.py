"""References: the predictions that guidance compares the conditional prediction with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffjax.arrays import Cond, expand, null, pytree
from diffjax.checks import at_least
from diffjax.guidance.query import Mask, Memory, Pair, Query, chosen
from diffjax.prediction import Denoise, Prediction, Sample


@runtime_checkable
class Reference(Protocol):
    """The interface of a reference, which is called for rows in which some sample is guided.

    The memory of samples that are not guided must not change.
    """

    def init(self, x: Sample) -> Memory:
        """Return the initial memory: arrays (B, ...), carried from guided row to guided row."""
        ...

    def passes(self, rows: int) -> int:
        """Return the NFE per sample of `rows` guided rows, the conditional passes included."""
        ...

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        """Return the conditional and the reference prediction; guided (B,): the guided samples."""
        ...


@pytree
@dataclass(frozen=True)
class Null:
    """The prediction without conditions: classifier-free guidance (arXiv:2207.12598, eq. 6).

    >>> from diffjax import analytic, schedules, sde
    >>> data = analytic.Mixture(jnp.full(2, 0.5), jnp.array([[-1.0], [1.0]]), jnp.ones((2, 1)))
    >>> denoise, one = data.denoiser(sde.Flow(schedules.Logit())), jnp.ones(1, int)
    >>> query = Query(denoise, jnp.zeros((1, 1)), jnp.full(1, 0.5), {"label": one})
    >>> pair, _ = Null()(query, (), guided=one > 0)
    >>> pair.conditional.x0.round(4).tolist(), pair.reference.x0.round(4).tolist()
    ([[0.5]], [[0.0]])
    """

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return 2 * rows

    def other(self, cond: Cond) -> Cond:
        """Return the conditions of the reference for samples with the conditions `cond`."""
        return null(cond)

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        cond = query.conditions
        return query.pair(*query.several([cond, self.other(cond)])), memory


@pytree
@dataclass(frozen=True)
class Negative:
    """The prediction under negative conditions, which samples are guided away from.

    instead: values by name, broadcast to those of `cond`; the other conditions are kept. Raises
    ValueError for a name that is not in the conditions.

    >>> Negative({"label": jnp.asarray(3)}).passes(rows=10)
    20
    """

    instead: Mapping[str, Any]

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return 2 * rows

    def other(self, cond: Cond) -> Cond:
        """Return the conditions of the reference for samples with the conditions `cond`."""
        if unknown := set(self.instead) - set(cond):
            known = sorted(cond)
            raise ValueError(f"negative {sorted(unknown)}: no such condition; known: {known}")
        like = lambda name, a: jnp.broadcast_to(jnp.asarray(a, cond[name].dtype), cond[name].shape)
        return {**cond, **{name: like(name, a) for name, a in self.instead.items()}}

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        cond = query.conditions
        return query.pair(*query.several([cond, self.other(cond)])), memory


def negative(label: int = -1) -> Negative:
    """Return the reference with another label, a class to guide away from; -1 is no class.

    >>> int(negative(label=3).instead["label"])
    3
    """
    return Negative({"label": jnp.asarray(label)})


@pytree
@dataclass(frozen=True)
class OtherNetwork:
    """The prediction of another network: autoguidance (arXiv:2406.02507).

    The network is smaller, or less trained, and makes the same errors more strongly. It must be of
    the same process; use `reframe` otherwise. conditional: whether it receives the condition. Its
    passes count in the NFE like those of the network itself.

    >>> from diffjax import analytic, schedules, sde
    >>> weak = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(sde.Flow(schedules.Logit()))
    >>> OtherNetwork(weak).passes(rows=10)
    20
    """

    denoise: Denoise
    conditional: bool = field(default=True, metadata={"static": True})

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return 2 * rows

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        conditional, other = query.predict(), query.by(self.denoise)
        reference = other.under(query.cond if self.conditional else None)
        return query.pair(conditional, reference), memory


@pytree
@dataclass(frozen=True)
class Several:
    """A reference for several conditions, each with its own share of the guidance.

    Let x_i be the prediction given the first i of the conditions in `shares`, and all conditions
    that are not named there. The reference is x_N - sum_i share_i (x_i - x_{i-1}), so condition i
    has the weight w_i = 1 + share_i (w - 1) in

        x_0 + sum_i w_i (x_i - x_{i-1})

    (arXiv:2211.09800, eq. 3). At w = 1 this is the conditional model for any shares; unlike sums of
    predictions given one condition each (arXiv:2206.01714), it does not assume that the conditions
    are independent. A row is one call of N + 1 predictions.

    shares: pairs of name and share, or a dict. Raises ValueError for none, and for a name that is
    not in the conditions.

    >>> Several({"label": 1.0, "caption": 0.5}).passes(rows=10)  # three predictions per row
    30
    """

    shares: tuple[tuple[str, float], ...] | Mapping[str, float] = field(
        default=(("label", 1.0),), metadata={"static": True}
    )

    def __post_init__(self):
        if isinstance(self.shares, Mapping):  # held as what has a hash
            object.__setattr__(self, "shares", tuple(self.shares.items()))
        if not self.shares:
            raise ValueError("shares={}: needs a share for at least one condition")

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return (1 + len(self.shares)) * rows

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        cond, shares = query.conditions, dict(self.shares)
        if unknown := set(shares) - set(cond):
            known = sorted(cond)
            raise ValueError(f"shares of {sorted(unknown)}: no such condition; known: {known}")
        steps = [{**cond, **null({name: cond[name] for name in shares})}]
        for name in shares:  # from none of them to all of them, one by one
            steps.append(steps[-1] | {name: cond[name]})
        predictions = query.several(steps)
        reference = conditional = predictions[-1]
        for share, (p, q) in zip(shares.values(), pairwise(predictions), strict=True):
            x0 = reference.x0 - share * (q.x0 - p.x0)
            eps = reference.eps - share * (q.eps - p.eps)
            reference = reference._replace(x0=x0, eps=eps)
        return query.pair(conditional, reference), memory


@pytree
@dataclass(frozen=True)
class Cached:
    """A reference that is computed in every `every`-th guided row and reused in the rows between.

    The direction eps - eps_ref is reused: both views follow from it for the x_t of each row, and
    the rows between take the conditional pass only. On a mixture of two Gaussians with w = 3 (DDIM,
    40 steps uniform in log-SNR) samples differ from exact ones by 2 % of the effect of guidance
    with every = 2, and by 6 % with 4; reusing the direction of x0 gives 10 % and 33 %, that of the
    velocity 9 % and 27 %. Rows that reuse a direction from alpha = 0, where eps does not depend on
    the condition, are not guided. Raises ValueError for every < 1.

    >>> Cached(Null(), every=2).passes(rows=10)  # five rows of two passes, and five of one
    15
    """

    reference: Reference = Null()
    every: int = field(default=2, metadata={"static": True})

    def __post_init__(self):
        at_least(1, every=self.every)

    def init(self, x: Sample) -> Memory:
        return jnp.zeros(x.shape[0], jnp.int32), jnp.zeros_like(x), self.reference.init(x)

    def passes(self, rows: int) -> int:
        fresh = -(-rows // self.every)
        return rows - fresh + self.reference.passes(fresh)

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        row, direction, inner = memory
        x, t = query.x, query.t
        due = row % self.every == 0  # of each sample: samples may begin to be guided at other rows

        def fresh() -> tuple[Prediction, Prediction, Memory]:
            pair, after = self.reference(query, inner, guided=guided & due)
            conditional, reference = pair.conditional, pair.reference
            new = jnp.where(expand(due, x), conditional.eps - reference.eps, direction)
            after = chosen(due, after, inner)
            reused = along(conditional, new)
            reference = conditional._replace(
                x0=jnp.where(expand(due, x), reference.x0, reused.x0),
                eps=jnp.where(expand(due, x), reference.eps, reused.eps),
            )
            return conditional, reference, (row + 1, new, after)

        def reused() -> tuple[Prediction, Prediction, Memory]:
            conditional = query.predict()
            return conditional, along(conditional, direction), (row + 1, direction, inner)

        def along(conditional: Prediction, direction: Sample) -> Prediction:
            """Return the reference whose eps is that of `conditional` minus `direction`."""
            ratio = expand(jnp.exp(-query.sde.logsnr(t) / 2), x)  # sigma / alpha, may be infinite
            x0 = conditional.x0 + jnp.where(direction == 0, 0, ratio * direction)
            return conditional._replace(x0=x0, eps=conditional.eps - direction)

        conditional, reference, memory = jax.lax.cond((guided & due).any(), fresh, reused)
        return query.pair(conditional, reference), memory
