"""Every network: plain functions over a plain dict, which use all of their inputs."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import Fresh, key, random_like
from tiers import some

from diffjax.nets import NETWORKS, mlp, unet
from diffjax.nets.conditions import Label
from diffjax.nets.unet import fold, unfold

CLASSES = 3
# Small settings, and the shape of one input. Few channels: norms with one channel per group would
# remove what the embedding adds.
SMALL = {
    "unet": (
        {"channels": 6, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "heads": 2},
        (4, 4, 3),
    ),
    "edm2": (
        {
            "channels": 8,
            "multipliers": (1, 2),
            "blocks": 1,
            "attention": (2,),
            "head_channels": 4,
            "dropout": 0.1,
        },
        (4, 4, 3),
    ),
    "mlp": ({"width": 12, "depth": 2}, (5,)),
    "dit": ({"width": 12, "depth": 2, "heads": 2}, (4, 4, 3)),
    "wavenet": ({"channels": 6, "depth": 3, "cycle": 2}, (12, 2)),
    "egnn": ({"width": 12, "depth": 2, "radial": 4}, (5, 3)),
}
# One level and attention in the middle only, where a claim needs no more.
LEVEL = {"multipliers": (1,), "attention": ()}
TINY = {"unet": LEVEL, "edm2": LEVEL} | {
    name: {"depth": 1} for name in ("mlp", "dit", "wavenet", "egnn")
}
DROPOUT = {"unet", "edm2"}
every = pytest.mark.parametrize("name", NETWORKS)
most = pytest.mark.parametrize("name", some(NETWORKS, {*NETWORKS} - {"edm2"}))
"""All of them, of which the EDM2 U-Net, the longest to trace, runs in the thorough tier."""
B = 4


def test_every_network_has_a_small_version():
    """A network in the catalogue without small settings here would go untested."""
    assert set(SMALL) == set(NETWORKS)


def inputs(shape):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(B, *shape)), jnp.float32)
    return x, jnp.linspace(1.0, 900.0, B), {"label": jnp.array([0, 1, 2, -1])}


@functools.cache
def made(name, **changed):
    """Return a small network, its fresh parameters (not drawn), and compiled `apply`."""
    settings, shape = SMALL[name]
    network = NETWORKS[name](conditions=(Label(CLASSES),), **{**settings, **changed})
    return network, Fresh(network, *inputs(shape)), jax.jit(network.apply)


def tiny(name, **changed):
    """Return `made` of the network with the fewest layers."""
    return made(name, **TINY[name], **changed)


@every
def test_parameters_are_a_plain_nested_dict(name):
    """Checkpoints, EMA and optimizers would depend on the network library."""
    plain = lambda tree: (
        type(tree) is dict
        and all(
            plain(v) or (isinstance(v, jax.ShapeDtypeStruct) and v.dtype == jnp.float32)
            for v in tree.values()
        )
    )
    assert plain(made(name)[1].shapes)


# The last layer of each.
LAST = {"unet": "Conv_3", "edm2": "last", "mlp": "Dense_7"}
LAST |= dict.fromkeys(("dit", "wavenet", "egnn"), "out")


@most
def test_a_fresh_network_returns_zero(name):
    """Training would start from the loss of a random function, not from that of the prior."""
    _, fresh, apply = made(name)
    params, arguments = random_like(fresh.shapes), inputs(SMALL[name][1])
    assert np.abs(apply(params, *arguments)).max() > 1e-2
    params |= fresh.values(LAST[name])  # whatever the other layers return: they are not drawn
    chex.assert_trees_all_equal(apply(params, *arguments), jnp.zeros_like(arguments[0]))


@most
def test_output_depends_on_every_input(name):
    """An input would not be wired in, or samples of a batch mix."""
    _, fresh, apply = made(name)
    params, (x, c_noise, cond) = random_like(fresh.shapes), inputs(SMALL[name][1])
    output = apply(params, x, c_noise, cond)
    first = np.arange(B) == 0
    for changed in (
        (x.at[0].multiply(1.1), c_noise, cond),
        (x, c_noise.at[0].add(100.0), cond),
        (x, c_noise, {"label": cond["label"].at[0].set(2)}),
        (x, c_noise, {"label": cond["label"].at[0].set(-1)}),
    ):
        moved = np.abs(apply(params, *changed) - output).reshape(B, -1).max(1)
        np.testing.assert_array_equal(moved > 1e-3 * np.abs(output).max(), first)
        assert (moved[1:] <= 1e-5 * np.abs(output).max()).all()


@most
def test_missing_label_has_one_meaning(name):
    """Guidance would compare with another reference than condition dropout trains."""
    _, fresh, apply = tiny(name)
    params, (x, c_noise, cond) = random_like(fresh.shapes), inputs(SMALL[name][1])
    null = apply(params, x, c_noise, {"label": jnp.full_like(cond["label"], -1)})
    chex.assert_trees_all_close(apply(params, x, c_noise, None), null, atol=1e-5)
    program = lambda cond: str(apply.trace(params, x, c_noise, cond).jaxpr)
    assert program({}) == program(None)


@most
def test_key_decides_about_dropout(name):
    """Evaluation would be random, or training run without dropout."""
    _, fresh, apply = tiny(name)
    params, (x, c_noise, cond) = random_like(fresh.shapes), inputs(SMALL[name][1])
    evaluation = apply(params, x, c_noise, cond)
    chex.assert_trees_all_equal(apply(params, x, c_noise, cond, key=None), evaluation)
    one, two = (apply(params, x, c_noise, cond, key=key(k)) for k in (1, 2))
    if name in DROPOUT:
        assert np.abs(one - two).max() > 1e-3 < np.abs(one - evaluation).max()
        chex.assert_trees_all_equal(apply(params, x, c_noise, cond, key=key(1)), one)
    else:
        chex.assert_trees_all_close((one, two), (evaluation, evaluation), atol=1e-5)


@every
def test_equal_networks_are_equal(name):
    """Each new but equal model would compile the train step again."""
    settings, _ = SMALL[name]
    make = lambda: NETWORKS[name](conditions=(Label(CLASSES),), **settings)
    assert make() == make() and hash(make()) == hash(make())
    assert make() != NETWORKS[name](conditions=(Label(CLASSES + 1),), **settings)


@functools.cache
def structure(network, shape):
    """Return the shapes of the parameters and of the output, without any computation."""
    x, t = jnp.zeros((2, *shape)), jnp.zeros(2)
    params = jax.eval_shape(network.init, key(0), x, t, None)
    return params, jax.eval_shape(network.apply, params, x, t, None).shape[1:]


def initialised(network, shape, cond=None):
    """Return the shapes of the parameters; impossible settings are refused here."""
    return jax.eval_shape(network.init, key(0), jnp.zeros((2, *shape)), jnp.zeros(2), cond)


@pytest.mark.parametrize(
    ("channels", "shape"),
    [
        (10, (4, 12, 3)),
        pytest.param(6, (8, 8, 1), marks=pytest.mark.thorough),
        pytest.param(6, (12, 4, 5), marks=pytest.mark.thorough),
    ],
)
def test_unet_takes_any_channels_and_sides(channels, shape):
    """Data other than square RGB images would fail deep inside the network."""
    network = unet(channels, (1, 2), blocks=1, attention=shape[:1], heads=2)
    assert structure(network, shape)[1] == shape


def test_unet_has_the_levels_and_attention_that_it_is_asked_for():
    """The settings of a config would be ignored."""
    settings = {"multipliers": (1, 2), "blocks": 1, "heads": 2}
    tree = lambda **changed: initialised(unet(8, **settings | changed), (8, 8, 1))
    count = lambda params, kind: sum(k.startswith(kind) for k in params)
    plain = tree(attention=())
    assert count(plain, "SelfAttention") == 1
    assert count(tree(attention=(4,)), "SelfAttention") == 1 + 1 + 2  # middle, down, up
    assert count(plain, "Block") == 2 + 2 + 4  # down, middle, up
    assert count(tree(attention=(), blocks=2), "Block") == 4 + 2 + 6
    widest = max(a.shape[-1] for a in jax.tree.leaves(plain["Block_1"]))
    assert widest == 16


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (unet(8, (1, 2, 2), heads=2), (6, 8, 1), r"divisible by 4; change multipliers=\(1, 2, 2\)"),
        (unet(8, (1, 2), heads=2), (8, 5, 1), "divisible by 2"),
        (unet(8, (1, 2), heads=2), (8,), r"needs \(B, H, W, C\)"),
        (
            unet(8, (1, 2), heads=2, patch=2),
            (6, 8, 1),
            "patch=2 .*divisible by 4; .*patch, or the size",
        ),
        (unet(8, (1,), heads=2, patch=3), (9, 8, 1), "patch=3 .*divisible by 3"),
        (mlp(8), (4, 4, 1), r"mlp with input .*needs vectors \(B, D\)"),
    ],
)
def test_what_cannot_work_is_refused_by_name(network, shape, message):
    """The error would come from a reshape or a concatenation deep inside."""
    with pytest.raises(ValueError, match=message):
        initialised(network, shape)


@every
@pytest.mark.parametrize(("classes", "unknown"), [(0, "label"), (CLASSES, "text")])
def test_unknown_condition_is_refused_by_name(name, classes, unknown):
    """A condition would be ignored, and training look fine."""
    settings, shape = SMALL[name]
    known = (Label(classes),) if classes else ()
    network = NETWORKS[name](conditions=known, **settings)
    with pytest.raises(ValueError, match=rf"condition \['{unknown}'\]"):
        initialised(network, shape, {unknown: jnp.zeros(2, jnp.int32)})


def far(a, b):
    """Return the largest difference, relative to the largest value of `b`."""
    return np.abs(a - b).max() / np.abs(b).max()


@most
def test_bfloat16_is_inside_only(name):
    """Optimizer, averages and checkpoints would be in bfloat16, where small updates are lost."""
    network, fresh, apply = tiny(name, dtype="bfloat16")
    _, full, exact = tiny(name)
    chex.assert_trees_all_equal_shapes_and_dtypes(fresh.shapes, full.shapes)
    assert fresh.program == full.program
    params, arguments = random_like(fresh.shapes), inputs(SMALL[name][1])
    output, expected = apply(params, *arguments), exact(params, *arguments)
    assert output.dtype == jnp.float32
    assert 1e-5 < far(output, expected) < 0.05
    loss = lambda params: (network.apply(params, *arguments) ** 2).mean()
    grads = jax.eval_shape(jax.grad(loss), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(grads, params)


@every
def test_bfloat16_computes_in_bfloat16(name):
    """bfloat16 would cost precision and save nothing."""

    def products(dtype):
        network, fresh, _ = made(name, **dtype)
        text = str(jax.make_jaxpr(network.apply)(fresh.shapes, *inputs(SMALL[name][1])))
        kinds = r":(\w+)\[[\d,]*\] = (?:dot_general|conv_general_dilated|convolution)\["
        return re.findall(kinds, text)

    full, half = products({}), products({"dtype": "bfloat16"})
    assert set(full) == {"f32"} and len(full) == len(half) >= 7
    assert half.count("f32") <= 2  # the embedding of c_noise
    assert half.count("bf16") == len(half) - half.count("f32")


@every
def test_bfloat16_keeps_the_precision_of_c_noise(name):
    """Neighbouring noise levels would be equal: 999 is 1000 in bfloat16."""
    _, fresh, apply = tiny(name, dtype="bfloat16")
    params, (x, _, cond) = random_like(fresh.shapes), inputs(SMALL[name][1])
    # Not weakly typed, or `apply` would be compiled again.
    at = lambda c_noise: apply(params, x, jnp.asarray(np.full(B, c_noise, np.float32)), cond)
    assert (np.abs(at(999.0) - at(1000.0)).reshape(B, -1).max(1) > 0).all()


@every
@pytest.mark.parametrize("dtype", ["float16", "float8", ""])
def test_unknown_dtype_is_refused_by_name(name, dtype):
    with pytest.raises(ValueError, match=f"dtype='{dtype}'.*known: float32, bfloat16"):
        NETWORKS[name](dtype=dtype)


def in_training(network):
    """Return the output with dropout as a function of the parameters."""
    return lambda params: network.apply(params, *inputs(SMALL["unet"][1]), key=key(1))


def test_remat_changes_memory_only():
    """Checkpoints would not load once a run needs less memory, or training differ after that."""
    network, fresh, _ = tiny("unet", remat=True)
    without, same, _ = tiny("unet")
    chex.assert_trees_all_equal_shapes_and_dtypes(fresh.shapes, same.shapes)
    layer = lambda f: f.values("SelfAttention_0")  # any shape would do
    assert any(np.any(a) for a in jax.tree.leaves(layer(same)))
    chex.assert_trees_all_equal(layer(fresh), layer(same))
    params = random_like(fresh.shapes)
    ours, theirs = (jax.jit(in_training(n)) for n in (network, without))
    chex.assert_trees_all_close(ours(params), theirs(params), rtol=1e-5, atol=1e-5)
    marked = lambda f: re.findall(r"= (?:checkpoint|remat\w*)\[", str(f.trace(params).jaxpr))
    assert len(marked(ours)) >= 5 and not marked(theirs)


@pytest.mark.thorough
def test_remat_keeps_gradients():
    """Training with `remat` would differ. The default tier covers the transformer."""
    loss = lambda network: lambda params: (in_training(network)(params) ** 2).mean()
    (network, fresh, _), (without, *_) = tiny("unet", remat=True), tiny("unet")
    params = random_like(fresh.shapes)
    ours, theirs = (jax.jit(jax.grad(loss(n)))(params) for n in (network, without))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("patch", [2, 3])
def test_fold_takes_squares_and_unfold_puts_them_back(patch):
    """Pixels would be shuffled, so that the network sees no neighbours."""
    x = jnp.arange(2.0 * 6 * 12 * 3).reshape(2, 6, 12, 3)
    folded = fold(x, patch)
    assert folded.shape == (2, 6 // patch, 12 // patch, 3 * patch**2)
    square = x[1, patch : 2 * patch, 2 * patch : 3 * patch]
    chex.assert_trees_all_equal(folded[1, 1, 2], square.ravel())
    chex.assert_trees_all_equal(unfold(folded, patch), x)


@pytest.mark.parametrize("shape", [(8, 4, 3), (4, 12, 1)])
def test_patches_keep_the_shape_and_shrink_the_first_level(shape):
    network = unet(6, (1,), blocks=1, attention=(), heads=2, patch=2)
    params, made = structure(network, shape)
    assert made == shape
    assert params["Conv_0"]["kernel"].shape == (3, 3, 4 * shape[-1], 6)


def test_patch_must_be_positive():
    with pytest.raises(ValueError, match="patch=0: needs patch >= 1"):
        unet(8, patch=0)


def test_the_network_of_ddpm_has_its_size():
    """The size would not be 35.7 million parameters for CIFAR-10 (arXiv:2006.11239, app. B)."""
    params = initialised(unet(128, (1, 2, 2, 2), blocks=2, attention=(16,), heads=1), (32, 32, 3))
    assert sum(a.size for a in jax.tree.leaves(params)) == 35_746_307
