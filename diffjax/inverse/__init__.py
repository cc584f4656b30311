"""Inverse problems: samples of x0 given a measurement y = A x0 + std n, with any denoiser.

Two choices combine freely: the operator A (`OPERATORS`) and the covariance of x0 given x_t
(`COVARIANCES`), in which the published methods differ. `Posterior(measurement, covariance)` is a
guidance, so every sampler, process and parameterization works with it.
"""

from diffjax.inverse.covariances import (
    COVARIANCES,
    Covariance,
    Flat,
    Infinite,
    Prior,
    Rows,
    Tweedie,
    Unit,
    Zero,
)
from diffjax.inverse.measurement import Measurement, measured
from diffjax.inverse.operators import (
    OPERATORS,
    BlockAverage,
    Blur,
    Channels,
    Function,
    Hadamard,
    Jpeg,
    Mask,
    Matrix,
    Operator,
    Phase,
    Scale,
    Separable,
    Spectral,
    adjoint,
)
from diffjax.inverse.posterior import Posterior

__all__ = [
    "COVARIANCES",
    "OPERATORS",
    "BlockAverage",
    "Blur",
    "Channels",
    "Covariance",
    "Flat",
    "Function",
    "Hadamard",
    "Infinite",
    "Jpeg",
    "Mask",
    "Matrix",
    "Measurement",
    "Operator",
    "Phase",
    "Posterior",
    "Prior",
    "Rows",
    "Scale",
    "Separable",
    "Spectral",
    "Tweedie",
    "Unit",
    "Zero",
    "adjoint",
    "measured",
]
