"""Sampling by number: sample k of a run depends on (seed, k), its conditions and weight only."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Int8, Key

from diffjax import arrays, checks
from diffjax.arrays import Cond, jit_leaves, keys_at, spread, streams
from diffjax.devices import processes
from diffjax.prediction import Denoise, check_inputs
from diffjax.progress import compiling
from diffjax.samplers.plan import Plan, Sampling
from diffjax.samplers.run import Preview, Registers, Result, look, parts
from diffjax.samplers.starts import initial, noised
from diffjax.sde import SDE
from diffjax.spaces import inside

INDICES = 2**31
"""Upper bound of the numbers of samples, which are 32-bit integers on the devices."""
PROGRAMS = 8
"""Number of compiled programs of each kind that are kept, those of the last networks sampled. A
program takes tens of MB, and a process may train hundreds of networks."""


def generate(
    denoise: Denoise,
    plan: Sampling,
    key: Key[Array, "..."],
    index: Int[Array, " b"],
    cond: Cond,
    x0: Float[Array, "b *d"] | None = None,
    signs: Int8[Array, "b *d"] | None = None,
    *,
    shape: tuple[int, ...],
    path: bool = False,
) -> Result:
    """Return samples number `index` of the stream `key`, (B, *shape), by one program.

    The program draws from the prior and computes all rows. key: that of one run, (), or that of the
    run of each sample, (B,). x0: items that samples start from, with the noise of the first row, in
    place of the prior. signs: 1 or -1, those of the noise that the prior gives, in place of its
    own. path: whether the result holds the trajectory.
    """
    leaves, structure = jax.tree.flatten((denoise, plan))
    return _program(structure, shape, None, path)(leaves, key, index, cond, x0, signs)


def generate_whole(
    denoise: Denoise,
    plan: Sampling,
    key: Key[Array, "..."],
    index: Int[Array, " b"],
    cond: Cond,
    x0: Float[Array, "b *d"] | None = None,
    signs: Int8[Array, "b *d"] | None = None,
    *,
    shape: tuple[int, ...],
    path: bool = False,
) -> Result:
    """Compute the result of `generate`: the function that it compiles."""
    x, keys = _begin(denoise.sde, keys_at(key, index), shape, plan.start, x0, signs)
    return plan.run(denoise, x, keys, cond, path=path)


def generate_part(
    denoise: Denoise,
    plan: Plan,
    key: Key[Array, "..."],
    index: Int[Array, " b"],
    cond: Cond,
    x0: Float[Array, "b *d"] | None,
    signs: Int8[Array, "b *d"] | None,
    registers: Registers,
    first: Int[Array, ""],
    stop: Int[Array, ""],
    *,
    shape: tuple[int, ...],
) -> tuple[Registers, tuple[Array, Array, Array]]:
    """Compute rows first, ..., stop - 1 of `generate`.

    The results are the registers and (x, x0, first bad row). registers: those after the previous
    rows; unused where first = 0. All parts of a table are one program.
    """
    x, keys = _begin(denoise.sde, keys_at(key, index), shape, plan.start, x0, signs)
    x = inside(denoise, x, cond)
    registers = jax.lax.cond(first == 0, lambda: plan.begin(x), lambda: registers)
    registers, seen = plan.advance(denoise, registers, keys, cond, first=first, stop=stop)
    return registers, (registers.x, seen, registers.bad)


def _begin(
    sde: SDE, keys: Key[Array, " b"], shape: tuple[int, ...], t: Any, x0: Any, signs: Any
) -> tuple[Array, Key[Array, " b"]]:
    """Return the states at t, from the prior or from noised items, and the keys of the rows."""
    if x0 is not None:
        return noised(sde, x0, t, keys)
    x, keys = initial(sde, keys, shape, t)
    return x if signs is None else signs * jnp.abs(x), keys


@functools.lru_cache(PROGRAMS)
def _program(
    structure: Any, shape: tuple[int, ...], everywhere: NamedSharding | None, path: bool = False
) -> Any:
    """Return the compiled function for this structure, the same object for equal arguments.

    JAX then reuses its compilation: other weights of guidance, and another table with equally many
    rows, are not compiled again. structure: the structure of network and plan, whose leaves are
    argument 0. The function is dropped, with its programs, after `PROGRAMS` others.
    """
    whole = functools.partial(generate_whole, shape=shape, path=path)
    return jit_leaves(whole, structure, **({"out_shardings": everywhere} if everywhere else {}))


@functools.lru_cache(PROGRAMS)
def _part_program(structure: Any, shape: tuple[int, ...], everywhere: NamedSharding) -> Any:
    """Return the function of `_program` for parts of a table.

    The registers stay split over the devices by samples.
    """
    return jit_leaves(
        functools.partial(generate_part, shape=shape),
        structure,
        out_shardings=(_split_registers(everywhere), everywhere),
        donate_argnums=6,
    )


def _rows(first: int, stop: int) -> tuple[np.int32, np.int32]:
    return np.int32(first), np.int32(stop)


def _split_registers(everywhere: NamedSharding) -> Any:
    """Return the shardings of the registers of a batch: each array is split along its samples."""
    mesh = everywhere.mesh
    first, second = PartitionSpec(mesh.axis_names), PartitionSpec(None, mesh.axis_names)
    samples, slots = NamedSharding(mesh, first), NamedSharding(mesh, second)
    axes: dict[str, Any] = {"x": samples, "outputs": slots, "noises": slots, "memory": samples}
    return Registers(**axes, bad=cast(Any, everywhere))


def lowered(
    denoise: Denoise,
    plan: Sampling,
    *,
    size: int,
    shape: tuple[int, ...],
    cond: Mapping[str, Any],
    mesh: Mesh,
    by_rows: bool = False,
) -> Any:
    """Lower the program of `Generation` from shapes, for devices that need not be there.

    denoise, plan: of arrays or of their shapes. size: the number B of samples in a batch. cond:
    conditions by name, (B, ...) each, or their shapes. by_rows: lower the program of previews, for
    parts of a table.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    put = lambda where, tree: jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(jnp.shape(a), jnp.result_type(a), sharding=where), tree
    )
    structure, leaves = jax.tree.structure((denoise, plan)), jax.tree.leaves((denoise, plan))
    key, index = jax.eval_shape(lambda: (arrays.stream(0, "sample"), jnp.arange(size)))
    arguments = *put(everywhere, (leaves, key)), *put(split, (index, dict(cond)))
    if not by_rows:
        return _program(structure, shape, everywhere).lower(*arguments, None, None)
    assert isinstance(plan, Plan)
    x = jax.ShapeDtypeStruct((size, *shape), jnp.float32)
    row = jax.ShapeDtypeStruct((), jnp.int32)
    registers = jax.tree.map(put, _split_registers(everywhere), jax.eval_shape(plan.begin, x))
    program = _part_program(structure, shape, everywhere)
    return program.lower(*arguments, None, None, registers, row, row)


class Generation:
    """Samples start, ..., num - 1 of the run `seed`, in batches, by a program compiled in advance.

    seed: one for all samples, or one for each, (num,): sample k of run seed[k]. index: the number
    of each sample within its run, (num,), in place of 0, ..., num - 1. cond: conditions by name,
    (num, ...) each. weight: the guidance weight of each sample, (num,), in place of those of the
    plan; see `Plan.weighted`. x0: items that samples start from, as a network sees them,
    (num, *shape): they get the noise of the first row, in place of draws from the prior. low: a
    function from the places (B,) of samples among all to further conditions (B, ...), which are
    too large to exist for all samples at once. signs: a function from seeds and numbers of samples
    (B,), and their shape, to the signs of their noise (B, *shape), as `watermark.Watermark.signs`.
    stream: the name of the random stream. mesh: devices, also of several processes, that share each
    batch, whose size is rounded up to a multiple of their number; by default one device. The last
    batch is filled up, so that one program computes all batches.

    Iterating yields float32 arrays (B, *shape), whole in every process, and appends to `passes` the
    network passes of each sample. preview: called with a `Preview` of the batch after every `every`
    rows and after the last one; the samples are bit-for-bit identical to those without previews,
    and one program computes all parts. Raises FloatingPointError where sampling failed, and
    ValueError for weights without guidance, arrays of another length, and previews of adaptive
    steps.

    >>> from diffjax import analytic, guidance, samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(flow)
    >>> plan = Plan(samplers.ddim(flow, [1.0, 0.5, 0.0]), guidance.Conditional())
    >>> run = Generation(denoise, plan, seed=0, num=5, shape=(2,), batch_size=4)
    >>> [x.shape for x in run], run.passes
    ([(4, 2), (1, 2)], [2, 2, 2, 2, 2])
    """

    def __init__(
        self,
        denoise: Denoise,
        plan: Sampling,
        seed: int | np.ndarray,
        num: int,
        shape: tuple[int, ...],
        cond: Mapping[str, np.ndarray] | None = None,
        batch_size: int = 256,
        mesh: Mesh | None = None,
        start: int = 0,
        *,
        index: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        x0: np.ndarray | None = None,
        preview: Callable[[Preview], None] | None = None,
        every: int = 1,
        low: Callable[[np.ndarray], Mapping[str, np.ndarray]] | None = None,
        signs: Callable[..., np.ndarray] | None = None,
        stream: str = "sample",
    ):
        checks.whole(1, num=num, batch_size=batch_size)
        checks.whole(0, start=start)
        plan.suits(denoise.sde)
        mesh = mesh or Mesh(jax.local_devices()[:1], "data")
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._plan = plan = plan.settled() if weight is None else plan
        self._on_devices = spread((denoise, plan), self._everywhere)
        self._cond = {name: np.asarray(values) for name, values in (cond or {}).items()}
        self._seeds = _integers("seed", seed, checks.SEEDS) if np.ndim(seed) else None
        self._numbers = np.arange(num) if index is None else _integers("index", index, INDICES)
        self._low, self._signs, self._stream = low, signs, stream
        self._of_all = np.broadcast_to(seed, num) if signs else None
        self._key = None if np.ndim(seed) else spread(arrays.stream(seed, stream), self._everywhere)
        self._weight = None if weight is None else np.asarray(weight)
        seeds = seed if np.ndim(seed) else None
        self._x0 = None if x0 is None else np.asarray(x0, np.float32)
        listed = {"seed": seeds, "index": index, "weight": weight, "x0": x0, **self._cond}
        for name, values in listed.items():
            if values is not None and len(values) != num:
                raise ValueError(f"{name}: {len(values)} values for {num} samples")
        if self._x0 is not None and self._x0.shape[1:] != tuple(shape):
            raise ValueError(
                f"x0: the items have the shape {self._x0.shape[1:]}; needs {tuple(shape)}"
            )
        check_inputs(denoise, jax.ShapeDtypeStruct((num, *shape), jnp.float32), self._cond)
        self._start, self._num, self._shape = start, num, tuple(shape)
        self._preview, self._every = preview, every
        self._size = -(-min(batch_size, num) // mesh.size) * mesh.size
        self.passes: list[int] = []
        began = time.monotonic()
        with compiling("the sampler", quiet=not processes.first()):
            self._run = self._compiled()
        self.compile_seconds = time.monotonic() - began

    def __len__(self) -> int:
        """Return the number of batches."""
        return -(-(self._num - self._start) // self._size)

    def _compiled(self) -> Any:
        structure = jax.tree.structure(self._on_devices)
        if not self._preview:
            program = _program(structure, self._shape, self._everywhere)
            return program.lower(*self._arguments(0)).compile()
        if not isinstance(self._plan, Plan):
            raise ValueError("adaptive steps differ between samples, which have no common previews")
        parts(len(self._plan.table), self._every)
        program = _part_program(structure, self._shape, self._everywhere)
        return program.lower(*self._arguments(0), self._registers(), *_rows(0, 0)).compile()

    def _places(self, start: int) -> np.ndarray:
        """Return the indices of the samples of a batch; repetition fills up the last batch."""
        return np.minimum(np.arange(start, start + self._size), self._num - 1)

    def _arguments(self, start: int) -> tuple[Any, ...]:
        """Return the arguments of the program for a batch."""
        places, key, (denoise, plan) = self._places(start), self._key, self._on_devices
        cond = {name: values[places] for name, values in self._cond.items()}
        cond |= self._low(places) if self._low else {}
        if self._seeds is not None:
            key = spread(streams(self._seeds[places].astype(np.uint32), self._stream), self._split)
        if self._weight is not None:
            plan = spread(plan.weighted(self._weight[places]), self._everywhere)
        x0 = None if self._x0 is None else self._x0[places]
        leaves, numbers, signs = jax.tree.leaves((denoise, plan)), self._numbers[places], None
        if self._signs and self._of_all is not None:
            signs = self._signs(self._of_all[places], numbers, self._shape)
        return leaves, key, *spread((numbers, cond, x0, signs), self._split)

    def _registers(self) -> Registers:
        """Return registers of zeros for the first part of a batch, which replaces them."""
        assert isinstance(self._plan, Plan)
        x = jax.ShapeDtypeStruct((self._size, *self._shape), jnp.float32)
        shapes = jax.eval_shape(self._plan.begin, x)
        return jax.tree.map(
            lambda where, part: spread(
                jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), part), where
            ),
            _split_registers(self._everywhere),
            shapes,
        )

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(self._start, self._num, self._size):
            args, count = self._arguments(start), self._num - start
            result = self._in_parts(args, count) if self._preview else self._run(*args)
            self._plan.check(result)
            weight = None if self._weight is None else self._weight[self._places(start)]
            plan = self._plan if weight is None else self._plan.weighted(weight)
            self.passes += plan.spent(result)[:count].tolist()
            yield np.asarray(result.x)[:count]

    def _in_parts(self, args: tuple[Any, ...], count: int) -> Result:
        """Compute a batch in parts; each is shown while the devices compute the next one."""
        assert isinstance(self._plan, Plan)
        table, ends = self._plan.table, parts(len(self._plan.table), self._every)
        registers, seen = self._run(*args, self._registers(), *_rows(0, ends[0]))
        for first, stop in pairwise(ends):
            registers, new = self._run(*args, registers, *_rows(first, stop))
            self._show(look(table, seen, first), count)
            seen = new
        self._show(look(table, seen, ends[-1]), count)
        x, _, bad = seen
        return Result(x, bad)

    def _show(self, seen: Preview, count: int) -> None:
        assert self._preview
        self._preview(seen._replace(x=seen.x[:count], x0=seen.x0[:count]))


def _integers(name: str, values: Any, stop: int) -> np.ndarray:
    """Return seeds or numbers of samples as integers (num,).

    Raises ValueError for values outside of 0, ..., stop - 1.
    """
    integers = np.asarray(values)
    if integers.ndim != 1 or integers.dtype.kind not in "iu":
        raise ValueError(f"{name}={values}: needs one integer, or one per sample")
    for value in integers.tolist():
        checks.in_range(stop, **{name: value})
    return integers.astype(np.int64)
