"""Samples by number: sample k of a run depends on (seed, k) and its conditions only."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key

from diffjax.arrays import Cond, keys_at, spread, stream
from diffjax.prediction import Denoise
from diffjax.samplers.plan import How
from diffjax.samplers.run import Result, initial


@functools.partial(jax.jit, static_argnames=("shape", "path"))
def generate(
    denoise: Denoise,
    plan: How,
    key: Key[Array, ""],
    index: Int[Array, " b"],
    cond: Cond,
    *,
    shape: tuple[int, ...],
    path: bool = False,
) -> Result:
    """Samples number `index` of the stream `key`, (B, *shape): prior and all rows, one program."""
    x, keys = initial(denoise.sde, keys_at(key, index), shape, plan.start)
    return plan.run(denoise, x, keys, cond, path=path)


@functools.cache
def _program(shape: tuple[int, ...], everywhere: NamedSharding) -> Any:
    """The same object each time, so that JAX finds what it compiled: other weights of guidance, and
    another table of as many rows, take no compilation."""
    return jax.jit(functools.partial(generate, shape=shape), out_shardings=everywhere)


class Generation:
    """Samples start, ..., num - 1 of the run `seed`, in batches, by a program compiled beforehand.

    cond: conditions of the samples by name, (num, ...) each. mesh: devices, of several processes
    too, that share each batch, made a multiple of their number; one device by default. Iterating
    yields float32 arrays (B, *shape), whole in every process, and fills `passes`, of each sample so
    far. Raises
    FloatingPointError where sampling failed.
    """

    def __init__(
        self,
        denoise: Denoise,
        plan: How,
        seed: int,
        num: int,
        shape: tuple[int, ...],
        cond: Mapping[str, Any] | None = None,
        batch_size: int = 256,
        mesh: Mesh | None = None,
        start: int = 0,
    ):
        mesh = mesh or Mesh(jax.local_devices()[:1], "data")
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._given = (*spread((denoise, plan), everywhere), stream(seed, "sample"))
        self._plan, self._start, self._num, self._cond = plan, start, num, cond or {}
        self._size = -(-min(batch_size, num) // mesh.size) * mesh.size
        self.passes: list[int] = []
        began = time.monotonic()
        run = _program(tuple(shape), everywhere)
        self._run = run.lower(*self._given, *self._arguments(0)).compile()
        self.compile_seconds = time.monotonic() - began

    def _arguments(self, start: int) -> tuple[Array, Cond]:
        """Sample numbers and conditions of a batch; the last one is filled up by repetition."""
        index = np.minimum(np.arange(start, start + self._size), self._num - 1)
        cond = {name: np.asarray(value)[index] for name, value in self._cond.items()}
        return spread((index, cond), self._split)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(self._start, self._num, self._size):
            made = self._run(*self._given, *self._arguments(start))
            self._plan.check(made)
            self.passes += self._plan.spent(made)[: self._num - start].tolist()
            yield np.asarray(made.x)[: self._num - start]
