"""References: what the conditional prediction is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from diffjax.arrays import expand, null
from diffjax.checks import at_least
from diffjax.guidance.query import Mask, Memory, Pair, Query, chosen
from diffjax.prediction import Denoise, Prediction, Sample


@runtime_checkable
@runtime_checkable
class Reference(Protocol):
    """Called for rows where some sample is guided. The memory of the others stays as it was."""

    def init(self, x: Sample) -> Memory:
        """What is carried from guided row to guided row: arrays (B, ...), each sample its own."""
        ...

    def passes(self, rows: int) -> int:
        """Network passes per sample of the first so many guided rows, the conditional one
        included."""
        ...

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        """The conditional prediction and the one to compare it with; `guided` (B,): of whom."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Null:
    """All conditions dropped: classifier-free guidance (arXiv:2207.12598, eq. 6)."""

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return 2 * rows

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        cond = query.conditions
        return query.pair(*query.several([cond, null(cond)])), memory


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Negative:
    """Other values of some conditions, which samples are to stay away from.

    instead: name -> values, broadcast to those of `cond`; the other conditions stay.
    """

    instead: Mapping[str, Any]

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return 2 * rows

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        cond = query.conditions
        if unknown := set(self.instead) - set(cond):
            raise ValueError(f"negative {sorted(unknown)}: the conditions are {sorted(cond)}")
        like = lambda name, a: jnp.broadcast_to(jnp.asarray(a, cond[name].dtype), cond[name].shape)
        other = cond | {name: like(name, a) for name, a in self.instead.items()}
        return query.pair(*query.several([cond, other])), memory


def negative(label: int = -1) -> Negative:
    """Another label than the one asked for: stay away from that class. -1 is none."""
    return Negative({"label": jnp.asarray(label)})


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OtherNetwork:
    """Another network for the same process (else `reframe` it): autoguidance, arXiv:2406.02507.

    It is smaller, or less trained, and makes the same errors more strongly. conditional: whether it
    is given the condition. Its passes count as many as those of the network itself.
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Several:
    """Several conditions, each with a share of its own in the guidance.

    With x_i the prediction given the first i of the conditions in `shares`, and all that are not
    named there, the reference is x_N - sum_i share_i (x_i - x_{i-1}).
    So the weight of condition i is w_i = 1 + share_i (w - 1) in

        x_0 + sum_i w_i (x_i - x_{i-1})

    (arXiv:2211.09800, eq. 3), which at w = 1 is the conditional model, whatever the shares: unlike
    sums over conditions that are given alone (arXiv:2206.01714), it needs no independence of them.
    One call of N + 1 predictions. shares: pairs of name and share, or a dict. Raises ValueError for
    none, and for a name that is not in the condition.
    """

    shares: tuple[tuple[str, float], ...] | Mapping[str, float] = field(
        default=(("label", 1.0),), metadata={"static": True}
    )

    def __post_init__(self):
        if isinstance(self.shares, Mapping):  # held as what has a hash
            object.__setattr__(self, "shares", tuple(self.shares.items()))
        if not self.shares:
            raise ValueError("shares={}: needs the share of a condition")

    def init(self, x: Sample) -> Memory:
        return ()

    def passes(self, rows: int) -> int:
        return (1 + len(self.shares)) * rows

    def __call__(self, query: Query, memory: Memory, *, guided: Mask) -> tuple[Pair, Memory]:
        cond, shares = query.conditions, dict(self.shares)
        if unknown := set(shares) - set(cond):
            raise ValueError(f"shares of {sorted(unknown)}: the conditions are {sorted(cond)}")
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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cached:
    """What `reference` says in every `every`-th guided row, reused in the rows between.

    Reused is the direction eps - eps_ref: both views then follow for the x_t of each row, and the
    rows between make the conditional pass only. On a mixture of two Gaussians with w = 3 (DDIM, 40
    steps uniform in log-SNR) samples differ from exact ones by 2 % of what guidance changes with
    every = 2, by 6 % with 4; reusing the direction of x0 gives 10 % and 33 %, that of the velocity
    9 % and 27 %. Rows that reuse one from alpha = 0, where eps knows nothing of the
    condition, are not guided. Raises ValueError for every < 1.
    """

    reference: Reference = Null()
    every: int = field(default=2, metadata={"static": True})

    def __post_init__(self):
        at_least(1, every=self.every)

    def init(self, x: Sample) -> Memory:
        return jnp.zeros(len(x), jnp.int32), jnp.zeros_like(x), self.reference.init(x)

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
            """The reference that lies `direction` from the conditional prediction in eps."""
            ratio = expand(jnp.exp(-query.sde.logsnr(t) / 2), x)  # sigma / alpha, may be infinite
            x0 = conditional.x0 + jnp.where(direction == 0, 0, ratio * direction)
            return conditional._replace(x0=x0, eps=conditional.eps - direction)

        conditional, reference, memory = jax.lax.cond((guided & due).any(), fresh, reused)
        return query.pair(conditional, reference), memory
