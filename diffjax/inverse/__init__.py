"""Inverse problems and editing: samples of x0 given a measurement y = A x0 + std n, or a reward.

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
from diffjax.inverse.editing import Inverted, interpolate, invert, noises, slerp
from diffjax.inverse.exact import correlated_posterior, mixture_posterior
from diffjax.inverse.fidelity import psnr, ssim
from diffjax.inverse.inpainting import inpainting
from diffjax.inverse.measurement import Measurement, measured
from diffjax.inverse.methods import METHODS, Method, Particles
from diffjax.inverse.operators import (
    OPERATORS,
    BlockAverage,
    Blur,
    Channels,
    Decoded,
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
from diffjax.inverse.particles import Steered, particle_keys, steer, swarm
from diffjax.inverse.posterior import Posterior
from diffjax.inverse.potentials import Observation, Potential, Reward, Tilted
from diffjax.inverse.proposals import AsGuided, Plain, Proposal, Step, Twisted
from diffjax.inverse.replacement import Replacement
from diffjax.inverse.weighting import POTENTIAL_RULES

__all__ = [
    "COVARIANCES",
    "DDRM",
    "METHODS",
    "OPERATORS",
    "POTENTIAL_RULES",
    "AsGuided",
    "BlockAverage",
    "Blur",
    "Channels",
    "Covariance",
    "Decoded",
    "Drawn",
    "Flat",
    "Function",
    "Hadamard",
    "Infinite",
    "Inverted",
    "Joint",
    "Jpeg",
    "Mask",
    "Matrix",
    "Measurement",
    "Method",
    "Observation",
    "Operator",
    "Particles",
    "Phase",
    "Plain",
    "Posterior",
    "Potential",
    "Prior",
    "Proposal",
    "Replacement",
    "Reward",
    "Rows",
    "Scale",
    "Separable",
    "Spectral",
    "Steered",
    "Step",
    "Tilted",
    "Tweedie",
    "Twisted",
    "Unit",
    "Zero",
    "adjoint",
    "correlated_posterior",
    "inpainting",
    "interpolate",
    "invert",
    "measured",
    "mixture_posterior",
    "noises",
    "particle_keys",
    "psnr",
    "slerp",
    "ssim",
    "steer",
    "swarm",
]
