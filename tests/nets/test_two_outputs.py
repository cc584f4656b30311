"""Networks with a second output: its shape, its parameters, and how a denoiser reads it."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import Fresh, random_like

from diffjax.denoiser import Denoiser, Model
from diffjax.guidance import Guided, Query
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import Label
from diffjax.parameterization import V
from diffjax.schedules import Linear
from diffjax.sde import VP

pytestmark = pytest.mark.typed

CLASSES, B = 3, 4
UNET = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "heads": 1}
EDM2 = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "head_channels": 4}
# Network, its settings, the shape of an input, and the last layer with its channels.
CASES = {
    "unet": ("unet", UNET, (4, 4, 3), 3),
    "unet-patch": ("unet", {**UNET, "patch": 2}, (4, 4, 3), 12),
    "edm2": ("edm2", EDM2, (4, 4, 3), 3),
    "mlp": ("mlp", {"width": 8, "depth": 1}, (5,), 5),
    "wavenet": ("wavenet", {"channels": 8, "depth": 1}, (6, 3), 3),
    "egnn": ("egnn", {"width": 8, "depth": 1, "radial": 4}, (5, 3), 2),
    "dit": ("dit", {"width": 8, "depth": 1, "heads": 2}, (4, 4, 3), 12),
}
# The network with patches is the same, and does more.
AGAIN = {"unet": pytest.mark.thorough}
every = pytest.mark.parametrize(
    "case", [pytest.param(name, marks=AGAIN.get(name, ())) for name in CASES]
)


def test_every_network_has_a_case():
    """A network in the catalogue without its second output here would go untested."""
    assert {name for name, *_ in CASES.values()} == set(NETWORKS)


def inputs(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, *shape)), jnp.float32)
    return x, jnp.linspace(1.0, 900.0, B), {"label": jnp.array([0, 1, 2, -1])}


@functools.cache
def made(case, **changed):
    """Return a network, its fresh parameters (not drawn), random ones, and compiled `apply`."""
    name, settings, shape, _ = CASES[case]
    settings = {"learn_variance": True, **settings, **changed}
    network = NETWORKS[name](conditions=(Label(CLASSES),), **settings)
    fresh = Fresh(network, *inputs(shape))
    return network, fresh, random_like(fresh.shapes), jax.jit(network.apply)


def last(case, params):
    """Return the name of the layer of both outputs, with twice the channels of one."""
    width = 2 * CASES[case][3]
    (found,) = [
        k
        for k, v in params.items()
        if k.startswith(("Conv", "Dense", "last", "out"))
        and v.get("kernel", v.get("weight")).shape[-1] == width
    ]
    return found


@every
def test_both_outputs_have_the_shape_of_x(case):
    """Channels of the noise and its variance would mix where patches are unfolded."""
    *_, params, apply = made(case)
    x, *rest = inputs(CASES[case][2])
    outputs = apply(params, x, *rest)
    assert type(outputs) is tuple and len(outputs) == 2
    chex.assert_trees_all_equal_shapes_and_dtypes(outputs, (x, x))
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1


@every
def test_each_half_of_the_last_layer_makes_one_output(case):
    """Training the variance alone would move the prediction, or leave the variance unchanged."""
    *_, params, apply = made(case)
    name, given = last(case, params), inputs(CASES[case][2])
    before = apply(params, *given)
    moved = {}
    for half, part in enumerate((slice(None, CASES[case][3]), slice(CASES[case][3], None))):
        layer = jax.tree.map(np.array, params[name])
        for tensor in layer.values():
            if tensor.ndim:
                tensor[..., part] += 0.5
        after = apply({**params, name: layer}, *given)
        moved[half] = [np.abs(a - b).max() for a, b in zip(after, before, strict=True)]
        chex.assert_trees_all_equal(after[1 - half], before[1 - half])
    assert moved[0][0] > 0 < moved[1][1]


@every
def test_the_first_output_is_that_of_the_network_without_the_second(case):
    """A second output would change the model to which it is added."""
    *_, params, apply = made(case)
    _, fresh, _, plain = made(case, learn_variance=False)
    name, given = last(case, params), inputs(CASES[case][2])
    layer = jax.tree.map(lambda a: a[..., : CASES[case][3]] if a.ndim else a, params[name])
    cut = {**params, name: layer}
    chex.assert_trees_all_equal_shapes(cut, fresh.shapes)
    ours = plain(cut, *given)
    assert isinstance(ours, jax.Array)
    chex.assert_trees_all_close(ours, apply(params, *given)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", [pytest.param("unet", marks=pytest.mark.thorough), "mlp"])
def test_bfloat16_is_inside_only(case):
    """Losses of the variance, which are differences of logarithms, would be in bfloat16."""
    *_, params, apply = made(case, dtype="bfloat16")
    given, (*_, exactly) = inputs(CASES[case][2]), made(case)
    for ours, exact in zip(apply(params, *given), exactly(params, *given), strict=True):
        assert ours.dtype == jnp.float32
        assert 1e-5 < np.abs(ours - exact).max() / np.abs(exact).max() < 0.05


@every
def test_a_fresh_network_returns_the_geometric_mean_of_both_variances(case):
    """Both outputs would not start at zero, that is no noise and DDPM's geometric mean variance."""
    _, fresh, params, apply = made(case)
    name, given = last(case, params), inputs(CASES[case][2])
    ends = fresh.values(name)  # the others are not drawn
    layer = ends[name]
    chex.assert_trees_all_equal(layer.get("gain", layer.get("kernel")).max(), jnp.zeros(()))
    for output in apply({**params, **ends}, *given):
        np.testing.assert_array_equal(output, np.zeros_like(output))


def denoiser(case, **changed):
    """Return the denoiser of a model of which only the network is compiled."""
    network, _, params, apply = made(case, **changed)
    model = Model(VP(Linear()), V(), dataclasses.replace(network, apply=apply))
    return Denoiser(model, {"network": params}), apply


@every
def test_the_denoiser_hands_on_the_second_output(case):
    """A sampler would not see the variance, or see the noise in its place."""
    (denoise, apply), (x, _, cond) = denoiser(case), inputs(CASES[case][2])
    t, model = jnp.linspace(0.1, 1.0, B), denoise.model
    made = denoise(x, t, cond)
    c_in = model.parameterization.c_in(model.sde, t).reshape(-1, *(1,) * (x.ndim - 1))
    label = model.parameterization.c_noise(model.sde, t)
    output, log_var = apply(denoise.params["network"], c_in * x, label, cond)
    chex.assert_trees_all_close(
        (made.output, made.log_var), (output, log_var), rtol=1e-5, atol=1e-5
    )
    back = model.sde.perturb(made.x0, made.eps, t)
    chex.assert_trees_all_close(back, x, rtol=1e-4, atol=1e-4)
    assert model.output(denoise.params, x, t, cond, None)[1].shape == x.shape


def test_a_network_of_one_output_predicts_no_variance():
    """A sampler would take zeros for a learned variance."""
    (denoise, _), (x, t, cond) = denoiser("mlp", learn_variance=False), inputs((5,))
    assert denoise(x, t / 1000, cond).log_var is None
    assert denoise.model.output(denoise.params, x, t / 1000, cond, None)[1] is None


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_guidance_keeps_the_second_output(weight):
    """Classifier-free guidance would fail with improved DDPM, or lose its variances."""
    (denoise, _), (x, _, _) = denoiser("mlp"), inputs((5,))
    t, cond = jnp.linspace(0.1, 1.0, B), {"label": jnp.array([0, 1, 2, 0])}
    guide = Guided()
    made, _ = jax.jit(guide)(Query(denoise, x, t, cond), jnp.asarray(weight), guide.init(x))
    with_label, without = denoise(x, t, cond), denoise(x, t, None)
    for name, w in (("x0", weight), ("eps", weight), ("log_var", 1.0)):  # as in arXiv:2212.09748
        a, b = getattr(with_label, name), getattr(without, name)
        expected = b + w * (a - b)
        np.testing.assert_allclose(getattr(made, name), expected, rtol=1e-4, atol=1e-4)
