"""Export of trained networks to programs that run without diffjax."""

from diffjax.export.describing import described
from diffjax.export.programs import Program, program
from diffjax.export.quantization import quantized

__all__ = ["Program", "described", "program", "quantized"]
