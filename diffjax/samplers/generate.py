"""Samples by number: sample k of a run depends on (seed, k) and its label only."""

from __future__ import annotations

import abc
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Key

from diffjax.arrays import Cond, keys_at, spread, stream
from diffjax.denoiser import Denoise, Sample
from diffjax.guidance import Guidance
from diffjax.samplers.run import Result, check, initial, run
from diffjax.samplers.table import Table


class How(abc.ABC):
    """How to sample: `Plan`, a table, or `Adaptive`. A pytree, so a traced argument."""

    @property
    @abc.abstractmethod
    def start(self) -> Any:
        """t of the initial state."""

    @property
    @abc.abstractmethod
    def rows(self) -> int | None:
        """Rows of the table, None where there is none."""

    @property
    @abc.abstractmethod
    def passes(self) -> int | None:
        """Network passes per sample; None where they differ."""

    @property
    @abc.abstractmethod
    def noisy(self) -> bool:
        """Whether noise is added on the way."""

    @abc.abstractmethod
    def run(
        self, denoise: Denoise, x: Sample, keys: Any, cond: Cond | None, *, path: bool = False
    ) -> Result: ...

    @abc.abstractmethod
    def check(self, made: Result) -> None:
        """Raise FloatingPointError where sampling failed."""

    @abc.abstractmethod
    def spent(self, made: Result) -> np.ndarray:
        """Network passes of each sample, (B,)."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan(How):
    """A table, with its guidance weights, and what they weigh."""

    table: Table
    guidance: Guidance

    @property
    def start(self) -> Any:
        return self.table.t[0]

    @property
    def rows(self) -> int:
        return len(self.table)

    @property
    def passes(self) -> int:
        """Network passes per sample; a guided row counts its second one."""
        return self.guidance.passes(np.asarray(self.table.weight)[np.asarray(self.table.active)])

    @property
    def noisy(self) -> bool:
        return bool(self.table.noisy.any())

    def run(
        self, denoise: Denoise, x: Sample, keys: Any, cond: Cond | None, *, path: bool = False
    ) -> Result:
        return run(denoise, self.table, x, keys, cond=cond, guidance=self.guidance, path=path)

    def check(self, made: Result) -> None:
        check(made.bad, self.table)

    def spent(self, made: Result) -> np.ndarray:
        return np.full(len(made.x), self.passes)


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

    label: (num,) class of each sample, or None. mesh: devices, of several processes too, that share
    each batch, made a multiple of their number; one device by default. Iterating yields float32
    arrays (B, *shape), whole in every process, and fills `passes`, of each sample so far. Raises
    FloatingPointError where sampling failed.
    """

    def __init__(
        self,
        denoise: Denoise,
        plan: How,
        seed: int,
        num: int,
        shape: tuple[int, ...],
        label: np.ndarray | None = None,
        batch_size: int = 256,
        mesh: Mesh | None = None,
        start: int = 0,
    ):
        mesh = mesh or Mesh(jax.local_devices()[:1], "data")
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._split = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        self._given = (*spread((denoise, plan), everywhere), stream(seed, "sample"))
        self._plan, self._start, self._num, self._label = plan, start, num, label
        self._size = -(-min(batch_size, num) // mesh.size) * mesh.size
        self.passes: list[int] = []
        began = time.monotonic()
        run = _program(tuple(shape), everywhere)
        self._run = run.lower(*self._given, *self._arguments(0)).compile()
        self.compile_seconds = time.monotonic() - began

    def _arguments(self, start: int) -> tuple[Array, Cond]:
        """Sample numbers and conditions of a batch; the last one is filled up by repetition."""
        index = np.minimum(np.arange(start, start + self._size), self._num - 1)
        label = {} if self._label is None else {"label": np.asarray(self._label[index], np.int32)}
        return spread((index, label), self._split)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(self._start, self._num, self._size):
            made = self._run(*self._given, *self._arguments(start))
            self._plan.check(made)
            self.passes += self._plan.spent(made)[: self._num - start].tolist()
            yield np.asarray(made.x)[: self._num - start]
