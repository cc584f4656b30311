"""The sampler of flow maps: exact distributions on Gaussian data in any number of steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic
from diffjax.samplers import ddim, flow_map, moments, run, unroll
from diffjax.schedules import Linear
from diffjax.sde import SDES

MEAN, VAR = 0.7, 0.3
frames = pytest.mark.parametrize("sde", [make(Linear()) for make in SDES.values()], ids=SDES)


@frames
@pytest.mark.parametrize("gamma", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_exact_map_has_the_law_of_the_data_in_any_number_of_steps(sde, gamma, steps):
    """A wrong `to` or a wrong noise would give a wrong variance, in one step or several."""
    times = np.linspace(sde.t_max, 0.0, steps + 1)
    alpha, sigma = float(sde.alpha(sde.t_max)), float(sde.sigma(sde.t_max))
    start = alpha * MEAN, alpha**2 * VAR + sigma**2
    table = flow_map(sde, times, gamma=gamma)
    assert table.leads
    np.testing.assert_allclose(moments(table, sde, MEAN, VAR, start), (MEAN, VAR), rtol=1e-5)


@frames
def test_its_rows_are_those_of_ddim(sde):
    """Without `gamma` coefficients would differ from DDIM's: only the second time is new."""
    times = np.linspace(sde.t_max, 0.0, 6)
    for a, b in zip(unroll(flow_map(sde, times)), unroll(ddim(sde, times)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.thorough
def test_it_runs_in_the_compiled_loop(x64):
    """The loop would drop `to`: five rows of a mixture's map end where one row ends."""
    sde = SDES["flow"](Linear())
    mixture = analytic.Mixture(*map(jnp.asarray, ([0.3, 0.7], [[-1.0], [0.8]], [[0.04], [0.09]])))
    x = jnp.linspace(-2, 2, 16)[:, None] * sde.sigma(jnp.asarray(sde.t_max))
    keys = jax.random.split(jax.random.key(0), 16)
    ends = [
        run(mixture.flow_map(sde), flow_map(sde, np.linspace(sde.t_max, 0, n + 1)), x, keys).x
        for n in (1, 5)
    ]
    np.testing.assert_allclose(*ends, atol=1e-6)


def test_gamma_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"gamma=1.5"):
        flow_map(SDES["vp"](Linear()), np.array([0.9, 0.1]), gamma=1.5)
