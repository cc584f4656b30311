"""Slots: samples of different tables, each at its own row, advanced by one compiled program.

A row of any table is one network pass, and all tables have equally many registers. So S samples
that follow S tables share a batch: in each tick the host hands over the current row of each slot,
and the program advances all slots by one row. A sample may enter or leave at any tick. What happens
in a slot does not depend on the others: bits are equal whatever runs beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import Cond, keys_at
from diffjax.guidance import Guidance, Inpainted, Negative, Null
from diffjax.prediction import Denoise
from diffjax.samplers.run import Registers, begin, step
from diffjax.samplers.starts import initial, noised
from diffjax.samplers.table import Table, eps, x0
from diffjax.spaces import inside

READS: dict[Any, bool] = {x0: False, eps: True}
"""The views that a row may read, and the mark of each."""


class Own(NamedTuple):
    """What the guidance of a sample has for itself.

    away: the conditions that guidance leads away from, by the names of all conditions. kept: an
    image (*shape). since: (*shape), the time from which each of its values is free; see
    `Inpainted`. In slots, all of them are batches of one.
    """

    away: Cond
    kept: Any
    since: Any

    def guiding(self, guidance: Guidance) -> Guidance:
        """Return the guidance of this sample, from what all samples have in common."""
        lead = lambda part: Negative(self.away) if _leads(part) else part
        return Inpainted(self.kept, self.since, jax.tree.map(lead, guidance, is_leaf=_leads))


class Slots(NamedTuple):
    """The states of S samples, each of which is a batch of one.

    registers: those of each slot, (S, ...). keys: (S, 1), for the noises. cond: (S, 1, ...) each.
    own: (S, 1, ...) each.
    """

    registers: Registers
    keys: Any
    cond: Cond
    own: Own


def _leads(part: Any) -> bool:
    """Return whether a part of a guidance is a reference of other conditions."""
    return isinstance(part, Null | Negative)


def common(guidance: Guidance) -> Guidance:
    """Return a guidance without what is the own of a sample: negative conditions and kept images.

    >>> from diffjax.guidance import Guided
    >>> common(Guided(Negative({"label": 3})))
    Guided(reference=Null(), rule=Linear())
    """
    inside = guidance.inside if isinstance(guidance, Inpainted) else guidance
    return jax.tree.map(lambda part: Null() if _leads(part) else part, inside, is_leaf=_leads)


def own(guidance: Guidance, cond: Mapping[str, Any], shape: tuple[int, ...]) -> Own:
    """Return what the guidance of one sample has for itself, as arrays of the host.

    cond, shape: the conditions and the shape of the sample, without a batch. Raises ValueError for
    a guidance that keeps several images.
    """
    parts = filter(_leads, jax.tree.leaves(guidance, is_leaf=_leads))
    other = next(parts, Null()).other({name: value[None] for name, value in cond.items()})
    away = {name: np.asarray(value)[0] for name, value in other.items()}
    if isinstance(guidance, Inpainted):
        if len(guidance.x0) != 1:
            raise ValueError(f"{len(guidance.x0)} kept images; allowed: one in each job")
        return Own(away, np.asarray(guidance.x0[0]), np.asarray(guidance.since[0]))
    return Own(away, np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32))


@dataclass(frozen=True)
class Rows:
    """What the tables of a slot program have in common.

    nodes: the number of normals whose combination is the noise of a row, see `Table`. learned:
    whether the network predicts variances. leads: whether it takes a second time. The tables of
    samplers that need less have the same rows with zeros.
    """

    nodes: int = 1
    learned: bool = False
    leads: bool = False

    def check(self, table: Table) -> None:
        """Raise ValueError for a table whose rows the program cannot run."""
        if table.lanes:
            raise ValueError("a table of lanes; allowed: one time per sample")
        if table.langevin:
            raise ValueError("the corrector langevin; allowed: the corrector refresh, or none")
        if table.read not in READS:
            raise ValueError(f"reads {table.read.__name__}; allowed: x0 and eps")
        if table.nodes.shape[1] > self.nodes:
            raise ValueError(
                f"each noise combines {table.nodes.shape[1]} normals, as those of a Brownian path "
                f"do; allowed: {self.nodes}, independent noise"
            )
        for name in ("learned", "leads"):
            if getattr(table, name) and not getattr(self, name):
                what = {"learned": "predicted variances", "leads": "a network with a second time"}
                raise ValueError(f"needs {what[name]}, which the slots were not planned for")

    def of(self, table: Table) -> list[np.ndarray]:
        """Return the leaves of a table, (R, ...) each, in 32 bits and with the mark of its view."""
        self.check(table)
        more = ((0, 0), (0, self.nodes - table.nodes.shape[1]))
        wide = replace(table, nodes=np.pad(table.nodes, more), shares=np.pad(table.shares, more))
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(wide)]
        leaves = [a.astype(np.float32 if a.dtype.kind == "f" else a.dtype) for a in leaves]
        return [*leaves, np.full(len(table), READS[table.read])]

    def row(self, leaves: list[Any]) -> Table:
        """Return one row from its leaves, as arrays of the device."""
        *leaves, second = leaves
        read = lambda p: jnp.where(second, p.eps, p.x0)
        table = jax.tree.unflatten(_structure(), leaves)
        return replace(table, read=read, learned=self.learned, leads=self.leads)


@functools.cache
def _structure() -> Any:
    arrays: Any = {f.name: 0 for f in fields(Table) if not f.metadata.get("static")}
    return jax.tree.structure(Table(**arrays))


def idle(rows: Rows, table: Table) -> list[np.ndarray]:
    """Return the leaves of a row that does nothing, at the first time of a table."""
    still = replace(table, active=np.zeros_like(table.active), noisy=np.zeros_like(table.noisy))
    return [leaf[0] for leaf in rows.of(still)]


def empty(number: int, guidance: Guidance, shape: tuple[int, ...], cond: Cond) -> Slots:
    """Return slots of zeros. cond: conditions of one sample, (1, ...) each."""
    x = jnp.zeros((1, *shape))
    alone = Own(cond, x, x)
    one = Slots(begin(x, guidance), keys_at(jax.random.key(0), jnp.zeros(1, int)), cond, alone)
    return jax.tree.map(lambda a: jnp.stack([jnp.asarray(a)] * number), one)


def enter(
    denoise: Denoise,
    guidance: Guidance,
    slots: Slots,
    place: Any,
    key: Any,
    index: Any,
    cond: Cond,
    own: Own,
    t: Any,
    start: Any,
    from_item: Any,
) -> Slots:
    """Put a sample into the slot `place`, as `generation.generate` begins it.

    key, index: the stream of its run and its number there. cond, own: of the sample, without a
    batch. t: the first time. start: an item (*shape) from which it starts where `from_item` is
    true, else from the prior.
    """
    sde, keys = denoise.sde, keys_at(key, index[None])
    prior, later = initial(sde, keys, start.shape, t)
    x = jnp.where(from_item, noised(sde, start[None], t, keys)[0], prior)
    cond, own = jax.tree.map(lambda a: a[None], (cond, own))
    new = Slots(begin(inside(denoise, x, cond), guidance), later, cond, own)
    return jax.tree.map(lambda a, b: a.at[place].set(b), slots, new)


def tick(
    denoise: Denoise, guidance: Guidance, rows: Rows, slots: Slots, leaves: list[Any], index: Any
) -> tuple[Slots, Any]:
    """Advance every slot by one row; return the slots and the predicted x0, (S, *shape).

    guidance: what is `common` to all samples. leaves: those of the current row of each slot,
    (S, ...). index: (S,), the number of that row.
    """

    def one(slot: Slots, leaves: list[Any], number: Any) -> tuple[Registers, Any]:
        row, guided = (number, rows.row(leaves), None), slot.own.guiding(guidance)
        after, seen = step(denoise, guided, slot.cond, slot.keys, True, slot.registers, row)
        assert seen is not None
        return after, seen[1][0]

    registers, seen = jax.vmap(one)(slots, leaves, index)
    return slots._replace(registers=registers), seen
