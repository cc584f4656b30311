"""Files of adapters: three formats hold the same change, and files that do not fit are refused."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file
from small_checkpoints import HEADS, dit

import diffjax
from diffjax import nets
from diffjax.config import ConfigError
from diffjax.io.contents import Contents
from diffjax.io.reading import write
from diffjax.io.trees import flat
from diffjax.nets.adapted import PARAMS, adapted
from diffjax.nets.adapters import DoRA, LoRA
from diffjax.published import adapter_files, adapters, adapting
from diffjax.published.adapters import Change

UNET = nets.unet(channels=8, multipliers=(1, 2), blocks=1, attention=(4,), heads=2)
DIT = nets.dit(width=16, depth=3, heads=2)
ADAPTED = {
    "unet": adapted(UNET, LoRA("Block|Attention", rank=2, alpha=3)),
    "rslora": adapted(UNET, LoRA("Block", rank=3, alpha=3, rank_stabilized=True)),
    "dora": adapted(UNET, DoRA("Block", rank=2)),
    "dora_in": adapted(UNET, DoRA("Block", rank=2, axis="input")),
    "stacked": adapted(DIT, LoRA("blocks|patches", rank=2, alpha=3)),
    "stacked_dora": adapted(DIT, DoRA("blocks", rank=2)),
}


def redrawn(network):
    """Return parameters of an adapted network, with other numbers in each leaf."""
    rng = np.random.default_rng(0)
    x = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, jnp.zeros(1), None)
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype(np.float32), shapes)


def same(ours, wanted):
    for name, value in flat(wanted).items():
        np.testing.assert_allclose(flat(ours)[name], value, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("name", ADAPTED)
def test_each_format_holds_the_change_of_the_network(name, tmp_path):
    """An adapter would change on its way through a file (A7)."""
    network = ADAPTED[name]
    params = redrawn(network)
    base = {k: v for k, v in params.items() if k != PARAMS}
    merged, changes = network.merge(params), adapting.changes_of(network, params)
    same(adapting.merged(network, base, [(changes, 1.0)]), merged)
    for form, written in adapter_files.FORMATS.items():
        if name == "dora_in" and form != "kohya":
            with pytest.raises(ValueError, match=r"axis='input': .*; use kohya"):
                written(changes)
            continue
        written(changes, "unet").save(tmp_path / form)
        read = adapters.opened(tmp_path / form)
        same(adapting.merged(network, base, [(read, 1.0)]), merged)


def test_a_stack_of_blocks_has_a_module_per_block():
    """All blocks of a transformer would get one change."""
    network = ADAPTED["stacked"]
    names = adapting.changes_of(network, redrawn(network))
    assert {"blocks.0.main.qkv", "blocks.2.main.out", "patches"} <= set(names)
    assert len(names) == 3 * 5 + 1


def test_adapters_add_up_and_half_an_adapter_is_half_the_change():
    """Two adapters at once would not be their weighted sum."""
    rng = np.random.default_rng(0)
    base = {"out": rng.normal(size=(4, 3))}
    magnitude = np.abs(rng.normal(size=4))
    one, two = (
        {"out": Change(rng.normal(size=(2, 3)), rng.normal(size=(4, 2)), 0.5, m)}
        for m in (None, magnitude)
    )
    both = adapting.changed(base, [(one, 0.5), (two, -2.0)])["out"]
    wanted = base["out"] + 0.5 * one["out"].of(base["out"]) - 2 * two["out"].of(base["out"])
    np.testing.assert_allclose(both, wanted, rtol=1e-5)
    moved = base["out"] + two["out"].of(base["out"])
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), magnitude)


def test_the_change_does_not_depend_on_how_the_scale_is_split():
    """A file with its scale in B would be scaled twice."""
    rng = np.random.default_rng(0)
    down, up, base = rng.normal(size=(2, 3)), rng.normal(size=(4, 2)), np.zeros((4, 3))
    split = [Change(down * s, up / s * 0.7, 1.0) for s in (0.1, 1.0, 10.0)]
    split.append(Change(down, up, 0.7))
    for one in split:
        np.testing.assert_allclose(one.of(base), 0.7 * up @ down, rtol=1e-9)


A, B = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)
NAMES = ("down_blocks.0.attn1.to_q", "down_blocks.0.attn1.to_out.0", "conv_in", "mid.block_1")
OLD = {
    "unet.down_blocks.0.attn1.to_q.lora.down.weight": A,
    "unet.down_blocks.0.attn1.to_q.lora.up.weight": B,
    "unet.down_blocks.0.attn1.processor.to_out_lora.down.weight": A,
    "unet.down_blocks.0.attn1.processor.to_out_lora.up.weight": B,
    "lora_unet_mid_block_1.lora_down.weight": A,
    "lora_unet_mid_block_1.lora_up.weight": B,
    "lora_unet_conv_in.lora_down.weight": A,
    "lora_unet_conv_in.lora_up.weight": B,
}


def read(tensors, settings=None):
    return adapters.changes(Contents(tensors, {}), settings or {})


def test_names_of_all_ages_are_matched_with_those_of_the_network():
    """Modules with "_" in their names would be lost, as conv_in was in diffusers until #14005."""
    found = adapters.fitted(read(OLD), NAMES)
    assert set(found) == set(NAMES)
    assert all(change.scale == 1 for change in found.values())  # without alpha, alpha = r


@pytest.mark.parametrize(("alpha", "scale"), [(4.0, 2.0), (0.0, 1.0), (1.0, 0.5)])
def test_alpha_of_kohya_is_divided_by_the_rank(alpha, scale):
    tensors = {k: v for k, v in OLD.items() if "conv_in" in k}
    with_alpha = {**tensors, "lora_unet_conv_in.alpha": np.float16(alpha)}
    assert read(with_alpha)["lora_unet_conv_in"].scale == scale


SETTINGS = {
    "lora_alpha=4": ({"lora_alpha": 4}, 2.0),
    "rslora": ({"lora_alpha": 4, "use_rslora": True}, 4 / 2**0.5),
    "its own": ({"lora_alpha": 4, "alpha_pattern": {"to_q": 1}}, 0.5),
    "of another": ({"lora_alpha": 4, "alpha_pattern": {"q": 1}}, 2.0),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_peft_give_the_scale(name):
    """Every adapter with alpha other than r would have another strength."""
    settings, scale = SETTINGS[name]
    tensors = {"base_model.model.attn.to_q.lora_A.weight": A}
    tensors["base_model.model.attn.to_q.lora_B.weight"] = B
    assert read(tensors, settings)["attn.to_q"].scale == pytest.approx(scale)


def test_metadata_of_diffusers_give_the_scale(tmp_path):
    about = {"unet.lora_alpha": 4, "unet.r": 2, "text_encoder.lora_alpha": 9}
    tensors = {"unet.conv_in.lora_A.weight": A, "unet.conv_in.lora_B.weight": B}
    write(file := tmp_path / "a.safetensors", tensors, {adapters.METADATA: json.dumps(about)})
    assert adapters.opened(file)["conv_in"].scale == 2


REFUSED = {
    "unknown: 1 (lora_tf_q.alpha)": {"lora_tf_q.alpha": A, **OLD},
    "holds no adapter of the network, but of text_encoder_2": {"text_encoder_2.q.lora_A.weight": A},
    "unknown: 1 (lora_unet_conv_in.lora_mid.weight)": {
        "lora_unet_conv_in.lora_mid.weight": A,
        **OLD,
    },
    "without both factors: 1 (conv_in)": {"unet.conv_in.lora_A.weight": A},
    "holds no adapter": {},
}


@pytest.mark.parametrize("message", REFUSED)
def test_tensors_that_would_be_lost_are_refused(message):
    """A part of an adapter would be left out without a word."""
    with pytest.raises(ValueError, match=re.escape(message)):
        read(REFUSED[message])


WRONG = {
    "peft_type='LOHA'": {"peft_type": "LOHA"},
    "fan_in_fan_out=True": {"fan_in_fan_out": True},
    "init_lora_weights='pissa_niter_4'": {"init_lora_weights": "pissa_niter_4"},
}


@pytest.mark.parametrize("message", WRONG)
def test_settings_with_another_meaning_are_refused(message):
    with pytest.raises(ValueError, match=message):
        read(OLD, WRONG[message])


def test_adapters_of_another_network_are_refused():
    """They would be merged in part."""
    weights = {name: np.zeros((4, 3)) for name in NAMES}
    assert set(adapting.changed(weights, [(read(OLD), 1.0)])) == set(NAMES)
    with pytest.raises(ValueError, match=r"the network lacks: 1 \(lora_unet_conv_in\)"):
        adapting.changed({k: v for k, v in weights.items() if k != "conv_in"}, [(read(OLD), 1.0)])
    with pytest.raises(ValueError, match=r"conv_in: factors \(2, 3\) and \(4, 2\) do not change"):
        adapting.changed({**weights, "conv_in": np.zeros((3, 4))}, [(read(OLD), 1.0)])
    with pytest.raises(ValueError, match=r"stands for mid\.block\.1 and mid\.block_1"):
        adapters.fitted(read(OLD), [*NAMES, "mid.block.1"])


def test_names_that_kohya_cannot_tell_apart_are_not_written():
    one = Change(A, B)
    with pytest.raises(ValueError, match="lora_unet_a_b: is the name of several modules"):
        adapter_files.kohya({"a.b": one, "a_b": one})


def test_an_adapter_of_a_published_network_has_its_names(tmp_path):
    """A file for the published network would not fit its converted one."""
    tensors = dit()
    save_file(tensors, tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    factors = {
        "transformer.blocks.0.attn.qkv.lora_A.weight": rng.normal(size=(2, 48)),
        "transformer.blocks.0.attn.qkv.lora_B.weight": rng.normal(size=(144, 2)),
        "transformer.x_embedder.proj.lora_A.weight": rng.normal(size=(2, 4, 2, 2)),
        "transformer.x_embedder.proj.lora_B.weight": rng.normal(size=(48, 2, 1, 1)),
    }
    factors = {name: value.astype(np.float32) for name, value in factors.items()}
    save_file(factors, tmp_path / "lora.safetensors")

    def network(*adapters):
        path, files = tmp_path / "net.safetensors", [tmp_path / name for name in adapters]
        trained = diffjax.load(path, family="dit", settings=HEADS, adapters=files)
        return flat(jax.device_get(trained.denoise.params["network"]))

    plain, ours = network(), network("lora.safetensors")
    changed = {path for path in ours if np.abs(ours[path] - plain[path]).max() > 0}
    assert changed == {"blocks/main/qkv/kernel", "patches/kernel"}
    qkv, conv = (
        np.tensordot(
            factors[f"transformer.{name}.lora_B.weight"].reshape(-1, 2),
            factors[f"transformer.{name}.lora_A.weight"],
            1,
        )
        for name in ("blocks.0.attn.qkv", "x_embedder.proj")
    )
    delta = {path: ours[path] - plain[path] for path in ours}
    np.testing.assert_allclose(delta["blocks/main/qkv/kernel"][0], qkv.T, atol=1e-5)
    flattened = conv.transpose(2, 3, 1, 0).reshape(-1, 48)
    np.testing.assert_allclose(delta["patches/kernel"], flattened, atol=1e-5)
    save_file({f"wrong.{k}": v for k, v in factors.items()}, tmp_path / "wrong.safetensors")
    with pytest.raises(ConfigError, match=r"wrong\.safetensors: modules that the network lacks"):
        network("wrong.safetensors")
