"""How samples are made, whatever the network: a table with its guidance, or adaptive steps."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from diffjax.arrays import Cond
from diffjax.guidance import Guidance, ramps
from diffjax.prediction import Denoise, Sample
from diffjax.samplers.run import Registers, Result, advance, begin, check, scan
from diffjax.samplers.table import Table
from diffjax.sde import SDE


class Sampling(abc.ABC):
    """How to sample: `Plan`, a table with what guides it, or `Adaptive`, steps that errors decide.

    A pytree, so a traced argument: other numbers of the same shapes are not compiled again. It
    knows the process and the guidance, not the network; `run` gets that. To use one: draw `initial`
    states at t = `start`, `run`, `check` the result, and ask what it `spent`, as
    `generation.Generation` does batch by batch.
    """

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
    def weighted(self, weight: np.ndarray) -> Sampling:
        """For samples of these guidance weights (B,). Raises ValueError where nothing is guided."""

    @abc.abstractmethod
    def run(
        self, denoise: Denoise, x: Sample, keys: Any, cond: Cond | None, *, path: bool = False
    ) -> Result:
        """Samples from the states x (B, ...) at t = `start`; keys and cond (B, ...) of each.

        path: whether the result has the states on the way; ValueError where there is no common way.
        """

    @abc.abstractmethod
    def suits(self, sde: SDE) -> None:
        """Raise ValueError where this was planned for another process than `sde`."""

    @abc.abstractmethod
    def check(self, result: Result) -> None:
        """Raise FloatingPointError where sampling failed."""

    @abc.abstractmethod
    def spent(self, result: Result) -> np.ndarray:
        """Network passes that each sample needs, (B,), as if it were alone."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan(Sampling):
    """A table, with its guidance weights, and what they weigh.

    ramp: number or (R,), how the weight of a sample follows the rows: 1 + (weight - 1) ramp.
    """

    table: Table
    guidance: Guidance
    ramp: Any = field(default=1.0, repr=False)

    @property
    def start(self) -> Any:
        return self.table.t[0]

    @property
    def rows(self) -> int:
        return len(self.table)

    @property
    def passes(self) -> int | None:
        """Network passes per sample; a guided row counts its second one."""
        passes = set(self.passes_of_each.tolist())
        return passes.pop() if len(passes) == 1 else None

    @property
    def passes_of_each(self) -> np.ndarray:
        """Network passes of each sample that has a weight of its own, (B,), or of all, (1,)."""
        weights = np.asarray(self.table.weight)[np.asarray(self.table.active)]
        return np.array([self.guidance.passes(w) for w in weights.reshape(len(weights), -1).T])

    @property
    def noisy(self) -> bool:
        return bool(self.table.noisy.any())

    def weighted(self, weight: np.ndarray) -> Plan:
        """The plan whose table has the weights (R, B) of samples that have weights (B,)."""
        weight = checked(weight, self.guidance)
        ramp = np.broadcast_to(np.asarray(self.ramp), self.rows)[:, None]
        return replace(self, table=replace(self.table, weight=ramps.weights(weight, ramp)))

    def run(
        self, denoise: Denoise, x: Sample, keys: Any, cond: Cond | None, *, path: bool = False
    ) -> Result:
        return scan(denoise, self.table, x, keys, cond=cond, guidance=self.guidance, path=path)

    def begin(self, x: Sample) -> Registers:
        """The registers before the first row."""
        return begin(x, self.guidance)

    def advance(
        self,
        denoise: Denoise,
        registers: Registers,
        keys: Any,
        cond: Cond | None,
        *,
        first: Any,
        stop: Any,
    ) -> tuple[Registers, Sample]:
        """Rows first, ..., stop - 1, and the x0 that the last of them predicts."""
        rows = {"first": first, "stop": stop, "cond": cond, "guidance": self.guidance}
        return advance(denoise, self.table, registers, keys, **rows)

    def suits(self, sde: SDE) -> None:
        self.table.origin.check(sde, np.asarray(self.table.t)[np.asarray(self.table.active)])

    def check(self, result: Result) -> None:
        check(result.bad, self.table)

    def spent(self, result: Result) -> np.ndarray:
        return np.broadcast_to(self.passes_of_each, len(result.x))


def checked(weight: np.ndarray, guidance: Guidance) -> np.ndarray:
    """Guidance weights (B,) of samples; ValueError where they are not finite, or weigh nothing."""
    weight = np.asarray(weight, np.float64)
    if weight.ndim != 1 or not np.isfinite(weight).all():
        raise ValueError(f"weight={weight}: needs a finite number for each sample, (B,)")
    if not guidance.weighs:
        raise ValueError(
            f"weight={weight}: {guidance} guides nothing; allowed: a plan with guidance, as of "
            f"builder.plan(..., per_sample=True)"
        )
    return weight
