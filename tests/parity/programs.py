"""Compiled networks that all cases of a module with equal networks share."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax

from diffjax.denoiser import Denoiser
from diffjax.nets import Network


@functools.cache
def compiled(network: Network) -> Callable[..., Any]:
    """Return the compiled network, which networks equal in all but parameters share."""
    return jax.jit(network.apply)


def quick(denoise: Denoiser) -> Denoiser:
    """Return the same denoiser with its network compiled, but not the few formulas around it."""
    network = dataclasses.replace(denoise.model.network, apply=compiled(denoise.model.network))
    return dataclasses.replace(denoise, model=dataclasses.replace(denoise.model, network=network))
