"""Jobs that make samples k = 0, 1, ...: one compiled program, batch after batch, kept in files."""

from diffjax.generation.generated import Generated
from diffjax.generation.job import Job, number
from diffjax.generation.program import Generation, generate

__all__ = ["Generated", "Generation", "Job", "generate", "number"]
