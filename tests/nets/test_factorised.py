"""Transformers of videos with factorised attention: what they are on one frame, place and still."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like

from diffjax.nets import dit
from diffjax.nets.conditions import Label, Still, Tokens
from diffjax.nets.factorised import over_space, over_time
from diffjax.nets.positions import sincos

B, T, SIDE, WIDTH = 2, 3, 4, 12
VIDEO = {"width": WIDTH, "heads": 1, "conditions": (Label(3),), "attention": "factorised"}
LABEL = {"label": jnp.array([2, -1])}


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@functools.cache
def made(side=SIDE, positions="sincos", still=False):
    """Return a network of two pairs of blocks, its random parameters and its compiled `apply`."""
    settings = VIDEO | {"conditions": (Label(3), *([Still()] if still else []))}
    network = dit(**settings, depth=4, positions=positions)
    x, key = jnp.zeros((B, T, side, side, 1)), jax.random.key(0, impl="unsafe_rbg")
    params = random_like(jax.eval_shape(network.init, key, x, jnp.ones(B), LABEL))
    return network, params, jax.jit(network.apply)


def without(params, name):
    """Return the parameters with blocks that add nothing, as all blocks begin."""
    block = params["pairs"][name]
    off = {**block, "modulation": jax.tree.map(jnp.zeros_like, block["modulation"])}
    return {**params, "pairs": {**params["pairs"], name: off}}


def as_plain(params, name, added=0.0):
    """Return the blocks over space or time as those of an ordinary transformer.

    added: the position of the other axis, which moves into the bias of the patches.
    """
    rest = {k: v for k, v in params.items() if k != "pairs"}
    patches = {**params["patches"], "bias": params["patches"]["bias"] + added}
    return {**rest, "patches": patches, "blocks": {"main": params["pairs"][name]}}


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
def test_without_blocks_over_time_each_frame_is_an_image(positions):
    """A network of videos could not begin with the weights of one of images, or of one frame."""
    _, params, apply = made(positions=positions)
    x, c = drawn(B, T, SIDE, SIDE, 1), jnp.array([3.0, 700.0])
    out = apply(without(params, "time"), x, c, LABEL)
    image = dit(**VIDEO | {"attention": "full"}, depth=2, positions=positions)
    one = jax.jit(image.apply)
    for k, position in enumerate(sincos((T,), WIDTH)):
        added = position if positions == "sincos" else 0.0
        frame = one(as_plain(params, "space", added), x[:, k], c, LABEL)
        chex.assert_trees_all_close(out[:, k], frame, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
def test_without_blocks_over_space_one_patch_is_a_sequence(positions):
    """The attention over time would see other frames, or in another order, than it should."""
    _, params, apply = made(side=2, positions=positions)
    x, c = drawn(B, T, 2, 2, 1), jnp.array([3.0, 700.0])
    out = apply(without(params, "space"), x, c, LABEL)
    sequence = dit(**VIDEO | {"attention": "full"}, depth=2, patch=1, positions=positions)
    added = sincos((1, 1), WIDTH)[0] if positions == "sincos" else 0.0
    seen = jax.jit(sequence.apply)(as_plain(params, "time", added), x.reshape(B, T, 4), c, LABEL)
    chex.assert_trees_all_close(out.reshape(B, T, 4), seen, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions", ["sincos", "rotary"])
def test_stills_are_videos_of_one_frame(positions):
    """Training on images would teach the blocks over time what no video has."""
    _, params, apply = made(positions=positions, still=True)
    x, c = drawn(B, T, SIDE, SIDE, 1), jnp.arange(6.0).reshape(B, T) * 90
    stills = apply(params, x, c, LABEL | {"still": jnp.array([1, 1])})
    alone = {"label": jnp.repeat(LABEL["label"], T)}
    frames = apply(params, x.reshape(B * T, 1, SIDE, SIDE, 1), c.reshape(-1), alone)
    chex.assert_trees_all_close(stills.reshape(frames.shape), frames, rtol=1e-4, atol=1e-4)
    absent = apply(params, x, c, LABEL)
    mixed = apply(params, x, c, LABEL | {"still": jnp.array([1, -1])})
    chex.assert_trees_all_close(mixed, jnp.stack([stills[0], absent[1]]), rtol=1e-5, atol=1e-5)
    chex.assert_trees_all_equal(apply(params, x, c, LABEL | {"still": jnp.array([0, -1])}), absent)
    assert np.abs(stills - absent).max() > 1e-3


def test_each_frame_has_its_own_time():
    """A continuation could not tell the known frames from noise."""
    network, params, apply = made()
    x, c = drawn(B, T, SIDE, SIDE, 1), jnp.array([3.0, 700.0])
    assert network.lane(x.shape[1:]) == 1
    out = apply(params, x, c, LABEL)
    same = apply(params, x, jnp.repeat(c[:, None], T, 1), LABEL)
    chex.assert_trees_all_close(same, out, rtol=1e-5, atol=1e-5)
    params = without(without(params, "space"), "time")  # then no attention mixes the frames
    one, other = (apply(params, x, jnp.array([[5.0, 5.0, t]] * B), LABEL) for t in (9.0, 800.0))
    moved = np.abs(one - other).max((0, 2, 3, 4))
    assert moved[:2].max() == 0 and moved[2] > 1e-4


def test_factorised_attention_is_the_masked_attention_of_all_tokens():
    """Tokens would attend to those of other frames, or of other places."""
    q, k, v = (drawn(B, 6, 2, 4, seed=s) for s in range(3))  # three frames of two places
    frame, place = np.divmod(np.arange(6), 2)
    for seen, same in ((over_space(q, k, v, 3), frame), (over_time(q, k, v, 3), place)):
        logits = np.einsum("blhd,bmhd->bhlm", q, k) / 2
        powers = np.exp(logits) * (same[:, None] == same[None])
        weights = powers / powers.sum(-1, keepdims=True)
        expected = np.einsum("bhlm,bmhd->blhd", weights, v)
        np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attention": "axial"}, "attention='axial': unknown; known: 'full', 'factorised'"),
        ({"depth": 3}, "depth=3 with attention='factorised': needs an even number"),
        ({"dual": 1}, "dual=1: not with attention='factorised'; allowed: 0"),
        ({"long_skips": True}, "long_skips=True: not with attention='factorised'"),
        ({"positions": "learned", "side": 2}, "positions='learned': not with attention="),
        ({"conditions": (Tokens(5),)}, "condition 'tokens' of kind tokens: enters by joint or"),
        ({"attention": "full", "conditions": (Still(),)}, "condition 'still' of kind still: ent"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(settings, says):
    """A setting would be accepted and change nothing."""
    with pytest.raises(ValueError, match=says.replace("(", "\\(")):
        dit(**{**VIDEO, "depth": 4, **settings})


def test_images_are_refused():
    """The rows of an image would be taken for frames."""
    x, network = jnp.zeros((1, 4, 4, 1)), dit(**VIDEO, depth=2)
    with pytest.raises(ValueError, match="input \\(1, 4, 4, 1\\): needs \\(B, T, H, W, C\\)"):
        jax.eval_shape(network.init, jax.random.key(0), x, jnp.ones(1), None)
