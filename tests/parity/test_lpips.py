"""LPIPS beside the package `lpips`, with redrawn backbones and its trained weights of channels.

`make_lpips.py` made the numbers.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_features import drawn
from make_lpips import NETS, images

from diffjax.features.lpips import NETS as OURS
from diffjax.features.lpips import lpips
from diffjax.io.reading import write

STORED = dict(np.load(Path(__file__).with_name("lpips.npz")))
LIMIT = 1e-5
"""Of the largest value; float32 in both."""


def part(net):
    return {k.partition("/")[2]: v for k, v in STORED.items() if k.startswith(f"{net}/")}


def loaded(net, folder):
    """Return the distance from files like the published ones."""
    stored = part(net)
    shapes = json.loads(str(stored["shapes"]))
    backbone = {k: np.asarray(drawn(k, tuple(s))) for k, s in shapes.items()}
    backbone["classifier.1.weight"] = np.ones((1, 1), np.float32)  # left out, as by the original
    linear = {k.removeprefix("linear/"): v for k, v in stored.items() if k.startswith("linear/")}
    write(folder / "backbone.safetensors", backbone, {})
    write(folder / "linear.safetensors", linear, {})
    paths = [str(folder / f"{name}.safetensors") for name in ("backbone", "linear")]
    return lpips(net, *paths), stored


def close(ours, theirs, what):
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert error < LIMIT, f"{what}: {error:.1e}"


@pytest.mark.parametrize(
    "net", [pytest.param(n, marks=() if n == "squeeze" else pytest.mark.thorough) for n in NETS]
)
def test_distances_are_those_of_lpips(net, tmp_path):
    """The metric would compare with no other."""
    distance, stored = loaded(net, tmp_path)
    assert net in OURS
    assert "not the standard weights" in distance.about
    total = jax.jit(distance.apply)(distance.params, *map(jnp.asarray, images()))
    close(total, stored["total"], "distance")


@pytest.mark.thorough
def test_the_gradient_is_that_of_lpips(tmp_path):
    """A decoder would be trained on another loss."""
    distance, stored = loaded("alex", tmp_path)
    loss = lambda params, x, y: distance.apply(params, x, y).sum()
    gradient = jax.jit(jax.grad(loss, 2))(distance.params, *map(jnp.asarray, images()))
    close(gradient[:, ::4, ::4], stored["gradient"], "gradient")


def test_the_weights_of_channels_are_the_trained_ones():
    """The licence demands that it travels with them."""
    assert "Richard Zhang" in str(STORED["licence of linear"])
    for net, layers in OURS.items():
        sizes = [v.size for k, v in part(net).items() if k.startswith("linear/")]
        halves = [layer.features * (1 + (layer.kind == "fire")) for layer in layers.values()]
        assert sizes == [s for s, c in zip(halves, layers.values(), strict=True) if c.compared]
