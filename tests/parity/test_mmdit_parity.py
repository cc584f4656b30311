"""Networks of Stable Diffusion 3 and Flux.1, every tensor redrawn: see `make_mmdit.py`."""

import json
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from make_dit import drawn
from make_mmdit import CASES, FULL, SIDES, SIGMA, WEIGHT, inputs

from diffjax.builder.network import construct_network
from diffjax.io.contents import Contents
from diffjax.io.trees import flat
from diffjax.published import FAMILIES, flux, mmdit, recognised, sd3

STORED = dict(np.load(Path(__file__).with_name("mmdit.npz")))


def contents(name):
    shapes = json.loads(str(STORED[f"{name}/shapes"]))
    tensors = {k: drawn(k, tuple(shape)) for k, shape in shapes.items()}
    return Contents(tensors, {}, config=json.loads(str(STORED[f"{name}/config"])))


def given(name):
    """Return x, the noise label and the conditions in our form."""
    x, text, pooled = inputs()
    cond = {"text": jnp.asarray(text), "text_pooled": jnp.asarray(pooled)}
    if name == "flux_dev":
        cond["guidance"] = jnp.asarray(WEIGHT)
    return jnp.asarray(x.transpose(0, 2, 3, 1)), jnp.asarray(1000 * SIGMA), cond


@pytest.mark.parametrize("name", [*CASES])
def test_the_network_is_the_published_one(name):
    """Published weights could not be used: an order, bias, norm, rotation or mask differs."""
    made = contents(name)
    made = FAMILIES[recognised(made)].convert(made)
    network = construct_network(made.config["network"], made.conditions, "network")
    x, c_noise, cond = given(name)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c_noise, cond)
    chex.assert_trees_all_equal_shapes(made.params, shapes)
    apply = jax.jit(network.apply)
    ours = np.asarray(apply(made.params, x, c_noise, cond))
    theirs = STORED[f"{name}/output"].transpose(0, 2, 3, 1)
    assert ours.shape[1:3] == SIDES
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    if "guidance" in cond:
        without = cond | {"guidance": cond["guidance"].at[1].set(jnp.nan)}
        assert WEIGHT[1] == 1  # which a missing weight means
        np.testing.assert_array_equal(apply(made.params, x, c_noise, without), ours)


BLOCKS = {
    "sd3_medium": {"transformer_blocks": (0, 23)},
    "sd35_large": {"transformer_blocks": (0, 37)},
    "sd35_medium": {"transformer_blocks": (0, 13, 23)},
    "flux_dev": {"transformer_blocks": (0,), "single_transformer_blocks": (0,)},
    "flux_schnell": {"transformer_blocks": (0,), "single_transformer_blocks": (0,)},
}
"""A block of each kind: with a second attention, without, and the last one, or in one stream."""


def full(name):
    """Return the tensors of a full size, which take no memory, its settings, and its table."""
    tensors = {}
    for key, shape, numbers in json.loads(str(STORED[f"names/{name}/shapes"])):
        first, last = map(int, numbers.split("-")) if numbers else (0, 0)
        blank = np.broadcast_to(np.float32(0), json.loads(shape))
        tensors |= {key.format(i): blank for i in range(first, last + 1)}
    config = json.loads(str(STORED[f"names/{name}/config"]))
    if name.startswith("flux"):
        network, specs, channels = flux.settings(config)
        return tensors, network, specs, (128, 128, channels), lambda n: flux.table(n, channels)
    return tensors, *sd3.settings(config), sd3.table


@pytest.mark.thorough
@pytest.mark.parametrize("name", FULL)
def test_names_of_the_full_sizes(name):
    """The published files would not be read: a tensor is missing."""
    tensors, network, _, _, table = full(name)
    last = f"transformer_blocks.{network['depth'] - 1}."
    used = {theirs for _, *names in table(network).values() for theirs in names}
    assert {*tensors} - used <= {last + each for each in mmdit.UNUSED}
    assert used <= {*tensors}
    count = sum(v.size for k, v in tensors.items() if k != sd3.POSITIONS)
    assert count == int(STORED[f"names/{name}/parameters"])


@pytest.mark.thorough
@pytest.mark.parametrize("name", FULL)
def test_shapes_of_the_full_sizes(name):
    """The published files would not be read: a tensor has another shape. It costs memory."""
    tensors, network, specs, shape, table = full(name)
    few = {k: v for k, v in tensors.items() if "blocks." not in k}
    for kind, numbers in BLOCKS[name].items():
        for i, n in enumerate(numbers):
            of = {k: v for k, v in tensors.items() if k.startswith(f"{kind}.{n}.")}
            few |= {k.replace(f".{n}.", f".{i}.", 1): v for k, v in of.items()}
    network["depth"] = sum(map(len, BLOCKS[name].values()))
    network |= {k: 1 for k in ("dual", "single") if network.get(k)}
    made = construct_network(network, specs, "network")
    like = lambda *sizes: jax.ShapeDtypeStruct(sizes, jnp.float32)
    cond = {"text": like(1, 77, specs[0].size), "text_pooled": like(1, specs[1].size)}
    wanted = jax.eval_shape(made.init, jax.random.key(0), like(1, *shape), like(1), cond)
    of = lambda layout, *names: np.shape(layout(*(few[k] for k in names)))
    shapes = {path: of(*row) for path, row in table(network).items()}
    assert shapes == {k: v.shape for k, v in flat(wanted).items()}


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("sd3", {"dual_attention_layers": [1]}, r"dual_attention_layers=\[1\]; needs the first"),
        ("sd3", {"qk_norm": "layer_norm"}, "qk_norm='layer_norm'; needs None or 'rms_norm'"),
        ("sd3", {"caption_projection_dim": 12}, "caption_projection_dim=12; needs 16"),
        ("sd3", {"pos_embed_max_size": None}, "pos_embed_max_size=None; needs 4 or more"),
        ("sd3", {"attention_bias": True}, "attention_bias=True is not supported"),
        ("flux_dev", {"in_channels": 96, "out_channels": 16}, "out_channels=16; needs 96"),
        ("flux_dev", {"axes_dims_rope": [2, 3, 3]}, "axes_dims_rope=.*three even numbers"),
        ("flux_dev", {"patch_size": 2}, "patch_size=2; needs 1"),
    ],
)
def test_networks_of_other_forms_are_refused_by_name(name, fields, message):
    """Another network would be built, and the error be one of shapes or there be none."""
    made = contents(name)
    made = made._replace(config={**made.config, **fields})
    with pytest.raises(ValueError, match=f"config.json: {message}"):
        FAMILIES[recognised(made)].convert(made)


def test_the_shift_of_flux_follows_from_the_size():
    """Images of another size than 1024 would be sampled at wrong noise levels."""
    made = contents("flux_dev")
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    for size, exponent in ((128, 1.15), (32, 0.5)):
        found = flux.convert(made._replace(scheduler=scheduler), size=size)
        grid = found.config["sampling"]["grid"]
        assert grid == {"name": "shifted", "shift": pytest.approx(np.exp(exponent)), "even": True}
    with pytest.raises(ValueError, match="size=15: needs a multiple of 2"):
        flux.convert(made, size=15)
    with pytest.raises(ValueError, match="_class_name='DDIMScheduler'; needs FlowMatchEuler"):
        flux.convert(made._replace(scheduler={"_class_name": "DDIMScheduler"}))
