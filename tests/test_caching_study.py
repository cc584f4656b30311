"""What the study of caching compares: reused blocks, and reused outputs, which are fewer rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import grids, samplers, schedules, sde
from diffjax.denoiser import Denoiser, Model
from diffjax.guidance import Guided, Query
from diffjax.nets import dit
from diffjax.nets.conditions import Label, Tokens
from diffjax.parameterization import Velocity
from experiments.caching.study import Blocks, cost, rows_for

FLOW = sde.Flow(schedules.Logit(), t_min=1e-3)
VP = sde.VP(schedules.Cosine(), t_max=0.995)


@pytest.mark.parametrize("process", [FLOW, VP], ids=["flow", "vp"])
@pytest.mark.parametrize("every", [2, 3])
def test_ddim_with_reused_outputs_is_ddim_with_fewer_rows(process, every):
    """The study would compare a cache of outputs with samplers as if it were something new."""
    n = 4
    times = grids.uniform(process, n * every)
    many, few = (samplers.unroll(samplers.ddim(process, each)) for each in (times, times[::every]))
    reused = lambda a: a[..., 1 : 1 + n * every].reshape(*a.shape[:-1], n, every).sum(-1)
    inputs, result = many.inputs[::every], many.result
    np.testing.assert_allclose(result[0], few.result[0], atol=1e-12)
    np.testing.assert_allclose(reused(result), few.result[1 : 1 + n], atol=1e-12)
    np.testing.assert_allclose(inputs[:, 0], few.inputs[:, 0], atol=1e-12)
    np.testing.assert_allclose(reused(inputs), few.inputs[:, 1 : 1 + n], atol=1e-12)


def test_blocks_that_run_in_every_row_are_the_network():
    """The study would measure another network, or mix the samples of the two passes."""
    network = dit(width=8, depth=3, heads=2, conditions=(Label(3), Tokens(4, mechanism="cross")))
    x, t = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32), 0.5
    times, words = jnp.full(2, t), jnp.ones((2, 3, 4))
    cond = {"label": jnp.array([0, 2]), "tokens": words}
    key = jax.random.key(0, impl="unsafe_rbg")
    shapes, rng = jax.eval_shape(network.init, key, x, times, cond), np.random.default_rng(1)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    params = jax.tree.map(draw, shapes)
    denoise = Denoiser(Model(FLOW, Velocity(), network), {"network": params})
    plain = Guided().steady()
    blocks = Blocks(plain, network.apply.module, kept=1, tokens=4)

    def rows(x):
        """Return plain and cached predictions at x and, with what was kept there, at 2 x."""
        ask = lambda guidance, x, memory: guidance(Query(denoise, x, times, cond), 2.0, memory)
        first, memory = ask(blocks, x, blocks.init(x))
        second, _ = ask(blocks, 2 * x, memory)
        again, _ = ask(blocks, x, memory)
        wanted = [ask(plain, a, plain.init(x))[0].x0 for a in (x, 2 * x)]
        return wanted, (first.x0, second.x0, again.x0)

    (one, two), (first, second, again) = jax.jit(rows)(x)
    np.testing.assert_allclose(first, one, atol=1e-5)
    np.testing.assert_allclose(again, one, atol=1e-5)  # what was kept, where it was kept
    assert np.abs(second - two).max() > 1e-3


def test_costs_count_the_blocks_that_run():
    """Methods of unequal cost would be compared."""
    assert cost(3, 6, 8) == 6 and cost(2, 6, 9) == pytest.approx(5 + 4 / 3)
    assert rows_for(6, lambda n: cost(3, 6, n)) == 8
