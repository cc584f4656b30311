"""U-Nets of videos: what they are on one frame, on stills, and with a time per frame."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawing import random_like

from diffjax.io.trees import flat, nested
from diffjax.nets import unet
from diffjax.nets.cards import Exchange
from diffjax.nets.conditions import Label, Length, Still, To, Tokens
from diffjax.nets.frames import TimeAttention

B, T, SIDE = 2, 3, 4
IMAGE = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": (), "heads": 2}
VIDEO = IMAGE | {"time_attention": (SIDE,), "conditions": (Label(3), Tokens(2), Still())}
COND = {
    "label": jnp.array([2, -1]),
    "tokens": jnp.asarray(np.random.default_rng(1).normal(size=(B, 2, 2)), jnp.float32),
}


def drawn(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def repeated(cond):
    """Return the conditions of videos as those of all their frames."""
    return {name: jnp.repeat(value, T, 0) for name, value in cond.items()}


@functools.cache
def made():
    """Return a small network of videos, random parameters, inputs and compiled `apply`."""
    network, x, c = unet(**VIDEO), drawn(B, T, SIDE, SIDE, 1), jnp.array([3.0, 700.0])
    params = random_like(jax.eval_shape(network.init, jax.random.key(0), x, c, COND))
    return network, params, (x, c), jax.jit(network.apply)


def fresh(params):
    """Return the parameters with attention over time as it begins, with an output of zero."""
    off = lambda layer: layer | {"out": jax.tree.map(jnp.zeros_like, layer["out"])}
    return {k: off(v) if k.startswith("TimeAttention") else v for k, v in params.items()}


def test_a_network_of_videos_begins_as_that_of_images():
    """Training could not begin with the weights of an image network, or of one frame."""
    _, params, (x, c), apply = made()
    out = apply(fresh(params), x, c, COND)
    image = unet(**IMAGE, conditions=(Label(3), Tokens(2)))
    of_image = {k: v for k, v in params.items() if not k.startswith("TimeAttention")}
    assert (
        len(params) == len(of_image) + 5
    )  # 1 in the encoder, 2 in the middle and 2 in the decoder
    frames, one = x.reshape(-1, *x.shape[2:]), jax.jit(image.apply)
    seen = one(of_image, frames, jnp.repeat(c, T), repeated(COND))
    chex.assert_trees_all_close(out.reshape(seen.shape), seen, rtol=1e-5, atol=1e-5)
    assert np.abs(apply(params, x, c, COND) - out).max() > 1e-2


def test_stills_are_videos_of_one_frame():
    """Training on images would teach the attention over time what no video has."""
    _, params, (x, _), apply = made()
    c = jnp.arange(6.0).reshape(B, T) * 90
    stills = apply(params, x, c, COND | {"still": jnp.array([1, 1])})
    frames = x.reshape(B * T, 1, SIDE, SIDE, 1)
    alone = apply(params, frames, c.reshape(-1), repeated(COND))
    chex.assert_trees_all_close(stills.reshape(alone.shape), alone, rtol=1e-4, atol=1e-4)
    videos = apply(params, x, c, COND | {"still": jnp.array([0, -1])})
    mixed = apply(params, x, c, COND | {"still": jnp.array([1, -1])})
    chex.assert_trees_all_close(mixed, jnp.stack([stills[0], videos[1]]), rtol=1e-5, atol=1e-5)
    assert np.abs(stills - videos).max() > 1e-2


def test_each_frame_has_its_own_time():
    """A continuation could not tell the known frames from noise."""
    network, params, (x, c), apply = made()
    assert network.lane(x.shape[1:]) == 1
    each = jnp.repeat(c[:, None], T, 1)
    same, one = (apply(params, x, times, COND) for times in (each, c))
    chex.assert_trees_all_close(same, one, rtol=1e-5, atol=1e-5)
    later = each.at[:, 2].set(90.0)
    moved = lambda params: np.abs(apply(params, x, later, COND) - apply(params, x, each, COND))
    apart = moved(fresh(params)).max((0, 2, 3, 4))
    assert apart[:2].max() == 0 and apart[2] > 1e-3
    assert moved(params).max((0, 2, 3, 4)).min() > 1e-4  # attention carries it to all frames


def test_frames_begin_as_those_of_videos_without_cards():
    """Training could not begin with the weights of a network of clips, or a card be a frame."""
    settings = VIDEO | {"conditions": ()}
    x, c = drawn(B, T, SIDE, SIDE, 1), drawn(B, T) ** 2
    plain, marked = unet(**settings), unet(**settings | {"cards": 1})
    shapes = lambda network: jax.eval_shape(network.init, jax.random.key(0), x, c, None)
    params, wanted = random_like(shapes(plain)), jax.tree.map(jnp.zeros_like, shapes(marked))
    begun = marked.init(jax.random.key(0), x, c, None)
    more = {path for path in flat(wanted) if path not in flat(params)}
    assert {path.split("/")[0] for path in more} == {"exchange"}
    last = {path for path in more if "/out/" in path or path.endswith("/marks")}
    assert len(last) == 2 * 2 + 1 and all(not np.asarray(flat(begun)[k]).any() for k in last)
    with_more = lambda value: nested(
        flat(begun) | flat(params) | {k: value(flat(wanted)[k]) for k in last}
    )
    apply, alone = jax.jit(marked.apply), jax.jit(plain.apply)(params, x[:, :-1], c[:, :-1], None)
    start = apply(with_more(jnp.zeros_like), x, c, None)
    chex.assert_trees_all_close(start[:, :-1], alone, rtol=1e-5, atol=1e-5)
    learned = with_more(lambda a: 0.3 * drawn(*a.shape))
    of_card = np.abs(apply(learned, x.at[:, -1].add(1.0), c, None) - apply(learned, x, c, None))
    assert of_card.max((0, 2, 3, 4)).min() > 1e-3  # all frames see the card
    of_clip = np.abs(apply(learned, x.at[:, 0].add(1.0), c, None) - apply(learned, x, c, None))
    assert of_clip.max((0, 2, 3, 4)).min() > 1e-3


def test_a_card_is_no_moment_of_a_video():
    """The nearest frame would take its pixels for what comes next."""
    layer = TimeAttention(heads=2, frames=3, cards=1)
    x, masks = drawn(3 * B, 2, 1, 8), (None, None)
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), x, masks))
    other = x.reshape(B, 3, 2, 1, 8).at[:, 2].set(drawn(B, 2, 1, 8, seed=1)).reshape(x.shape)
    clips = lambda x: jax.jit(layer.apply)(params, x, masks).reshape(B, 3, 2, 1, 8)[:, :2]
    chex.assert_trees_all_equal(clips(x), clips(other))


def test_clips_and_cards_see_all_of_the_other_and_only_that():
    """A label would reach some frames of a clip, or a card learn from itself or another clip."""
    frames, cards, width = 5, 2, 8
    images, emb = drawn(B * frames, 4, 4, 3), drawn(B * frames, width)
    layer = Exchange(frames, cards)
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), images, emb))
    marks = np.asarray(params["params"]["marks"])
    add = jax.jit(lambda images, emb: layer.apply(params, images, emb) - emb)
    received = lambda *seen: np.asarray(add(*seen)).reshape(B, frames, width)
    first = received(images, emb)
    by_clip, by_cards = first[:, :3], first[:, 3:] - marks
    for each in (by_clip, by_cards):  # all frames of the clip receive one vector, all cards another
        np.testing.assert_allclose(each, np.broadcast_to(each[:, :1], each.shape), atol=1e-5)
    assert np.abs(by_clip[:, 0] - by_cards[:, 0]).min(0).max() > 1e-3
    for frame in range(frames):
        for seen in (images.at[frame, 1, 2].add(3.0), emb), (images, emb.at[frame].add(1.0)):
            here, other = np.abs(received(*seen) - first)
            apart, same = (here[:3], here[3:]) if frame >= 3 else (here[3:], here[:3])
            assert apart.max(1).min() > 1e-4 and same.max() < 1e-5 and other.max() < 1e-5


@pytest.mark.parametrize(
    ("settings", "frames", "says"),
    [
        ({"cards": -1}, T, "cards=-1"),
        ({"cards": 1, "time_attention": ()}, T, "cards=1: needs time_attention"),
        ({"cards": 1, "conditions": (Still(),)}, T, "cards=1: not with the condition 'still'"),
        ({"cards": 1, "conditions": (Length(T),)}, T, "cards=1: not with the condition 'length'"),
        ({"cards": 3}, 3, "unet with cards=3 and input (1, 3, 4, 4, 1): needs at least 4 frames"),
    ],
)
def test_cards_that_do_not_fit_are_refused_by_name(settings, frames, says):
    """A card would be taken for padding or a still, or no frame be left."""
    x, key = jnp.zeros((1, frames, SIDE, SIDE, 1)), jax.random.key(0)
    begin = lambda: unet(**VIDEO | {"conditions": ()} | settings).init(key, x, jnp.ones(1), None)
    with pytest.raises(ValueError, match=re.escape(says)):
        jax.eval_shape(begin)


def test_gradients_reach_every_layer():
    """A layer would stay as it began, or a gradient not be finite."""
    network, params, (x, c), _ = made()
    loss = lambda params: jnp.square(jnp.asarray(network.apply(params, x, c, COND))).mean()
    for gradient in jax.tree.leaves(jax.jit(jax.grad(loss))(params)):
        assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0


def test_attention_over_time_sees_frames_by_their_distance():
    """Windows of other lengths than those of the training would mean something else."""
    layer = TimeAttention(heads=2, frames=5)
    x = drawn(5 * B, 2, 1, 8).at[0].set(9.0)  # padding of the first video, as large as you like
    masks = lambda there: (jnp.tile(jnp.array([there]), (B, 1)) > 0, None)
    params = random_like(jax.eval_shape(layer.init, jax.random.key(0), x, masks([1] * 5)))
    apply = jax.jit(layer.apply)
    late = apply(params, x, masks([0, 0, 1, 1, 1])).reshape(B, 5, 2, 1, 8)
    early = jnp.roll(x.reshape(B, 5, 2, 1, 8), -2, 1).reshape(x.shape)
    early = apply(params, early, masks([1, 1, 1, 0, 0])).reshape(late.shape)
    chex.assert_trees_all_close(late[:, 2:], early[:, :3], rtol=1e-4, atol=1e-4)
    short = x.reshape(B, 5, 2, 1, 8)[:, 2:].reshape(-1, 2, 1, 8)
    short = jnp.asarray(TimeAttention(heads=2, frames=3).apply(params, short, (None, None)))
    chex.assert_trees_all_close(late[:, 2:], short.reshape(B, 3, 2, 1, 8), rtol=1e-4, atol=1e-4)
    turned = jnp.flip(x.reshape(B, 5, 2, 1, 8), 1).reshape(x.shape)
    back = jnp.flip(apply(params, turned, masks([1] * 5)).reshape(late.shape), 1)
    ahead = apply(params, x, masks([1] * 5)).reshape(late.shape)
    assert np.abs(back - ahead).max() > 1e-3  # it knows which frame is the later one


def test_padding_of_short_videos_changes_nothing():
    """Videos of several lengths could not train one network, or would see their padding."""
    of = lambda n: unet(**IMAGE, time_attention=(SIDE,), conditions=(Length(n),))
    x, c = drawn(B, T, SIDE, SIDE, 1), jnp.array([3.0, 700.0])
    params = random_like(jax.eval_shape(of(T).init, jax.random.key(0), x, c, None))
    run = lambda n: jax.jit(of(n).apply)(params, x[:, :n], c, {"length": jnp.full(B, 2, "uint32")})
    short = run(2)
    chex.assert_trees_all_close(run(T)[:, :2], short, rtol=1e-4, atol=1e-4)
    assert np.abs(short).max() > 1e-3


def test_other_settings_of_videos_have_their_shapes():
    """Patches, a second output, a second time or recomputed blocks would fail with videos."""
    settings = VIDEO | {"patch": 2, "time_attention": (2,), "remat": True, "learn_variance": True}
    network = unet(**settings | {"conditions": (To(),), "transformer": (1,), "dtype": "bfloat16"})
    x, c = jnp.zeros((B, T, SIDE, SIDE, 1)), jnp.ones(B)
    assert network.lane(x.shape[1:]) == 0 and network.encoder is None
    inputs = (x, c, {"to": jnp.zeros(B)})
    params = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    out = jax.eval_shape(network.apply, params, *inputs)
    assert [a.shape for a in out] == [x.shape, x.shape]


@pytest.mark.parametrize(
    ("settings", "shape", "says"),
    [
        ({}, (1, 4, 4, 1), "unet with time_attention=(4,) and input (1, 4, 4, 1): needs (B, T"),
        ({"time_attention": (3,)}, (1, 3, 4, 4, 1), "time_attention=(3,): no level has the side 3"),
        ({"multipliers": (1, 1)}, (1, 4, 4, 3, 1), "each divisible by 2"),
        (
            {"heads": 8},
            (1, 3, 4, 4, 1),
            "heads=8: needs an even number",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(settings, shape, says):
    """The rows of an image would be taken for frames, or a setting change nothing."""
    x, key = jnp.zeros(shape), jax.random.key(0)
    begin = lambda: unet(**VIDEO | {"conditions": ()} | settings).init(key, x, jnp.ones(1), None)
    with pytest.raises(ValueError, match=re.escape(says)):
        jax.eval_shape(begin)


def test_images_have_no_stills():
    """The condition would be accepted and change nothing."""
    with pytest.raises(ValueError, match="condition 'still' of kind still: enters by apart"):
        unet(**IMAGE, conditions=(Still(),))
