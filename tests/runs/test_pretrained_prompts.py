"""Prompts of a run whose captions a published encoder reads, from its folder to samples."""

import json

import jax
import numpy as np
import pytest
from encoders_of_tests import POSITIONS, folder
from redrawn import redrawn

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, load
from diffjax.encoders import TEXT
from diffjax.encoders import clip as clip_encoder
from diffjax.io.reading import write
from diffjax.runs.trained import Trained

PROMPTS = ["red apple, noto style", "cat, noto style"]
POOLED = "text_pooled"


def config(path):
    data = {"name": "emoji", "encoder": f"clip:path={path},pooled=True,cut=True"}
    network = {"name": "dit", "width": 8, "depth": 1, "heads": 2, "patch": 16}
    conditions = {TEXT: {"mechanism": "cross"}}
    sampling = {"steps": 2, "guidance": 3.0}
    base = load("emoji_text")
    return base | {
        "data": data,
        "network": network | {"conditions": conditions},
        "sampling": base["sampling"] | sampling,
    }


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("encoder") / "clip", "bigg")


@pytest.fixture(scope="module")
def trained(clip) -> Trained:
    """A network with random parameters, because a fresh one ignores its conditions."""
    experiment = builder.experiment(config(clip))
    return redrawn(experiment)


@pytest.fixture(scope="module")
def export(trained, tmp_path_factory):
    trained.save(path := tmp_path_factory.mktemp("export") / "run")
    return path


def test_a_network_has_the_tokens_and_the_vector_of_a_text(trained, clip):
    """The network would be built for other conditions than its encoder makes."""
    form = trained.experiment.form
    assert form.names == [TEXT, POOLED] == list(form.texts) and not form.vocabulary
    cond = trained.job(prompt=PROMPTS).cond
    assert cond[TEXT].shape == (2, POSITIONS, 24) and cond[POOLED].shape == (2, 20)
    kept = trained.experiment.encoder.kept
    assert set(PROMPTS) <= set(kept)


def test_the_parameters_of_the_encoder_are_not_trained(trained):
    """An optimizer would change the encoder, and checkpoints would hold it."""
    state = jax.eval_shape(trained.experiment.initialise)
    sizes = [leaf.size for leaf in jax.tree.leaves(state.params)]
    encoder = jax.tree.leaves(trained.experiment.encoder.network.params)
    assert sum(sizes) < 20_000 and 600 * 24 in [leaf.size for leaf in encoder]
    assert 600 * 24 not in sizes


def test_a_run_is_prompted_from_its_folder(trained, export):
    """Samples of a loaded run would differ, or a prompt would have no effect."""
    ours = trained.sample(2, prompt=PROMPTS)
    loaded = diffjax.load(export)
    np.testing.assert_array_equal(loaded.sample(2, prompt=PROMPTS).x, ours.x)
    assert ours.prompts == tuple(PROMPTS)
    other = trained.sample(2, prompt=PROMPTS[::-1]).x.astype(int)
    assert (other != ours.x).any()
    away = trained.sample(2, prompt=PROMPTS, negative="cat").x.astype(int)
    assert (away != ours.x).any()
    stored = json.loads((export / "data.json").read_text())
    assert stored["encoder"] == trained.experiment.encoder.fingerprint


def test_another_folder_is_refused(export, tmp_path):
    """Prompts would be read by an encoder that the network has never seen."""
    file = export / "config.json"
    fields = json.loads(file.read_text())
    other = folder(tmp_path / "clip", "bigg", seed=1)
    (copy := tmp_path / "run").mkdir()
    for path in export.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    refused = (
        (other, "has the fingerprint .*; the run was trained with"),
        ("no", "no such folder"),
    )
    for path, message in refused:
        encoder = f"clip:path={path},pooled=True,cut=True"
        (copy / "config.json").write_text(
            json.dumps(fields | {"data": fields["data"] | {"encoder": encoder}})
        )
        with pytest.raises(ConfigError, match=rf"config\.data\.encoder.*{message}"):
            diffjax.load(copy).sample(1, prompt="red")


def test_training_refuses_a_folder_that_does_not_exist():
    """A run would stop after its data were read, with a traceback."""
    with pytest.raises(ConfigError, match=r"config\.data\.encoder: path=nowhere: no such folder"):
        builder.experiment(config("nowhere"))


def factors(module, inputs, outputs, seed):
    """Return the factors of a layer in the format of PEFT."""
    rng = np.random.default_rng(seed)
    down, up = rng.normal(size=(2, inputs)), rng.normal(size=(outputs, 2))
    named = {f"{module}.lora_A.weight": down, f"{module}.lora_B.weight": up}
    return {name: value.astype(np.float32) for name, value in named.items()}


OF_TEXT = factors("text_encoder.text_model.encoder.layers.1.self_attn.q_proj", 24, 24, 0)
OF_NETWORK = factors("transformer.blocks.0.main.qkv", 8, 24, 1)


def test_an_adapter_changes_the_network_and_its_encoder(trained, export, clip, tmp_path):
    """A style would be half of what was trained, without a word."""
    file = tmp_path / "style.safetensors"
    write(file, OF_TEXT | OF_NETWORK, {})
    both = diffjax.load(export, adapters={file: 0.5})
    assert both.notes == (f"{file}: adapter merged with weight 0.5",)
    tokens = lambda each: each.job(prompt=PROMPTS).cond[TEXT]
    assert np.abs(tokens(both) - tokens(trained)).max() > 1e-3
    by_hand = clip_encoder(path=str(clip), pooled=True, cut=True, adapter=str(file))
    half = clip_encoder(
        path=str(clip), pooled=True, cut=True, adapter=str(file), adapter_weight=0.5
    )
    np.testing.assert_array_equal(tokens(both), half(PROMPTS)[TEXT])
    assert np.abs(by_hand(PROMPTS)[TEXT] - half(PROMPTS)[TEXT]).max() > 1e-3
    assert half.fingerprint == trained.experiment.encoder.fingerprint
    flat = lambda each: jax.tree.leaves(each.denoise.params)
    moved = [np.abs(a - b).max() > 0 for a, b in zip(flat(both), flat(trained), strict=True)]
    assert sum(moved) == 1
    both.save(tmp_path / "export")
    np.testing.assert_array_equal(tokens(diffjax.load(tmp_path / "export")), tokens(both))


def test_a_part_that_nothing_takes_is_stated(export, tmp_path):
    """An adapter of the second encoder would be merged into the only one, or lost unseen."""
    second = {k.replace("text_encoder", "text_encoder_2"): v for k, v in OF_TEXT.items()}
    write(tmp_path / "two.safetensors", second | OF_NETWORK, {})
    notes = diffjax.load(export, adapters=tmp_path / "two.safetensors").notes
    assert any(note.endswith("not used: its adapter of the text_encoder_2") for note in notes)
    write(tmp_path / "alone.safetensors", second, {})
    with pytest.raises(ConfigError, match="changes text_encoder_2 alone, and config"):
        diffjax.load(export, adapters=tmp_path / "alone.safetensors")
    with pytest.raises(ConfigError, match="adapter=nowhere: no such file or folder"):
        builder.experiment(config(f"{export.parent},adapter=nowhere"))
