"""Untrained networks with random parameters: a fresh one returns 0 or ignores its conditions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.runs.trained import Trained


def redrawn(experiment: Any) -> Trained:
    """Return the network of an experiment with parameters from N(0, 0.3^2)."""
    rng = np.random.default_rng(0)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    params = jax.tree.map(draw, jax.eval_shape(experiment.parameters))
    return Trained(experiment.denoiser(params), experiment)
