"""Measurement operators: functions `(shape, **settings) -> Operator`, one file per family.

shape is that of one item, (H, W, C) for images. Each function checks its settings against the
shape, and returns a small frozen pytree that maps x0 (B, ...) to y. `Scale`, `Mask`, `Blur`,
`Matrix` and `Function` may also be constructed directly, with arrays of your own.
"""

from diffjax.arrays import catalogue
from diffjax.inverse.operators.averages import BlockAverage, Separable, average, bicubic
from diffjax.inverse.operators.base import Operator, Spectral, adjoint
from diffjax.inverse.operators.blurs import Blur, gaussian_blur, motion_blur
from diffjax.inverse.operators.decoded import Decoded
from diffjax.inverse.operators.masks import Mask, box, half, pixels
from diffjax.inverse.operators.nonlinear import Function, Jpeg, Phase, jpeg, phase
from diffjax.inverse.operators.projections import Hadamard, Matrix, hadamard, projections
from diffjax.inverse.operators.simple import Channels, Scale, grey, identity

OPERATORS = catalogue(
    identity,
    box,
    half,
    pixels,
    grey,
    average,
    bicubic,
    gaussian_blur,
    motion_blur,
    hadamard,
    projections,
    phase,
    jpeg,
)

__all__ = [
    "OPERATORS",
    "BlockAverage",
    "Blur",
    "Channels",
    "Decoded",
    "Function",
    "Hadamard",
    "Jpeg",
    "Mask",
    "Matrix",
    "Operator",
    "Phase",
    "Scale",
    "Separable",
    "Spectral",
    "adjoint",
]
