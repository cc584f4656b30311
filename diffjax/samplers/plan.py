"""How samples are made, whatever the network: a table with its guidance, or adaptive steps."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from diffjax.arrays import Cond
from diffjax.guidance import Guidance
from diffjax.prediction import Denoise, Sample
from diffjax.samplers.run import Result, check, run
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
