"""Networks with a time per position: equal times change nothing, and others are refused by name."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like
from test_second_time import SMALL

from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.nets import NETWORKS, dit, mlp
from diffjax.nets.adapted import adapted
from diffjax.nets.adapters import LoRA
from diffjax.nets.conditions import Label, To, Tokens
from diffjax.parameterization import V
from diffjax.schedules import Cosine
from diffjax.sde import VP, Flow

TINY = {"width": 12, "depth": 2, "heads": 1}
FORMS = {
    "sequence": ({"patch": 2, "positions": "learned", "side": 3}, (6, 1), 2),
    "video": ({"patch_time": 2, "modulation": "shared", "positions": "rotary"}, (4, 4, 4, 1), 2),
    "image": ({"single": 1, "depth": 3}, (4, 4, 1), 2),
}


@functools.cache
def made(form):
    """Return a transformer with a label, its random parameters, its inputs and compiled apply."""
    settings, shape, _ = FORMS[form]
    network = dit(**{**TINY, **settings}, conditions=(Label(2),))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *shape)), jnp.float32)
    cond = {"label": jnp.array([1, -1])}
    params = random_like(jax.eval_shape(network.init, jax.random.key(0), x, jnp.ones(2), cond))
    return network, params, x, jax.jit(lambda c, params: network.apply(params, x, c, cond))


@pytest.mark.parametrize("form", FORMS)
def test_equal_times_of_all_positions_are_one_time(form):
    """A network trained with lanes would sample whole items worse, or with other parameters."""
    network, params, x, apply = made(form)
    assert network.lane(x.shape[1:]) == FORMS[form][2]
    one = jnp.array([3.0, 700.0])
    each = jnp.repeat(one[:, None], x.shape[1], 1)
    chex.assert_trees_all_close(apply(each, params), apply(one, params), rtol=1e-5, atol=1e-5)


def test_each_token_is_modulated_by_its_own_time():
    """The network could not tell known frames from noise."""
    _, params, _, apply = made("sequence")
    times = jnp.tile(jnp.array([5.0, 5.0, 300.0, 300.0, 900.0, 900.0]), (2, 1))
    other = times.at[:, 4:].set(100.0)
    # Without blocks only the last layer is modulated; their attention carries times to all tokens.
    still = {**params, "blocks": jax.tree.map(jnp.zeros_like, params["blocks"])}
    moved = np.abs(apply(times, still) - apply(other, still)).max((0, 2))
    assert moved[:4].max() == 0 and moved[4:].min() > 1e-4
    moved = np.abs(apply(times, params) - apply(other, params)).max((0, 2))
    assert moved.min() > 1e-4


def test_a_perceptron_takes_the_time_of_each_position_where_it_is_asked_to():
    """A plan between a known start and a known goal could not be sampled by lanes."""
    network = mlp(width=12, depth=1, lanes=True, conditions=(Label(2),))
    assert [network.lane(shape) for shape in ((6, 2), (6,))] == [1, 0]
    assert mlp(width=12, depth=1).lane((6, 2)) == 0
    assert mlp(width=12, depth=1, lanes=True, conditions=(To(),)).lane((6, 2)) == 0
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 2)), jnp.float32)
    cond, one = {"label": jnp.array([1, -1])}, jnp.array([0.3, 0.7])
    params = random_like(jax.eval_shape(network.init, jax.random.key(0), x, one, cond))
    apply = jax.jit(lambda c: network.apply(params, x, c, cond))
    each = jnp.repeat(one[:, None], 6, 1)
    chex.assert_trees_all_close(apply(each), apply(one), rtol=1e-5, atol=1e-5)
    times = [each.at[:, k].add(0.1) for k in (0, 5)]
    assert np.abs(apply(times[0]) - apply(times[1])).min() > 1e-6  # of equal mean


def test_an_adapted_network_keeps_its_lanes():
    """An adapter of a network of series would be refused forecasts."""
    network, *_ = made("sequence")
    assert adapted(network, LoRA(where="qkv", rank=1)).lane((6, 1)) == 2


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_without_lanes_refuse_times_of_positions_by_name(name):
    """Times (B, L) would be flattened into features of a batch of another size."""
    settings, shape = SMALL[name]
    network = NETWORKS[name](**settings)
    if name == "dit":
        network = dit(**TINY, conditions=(To(),))
    model = Model(VP(Cosine(), t_max=0.99), V(), network)
    x = jnp.zeros((2, *shape))
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    says = f"Network\\({type(network.init.module).__name__}\\) takes one time per sample, \\(2,\\)"
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(lambda p: Denoiser(model, p)(x, jnp.ones((2, shape[0]))), params)


def test_joint_tokens_have_no_lanes():
    """Tokens of a text have no place in time, so their modulation would be another network's."""
    assert dit(**TINY, conditions=(Tokens(5),)).lane((6, 1)) == 0
    assert dit(**TINY, conditions=(Tokens(5, mechanism="cross"),)).lane((6, 1)) == 2


def test_views_and_frames_follow_the_time_of_each_position():
    """x0 and eps would belong to the noise level of another position."""
    network, params, x, _ = made("sequence")
    model = Model(VP(Cosine(), t_max=0.99), V(), network)
    denoise = Denoiser(model, {"network": params})
    times = jnp.tile(jnp.array([0.1, 0.1, 0.5, 0.5, 0.9, 0.9]), (2, 1))
    cond = {"label": jnp.array([1, -1])}
    flow = reframe(denoise, Flow(Cosine(), t_max=0.98))
    there = jax.jit(lambda x, t: flow(x, t, cond))(x, times)
    alpha, sigma = (f(times)[..., None] for f in (flow.sde.alpha, flow.sde.sigma))
    np.testing.assert_allclose(alpha * there.x0 + sigma * there.eps, x, rtol=1e-4, atol=1e-4)
    scale = (denoise.sde.alpha(times) / flow.sde.alpha(times))[..., None]
    here = jax.jit(lambda x, t: denoise(x, t, cond))(scale * x, times)
    chex.assert_trees_all_close(there.x0, here.x0, rtol=1e-4, atol=1e-4)
