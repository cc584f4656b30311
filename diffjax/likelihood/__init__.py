"""Likelihoods: the variational bound, and the density by the probability-flow ODE."""

from typing import TYPE_CHECKING, Any

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
from diffjax.likelihood.traces import TRACES

if TYPE_CHECKING:
    from diffjax.likelihood.ode import Density, Ode, decode, encode, log_weights, logp

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


def __getattr__(name: str) -> Any:
    """Load the density on first use: training does without it, and diffrax takes half a second."""
    if name in ("Density", "Ode", "decode", "encode", "log_weights", "logp"):
        from diffjax.likelihood import ode

        return getattr(ode, name)
    raise AttributeError(f"module 'diffjax.likelihood' has no attribute {name!r}")
