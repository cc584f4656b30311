"""A second time `to`: missing or equal to t changes no bit; where it differs it is learned."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.nets import NETWORKS, mlp
from diffjax.nets.conditions import Label, To
from diffjax.parameterization import EDM, quarter_log_sigma
from diffjax.schedules import Cosine
from diffjax.sde import VP, Flow

B = 3
SMALL = {
    "unet": ({"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "heads": 2}, True),
    "edm2": ({"channels": 8, "multipliers": (1,), "blocks": 1, "head_channels": 4}, True),
    "dit": ({"width": 12, "depth": 1, "heads": 2}, True),
    "mlp": ({"width": 12, "depth": 1}, False),
}
every = pytest.mark.parametrize("name", NETWORKS)


def test_every_network_has_a_small_version():
    assert set(SMALL) == set(NETWORKS)


def redrawn(shapes):
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(1)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    return jax.tree.unflatten(tree, [draw(a) for a in leaves])


def without(params):
    """The parameters that a network without a second time has."""
    if not isinstance(params, dict):
        return params
    return {k: without(v) for k, v in params.items() if k not in ("to", "to_in", "to_out")}


@functools.cache
def made(name):
    """A network with a second time, one without, parameters of both, inputs and `apply` of one."""
    settings, grid = SMALL[name]
    make = lambda *more: NETWORKS[name](**settings, conditions=(Label(2), *more))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, *((4, 4, 1) if grid else (4,)))), "f4")
    given = x, jnp.array([0.3, 0.7, 1.1])
    shapes = jax.eval_shape(make(To()).init, jax.random.key(0), *given, None)
    params = redrawn(shapes)
    plain = jax.eval_shape(make().init, jax.random.key(0), *given, None)
    chex.assert_trees_all_equal_shapes(without(shapes), plain)
    return make(To()), make(), params, given


@every
def test_a_network_that_is_told_no_second_time_is_the_same_program(name):
    """Converted networks would change, and ordinary ones become slower."""
    network, plain, params, given = made(name)
    cond = {"label": jnp.array([0, 1, -1])}
    text = lambda network, params: (
        jax.jit(functools.partial(network.apply, params)).lower(*given, cond).as_text()
    )
    assert text(network, params) == text(plain, without(params))


@every
def test_it_adds_exactly_nothing_where_it_is_t_or_missing(name):
    """The diagonal of a flow map would no longer be its denoiser."""
    network, plain, params, (x, c_noise) = made(name)
    cond = {"label": jnp.array([0, 1, -1])}
    expected = jax.jit(plain.apply)(without(params), x, c_noise, cond)
    apply = jax.jit(functools.partial(network.apply, params, x, c_noise))
    both = apply({**cond, "to": jnp.array([jnp.nan, 0.7, 1.1])})
    chex.assert_trees_all_equal(both, expected)
    moved = np.abs(apply({**cond, "to": jnp.array([0.1, 0.7, jnp.nan])}) - expected)
    assert moved[0].max() > 1e-3 and moved[1:].max() == 0


@every
def test_its_parameters_are_trained_where_it_differs_only(name):
    """A flow map would never learn where to lead, or the diagonal would."""
    network, _, params, (x, c_noise) = made(name)
    loss = lambda params, to: (network.apply(params, x, c_noise, {"to": to}) ** 2).mean()
    grad = jax.jit(jax.grad(loss))
    own = lambda grads: [
        np.abs(a).max()
        for path, a in jax.tree_util.tree_leaves_with_path(grads)
        if any(key.key in ("to", "to_in", "to_out") for key in path)
    ]
    told, same = own(grad(params, c_noise - 0.2)), own(grad(params, c_noise))
    assert len(told) == 2 and min(told) > 1e-6 and max(same) == 0


@every
def test_it_begins_at_zero(name):
    """A converted network that is told a second time would begin with noise."""
    network, _, _, (x, c_noise) = made(name)
    fresh = jax.jit(network.init)(jax.random.key(0), x, c_noise, None)
    part = fresh.get("Embedding_0", fresh.get("MPEmbedding_0", fresh))
    last = part["to"]["gain"] if "to" in part else part["to_out"]["kernel"]
    assert not np.any(last)


def denoiser(sde, **settings):
    network = mlp(12, 1, conditions=(To(),))
    model = Model(sde, EDM(c_noise=quarter_log_sigma), network)
    x, t = jnp.asarray(np.random.default_rng(0).normal(size=(B, 2)), "f4"), jnp.full(B, 0.5)
    return Denoiser(model, redrawn(jax.eval_shape(model.init, jax.random.key(0), x))), x, t


def test_a_denoiser_leads_to_the_end_and_its_derivative_is_finite():
    """The noise label of the end is infinite: a flow map to data would say NaN."""
    denoise, x, t = denoiser(VP(Cosine(), t_min=1e-3, t_max=0.999))
    end = denoise(x, t, to=jnp.zeros(B))
    assert np.isfinite(end.x0).all()
    chex.assert_trees_all_equal(end, denoise(x, t, to=jnp.full(B, 1e-3)))
    ordinary, near = denoise(x, t), denoise(x, t, to=t - 1e-3)
    chex.assert_trees_all_equal(denoise(x, t, to=t), ordinary)
    chex.assert_trees_all_equal(denoise(x, t, to=jnp.full(B, jnp.nan)), ordinary)
    assert np.abs(end.x0 - ordinary.x0).max() > 1e-3
    one = jnp.ones(B)
    _, slope = jax.jvp(lambda to: denoise(x, t, to=to).x0, (t,), (one,))
    np.testing.assert_allclose(slope, (ordinary.x0 - near.x0) / 1e-3, rtol=0.05, atol=0.02)
    assert np.abs(slope).max() > 0.05


def test_a_reframed_flow_map_leads_to_the_same_noise_level():
    """Under another process it would lead somewhere else."""
    trained, x, _ = denoiser(VP(Cosine(), t_min=1e-3, t_max=0.999))
    flow = reframe(trained, Flow(Cosine(), t_min=1e-2, t_max=0.99))
    t, to = jnp.full(B, 0.6), jnp.full(B, 0.2)
    scale = trained.sde.alpha(t) / flow.sde.alpha(t)
    ours = flow(x, t, to=to)  # both processes have one schedule, so equal times are equal levels
    np.testing.assert_allclose(ours.x0, trained(scale[:, None] * x, t, to=to).x0, rtol=1e-4)


def test_a_network_without_it_refuses_to_lead():
    """It would answer as a denoiser, and a sampler of flow maps would make noise."""
    sde = VP(Cosine(), t_min=1e-3, t_max=0.999)
    model = Model(sde, EDM(c_noise=quarter_log_sigma), mlp(12, 1))
    x, t = jnp.zeros((B, 2)), jnp.full(B, 0.5)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"condition \['to'\]: this network knows \[\]"):
        jax.eval_shape(lambda p: Denoiser(model, p)(x, t, to=t), params)
    for wrong in ({"size": 2}, {"name": "time"}):
        with pytest.raises(ValueError, match="needs size=1 and the name 'to'"):
            To(**wrong)
