"""Jobs that generate samples k = 0, 1, ... batch by batch with one program, and store them.

>>> number(0), number([3, 5, 8]), number(0, weight=[1.0, 2.0])
(64, 3, 2)
"""

from diffjax.generation.cascade import Cascade
from diffjax.generation.chain import Chain
from diffjax.generation.engine import Engine
from diffjax.generation.generated import Generated
from diffjax.generation.job import Job, number
from diffjax.generation.low import Low
from diffjax.generation.program import Generation, generate
from diffjax.generation.tiled import Tiled

__all__ = [
    "Cascade",
    "Chain",
    "Engine",
    "Generated",
    "Generation",
    "Job",
    "Low",
    "Tiled",
    "generate",
    "number",
]
