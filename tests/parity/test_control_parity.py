"""U-Nets of Stable Diffusion and controls beside them against diffusers: see `make_control.py`."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_control import C_NOISE, SCALE, SIDES, B, inputs
from make_dit import drawn

from diffjax.builder.construct import construct
from diffjax.builder.network import construct_network
from diffjax.data.conditions import on_grid
from diffjax.io.contents import Contents
from diffjax.io.trees import flat
from diffjax.nets import CONTROLS, controlled
from diffjax.published import controls, recognised, stable
from diffjax.published.tables import converted

STORED = dict(np.load(Path(__file__).with_name("control.npz")))
BASE = {"sd": "sd", "xl": "xl", "sd_control": "sd", "xl_control": "xl", "full": "sd"}
BASE |= {"light": "sd", "full_xl": "xl", "image_prompt": "sd"}
PREFIX = {"sd_control": "control.", "xl_control": "control."}
PREFIX |= {"full": "full.", "light": "light.", "full_xl": "full_xl."}
CLASS = {"sd": "UNet2DConditionModel", "xl": "UNet2DConditionModel", "full": "T2IAdapter"}
CLASS |= {"sd_control": "ControlNetModel", "xl_control": "ControlNetModel"}
CLASS |= {"light": "T2IAdapter", "full_xl": "T2IAdapter", "image_prompt": ""}
FULL = ("sd15", "sd21", "sdxl")


def contents(name):
    """Return the redrawn tensors of a case, with its config."""
    shapes = json.loads(str(STORED[f"{name}/shapes"]))
    prefix = PREFIX.get(name, "")
    tensors = {k: drawn(prefix + k, tuple(shape)) for k, shape in shapes.items()}
    config = json.loads(str(STORED[f"{name}/config"])) if CLASS[name] else None
    return Contents(tensors, {}, config=config and {**config, "_class_name": CLASS[name]})


@functools.cache
def base(name):
    """Return the network, its settings, and its parameters."""
    settings, specs, shape = stable.settings(contents(name).config)
    network = construct_network(settings, specs, "network")
    params = converted(stable.table(settings, shape[0]), contents(name).tensors)
    return network, settings, params


def given(name):
    """Return x, noise labels and conditions in our layout."""
    every = inputs()
    cond = {"text": jnp.asarray(every["tokens"])}
    if name == "xl":
        cond["text_pooled"] = jnp.asarray(np.concatenate([every["pooled"], every["sizes"]], 1))
    x = jnp.asarray(every["x"].transpose(0, 2, 3, 1))
    return x, jnp.asarray(C_NOISE), cond


def error(ours, name):
    """Return the largest difference, relative to the largest value."""
    theirs = STORED[f"{name}/output"].transpose(0, 2, 3, 1)
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def picture(spec):
    """Return the pictures as maps on the grid of the latents."""
    return jnp.asarray(on_grid(inputs()["picture"].transpose(0, 2, 3, 1), spec.size, SIDES))


def beside(name):
    """Return the base with the control of a case, its parameters, and the value that it reads."""
    network, settings, params = base(BASE[name])
    found = controls.control(contents(name), "control")
    assert found is not None
    section = {**found.section, "scale": SCALE}
    control = construct(CONTROLS, section, "adapter", size=found.spec.size)
    assert control.spec == found.spec
    own = {"control": found.params(params, settings, SIDES[0])}
    value = picture(found.spec) if found.spec.kind == "map" else jnp.asarray(inputs()["image"])
    return controlled(network, [control]), {**params, "adapter": own}, value


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["sd", "xl"])
def test_the_unet_is_the_published_one(name):
    """Depths, heads or conditions of Stable Diffusion's U-Nets would be others."""
    network, _, params = base(name)
    assert recognised(contents(name)) == "stable_diffusion"
    assert error(jax.jit(network.apply)(params, *given(name)), name) < 1e-4


CONTROLLED = [
    "sd_control",
    *(
        pytest.param(name, marks=pytest.mark.thorough)
        for name in ("xl_control", "full", "light", "full_xl", "image_prompt")
    ),
]


@pytest.mark.parametrize("name", CONTROLLED)
def test_controls_are_the_published_ones(name):
    """A control would join at other places, with another scale or layout, or not at all."""
    network, params, value = beside(name)
    x, c_noise, cond = given(BASE[name])
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise, {**cond, "control": value})
    assert {k: v.shape for k, v in flat(shapes).items()} == {
        k: np.shape(v) for k, v in flat(params).items()
    }
    apply = jax.jit(network.apply)
    assert error(apply(params, x, c_noise, {**cond, "control": value}), name) < 1e-4
    plain = STORED[f"{BASE[name]}/output"]
    assert np.abs(STORED[f"{name}/output"] - plain).max() > 0.05 * np.abs(plain).max()
    missing = jnp.where(jnp.arange(B).reshape(-1, *[1] * (value.ndim - 1)) == 0, jnp.nan, value)
    ours = apply(params, x, c_noise, {**cond, "control": missing})
    assert error(ours[1:], name) > 0  # of the first sample alone
    theirs = plain.transpose(0, 2, 3, 1)[:1]
    assert np.abs(ours[:1] - theirs).max() / np.abs(theirs).max() < 1e-4


@pytest.mark.thorough
@pytest.mark.parametrize("name", FULL)
def test_names_and_shapes_of_the_full_sizes(name):
    """The published files would not be read: a tensor is missing or has another shape."""
    read = lambda key: json.loads(str(STORED[f"names/{key}"]))
    blank = lambda shapes: {k: np.broadcast_to(np.float32(0), s) for k, s in shapes.items()}
    config, shapes = read(f"{name}/config"), read(f"{name}/shapes")
    settings, specs, shape = stable.settings({**config, "_class_name": CLASS["sd"]})
    network = construct_network(settings, specs, "network")
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    cond = {"text": jax.ShapeDtypeStruct((1, 77, specs[0].size), jnp.float32)}
    if len(specs) > 1:
        assert specs[1].size == 1280 + 6
        cond["text_pooled"] = jax.ShapeDtypeStruct((1, specs[1].size), jnp.float32)
    wanted = jax.eval_shape(
        network.init, jax.random.key(0), x, jax.ShapeDtypeStruct((1,), jnp.float32), cond
    )
    table = stable.table(settings, shape[0])
    assert set(shapes) == {theirs for _, *names in table.values() for theirs in names}
    of = lambda row: np.shape(row[0](*(blank(shapes)[k] for k in row[1:])))
    assert {k: of(row) for k, row in table.items()} == {k: v.shape for k, v in flat(wanted).items()}
    config, shapes = read(f"{name}_control/config"), read(f"{name}_control/shapes")
    found = controls.control(
        Contents(blank(shapes), {}, config={**config, "_class_name": "ControlNetModel"}), "edges"
    )
    assert found is not None and found.spec.size == 192


@pytest.mark.parametrize("name", ["t2i_full", "t2i_xl", "t2i_light"])
def test_names_and_shapes_of_full_adapters(name):
    """Published T2I-Adapters would not be read."""
    shapes = json.loads(str(STORED[f"names/{name}/shapes"]))
    config = json.loads(str(STORED[f"names/{name}/config"]))
    tensors = {k: np.broadcast_to(np.float32(0), shape) for k, shape in shapes.items()}
    found = controls.control(
        Contents(tensors, {}, config={**config, "_class_name": "T2IAdapter"}), "depth"
    )
    assert found is not None and found.spec.size == 192
    control = construct(CONTROLS, found.section, "adapter", size=192)
    value = jnp.zeros((1, 16, 16, 192))
    shapes = jax.eval_shape(lambda: control.module.init(jax.random.key(0), control._read(value)))
    params = found.params({}, {}, 16)
    assert {k: v.shape for k, v in flat(shapes["params"]).items()} == {
        k: np.shape(v) for k, v in flat(params).items()
    }
