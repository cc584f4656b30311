"""Published networks with cross-attention, every tensor redrawn: `make_cross.py` has the rest."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_cross import C_NOISE, CHANNELS, HEADS, SIZE, TEXT, UNET, WIDTH, inputs
from make_dit import drawn

from diffjax import nets
from diffjax.nets.blocks import Style, Transformer
from diffjax.nets.conditions import Tokens
from diffjax.published import pixart, stable
from diffjax.published.tables import converted

STORED = dict(np.load(Path(__file__).with_name("cross.npz")))
SD = {
    "channels": UNET["block_out_channels"][0],
    "multipliers": (1, 2),
    "blocks": UNET["layers_per_block"],
    "groups": UNET["norm_num_groups"],
    "attention": (SIZE,),
    "heads": HEADS,
    "transformer": (1, 1),
    "embedding": "adm",
    "resample": "centred_conv",
}


def tensors(name):
    shapes = json.loads(str(STORED[f"{name}/shapes"]))
    return {k: drawn(k, tuple(shape)) for k, shape in shapes.items()}


def error(ours, name):
    """Return the largest difference, relative to the largest value."""
    theirs = STORED[f"{name}/output"].transpose(0, 2, 3, 1)
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def described(channels=CHANNELS):
    """Return images in our layout, tokens with NaN where they are masked, and the mask."""
    x, tokens, there = inputs(channels)
    masked = np.where(there[..., None] > 0, tokens, np.float32(np.nan))
    return jnp.asarray(x.transpose(0, 2, 3, 1)), jnp.asarray(masked), jnp.asarray(there > 0)


def output(network, params, tokens, x, name="tokens"):
    arguments = x, jnp.asarray(C_NOISE), {name: tokens}
    shapes = jax.eval_shape(network.init, jax.random.key(0), *arguments)
    chex.assert_trees_all_equal_shapes(params, shapes)
    return jax.jit(network.apply)(params, *arguments)


def test_the_transformer_is_the_published_one():
    """Weights of Stable Diffusion could not be used, or the padding of a caption would be read."""
    params = converted(stable.transformer("", "", 2), tensors("transformer"))
    x, tokens, there = described(WIDTH)
    module = Transformer(2, HEADS, Style(groups=UNET["norm_num_groups"]))
    context = jnp.where(there[..., None], tokens, 0), there
    assert error(jax.jit(module.apply)({"params": params}, x, context), "transformer") < 1e-5


@pytest.mark.thorough
def test_the_unet_is_the_published_one():
    """The transformers would be at other places, or have other heads."""
    network = nets.unet(**SD, conditions=(Tokens(TEXT, layers=0, null=False),))
    params = converted(stable.table({**SD, "conditions": {}}, SIZE), tensors("unet"))
    x, tokens, _ = described()
    assert error(output(network, params, tokens, x), "unet") < 1e-5


def test_the_dit_with_cross_attention_is_the_published_one():
    """Published weights of PixArt could not be used: an order, bias, norm or mask differs."""
    conditions = (Tokens(TEXT, name="text", mechanism="cross", layers=2, null=False),)
    settings = {"width": WIDTH, "depth": 2, "heads": HEADS, "patch": 2, "modulation": "shared"}
    network = nets.dit(**settings, conditions=conditions)
    params = converted(pixart.table(2, 2, CHANNELS), tensors("pixart"))
    x, tokens, _ = described()
    theirs = STORED["pixart/output"].transpose(0, 2, 3, 1)[..., :CHANNELS]
    ours = output(network, params, tokens, x, "text")
    assert np.abs(np.asarray(ours) - theirs).max() < 1e-5 * np.abs(theirs).max()
