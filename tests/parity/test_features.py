"""Feature networks beside the published ones, layer by layer, with every weight drawn again.

`make_features.py` made the numbers with the original code.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_features import drawn, noise, some

from diffjax.features import inception as inception_net
from diffjax.features import inception_names as inception_file
from diffjax.features import vit
from diffjax.features import vit_names as vit_file

STORED = dict(np.load(Path(__file__).with_name("features.npz")))


def part(name):
    """The stored arrays of one network, and its tensors drawn again."""
    stored = {k.partition("/")[2]: v for k, v in STORED.items() if k.startswith(f"{name}/")}
    shapes = json.loads(str(stored["shapes"]))
    return stored, {k: np.asarray(drawn(k, tuple(s))) for k, s in shapes.items()}


def same(ours, theirs, name):
    """Assert equality within 1e-5 of the largest value, which comes first."""
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * theirs[0], err_msg=name)


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.fixture(scope="module")
def inception():
    stored, tensors = part("inception")
    params = inception_file.convert(tensors)

    @jax.jit
    def run(params, x):
        made, state = inception_net.Inception().apply(
            {"params": params}, x, capture_intermediates=lambda m, _: isinstance(m, UNIT)
        )
        return made, state["intermediates"]

    return stored, functools.partial(run, params)


UNIT = inception_net.Unit


def test_every_layer_of_inception_is_the_published_one(inception):
    """FID would be off by tenths, for example by a pool that counts what is beyond the edge."""
    stored, run = inception
    made, layers = run(inception_net.prepared(jnp.asarray(stored["photo"])[None], "tensorflow1"))
    assert {f"layer/{name}" for name in layers} == {k for k in stored if k.startswith("layer/")}
    for name, layer in layers.items():
        same(some(np.asarray(layer["__call__"][0])), stored[f"layer/{name}"], name)
    for name, value in made.items():
        close(value[0], stored[name])


def test_images_can_be_resized_as_pytorch_fid_does(inception):
    stored, run = inception
    made, _ = run(inception_net.prepared(jnp.asarray(stored["photo"])[None], "pytorch"))
    close(made["pool"][0], STORED["pytorch_fid/pool"])


def block_by_block(module, params, given, stored, above=""):
    """Compare `some` of the outputs of each block, and the result, with the stored ones."""
    blocks = lambda m, _: isinstance(m, vit.EncoderBlock)
    run = jax.jit(lambda p, x: module.apply({"params": p}, x, capture_intermediates=blocks))
    made, state = run(params, given)
    ((layers, _),) = state["intermediates"]["blocks"]["__call__"]
    for i, layer in enumerate(np.asarray(layers)):
        same(some(layer), stored[f"{above}layer/{i}"], f"block {i}")
    assert f"{above}layer/{len(layers)}" not in stored
    close(np.asarray(made), stored[f"{above}pool"])


def test_every_block_of_dinov2_is_the_published_one():
    """Positions of 37 x 37 patches would be resampled to other points of 16 x 16."""
    stored, tensors = part("dinov2")
    form, _, params = vit_file.dinov2(tensors)
    x = vit.prepared(jnp.asarray(noise(224)), 224, "dinov2")
    block_by_block(vit.Image(form, 14), params, x, stored)


@pytest.mark.typed
def test_every_block_of_clip_is_the_published_one():
    """Captions and images would be compared by an angle between other vectors."""
    stored, tensors = part("clip")
    form, _, params = vit_file.clip_image(tensors)
    x = vit.prepared(jnp.asarray(noise(56)), 56, "clip")
    block_by_block(vit.Image(form, 14, normed=True), params, x, stored)
    form, _, params = vit_file.clip_text(tensors)
    tokens = jnp.asarray(stored["tokens"])
    block_by_block(vit.Text(form, 100, 77), params, tokens, stored, "text/")
