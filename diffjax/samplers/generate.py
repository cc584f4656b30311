"""Samples by number: sample k of a run depends on (seed, k) and its label only."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from diffjax.arrays import Cond, keys_at, stream
from diffjax.denoiser import Denoise
from diffjax.guidance import Guidance
from diffjax.samplers.run import Result, check, initial, run
from diffjax.samplers.table import Table


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan:
    """How to sample: a table, with its guidance weights, and what they weigh."""

    table: Table
    guidance: Guidance

    @property
    def rows(self) -> int:
        return len(self.table)

    @property
    def passes(self) -> int:
        """Network passes per sample; a guided row counts its second one."""
        weights = self.table.weight[self.table.active]
        return sum(self.guidance.passes(float(w)) for w in weights)


@functools.partial(jax.jit, static_argnames=("shape", "path"))
def generate(
    denoise: Denoise,
    plan: Plan,
    key: Key[Array, ""],
    index: Int[Array, " b"],
    cond: Cond,
    *,
    shape: tuple[int, ...],
    path: bool = False,
) -> Result:
    """Samples number `index` of the stream `key`, (B, *shape): prior and all rows, one program."""
    x, keys = initial(denoise.sde, keys_at(key, index), shape, plan.table.t[0])
    return run(denoise, plan.table, x, keys, cond=cond, guidance=plan.guidance, path=path)


class Generation:
    """Samples 0, ..., num - 1 of the run `seed`, in batches, by one program compiled beforehand.

    label: (num,) class of each sample, or None. Iterating yields float32 arrays (B, *shape).
    Raises FloatingPointError where the network's output is not finite.
    """

    def __init__(
        self,
        denoise: Denoise,
        plan: Plan,
        seed: int,
        num: int,
        shape: tuple[int, ...],
        label: np.ndarray | None = None,
        batch_size: int = 256,
    ):
        self._denoise, self._plan, self._key = denoise, plan, stream(seed, "sample")
        self._num, self._label, self._size = num, label, min(batch_size, num)
        began = time.monotonic()
        arguments = self._arguments(0)
        self._run = generate.lower(denoise, plan, self._key, *arguments, shape=shape).compile()
        self.compile_seconds = time.monotonic() - began

    def _arguments(self, start: int) -> tuple[Array, Cond]:
        """Sample numbers and conditions of a batch; the last one is filled up by repetition."""
        index = np.minimum(np.arange(start, start + self._size), self._num - 1)
        label = {} if self._label is None else {"label": jnp.asarray(self._label[index], jnp.int32)}
        return jnp.asarray(index), label

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, self._num, self._size):
            made = self._run(self._denoise, self._plan, self._key, *self._arguments(start))
            check(made.bad, self._plan.table)
            yield np.asarray(made.x)[: self._num - start]
