"""The definition of a table in NumPy, row by row, as a reference for the compiled loop."""

import jax.numpy as jnp
import numpy as np

from diffjax.prediction import Prediction
from diffjax.samplers.table import NOISES, OUTPUTS
from diffjax.sde import levels


def simulate(table, at, denoise, x, noise, exact=()):
    """Return the input of the network at each row, and the result: the definition of a table.

    at: levels of its rows. denoise: (x, alpha, sigma) -> (x0, log_var). exact: states in place of
    those after the first rows.
    """
    inputs = []
    outputs, noises = np.zeros((OUTPUTS + 1, *x.shape)), np.zeros((NOISES + 1, *x.shape))
    for i, z in enumerate(noise[: len(table)]):
        u = table.input[i] @ np.stack([x, *outputs[:-1], z, *noises[:-1]])
        clean, log_var = denoise(u, at.alpha[i], at.sigma[i])
        eps = (u - at.alpha[i] * clean) / at.sigma[i]
        y = table.read(Prediction(clean, clean, eps))
        z = z * np.exp(table.spread[i] * log_var)
        x = table.update[i] @ np.stack([x, y, *outputs[:-1], z, *noises[:-1]])
        x = exact[i] if i < len(exact) else x
        outputs[table.keep[i]], noises[table.keep_noise[i]] = y, z
        inputs.append(u)
    return np.array([*inputs, x])


def sampled(denoise, table, begin, cond):
    """Run a table without noise from the images `begin`, with a compiled network and NumPy."""
    assert not table.noisy.any()
    shape, times = begin.shape, iter(table.t)

    def ask(u, alpha, sigma):
        t = jnp.full(len(begin), next(times), jnp.float32)
        seen = denoise(jnp.asarray(u.reshape(shape), jnp.float32), t, cond)
        return np.asarray(seen.x0, np.float64).ravel(), np.zeros(u.size)

    x = np.asarray(begin, np.float64).ravel()
    states = simulate(table, levels(denoise.sde, table.t), ask, x, np.zeros((len(table), x.size)))
    return states[-1].reshape(shape)
