"""How good samples are: metrics from features that are passed in."""

from diffjax.evaluation.classifier import Agreement, Judge, fit
from diffjax.evaluation.metrics import (
    Frechet,
    Memorization,
    frechet,
    frechet_with_floor,
    memorization,
    nearest,
)

__all__ = [
    "Agreement",
    "Frechet",
    "Judge",
    "Memorization",
    "fit",
    "frechet",
    "frechet_with_floor",
    "memorization",
    "nearest",
]
