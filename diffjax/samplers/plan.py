"""Plans of sampling, independent of the network: a table with its guidance, or adaptive steps."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from diffjax.arrays import Cond, pytree
from diffjax.guidance import Guidance, ramps
from diffjax.prediction import Denoise, Sample
from diffjax.samplers.run import Registers, Result, advance, begin, check, scan
from diffjax.samplers.table import Table
from diffjax.sde import SDE


class Sampling(abc.ABC):
    """A plan of sampling: a table, adaptive steps, or draws of tokens.

    These are `Plan`, with its guidance, `Adaptive`, and `Tokens`. A plan is a pytree and therefore
    a traced argument: other numbers of the same shapes do not cause recompilation. It holds the
    process and the guidance, not the network, which `run` receives. To use it, draw `initial`
    states at t = `start`, `run`, `check` the result, and read the NFE from `spent`, as
    `generation.Generation` does batch by batch.
    """

    @property
    @abc.abstractmethod
    def start(self) -> Any:
        """The time of the initial state, (), or that of each position in a table of lanes, (L,)."""

    @property
    @abc.abstractmethod
    def rows(self) -> int | None:
        """The number of rows of the table; None for adaptive steps."""

    tableless: ClassVar[str] = ""
    """Why the plan has no table, in a few words; "" for a plan that has one."""

    @property
    @abc.abstractmethod
    def passes(self) -> int | None:
        """The NFE per sample; None where samples differ."""

    @property
    @abc.abstractmethod
    def noisy(self) -> bool:
        """Whether the sampler is stochastic."""

    @abc.abstractmethod
    def weighted(self, weight: np.ndarray) -> Sampling:
        """Return the plan for samples with these guidance weights (B,).

        Raises ValueError for weights that are not finite, and for a plan without guidance.
        """

    @abc.abstractmethod
    def settled(self) -> Sampling:
        """Return the plan without branches that its own weights never take; its weights are known.

        Samples are equal up to rounding.
        """

    @abc.abstractmethod
    def run(
        self, denoise: Denoise, x: Sample, keys: Any, cond: Cond | None, *, path: bool = False
    ) -> Result:
        """Sample from the states x (B, ...) at t = `start`.

        keys, cond: (B, ...), one per sample. path: whether the result holds the intermediate
        states; raises ValueError for adaptive steps, which have no common times.
        """

    @abc.abstractmethod
    def suits(self, sde: SDE) -> None:
        """Raise ValueError where the plan was made for another process than `sde`."""

    @abc.abstractmethod
    def check(self, result: Result) -> None:
        """Raise FloatingPointError where sampling failed."""

    @abc.abstractmethod
    def spent(self, result: Result) -> np.ndarray:
        """Return the NFE of each sample, (B,), as if it were sampled alone."""


@pytree
@dataclass(frozen=True)
class Plan(Sampling):
    """A table of R rows, which holds the guidance weights, with its guidance.

    ramp: a number or (R,); a sample of weight w has the weight 1 + (w - 1) ramp in each row.
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
        """The NFE per sample, with all passes of a guided row; None where samples differ."""
        passes = set(self.passes_of_each.tolist())
        return passes.pop() if len(passes) == 1 else None

    @property
    def passes_of_each(self) -> np.ndarray:
        """The NFE of each sample where samples have their own weights, (B,), otherwise (1,)."""
        weights = np.asarray(self.table.weight)[np.asarray(self.table.active)]
        return np.array([self.guidance.passes(w) for w in weights.reshape(len(weights), -1).T])

    @property
    def noisy(self) -> bool:
        return bool(self.table.noisy.any())

    def weighted(self, weight: np.ndarray) -> Plan:
        """Return the plan whose table has the weights (R, B) for samples with weights (B,)."""
        weight = checked(weight, self.guidance)
        ramp = np.broadcast_to(np.asarray(self.ramp), self.rows)[:, None]
        return replace(self, table=replace(self.table, weight=ramps.weights(weight, ramp)))

    def settled(self) -> Plan:
        """Return the plan whose guidance has no branch for rows of weight 1, if there are none.

        One network is compiled in place of two. Without a branch around the network, XLA also moves
        what depends on the text alone, such as its keys and values, out of the loop.
        """
        weights = np.asarray(self.table.weight)[np.asarray(self.table.active)]
        return self if (weights == 1).any() else replace(self, guidance=self.guidance.steady())

    def run(
        self, denoise: Denoise, x: Sample, keys: Any, cond: Cond | None, *, path: bool = False
    ) -> Result:
        return scan(denoise, self.table, x, keys, cond=cond, guidance=self.guidance, path=path)

    def begin(self, x: Sample) -> Registers:
        """Return the registers before the first row, for states x (B, ...)."""
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
        """Run rows first, ..., stop - 1; return the registers and the last row's predicted x0."""
        rows = {"first": first, "stop": stop, "cond": cond, "guidance": self.guidance}
        return advance(denoise, self.table, registers, keys, **rows)

    def suits(self, sde: SDE) -> None:
        told = np.asarray(self.table.t)[np.asarray(self.table.active)]
        self.table.origin.check(sde, told.ravel())

    def check(self, result: Result) -> None:
        check(result.bad, self.table)

    def spent(self, result: Result) -> np.ndarray:
        return np.broadcast_to(self.passes_of_each, len(result.x))


def checked(weight: np.ndarray, guidance: Guidance) -> np.ndarray:
    """Return guidance weights (B,) in float64.

    Raises ValueError where they are not finite, and where the guidance uses no weight.
    """
    weight = np.asarray(weight, np.float64)
    if weight.ndim != 1 or not np.isfinite(weight).all():
        raise ValueError(f"weight={weight}: needs a finite number for each sample, (B,)")
    if not guidance.weighs:
        raise ValueError(
            f"weight={weight}: {guidance} uses no weight; allowed: a plan with guidance, such as "
            f"builder.plan(..., per_sample=True)"
        )
    return weight
