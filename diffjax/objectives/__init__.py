"""Objectives: what training minimises. One file per objective, and a place in `OBJECTIVES`."""

from diffjax.arrays import catalogue
from diffjax.objectives.base import Batch, Context, Metrics, Objective, Part, State, Task
from diffjax.objectives.denoising import Denoising
from diffjax.objectives.errors import ERRORS
from diffjax.objectives.pairings import PAIRINGS

__all__ = [
    "ERRORS",
    "OBJECTIVES",
    "PAIRINGS",
    "Batch",
    "Context",
    "Denoising",
    "Metrics",
    "Objective",
    "Part",
    "State",
    "Task",
]
OBJECTIVES = catalogue(Denoising)
