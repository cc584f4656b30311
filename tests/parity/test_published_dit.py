"""Published transformers with every tensor redrawn; `make_dit.py` lists what is stored."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_dit import HEADS, LENGTHS, SMALL, WIDTH, drawn

from diffjax.nets import dit
from diffjax.nets.conditions import Label
from diffjax.nets.dit import BlockSettings, TransformerBlock
from diffjax.nets.positions import sincos
from diffjax.published import mmdit
from diffjax.published.dit import table
from diffjax.published.tables import converted

pytestmark = pytest.mark.typed

STORED = dict(np.load(Path(__file__).with_name("dit.npz")))


def part(name):
    """The stored arrays of one model, and its tensors drawn again."""
    stored = {k.split("/")[1]: v for k, v in STORED.items() if k.startswith(f"{name}/")}
    prefix = "" if name == "dit" else "block."
    shapes = json.loads(str(stored.pop("shapes")))
    return stored, {k: drawn(prefix + k, tuple(v)) for k, v in shapes.items()}


def error(ours, theirs):
    """Return the largest difference, relative to the largest value."""
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def image(a):
    return jnp.asarray(a.transpose(0, 2, 3, 1))


def test_dit_is_the_published_one():
    """Published weights could not be used: layout, frequencies, null class or an order differ."""
    stored, tensors = part("dit")
    depth, channels = SMALL["depth"], SMALL["in_channels"]
    network = dit(
        width=SMALL["hidden_size"],
        depth=depth,
        heads=SMALL["num_heads"],
        patch=SMALL["patch_size"],
        conditions=(Label(SMALL["num_classes"]),),
        learn_variance=True,
    )
    params = converted(table(depth, SMALL["patch_size"], channels), tensors)
    label = np.where(stored["label"] == SMALL["num_classes"], -1, stored["label"])
    given = image(stored["x"]), jnp.asarray(stored["t"]), {"label": jnp.asarray(label, jnp.int32)}
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given)
    chex.assert_trees_all_equal_shapes(params, shapes)
    made = jax.jit(network.apply)(params, *given)
    both = np.split(np.asarray(image(stored["output"])), 2, -1)
    for mine, theirs in zip(made, both, strict=True):
        assert error(mine, theirs) < 1e-5


def test_positions_are_the_published_ones():
    """Trained weights would see each patch elsewhere: rows and columns are easily swapped."""
    np.testing.assert_allclose(sincos((4, 4), 24), STORED["dit/positions"], atol=1e-6)


@pytest.mark.parametrize("name", ["mmdit", "mmdit_last"])
def test_block_with_tokens_is_that_of_stable_diffusion(name):
    """Attention to text would differ from that of the trained network."""
    stored, tensors = part(name)
    last = name == "mmdit_last"
    block = TransformerBlock(BlockSettings(WIDTH, HEADS, qk_norm=True), last=last)
    there = jnp.ones((2, LENGTHS[1]), bool)
    run = lambda params, x, tokens, c: block.apply(
        {"params": params}, (x, tokens), None, jax.nn.silu(c), None, there
    )
    given = [jnp.asarray(stored[k]) for k in ("x", "tokens", "c")]
    rows = mmdit.block("", "", qk_norm=True, last=last)
    params = converted(rows, tensors, mmdit.UNUSED if last else ())
    (x, tokens), _ = jax.jit(run)(params, *given)
    assert error(x, stored["output"]) < 1e-5
    if last:
        np.testing.assert_array_equal(tokens, stored["tokens"])
    else:
        assert error(tokens, stored["output_tokens"]) < 1e-5
