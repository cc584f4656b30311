"""The loop that runs a table: one compiled scan for all samplers."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Cond, dims, expand, jit_leaves, normal
from diffjax.guidance import Conditional, Guidance, Normals, Query
from diffjax.prediction import Denoise, check_inputs
from diffjax.samplers.table import NOISES, OUTPUTS, Table
from diffjax.spaces import inside

PROGRAMS = 32
"""Number of compiled programs of each kind that are kept, those used last."""
FEW = 16
"""Number of values below which the norm of a sample is no estimate of the noise level."""


class Result(NamedTuple):
    """The result of a run.

    x: samples (B, ...). bad: the first row whose output was not finite, or -1. path: state and x0
    after each row, (R, B, ...) each, if requested. calls: (B,), of the denoiser, if they differ.
    """

    x: Float[Array, "b *d"]
    bad: Int[Array, ""]
    path: tuple[Array, Array] | None = None
    calls: Int[Array, " b"] | None = None


class Registers(NamedTuple):
    """The registers before a row.

    x: the state (B, ...). outputs, noises: those kept from earlier rows, (K, B, ...) and (J, B,
    ...). memory: that of the guidance, (B, ...) each. bad: as in `Result`.
    """

    x: Float[Array, "b *d"]
    outputs: Float[Array, "k b *d"]
    noises: Float[Array, "j b *d"]
    memory: Any
    bad: Int[Array, ""]


class Preview(NamedTuple):
    """Intermediate samples after `row` of `rows` rows: the state x and the predicted x0, (B, ...).

    t: the time at which the last of these rows evaluated the network, the latest one of lanes.
    """

    x: Any
    x0: Any
    row: int
    rows: int
    t: float


def run(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    keys: Key[Array, " b"],
    *,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
    noise: Float[Array, "r b *d"] | None = None,
    path: bool = False,
) -> Result:
    """Run all rows of `table` from x in one compiled scan; x is frozen once a row is not finite.

    The arguments are those of `sample`. path: whether the result holds the intermediate states.
    Raises ValueError as `check_arguments` does.
    """
    check_arguments(denoise, table, x, keys, cond=cond, guidance=guidance, noise=noise)
    leaves, structure = jax.tree.flatten((denoise, table, guidance))
    return _program(structure, path)(leaves, x, keys, cond=cond, noise=noise)


def scan(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    keys: Key[Array, " b"],
    *,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
    noise: Float[Array, "r b *d"] | None = None,
    path: bool = False,
) -> Result:
    """Do the work of `run` without its checks and its `jit`, for use inside a compiled function."""
    each = functools.partial(step, denoise, guidance, cond, keys, path)
    rows = (jnp.arange(len(table)), on_device(table, x.dtype), noise)
    after, visited = jax.lax.scan(each, begin(inside(denoise, x, cond), guidance), rows)
    return Result(after.x, after.bad, visited)


@functools.lru_cache(PROGRAMS)
def _program(structure: Any, path: bool) -> Any:
    """Return `scan` for denoiser, table and guidance of this structure, as `jit_leaves` does."""

    def rows(denoise: Denoise, table: Table, guidance: Guidance, *args: Any, **more: Any) -> Result:
        return scan(denoise, table, *args, guidance=guidance, path=path, **more)

    return jit_leaves(rows, structure)


def check_arguments(
    denoise: Denoise,
    table: Table,
    x: Any,
    keys: Any,
    *,
    cond: Any = None,
    guidance: Any = Conditional(),
    noise: Any = None,
) -> None:
    """Raise ValueError for arguments that `run` cannot handle, before anything is compiled.

    These are objects that are no denoiser, table or guidance; samples, keys, conditions and noises
    that are not one per sample; conditions unknown to the network; and a table of another process.
    """
    checks.instance(Table, "diffjax.samplers.ddim(sde, times)", table=table)
    checks.instance(Guidance, "diffjax.guidance.Guided()", guidance=guidance)
    checks.samples(x)
    checks.keys(keys, len(x))
    checks.conditions(cond, len(x))
    if noise is not None:
        checks.array(noise, "noise", f"{(len(table), *x.shape)}")
        checks.same_shape((len(table), *x.shape), noise=noise)
    check_inputs(denoise, x, cond)
    if hasattr(denoise, "sde") and not checks.traced(denoise, table):
        table.origin.check(denoise.sde, np.asarray(table.t)[np.asarray(table.active)].ravel())
    if table.lanes and (x.ndim < 2 or x.shape[1] != table.lanes):
        raise ValueError(f"the table has {table.lanes} lanes; x has the shape {x.shape}")


def begin(x: Float[Array, "b *d"], guidance: Guidance = Conditional()) -> Registers:
    """Return the registers before the first row, for states x (B, ...)."""
    zeros = lambda n: jnp.zeros((n, *x.shape), x.dtype)
    return Registers(x, zeros(OUTPUTS), zeros(NOISES), guidance.init(x), jnp.full((), -1, int))


def advance(
    denoise: Denoise,
    table: Table,
    registers: Registers,
    keys: Key[Array, " b"],
    *,
    first: Any,
    stop: Any,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
    noise: Float[Array, "r b *d"] | None = None,
) -> tuple[Registers, Float[Array, "b *d"]]:
    """Run rows first, ..., stop - 1 of `table`; return the registers and the last predicted x0.

    `first` and `stop` may be traced, so one program runs every part of a table. The parts in
    sequence reproduce `run` exactly.
    """
    rows = (on_device(table, registers.x.dtype), noise)

    def each(i: Any, carry: tuple[Registers, Array]) -> tuple[Registers, Array]:
        row = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), rows)
        after, seen = step(denoise, guidance, cond, keys, True, carry[0], (i, *row))
        assert seen is not None
        return after, seen[1]

    return jax.lax.fori_loop(first, stop, each, (registers, jnp.zeros_like(registers.x)))


@functools.lru_cache(PROGRAMS)
def _part_program(structure: Any) -> Any:
    """Return `advance`, with copies for a preview, since the next part reuses the registers."""

    def rows(denoise: Denoise, table: Table, guidance: Guidance, *args: Any, **more: Any) -> Any:
        registers, x0 = advance(denoise, table, *args, guidance=guidance, **more)
        return registers, (registers.x, x0, registers.bad)

    return jit_leaves(rows, structure, donate_argnums=1)


def previews(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    keys: Key[Array, " b"],
    *,
    every: int,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
    noise: Float[Array, "r b *d"] | None = None,
) -> Iterator[Preview]:
    """Sample as `sample` does, and yield a preview after every `every` rows and after the last one.

    There is one compiled program, whatever `every` is, and the x of the last preview equals the
    result of `sample` exactly. The device computes the next rows while the caller looks at a
    preview; the caller may stop iterating at any time. Raises FloatingPointError as `sample` does,
    and ValueError for every < 1.
    """
    check_arguments(denoise, table, x, keys, cond=cond, guidance=guidance, noise=noise)
    leaves, structure = jax.tree.flatten((denoise, table, guidance))
    part = functools.partial(_part_program(structure), leaves, cond=cond, noise=noise)
    ends = parts(len(table), every)
    registers = begin(jnp.copy(inside(denoise, x, cond)), guidance)
    registers, seen = part(registers, keys, first=0, stop=ends[0])
    for first, stop in pairwise(ends):
        registers, new = part(registers, keys, first=first, stop=stop)
        yield look(table, seen, first)
        seen = new
    yield look(table, seen, ends[-1])


def parts(rows: int, every: int) -> list[int]:
    """Return the ends of parts of `every` rows each; the last part may be shorter."""
    checks.whole(1, every=every)
    return [*range(every, rows, every), rows]


def look(table: Table, seen: tuple[Array, Array, Array], row: int) -> Preview:
    """Return the preview after `row` rows; raise FloatingPointError for one that was not finite."""
    x, x0, bad = seen
    check(bad, table)
    return Preview(x, x0, row, len(table), float(np.max(table.t[row - 1])))


def sample(
    denoise: Denoise,
    table: Table,
    x: Float[Array, "b *d"],
    keys: Key[Array, " b"],
    *,
    cond: Cond | None = None,
    guidance: Guidance = Conditional(),
    noise: Float[Array, "r b *d"] | None = None,
) -> Float[Array, "b *d"]:
    """Run all rows of `table` from x in one compiled scan.

    denoise: any `Denoise`. table: the rows, as planned by a sampler. x: initial state (B, ...),
    usually from `initial(sde, keys, shape)`. keys: (B,); sample b depends on x[b], keys[b] and
    cond[b] only. cond: conditions by name, each (B, ...). noise: (R, B, ...), the z of each row in
    place of draws from `keys`. Returns the final state (B, ...).

    Raises ValueError as `check_arguments` does and, outside traced functions, FloatingPointError
    for a network output that is not finite.
    """
    result = run(denoise, table, x, keys, cond=cond, guidance=guidance, noise=noise)
    if not isinstance(result.bad, Tracer):
        check(result.bad, table)
    return result.x


def check(bad: Any, table: Table) -> None:
    """Raise FloatingPointError, with row and time, where a network output was not finite."""
    if (row := int(bad)) >= 0:
        raise FloatingPointError(
            f"the network's output is not finite at row {row} of {len(table)}, "
            f"t = {np.max(table.t[row]):g}"
        )


def step(
    denoise: Denoise,
    guidance: Guidance,
    cond: Cond | None,
    keys: Key[Array, " b"],
    path: bool,
    registers: Registers,
    row: tuple[Array, Table, Array | None],
) -> tuple[Registers, tuple[Array, Array] | None]:
    """Run one row of samplers; with `path` also return the state and the x0 after it.

    row: its index, its coefficients, and its z (B, ...) or None, which draws it from `keys`.
    """
    x, outputs, noises, memory, bad = registers
    index, c, z = row
    if z is None:
        draw = lambda: noise_of(c, keys, x)
        z = jax.lax.cond(c.noisy, draw, lambda: jnp.zeros_like(x))
    z = inside(denoise, z, cond)
    by_lane = c.t.ndim == 1
    combine = jax.vmap(_combine, (0, 1, 2, 1, 2), 1) if by_lane else _combine
    u = combine(c.input, [x], outputs, z, noises)
    t = jnp.full(x.shape[:2] if by_lane else x.shape[:1], c.t, x.dtype)
    to = jnp.full_like(t, c.to) if c.leads else None
    query = Query(denoise, u, t, cond, to, Normals(keys, index))
    ask = lambda: guidance(query, c.weight, memory)
    active = c.active & (bad < 0)
    if c.padded:  # only then, since a network inside a conditional is 10 % slower on CPU
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(ask)[0])
        prediction, memory = jax.lax.cond(active, ask, lambda: (nothing, memory))
    else:
        prediction, memory = ask()
    y = inside(denoise, c.read(prediction), cond)  # again, as thresholds may leave the space
    if c.learned:
        if prediction.log_var is None:
            raise ValueError("the network learns no variance; allowed: the other samplers")
        spread = _along(c.spread, x) if by_lane else c.spread
        z = z * jnp.exp(spread * prediction.log_var)
    new = combine(c.update, [x, y], outputs, z, noises)
    if c.langevin:
        new = jnp.where(c.snr > 0, _langevin(x, new, z, c.snr), new)
    x = jnp.where(active, new, x)
    keep = _keep_by_lane if by_lane else _keep
    outputs, noises = keep(outputs, c.keep, y), keep(noises, c.keep_noise, z)
    bad = jnp.where((bad < 0) & ~jnp.isfinite(y).all(), index, bad)
    after = Registers(x, outputs, noises, memory, bad)
    return after, (x, prediction.x0) if path else None


def noise_of(c: Table, keys: Key[Array, " b"], x: Array) -> Array:
    """Draw the z of row `c`, a linear combination of normals, each determined by its number."""
    at = jax.vmap(jax.random.fold_in, (0, None))
    draw = lambda node: normal(at(keys, node), x.shape[1:]).astype(x.dtype)
    if len(c.nodes) == 1:
        return c.shares[0] * draw(c.nodes[0])
    add = lambda n, total: total + c.shares[n] * draw(c.nodes[n])
    return jax.lax.fori_loop(0, len(c.nodes), add, jnp.zeros_like(x))


def _combine(c: Array, first: list[Array], outputs: Array, z: Array, noises: Array) -> Array:
    """Return the linear combination of the registers (*first, outputs, z, noises)."""
    n = len(first)
    total = sum(c[i] * a for i, a in enumerate(first)) + c[n + OUTPUTS] * z
    slots = [*zip(range(n, n + OUTPUTS), outputs, strict=True)]
    slots += zip(range(n + OUTPUTS + 1, len(c)), noises, strict=True)
    past = lambda: sum((c[i] * a for i, a in slots), total)
    return jax.lax.cond(jnp.stack([c[i] for i, _ in slots]).any(), past, lambda: total)


def _keep(slots: Array, slot: Array, new: Array) -> Array:
    """Return the registers (K, B, ...) with `new` in one slot, or unchanged for slot K."""
    return slots.at[slot].set(new, mode="drop")


def _keep_by_lane(slots: Array, slot: Array, new: Array) -> Array:
    """Return the registers (K, B, L, ...) with `new` in the slot (L,) of each position."""
    here = jnp.arange(len(slots))[:, None] == slot[None]
    return jnp.where(jax.vmap(lambda mask: _along(mask, new))(here), new[None], slots)


def _along(a: Array, x: Array) -> Array:
    """Return values (L,) of the positions so that they broadcast against x (B, L, ...)."""
    return a.reshape(1, -1, *(1,) * (x.ndim - 2))


def _langevin(x: Array, score: Array, z: Array, snr: Array) -> Array:
    """Return the Langevin step x + e score + sqrt(2 e) z, and x where the score is 0.

    e = 2 (snr |z| / |score|)^2 with the norms of each sample.
    """
    if x[0].size < FEW:
        raise ValueError(
            f"the corrector langevin divides by |score|^2 of each sample, which varies too much "
            f"for {x[0].size} values; needs at least {FEW}; allowed: the corrector refresh"
        )
    total = lambda a: (a**2).sum(dims(a))
    there = total(score) > 0
    size = 2 * snr**2 * total(z) / jnp.where(there, total(score), 1)
    size = expand(jnp.where(there, size, 0), x)
    return x + size * score + jnp.sqrt(2 * size) * z


def on_device(table: Table, dtype: Any) -> Table:
    """Return the table as arrays of JAX, with numbers of the type of the state."""
    floating = lambda a: jnp.issubdtype(jnp.result_type(a), jnp.floating)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype if floating(a) else None), table)
