"""The U-Nets: grids of one to three axes, resampling, magnitudes, settings."""

import functools
import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like
from flax import linen as nn

from diffjax.nets import NETWORKS, edm2, unet
from diffjax.nets.conditions import Conditions, Label, Tokens
from diffjax.nets.edm2 import MPConv, mp_cat, mp_silu, mp_sum, normalized
from diffjax.nets.layers import Embedding, cosines_first
from diffjax.nets.network import linen
from diffjax.nets.resample import check_kernel, downsample, filtered, upsample
from ml_collections_configs import networks

UNET = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "heads": 2}
EDM2 = {**{k: v for k, v in UNET.items() if k != "heads"}, "head_channels": 4}
LEVEL = {"multipliers": (1,), "attention": ()}  # with attention in the middle
VARIANTS = {
    "unet": (unet, UNET),
    "unet, NCSN++": (unet, {**networks.NCSNPP, **UNET, "output_pyramid": "skip"}),
    "edm2": (edm2, {**EDM2, "kernel": (1, 3, 3, 1)}),
}


# Volumes once in the default tier; runs on kinds of data have the rest.
SHORT = {("unet", (4, 4, 2))}


@pytest.mark.parametrize(
    ("variant", "sides"),
    [
        pytest.param(*pair, marks=() if pair in SHORT else pytest.mark.thorough)
        for pair in itertools.product(VARIANTS, [(8,), (4, 4, 2)])
    ],
)
def test_the_same_network_works_on_lines_and_volumes(variant, sides):
    """Sound, video and volumes would need networks of their own."""
    make, settings = VARIANTS[variant]
    settings = {k: v for k, v in settings.items() if k != "name"}
    network = make(**settings | {"attention": (sides[0] // 2,)})
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, *sides, 2)), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(2), None)
    first = params["first"]["weight"] if make is edm2 else params["Conv_0"]["kernel"]
    assert first.shape[:-2] == (3,) * len(sides)
    if len(sides) > 1 or variant == "unet":  # shapes only, because running them all takes long
        assert jax.eval_shape(network.apply, params, x, jnp.zeros(2), None).shape == x.shape
        return
    apply = jax.jit(functools.partial(network.apply, random_like(params)))
    other = np.array(x)
    other[(0,) * x.ndim] += 1.0
    before, after = (apply(a, np.ones(2, np.float32), None) for a in (x, other))
    assert before.shape == x.shape and np.isfinite(before).all()
    change = np.abs(after - before)[0].sum(-1)
    assert (change > 0).all() and (after[1] == before[1]).all()


# Each way and each pyramid once in the default tier.
ONCE = {("conv", "skip"), ("centred_conv", "residual"), ("filter", "none"), ("block", "residual")}


@pytest.mark.parametrize(
    ("resample", "pyramid"),
    [
        pytest.param(*pair, marks=() if pair in ONCE else pytest.mark.thorough)
        for pair in itertools.product(
            ("conv", "centred_conv", "filter", "block"), ("none", "skip", "residual")
        )
    ],
)
def test_every_way_to_resample_goes_with_every_pyramid(resample, pyramid):
    """Some pairs of settings would fail, or add grids of different sizes, both in `init`."""
    plain = {**UNET, "attention": ()}
    network = unet(**plain, resample=resample, input_pyramid=pyramid, kernel=(1, 3, 3, 1), patch=2)
    x = jnp.zeros((1, 4, 8, 1))
    params = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), None)
    assert ("input_1" in params) == (pyramid != "none")
    assert ("down_1" in params) == (resample == "block")


def halving(n, kernel):
    """Return the matrix (n / 2, n) of downsampling along one axis."""
    made = np.zeros((n // 2, n))
    for i in range(n // 2):
        for k, f in enumerate(kernel):
            j = 2 * i + k - (len(kernel) // 2 - 1)
            if 0 <= j < n:
                made[i, j] += f / sum(kernel)
    return made


@pytest.mark.parametrize("kernel", [(1, 1), (1, 3, 3, 1), (1, 5, 10, 10, 5, 1)])
@pytest.mark.typed
def test_resampling_is_that_matrix_and_its_transpose(kernel):
    """Images would be shifted by part of a pixel, or darkened."""
    x = np.random.default_rng(0).normal(size=(2, 8, 6, 3))
    rows, columns = halving(8, kernel), halving(6, kernel)
    half = np.einsum("ih,jw,bhwc->bijc", rows, columns, x)
    again = 4 * np.einsum("ih,jw,bijc->bhwc", rows, columns, half)

    @jax.jit
    def ours(x, half, ones):
        inner = filtered(ones, kernel, 1, len(kernel) // 2)
        return downsample(x, kernel), upsample(half, kernel), inner

    arrays = (x, half, np.ones((1, 8, 1)))
    down, up, inner = ours(*(jnp.asarray(a.astype(np.float32)) for a in arrays))
    np.testing.assert_allclose(down, half, atol=1e-6)
    np.testing.assert_allclose(up, again, atol=1e-6)
    assert inner.shape == (1, 9, 1)
    np.testing.assert_allclose(inner[0, len(kernel) // 2 : -(len(kernel) // 2)], 1.0, rtol=1e-6)


@pytest.mark.parametrize("kernel", [(), (1, 2, 1), (1, 2), (0, 0), (1, -3, -3, 1)])
def test_other_kernels_are_refused(kernel):
    with pytest.raises(ValueError, match=re.escape(f"kernel={kernel}: needs even length")):
        check_kernel(kernel)


@pytest.mark.parametrize(
    ("make", "changed", "message"),
    [
        (unet, {"embedding": "sine"}, "embedding='sine': unknown; known: 'ddpm', 'adm', 'fourier'"),
        (
            unet,
            {"resample": "fir"},
            "resample='fir': unknown; known: 'conv', 'centred_conv'",
        ),
        (
            unet,
            {"input_pyramid": "cat"},
            "input_pyramid='cat': unknown; known: 'none', 'skip', 'residual'",
        ),
        (
            unet,
            {"output_pyramid": "residual"},
            "output_pyramid='residual': unknown; known: 'none', 'skip'",
        ),
        (unet, {"head_channels": 3}, "head_channels=3: must divide the width 8"),
        (unet, {"head_channels": -1}, "head_channels=-1: needs head_channels >= 0"),
        (unet, {"heads": 0}, "heads=0: needs heads >= 1"),
        (unet, {"heads": 3}, "heads=3: must divide the width 8"),
        (unet, {"epsilon": 0.0}, "epsilon=0.0: needs epsilon > 0"),
        (unet, {"kernel": (1, 2, 1)}, "kernel="),
        (unet, {"conditions": (Tokens(-1),)}, "condition 'tokens': size=-1: needs size >= 1"),
        (unet, {"transformer": (1,)}, r"transformer=\(1,\): needs a number >= 1 for each of 2"),
        (edm2, {"head_channels": 3}, "head_channels=3: must divide the width 8"),
        (edm2, {"multipliers": ()}, "multipliers=.*: needs at least one"),
        (edm2, {"dropout": 1.0}, "dropout=1.0: needs 0 <= dropout < 1"),
        (edm2, {"kernel": (1, 2, 1)}, "kernel="),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make, changed, message):
    """The error would come from a reshape deep inside, or the nearest behaviour be chosen."""
    with pytest.raises(ValueError, match=message):
        make(**{**(UNET if make is unet else EDM2), **changed})


@pytest.mark.parametrize("make", [unet, edm2])
def test_sides_that_do_not_divide_are_refused(make):
    network = make(**(UNET if make is unet else EDM2))
    for shape in ((1, 5, 4, 1), (1, 4, 4, 3, 1), (1, 3, 1), (1, 4), (1, 2, 2, 2, 2, 1)):
        with pytest.raises(ValueError, match="each divisible by 2; change multipliers"):
            jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape), jnp.zeros(1), None)


def test_frequencies_of_adm_leave_the_last_one_out():
    """Noise labels of trained networks would be embedded at other frequencies."""
    c = np.array([0.0, 0.3, 17.0, 999.0], np.float32)
    angle = c[:, None] * 10_000.0 ** -(np.arange(4) / 4)
    exact = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    np.testing.assert_allclose(cosines_first(jnp.asarray(c), 8), exact, atol=2e-4)


def test_fourier_frequencies_are_not_trained():
    """Noise labels would drift in training, unlike those of NCSN++."""
    module = Embedding(8, 4, Conditions(), "fourier")
    given = (jnp.zeros((2, 3)), jnp.array([0.1, -0.4]), {})
    params = random_like(jax.eval_shape(module.init, jax.random.key(0), *given))["params"]
    grads = jax.jit(jax.grad(lambda p: module.apply({"params": p}, *given).sum()))(params)
    assert not np.any(grads["fourier"]["frequencies"]) and np.any(grads["Dense_0"]["kernel"])
    f = params["fourier"]["frequencies"]
    assert f.shape == (4,) and params["Dense_0"]["kernel"].shape == (8, 8)


class Told(nn.Module):
    """An embedding in the form of a network."""

    @nn.compact
    def __call__(self, x, c_noise, cond, train=False):
        return Embedding(8, 4, Conditions(), "fourier")(x, c_noise, {})


def test_fourier_frequencies_keep_their_precision():
    """Evaluation would see other noise labels: in bfloat16 a frequency of 50 is off by a radian."""
    x, c_noise = jnp.ones((2, 8)), jnp.array([1.3, -2.4])
    params = random_like(jax.eval_shape(linen(Told()).init, jax.random.key(0), x, c_noise, None))
    params["Embedding_0"]["fourier"]["frequencies"] *= 100
    full, half = (
        jax.jit(linen(Told(), dtype).apply)(params, x, c_noise, None)
        for dtype in ("float32", "bfloat16")
    )
    assert np.abs(half - full).max() < 0.02 * np.abs(full).max()


def test_sums_of_edm2_keep_the_magnitude():
    """Activations would grow or shrink with depth, as in the networks that EDM2 replaces."""
    rng = np.random.default_rng(0)
    a, b = jnp.asarray(rng.normal(size=(2, 4000, 6)), jnp.float32)
    size = lambda x: float(np.sqrt((np.asarray(x) ** 2).mean()))
    for t in (0.3, 0.5):
        assert size(mp_sum(a, b, t)) == pytest.approx(1, abs=0.02)
        joined = mp_cat(a, b[..., :2], t)
        assert size(joined) == pytest.approx(1, abs=0.02)
        share = (joined[..., 6:] ** 2).sum() / (joined**2).sum()
        assert float(share) == pytest.approx(t**2 / (t**2 + (1 - t) ** 2), abs=0.02)
    assert size(mp_silu(a)) == pytest.approx(1, abs=0.02)


def test_forced_normalization_bounds_weights_and_keeps_the_output():
    """Weights of EDM2 would grow without bound, and the learning rate lose its meaning."""
    network = edm2(**{**EDM2, **LEVEL})
    x, c_noise = jnp.ones((2, 2, 2, 1)), jnp.array([0.3, -0.4])
    params = random_like(jax.eval_shape(network.init, jax.random.key(0), x, c_noise, None))
    long = jax.tree_util.tree_map_with_path(
        lambda path, a: 30 * np.asarray(a) if path[-1].key == "weight" else a, params
    )
    short = jax.jit(normalized)(long)
    apply = jax.jit(network.apply)
    outputs = [apply(p, x, c_noise, None) for p in (long, short)]
    chex.assert_trees_all_close(*outputs, rtol=2e-3, atol=2e-4)
    weights = [w for k, w in jax.tree_util.tree_leaves_with_path(short) if k[-1].key == "weight"]
    sizes = [np.sqrt((np.asarray(w) ** 2).mean(tuple(range(w.ndim - 1)))) for w in weights]
    np.testing.assert_allclose(np.concatenate(sizes), 1.0, atol=2e-3)


def test_gradients_of_edm2_leave_the_size_of_weights():
    """Steps would be spent on norms of weights that the forward pass divides out."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)
    w = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)), jnp.float32)
    layer = lambda w: (MPConv(3).apply({"params": {"weight": w}}, x) ** 2).sum()
    grads, w = np.asarray(jax.jit(jax.grad(layer))(w)), np.asarray(w)
    size = np.sqrt((grads**2).sum(0) * (w**2).sum(0))
    assert (np.abs((grads * w).sum(0)) < 1e-3 * size).all() and (size > 0.1).all()


def test_every_published_network_is_built_from_its_settings():
    """A config that names a published network would fail."""
    named = {k: v for k, v in vars(networks).items() if isinstance(v, dict) and "name" in v}
    assert set(named) == {"DDPM", "DDPMPP", "NCSNPP", "ADM", "ADM64", "EDM2S"}
    for settings in named.values():
        NETWORKS[settings["name"]](
            **{k: v for k, v in settings.items() if k != "name"}, conditions=(Label(2),)
        )
