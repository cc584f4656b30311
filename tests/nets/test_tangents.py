"""Forward derivatives of whole networks, which losses of flow maps take along the ODE."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_networks import SMALL, every, inputs, made

pytestmark = pytest.mark.thorough


@every
def test_tangents_are_central_differences(name, x64):
    """MeanFlow and consistency losses would regress on a wrong total derivative.

    One layer with a wrong forward-mode rule suffices, even if gradients and values are right.
    """
    network, fresh, _ = made(name)
    apply = dataclasses.replace(network.apply, dtype="float64")
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape)), fresh.shapes)
    x, c_noise, cond = inputs(SMALL[name][1])
    x, c_noise = x.astype(jnp.float64), jnp.linspace(1.0, 9.0, len(x))
    run = jax.jit(lambda x, c_noise: apply(params, x, c_noise, cond))
    change, faster = jnp.asarray(rng.normal(size=x.shape)), jnp.linspace(1.0, 2.0, len(x))
    # Features of c_noise, and some norms, are in float32: smaller steps would show its rounding.
    h = 2e-3
    for along in ((change, 0 * faster), (0 * change, faster), (change, faster)):
        _, tangent = jax.jvp(run, (x, c_noise), along)
        ahead, behind = (run(x + k * along[0], c_noise + k * along[1]) for k in (h, -h))
        size = np.abs(tangent).max()
        np.testing.assert_allclose(tangent, (ahead - behind) / (2 * h), rtol=0, atol=5e-3 * size)
        assert size > 1e-3
