"""Jobs that generate samples k = 0, 1, ... batch by batch with one program, and store them."""

from diffjax.generation.generated import Generated
from diffjax.generation.job import Job, number
from diffjax.generation.program import Generation, generate

__all__ = ["Generated", "Generation", "Job", "generate", "number"]
