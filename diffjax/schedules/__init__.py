"""Noise schedules: decreasing functions t -> l, the log-SNR log(alpha^2 / sigma^2), on [0, 1].

A schedule defines how much noise there is at time t, not how signal and noise are scaled, which is
the part of the frame (`sde.py`). l may be infinite at the ends; a process for which that is
impossible raises ValueError.
"""

from diffjax.arrays import catalogue
from diffjax.schedules.base import LogSNR, Schedule, Times
from diffjax.schedules.betas import Exponential, Linear, Quadratic, ScaledLinear
from diffjax.schedules.closed import (
    Cosine,
    Edm,
    Geometric,
    Karras,
    Laplace,
    Logit,
    Polynomial,
    Sigmoid,
)
from diffjax.schedules.combinators import Clamped, ClassicSubVP, Shifted, Truncated, ZeroTerminal
from diffjax.schedules.discrete import (
    Discrete,
    ddpm_cosine,
    ddpm_linear,
    ddpm_scaled_linear,
    from_betas,
)
from diffjax.schedules.learned import Learned

SCHEDULES = catalogue(
    Linear,
    ScaledLinear,
    Quadratic,
    Exponential,
    Cosine,
    Sigmoid,
    Polynomial,
    Laplace,
    Logit,
    Geometric,
    Karras,
    Edm,
    ddpm_linear,
    ddpm_scaled_linear,
    ddpm_cosine,
    Learned,
)
DERIVED = catalogue(Discrete, Shifted, Truncated, Clamped, ZeroTerminal, ClassicSubVP)
"""Schedules that are derived from another schedule, or from a table of betas."""

__all__ = [
    "DERIVED",
    "SCHEDULES",
    "Clamped",
    "ClassicSubVP",
    "Cosine",
    "Discrete",
    "Edm",
    "Exponential",
    "Geometric",
    "Karras",
    "Laplace",
    "Learned",
    "Linear",
    "LogSNR",
    "Logit",
    "Polynomial",
    "Quadratic",
    "ScaledLinear",
    "Schedule",
    "Shifted",
    "Sigmoid",
    "Times",
    "Truncated",
    "ZeroTerminal",
    "ddpm_cosine",
    "ddpm_linear",
    "ddpm_scaled_linear",
    "from_betas",
]
