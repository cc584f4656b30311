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
from diffjax.inverse.daps import Drawn
from diffjax.inverse.ddrm import DDRM
from diffjax.inverse.denoising import Joint
from diffjax.inverse.exact import correlated_posterior, mixture_posterior
from diffjax.inverse.fidelity import psnr, ssim
from diffjax.inverse.measurement import Measurement, measured
from diffjax.inverse.methods import METHODS, Method, Particles
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
from diffjax.inverse.replacement import Replacement

__all__ = [
    "COVARIANCES",
    "DDRM",
    "METHODS",
    "OPERATORS",
    "BlockAverage",
    "Blur",
    "Channels",
    "Covariance",
    "Drawn",
    "Flat",
    "Function",
    "Hadamard",
    "Infinite",
    "Joint",
    "Jpeg",
    "Mask",
    "Matrix",
    "Measurement",
    "Method",
    "Operator",
    "Particles",
    "Phase",
    "Posterior",
    "Prior",
    "Replacement",
    "Rows",
    "Scale",
    "Separable",
    "Spectral",
    "Tweedie",
    "Unit",
    "Zero",
    "adjoint",
    "correlated_posterior",
    "measured",
    "mixture_posterior",
    "psnr",
    "ssim",
]
