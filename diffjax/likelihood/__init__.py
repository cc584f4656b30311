"""How probable data are: the variational bound, and the density by the probability-flow ODE."""

from diffjax.likelihood.bound import (
    EDGES,
    Bound,
    at_level,
    decoder_nll,
    diffusion_term,
    end_nll,
    prior_kl,
    step_log_var,
    step_nll,
    vlb,
    vlb_map,
)
from diffjax.likelihood.dequantize import DEQUANTIZERS
from diffjax.likelihood.ode import Density, Ode, decode, encode, log_weights, logp
from diffjax.likelihood.traces import TRACES

__all__ = [
    "DEQUANTIZERS",
    "EDGES",
    "TRACES",
    "Bound",
    "Density",
    "Ode",
    "at_level",
    "decode",
    "decoder_nll",
    "diffusion_term",
    "encode",
    "end_nll",
    "log_weights",
    "logp",
    "prior_kl",
    "step_log_var",
    "step_nll",
    "vlb",
    "vlb_map",
]
