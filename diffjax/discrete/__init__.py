"""Discrete diffusion: data of a few levels or letters, whose tokens are lost and drawn again.

`PROCESSES` is the catalogue of what a lost token becomes. The samplers are in
`diffjax.samplers.tokens`, the loss in `diffjax.objectives.tokens`.
"""

from diffjax.arrays import catalogue
from diffjax.discrete.network import of_tokens, tokens, values
from diffjax.discrete.processes import Masked, Process, Uniform, draw

PROCESSES = catalogue(Masked, Uniform)

__all__ = ["PROCESSES", "Masked", "Process", "Uniform", "draw", "of_tokens", "tokens", "values"]
