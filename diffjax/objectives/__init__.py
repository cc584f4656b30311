"""Objectives: what training minimises. The catalogues of their parts are here."""

from diffjax.objectives.denoising import ERRORS, PAIRINGS, Batch, Denoising

__all__ = ["ERRORS", "PAIRINGS", "Batch", "Denoising"]
