"""A second time `to`: missing or equal to t it changes no bit; elsewhere it is learned."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiers import some

from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.nets import NETWORKS, mlp
from diffjax.nets.conditions import Label, To
from diffjax.parameterization import Edm, quarter_log_sigma
from diffjax.schedules import Cosine
from diffjax.sde import VP, Flow

B, IMAGE = 3, (4, 4, 1)
SMALL = {
    "unet": ({"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "heads": 2}, IMAGE),
    "edm2": (
        {"channels": 8, "multipliers": (1,), "blocks": 1, "head_channels": 4, "attention": (4,)},
        IMAGE,
    ),
    "dit": ({"width": 12, "depth": 1, "heads": 2}, IMAGE),
    "mlp": ({"width": 12, "depth": 1}, (4,)),
    "wavenet": ({"channels": 8, "depth": 2}, (6, 1)),
    "egnn": ({"width": 8, "depth": 1, "radial": 4}, (4, 2)),
}
OWN = ("to", "to_in", "to_out")
"""Parameters of a second time."""
LABEL = {"label": jnp.array([0, 1, -1])}
every = pytest.mark.parametrize("name", NETWORKS)
most = pytest.mark.parametrize("name", some(NETWORKS, {*NETWORKS} - {"edm2"}))
"""All of them, of which the EDM2 U-Net, the longest to trace, runs in the thorough tier."""


def test_every_network_has_a_small_version():
    assert set(SMALL) == set(NETWORKS)


def redrawn(shapes):
    leaves, tree = jax.tree.flatten(shapes)
    rng = np.random.default_rng(1)
    draw = lambda a: jnp.asarray(0.3 * rng.normal(size=a.shape), a.dtype)
    return jax.tree.unflatten(tree, [draw(a) for a in leaves])


def ordinary(params):
    """Return the parameters that a network without a second time has."""
    if not isinstance(params, dict):
        return params
    return {k: ordinary(v) for k, v in params.items() if k not in OWN}


@functools.cache
def made(name):
    """Return a network with a second time, one without, random parameters and inputs.

    The last value is the compiled output of the first network as a function of parameters and `to`.
    """
    settings, shape = SMALL[name]
    make = lambda *more: NETWORKS[name](**settings, conditions=(Label(2), *more))
    network, plain = make(To()), make()
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, *shape)), "f4")
    given = x, jnp.array([0.3, 0.7, 1.1])
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given, None)
    without = jax.eval_shape(plain.init, jax.random.key(0), *given, None)
    chex.assert_trees_all_equal_shapes(ordinary(shapes), without)
    apply = jax.jit(lambda params, to: network.apply(params, *given, {**LABEL, "to": to}))
    return network, plain, redrawn(shapes), given, apply


@most
def test_without_a_second_time_the_program_is_that_of_the_ordinary_network(name):
    """Converted networks would change, and ordinary ones become slower."""
    network, plain, params, given, _ = made(name)
    text = lambda network, params: (
        jax.jit(functools.partial(network.apply, params)).lower(*given, LABEL).as_text()
    )
    assert text(network, params) == text(plain, ordinary(params))


@most
def test_it_adds_exactly_nothing_where_it_is_t_or_missing(name):
    """The diagonal of a flow map would no longer be its denoiser."""
    _, plain, params, given, apply = made(name)
    missing = apply(params, jnp.full(B, jnp.nan))
    chex.assert_trees_all_equal(apply(params, given[1].at[1].set(jnp.nan)), missing)
    moved = np.abs(apply(params, given[1].at[0].set(0.1)) - missing)
    assert moved[0].max() > 1e-4 and moved[1:].max() == 0
    # Exact to the last bit only within one program: two programs are fused differently.
    expected = jax.jit(plain.apply)(ordinary(params), *given, LABEL)
    chex.assert_trees_all_close(missing, expected, rtol=1e-5, atol=1e-5)


@most
def test_its_parameters_matter_where_it_differs_only(name):
    """A flow map would never learn where to lead, or training would move the diagonal."""
    *_, params, (_, c_noise), apply = made(name)
    to = c_noise.at[0].set(0.1)
    before, leaves = apply(params, to), 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not any(key.key in OWN for key in path):
            continue
        other = jax.tree_util.tree_map_with_path(
            lambda p, a, path=path, leaf=leaf: 1.1 * leaf if p == path else a, params
        )
        moved, leaves = np.abs(apply(other, to) - before).reshape(B, -1).max(1), leaves + 1
        normalised = name == "edm2" and path[-1].key == "weight"  # of norm 1 whatever its length
        assert (moved[0] > 1e-5) != normalised and moved[1:].max() == 0
    assert leaves == 2


@most
def test_it_begins_at_zero(name):
    """A converted network that receives a second time would begin with noise."""
    network, _, _, given, _ = made(name)

    def last(key):
        params = network.init(key, *given, None)
        part = params.get("Embedding_0", params.get("MPEmbedding_0", params))
        return part["to"]["gain"] if "to" in part else part["to_out"]["kernel"]

    assert not np.any(jax.jit(last)(jax.random.key(0)))


def test_its_gradient_is_that_of_its_features():
    """The second time would not be trained, as where two consecutive layers are zero."""
    _, _, params, (x, c_noise), _ = made("mlp")
    network = made("mlp")[0]
    loss = lambda params, to: (network.apply(params, x, c_noise, {"to": to}) ** 2).mean()
    grad = jax.jit(jax.grad(loss))
    own = lambda to: [
        np.abs(a).max()
        for path, a in jax.tree_util.tree_leaves_with_path(grad(params, to))
        if any(key.key in OWN for key in path)
    ]
    assert min(own(c_noise - 0.2)) > 1e-6 and max(own(c_noise)) == 0


def denoiser(sde, **settings):
    network = mlp(12, 1, conditions=(To(),))
    model = Model(sde, Edm(c_noise=quarter_log_sigma), network)
    x, t = jnp.asarray(np.random.default_rng(0).normal(size=(B, 2)), "f4"), jnp.full(B, 0.5)
    return Denoiser(model, redrawn(jax.eval_shape(model.init, jax.random.key(0), x))), x, t


def test_a_denoiser_leads_to_the_end_and_its_derivative_is_finite():
    """A flow map to data would return NaN: the noise label of the end is infinite."""
    denoise, x, t = denoiser(VP(Cosine(), t_min=1e-3, t_max=0.999))
    at = jax.jit(lambda to: jax.jvp(lambda to: denoise(x, t, to=to).x0, (to,), (jnp.ones(B),)))
    (end, _), (same, slope), (near, _) = at(jnp.zeros(B)), at(t), at(t - 1e-3)
    assert np.isfinite(end).all() and np.abs(end - same).max() > 1e-3
    chex.assert_trees_all_equal(at(jnp.full(B, 1e-3))[0], end)
    chex.assert_trees_all_equal(at(jnp.full(B, jnp.nan))[0], same)
    chex.assert_trees_all_close(jax.jit(lambda: denoise(x, t).x0)(), same, rtol=1e-5, atol=1e-5)
    size = np.abs(slope).max()
    np.testing.assert_allclose(slope, (same - near) / 1e-3, atol=0.1 * size)
    assert size > 1e-3


def test_a_reframed_flow_map_leads_to_the_same_noise_level():
    """Under another process the flow map would lead to another noise level."""
    trained, x, _ = denoiser(VP(Cosine(), t_min=1e-3, t_max=0.999))
    flow = reframe(trained, Flow(Cosine(), t_min=1e-2, t_max=0.99))
    t, to = jnp.full(B, 0.6), jnp.full(B, 0.2)
    scale = trained.sde.alpha(t) / flow.sde.alpha(t)
    ours = flow(x, t, to=to)  # both processes have one schedule, so equal times are equal levels
    np.testing.assert_allclose(ours.x0, trained(scale[:, None] * x, t, to=to).x0, rtol=1e-4)


def test_a_network_without_it_refuses_to_lead():
    """The network would answer as a denoiser, and a sampler of flow maps return noise."""
    sde = VP(Cosine(), t_min=1e-3, t_max=0.999)
    model = Model(sde, Edm(c_noise=quarter_log_sigma), mlp(12, 1))
    x, t = jnp.zeros((B, 2)), jnp.full(B, 0.5)
    params = jax.eval_shape(model.init, jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"condition \['to'\]: the network takes \[\]"):
        jax.eval_shape(lambda p: Denoiser(model, p)(x, t, to=t), params)
    for wrong in ({"size": 2}, {"name": "time"}):
        with pytest.raises(ValueError, match="needs size=1 and the name 'to'"):
            To(**wrong)


def test_its_scale_multiplies_both_labels():
    """Maps would vary in s faster than the config says."""
    waves = lambda label: jnp.stack([jnp.sin(label), jnp.cos(label)], 1)
    label, to = jnp.array([0.2, 40.0]), jnp.array([0.1, jnp.nan])
    scaled = To(scale=0.05).features(waves, label, to)
    chex.assert_trees_all_close(scaled, To().features(waves, 0.05 * label, 0.05 * to))
    with pytest.raises(ValueError, match=r"scale=0.0: needs 0 < scale"):
        To(scale=0.0)
