"""Objectives, the losses that training minimises: one file each, and an entry in `OBJECTIVES`."""

from diffjax.arrays import catalogue
from diffjax.objectives.autoencoding import Autoencoding
from diffjax.objectives.base import Batch, Context, Metrics, Objective, Part, State, Task
from diffjax.objectives.denoising import Denoising
from diffjax.objectives.errors import ERRORS
from diffjax.objectives.flow_map import MAP_RULES, FlowMap, FlowMapDistillation
from diffjax.objectives.forcing import Forcing
from diffjax.objectives.guidance_distillation import GuidanceDistillation
from diffjax.objectives.matching import DIVERGENCES, DistributionMatching
from diffjax.objectives.pairings import PAIRINGS
from diffjax.objectives.pairs import PAIRS
from diffjax.objectives.tokens import Discrete
from diffjax.objectives.velocities import VELOCITIES

__all__ = [
    "DIVERGENCES",
    "ERRORS",
    "MAP_RULES",
    "OBJECTIVES",
    "PAIRINGS",
    "PAIRS",
    "VELOCITIES",
    "Autoencoding",
    "Batch",
    "Context",
    "Denoising",
    "Discrete",
    "DistributionMatching",
    "FlowMap",
    "FlowMapDistillation",
    "Forcing",
    "GuidanceDistillation",
    "Metrics",
    "Objective",
    "Part",
    "State",
    "Task",
]
OBJECTIVES = catalogue(
    *(Denoising, FlowMap, FlowMapDistillation, DistributionMatching, GuidanceDistillation),
    *(Discrete, Forcing, Autoencoding),
)
