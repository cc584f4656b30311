"""Published weights: their family, what else is in the file, and what shapes allow."""

import argparse
import contextlib
import json
import pickle
import re
from pathlib import Path

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended
from safetensors.numpy import save_file
from small_checkpoints import GUIDED, HEADS, SIDE, UNET, WIDTH, classifier, dit, guided, layer, unet

import diffjax
from diffjax.builder import construct_sde
from diffjax.config import ConfigError
from diffjax.io.contents import Contents
from diffjax.published import FAMILIES, bare, edm, recognised
from diffjax.runs import trained
from diffjax.sde import levels
from diffjax.tools.convert import read

DIT, GUIDED_NET, NET = dit(), guided(), unet()
SMALL = {
    "dit": (DIT, HEADS),
    "sit": (DIT, HEADS),
    "guided": (GUIDED_NET, GUIDED),
    "diffusers": (NET, {}),
}


def converted(tensors, family="dit", **settings):
    """Convert contents as `trained.convert` does, without building the network."""
    contents, notes = bare(Contents(tensors, {}, config=UNET), FAMILIES[family])
    made = FAMILIES[family].convert(contents, **{**SMALL[family][1], **settings})
    return made._replace(notes=(*notes, *made.notes))


def test_the_processes_of_edm_have_the_sigmas_of_its_sampler():
    """VP, VE and iDDPM would be sampled from another noise level than the original's."""
    settings = {"sigma_min": 0.01, "sigma_max": 50.0, "beta_d": 19.9, "beta_min": 0.1, "M": 1000}
    settings |= {"C_1": 0.001, "C_2": 0.008, "sigma_data": 0.5}
    for name, sections in edm.PRECONDITIONED.items():
        sde = construct_sde(sections(settings, 18)["sde"], "sde")
        sigma = np.exp(-np.asarray(levels(sde, np.array([sde.t_min, sde.t_max])).lam))
        if name == "iDDPMPrecond":  # its grid is that of a table of betas, near 0.002 to 80
            np.testing.assert_allclose(np.log(sigma), np.log([0.002, 80.0]), atol=1.5)
        else:
            np.testing.assert_allclose(sigma, (0.01, 50.0), rtol=1e-3)
    with pytest.raises(ValueError, match="M=500"):
        edm.PRECONDITIONED["VPPrecond"]({**settings, "M": 500}, 18)
    with pytest.raises(ValueError, match="needs min < max"):
        edm.PRECONDITIONED["EDMPrecond"]({**settings, "sigma_max": 0.001}, 18)


def under(prefix, tensors):
    return {f"{prefix}{name}": a for name, a in tensors.items()}


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "_orig_mod.", "model.", "ema.", "state_dict.", "net.", "ema_model."),
        *("module._orig_mod.", "state_dict.model.", "ema.module.", "model.diffusion_model."),
        "state_dict.ema._orig_mod.module.",
    ],
)
def test_names_of_wrappers_are_cut_off(family, prefix):
    """Weights of a parallel, compiled or averaged module, or of Lightning, would be refused."""
    tensors = SMALL[family][0]
    made, plain = converted(under(prefix, tensors), family), converted(tensors, family)
    chex.assert_trees_all_equal(made.params, plain.params)
    if family not in ("dit", "sit"):
        assert recognised(Contents(under(prefix, tensors), {}, config=UNET)) == family


def test_names_of_compiled_parts_are_cut_off_inside():
    """A network whose blocks were compiled one by one would be refused."""
    inside = {k.replace("blocks.0.", "blocks.0._orig_mod."): a for k, a in DIT.items()}
    chex.assert_trees_all_equal(converted(inside).params, converted(DIT).params)
    with pytest.raises(ValueError, match="with tensors of the same name"):
        converted(DIT | inside)


def test_several_networks_in_a_file():
    """The raw parameters would be read instead of the average, or one of two at random."""
    ema = {k: (2 * a if k != "pos_embed" else a) for k, a in DIT.items()}
    beside = {"n_averaged": np.array(3), "opt.state.0.exp_avg": np.zeros(2)}
    made = converted(under("model.", DIT) | under("ema.", ema) | beside)
    chex.assert_trees_all_equal(made.params, converted(ema).params)
    assert made.notes[0] == "read: ema.*; left out: model, opt"
    with pytest.raises(
        ValueError, match=r"several networks \(model\., net\.\), but not exactly one aver"
    ):
        converted(under("model.", DIT) | under("net.", DIT))


def test_a_checkpoint_of_the_originals_training_script_is_read(tmp_path):
    """DiT's training checkpoints (model, ema, opt, args) could not be read."""
    arguments = argparse.Namespace(results_dir=Path("results/000"), lr=1e-4, model="DiT-S/2")
    optimizer = {"state": {0: {"step": 3, "exp_avg": np.zeros(2)}}, "param_groups": [{"lr": 1e-4}]}
    both = {"model": DIT, "ema": under("module.", DIT), "opt": optimizer, "args": arguments}
    for protocol in (2, 5):
        path = tmp_path / f"{protocol}.pt"
        path.write_bytes(pickle.dumps(both, protocol))
        contents, family = trained.opened(path, "dit")
        assert contents.settings["args"]["model"] == "DiT-S/2"
        assert contents.settings["args"]["results_dir"] == "results/000"
        bared, _ = bare(contents, FAMILIES[family])
        assert set(bared.tensors) == set(DIT)


@pytest.mark.parametrize("family", ["", *FAMILIES])
@pytest.mark.parametrize(
    "tensors",
    [
        {"state.0.exp_avg": np.zeros((4, 4), np.float32), "state.0.step": np.zeros(())},
        {"optimizer.state.0.exp_avg_sq": np.zeros(4, np.float32)},
    ],
)
def test_the_state_of_an_optimizer_is_named(family, tensors, tmp_path):
    """The user would see a KeyError, or a list of missing tensors."""
    save_file(tensors, tmp_path / "opt.safetensors")
    with pytest.raises(ConfigError, match=r"opt\.safetensors: the state of an optimizer"):
        diffjax.load(tmp_path / "opt.safetensors", family=family)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(value):
    """Samples would be NaN, by half precision that overflowed or a damaged file."""
    bias = DIT["t_embedder.mlp.0.bias"].copy()
    bias[3] = value
    with pytest.raises(ValueError, match=r"t_embedder\.mlp\.0\.bias: holds values that are not"):
        converted(DIT | {"t_embedder.mlp.0.bias": bias})


def test_a_classifier_is_named(tmp_path):
    """The user would see KeyError: 'out.2.weight'."""
    save_file(classifier(), tmp_path / "classifier.safetensors")
    with pytest.raises(ConfigError, match=r"classifier\.safetensors: a classifier of noisy images"):
        diffjax.load(tmp_path / "classifier.safetensors", settings=GUIDED)


@pytest.mark.parametrize("family", FAMILIES)
def test_tensors_of_another_network_are_named(family):
    """The user would see a KeyError, or an error deep in a layout, where --family is wrong."""
    others = (DIT, GUIDED_NET, NET, layer("a", 2, 2), {"x": np.zeros(())})
    for tensors in others:
        own = family in SMALL and tensors is SMALL[family][0]
        if not own:
            contents = Contents(tensors, {"ema": 3}, config=UNET)
            convert = lambda read: FAMILIES[family].convert(bare(read, FAMILIES[family])[0])
            with pytest.raises(ValueError, match=r"not the tensors of this network: |no network"):
                convert(contents)


@pytest.mark.parametrize("family", SMALL)
def test_each_tensor_is_missed_by_its_name(family):
    """A KeyError would name the tensors from which settings are read, or shapes not fit."""
    tensors, _ = SMALL[family]
    for name in tensors:
        lacking = {k: a for k, a in tensors.items() if k != name}
        if name != "pos_embed":
            with pytest.raises(ValueError, match=re.escape(name)):
                converted(lacking, family)
        for odd in (np.zeros(()), np.zeros((0, 3)), np.zeros(7), np.zeros((1, 1, 1, 1, 1))):
            with contextlib.suppress(ValueError):  # or the network refuses them, in `check_weights`
                converted(lacking | {name: odd}, family)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
@pytest.mark.parametrize("again", [False, True])
def test_half_precision_is_read(dtype, again, tmp_path):
    """Rounded positions would be refused, also where the file was converted back to float32."""
    rounded = {k: a.astype(dtype) for k, a in DIT.items()}
    rounded = {k: a.astype(np.float32) for k, a in rounded.items()} if again else rounded
    save_file(rounded, tmp_path / "half.safetensors")
    contents, _ = trained.opened(tmp_path / "half.safetensors", "dit")
    params = converted(contents.tensors).params
    np.testing.assert_allclose(params["noise_in"]["bias"], DIT["t_embedder.mlp.0.bias"], rtol=1e-2)
    for by in (1e-2, np.nan):
        moved = DIT["pos_embed"].copy()
        moved[0, 3, 5] += by
        with pytest.raises(ValueError, match="needs the fixed sines and cosines"):
            converted(DIT | {"pos_embed": moved.astype(dtype)})


def test_an_unconditional_transformer_is_read(tmp_path):
    """Conversion would fail: the default guidance weight is refused before a flag can change it."""
    tensors = dit(classes=0)
    save_file(tensors, tmp_path / "uncond.safetensors")
    made = diffjax.load(tmp_path / "uncond.safetensors", family="dit", settings=HEADS)
    assert not made.experiment.classes and made.config["sampling"].get("guidance", 1.0) == 1.0
    bias = tensors["t_embedder.mlp.2.bias"] + tensors["y_embedder.embedding_table.weight"][0]
    np.testing.assert_array_equal(made.denoise.params["network"]["noise_out"]["bias"], bias)


def test_rows_of_labels_are_read_in_both_ways():
    """Ten rows would be misread: nine classes and one for none, or ten classes never dropped."""
    dropped, kept = converted(dit(classes=9)), converted(dit(classes=9), null=False)
    assert (dropped.classes, kept.classes) == (9, 10)
    assert dropped.config["sampling"]["guidance"] == 1.5
    assert "guidance" not in kept.config["sampling"]
    assert kept.params["label"]["embedding"].shape == (11, WIDTH)


@pytest.mark.parametrize(
    ("family", "settings", "message"),
    [
        ("dit", {"heads": 5}, "heads=5: needs a divisor of the 48"),
        ("dit", {"heads": -1}, "heads=-1"),
        ("dit", {"size": 64}, "not 32 x 32"),
        ("guided", {"heads": 3}, "heads=3: needs a divisor of the channels"),
        ("guided", {"size": -8}, "size=-8"),
        ("guided", {"order": "ch3"}, "order='ch3': unknown; known: h3c, 3hc"),
        ("guided", {"schedule": "x"}, "schedule='x': unknown"),
        ("guided", {"steps": 1}, "steps=1"),
    ],
)
def test_settings_that_do_not_go_with_the_shapes_are_refused(family, settings, message):
    """Heads would be cut at other channels than in the original, or a traceback appear."""
    with pytest.raises(ValueError, match=re.escape(message)):
        converted(SMALL[family][0], family, **settings)


def test_load_takes_what_the_command_takes(tmp_path):
    """A checkpoint that needs a family or settings could be read by the command only."""
    path = tmp_path / "dit.safetensors"
    save_file(DIT, path)
    made = diffjax.load(path, {"steps": 7, "guidance": 1.0}, family="sit", settings=HEADS)
    assert made.config["parameterization"]["name"] == "velocity"
    assert made.config["sampling"]["steps"] == 7 and made.experiment.form.shape == (8, 8, 4)
    with pytest.raises(ConfigError, match=r"family: the tensors .* fit dit and sit"):
        diffjax.load(path)
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(ConfigError, match="is a run of diffjax; family and settings do not apply"):
        diffjax.load(tmp_path, family="dit")


def folder(path, config=UNET, scheduler=None, tensors=NET, network="unet"):
    """Write a pipeline of diffusers."""
    (path / network).mkdir(parents=True)
    save_file(tensors, path / network / "diffusion_pytorch_model.safetensors")
    (path / network / "config.json").write_text(json.dumps(config))
    if scheduler:
        (path / "scheduler").mkdir()
        (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return path


ZERO = {"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True, "num_train_timesteps": 40}


def test_flags_are_applied_before_anything_is_checked(tmp_path):
    """A setting that a flag corrects would be refused as the file states it."""
    path = folder(tmp_path, scheduler=ZERO)
    with pytest.raises(ConfigError, match="alpha is 0"):
        read(path, "", {})
    made = read(path, "", {}, changes=["parameterization.name=v"])
    assert made.config["parameterization"]["name"] == "v"
    assert made.config["sampling"]["steps"] == 40  # 50 steps by default, and 40 levels


def test_an_average_of_diffusers_training_is_read(tmp_path):
    """The folder `unet_ema`, whose config has fields of the average too, would be refused."""
    average = {"decay": 0.9999, "inv_gamma": 1.0, "power": 0.75, "min_decay": 0.0}
    average |= {"optimization_step": 100, "update_after_step": 0, "use_ema_warmup": True}
    path = folder(tmp_path, config=UNET | average, network="unet_ema")
    made = diffjax.load(path / "unet_ema")
    chex.assert_trees_all_equal(made.denoise.params["network"], converted(NET, "diffusers").params)
    folder(path)
    with pytest.raises(ConfigError, match="holds unet and unet_ema; name one"):
        diffjax.load(path)


def test_the_readers_own_facts_are_not_among_theirs(tmp_path):
    """The name of a PyTorch file would be refused as an unknown setting of the network."""
    path = folder(tmp_path) / "unet"
    (path / "diffusion_pytorch_model.safetensors").unlink()
    (path / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({**NET, "epoch": 3}))
    assert diffjax.load(tmp_path).config["network"]["name"] == "unet"
    (path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        diffjax.load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"sample_size": 9, "block_out_channels": [32, 32]}, ["sample_size=9", "halves 1 times"]),
        ({"block_out_channels": [32, 64]}, ["down_block_types", "2 of them"]),
        ({"attention_head_dim": 7}, ["attention_head_dim=7", "[32]"]),
        (
            {"resnet_time_scale_shift": "scale_shift"},
            ["attn_norm_num_groups=None", "'scale_shift'"],
        ),
        ({"out_channels": 4}, ["out_channels=4", "in_channels or twice"]),
        ({"block_out_channels": []}, ["block_out_channels=[]", "a list of whole numbers"]),
        ({"layers_per_block": "2"}, ["layers_per_block='2'", "whole number"]),
        ({"norm_eps": None}, ["norm_eps=None", "a number"]),
    ],
)
def test_settings_of_a_network_are_checked_together(changed, parts):
    """Settings that are supported one by one would build another network, or raise a traceback."""
    contents = Contents(NET, {}, config=UNET | changed)
    with pytest.raises(ValueError, match=r"config\.json: ") as refused:
        FAMILIES["diffusers"].convert(contents)
    assert all(part in str(refused.value) for part in parts), refused.value


def test_positions_of_the_helper_are_ours():
    """The files of this module would not be those of a DiT."""
    assert DIT["pos_embed"].shape == (1, SIDE**2, WIDTH)
    assert converted(DIT).shape == (2 * SIDE, 2 * SIDE, 4)


@pytest.mark.thorough
def test_a_published_network_restores_and_edits_images(tmp_path, monkeypatch, capsys):
    """The commands would need a run's data, or write below a file; a second run would overwrite."""
    folder(tmp_path)
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    np.save(tmp_path / "x.npy", np.full((1, 8, 8, 3), 90, np.uint8))
    flags = (f"--workdir={file}", f"--image={tmp_path / 'x.npy'}", "--steps=2")
    (file.parent / "restored.png").touch()  # of an earlier run
    more = ("--problem=half", "--method=diffpir", "--num=1")
    assert ended(monkeypatch, "tools.restore", *flags, *more) == 0, capsys.readouterr().err
    wild = ("--tolerance=10", "--iterations=1")  # of random weights
    assert ended(monkeypatch, "tools.edit", "invert", *flags, *wild) == 0, capsys.readouterr().err
    written = {path.name for path in file.parent.glob("*.png")}
    assert written == {"restored.png", "restored_2.png", "invert.png"}
    assert not (file.parent / "restored.png").stat().st_size
