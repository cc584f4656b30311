"""Jobs that make samples k = 0, 1, ...: one compiled program, batch after batch, kept in files."""

from diffjax.generation.cells import Cell, Made
from diffjax.generation.program import Generation, generate

__all__ = ["Cell", "Generation", "Made", "generate"]
