"""Inverse problems: samples of x0 given a measurement y = A x0 + std n, with any denoiser.

Two choices combine freely: the operator A (`OPERATORS`) and the covariance of x0 given x_t
(`COVARIANCES`), in which the published methods differ. `Posterior(measurement, covariance)` is a
guidance, so every sampler, process and parameterization works with it.

`steer` samples under any potential, such as a measurement or a reward, with weighted particles.
`invert`, `noises`, `interpolate` and `inpainting` edit images.
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
from diffjax.inverse.editing import interpolate, invert, noises, slerp
from diffjax.inverse.exact import correlated_posterior, mixture_posterior
from diffjax.inverse.inpainting import Inpainted, inpainting
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
from diffjax.inverse.particles import Steered, particle_keys, steer, swarm
from diffjax.inverse.posterior import Posterior
from diffjax.inverse.potentials import Observation, Potential, Reward, Tilted
from diffjax.inverse.proposals import AsGuided, Plain, Proposal, Step, Twisted
from diffjax.inverse.replacement import Replacement
from diffjax.inverse.weighting import POTENTIAL_RULES

__all__ = [
    "COVARIANCES",
    "DDRM",
    "OPERATORS",
    "POTENTIAL_RULES",
    "AsGuided",
    "BlockAverage",
    "Blur",
    "Channels",
    "Covariance",
    "Drawn",
    "Flat",
    "Function",
    "Hadamard",
    "Infinite",
    "Inpainted",
    "Joint",
    "Jpeg",
    "Mask",
    "Matrix",
    "Measurement",
    "Observation",
    "Operator",
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
    "slerp",
    "steer",
    "swarm",
]
