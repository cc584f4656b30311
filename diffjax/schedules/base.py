"""What a noise schedule is."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Float

Times = Float[Array, "*b"]
LogSNR = Float[Array, "*b"]


class Schedule(abc.ABC):
    """A decreasing, differentiable function t -> l with its inverse; equal settings are equal."""

    @abc.abstractmethod
    def __call__(self, t: Times) -> LogSNR:
        """Log-SNR at time t in [0, 1]."""

    @abc.abstractmethod
    def inverse(self, l: LogSNR) -> Times:
        """Time at log-SNR l; `inverse(self(t)) == t` on (0, 1)."""

    @property
    def steps(self) -> int:
        """Steps of the discrete process that [0, 1] stands for; 1000 where there is none."""
        return 1000

    @property
    def first(self) -> float:
        """Time of the lowest noise level that the process was trained at: 1 / T for a table of T
        levels, 0 otherwise."""
        return 0.0

    def init(self) -> dict[str, Any]:
        """Parameters that are trained with the network; most schedules have none."""
        return {}

    def bind(self, params: Mapping[str, Any]) -> Schedule:
        """The schedule that has these parameters; itself where it has none."""
        return self

    def variance(
        self, t: Times, loss: Float[Array, " b"], factor: Float[Array, " b"]
    ) -> Float[Array, ""]:
        """A term of value 0 that trains a schedule for a small variance of `loss` over uniform t.

        factor: 1 / density of t where it was drawn otherwise.
        """
        return (0 * loss).sum()


@dataclass(frozen=True)
class Derived(Schedule):
    """A schedule made of another one, whose steps it has."""

    schedule: Schedule

    def __post_init__(self):
        if self.schedule.init():
            raise ValueError(f"{self}: a learned schedule cannot be a part of another one")

    @property
    def steps(self) -> int:
        return self.schedule.steps

    @property
    def first(self) -> float:
        return self.schedule.first
