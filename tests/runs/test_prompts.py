"""Prompts: from a text to samples of a run that was trained with captions."""

import sys
from pathlib import Path

import numpy as np
import pytest
from commands import ended
from PIL import Image
from redrawn import redrawn

import diffjax
from diffjax import builder, config
from diffjax.config import ConfigError
from diffjax.data import emoji
from diffjax.runs.trained import Trained

TINY = (
    *("network.width=8", "network.depth=1", "network.heads=2", "network.patch=16"),
    *("sampling.steps=2", "sampling.guidance=1.0"),
)
APPLE, CAT = "red apple, noto style", "cat, fluent style"


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A network with random parameters, because a fresh one ignores its conditions."""
    experiment = builder.experiment(config.override(config.load("emoji_text"), TINY))
    return redrawn(experiment)


@pytest.fixture(scope="module")
def export(trained, tmp_path_factory):
    trained.save(folder := tmp_path_factory.mktemp("export") / "run")
    return folder


@pytest.fixture
def without_data(monkeypatch):
    """The data set cannot be opened, as on another computer."""
    monkeypatch.setattr(sys.modules[emoji.__module__], "FOLDER", Path("nowhere"))
    with pytest.raises(FileNotFoundError):
        emoji("test")


def test_a_prompt_is_read_as_captions_are(trained):
    """A prompt in the words of a caption would ask for something else."""
    source = trained.experiment.source("test")
    index = np.array([3, 40])
    prompts = [texts[0] for texts in source.captions(index)]
    cond = trained.job(prompt=prompts).cond
    assert [*cond] == ["text"] == trained.experiment.form.names
    np.testing.assert_array_equal(cond["text"], source[index]["text"])


def test_training_sees_every_caption_and_the_test_split_its_first(trained):
    """The batches of a run would hold other conditions than its network takes."""
    experiment = trained.experiment
    batch = experiment.batch(experiment.batches()[0])
    assert [*batch["cond"]] == ["text"] and batch["x"].shape[1:] == (32, 32, 3)
    assert len(experiment.form.vocabulary) == experiment.form.conditions[0].size
    held_out = emoji("test").captions(np.arange(2))
    encoder = experiment.encoder
    np.testing.assert_array_equal(
        experiment.conditions(2)["text"], encoder([texts[0] for texts in held_out])["text"]
    )


def test_a_run_is_prompted_from_its_folder_alone(trained, export, without_data):
    """A run could not be used where its data set is not."""
    prompts = [APPLE, CAT]
    ours, loaded = (t.sample(2, prompt=prompts) for t in (trained, diffjax.load(export)))
    np.testing.assert_array_equal(loaded.x, ours.x)
    assert loaded.prompts == (APPLE, CAT)
    with pytest.raises(ConfigError, match=r"text: not set \(--prompt of diffjax.sample\), and"):
        diffjax.load(export).job()


def test_samples_use_prompts_in_turn(trained):
    """A prompt in a list would give other samples than alone."""
    both = trained.sample(4, prompt=[APPLE, CAT])
    alone = trained.sample(4, prompt=CAT)
    assert both.prompts == (APPLE, CAT, APPLE, CAT) and alone.prompts == (CAT,) * 4
    np.testing.assert_allclose(both.x[1::2].astype(int), alone.x[1::2], atol=1)
    assert np.abs(both.x[::2].astype(int) - alone.x[::2]).max() > 3
    assert trained.sample(prompt=[APPLE, CAT, CAT]).x.shape[0] == 3


def test_away_from_the_prompt_itself_is_no_guidance(trained):
    """Guidance would lead away from no text where a negative one is given."""
    plain = trained.sample(2, prompt=APPLE).x.astype(int)
    guided = lambda **request: trained.sample(2, prompt=APPLE, guidance=4.0, **request).x
    np.testing.assert_allclose(guided(negative=APPLE), plain, atol=1)
    no_text = guided()
    np.testing.assert_allclose(guided(negative=""), no_text.astype(int), atol=1)
    assert np.abs(guided(negative=CAT) - no_text.astype(int)).max() > 3


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"prompt": "red appel"}, r"--prompt: 'red appel': unknown word 'appel' \(did you mean"),
        ({"prompt": [APPLE, "cat " * 25]}, "--prompt: 'cat cat .*: has 25 words; needs at most 24"),
        ({"prompt": []}, r"--prompt=\[\]: needs one text, or several"),
        ({"prompt": [3]}, r"--prompt=\[3\]: needs one text, or several"),
        ({"prompt": CAT, "cond": {"text": [1]}}, "--prompt: --cond=text sets it too"),
        ({"negative": "xyz", "guidance": 2.0}, "--negative: 'xyz': unknown word"),
        ({"negative": CAT}, "--negative: has no effect with config.sampling.guidance=1"),
        (
            {"negative": CAT, "guidance": {"weight": 2.0, "reference": "cached"}},
            "--negative: config.sampling.guidance.reference=.*cached.* leads away from something",
        ),
        ({"prompt": None, "cond": {"text": [9999]}}, "--cond=text=9999: no such word; known: 0 to"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(trained, request_, message):
    """A picture would show something else than was asked for, after minutes of compiling."""
    with pytest.raises(ConfigError, match=message):
        trained.job(**{"prompt": APPLE, **request_})


def test_more_prompts_than_samples_are_refused(trained):
    """Some prompts would have no sample."""
    with pytest.raises(ConfigError, match="--prompt: 3 values for 2 samples"):
        trained.sample(2, prompt=[APPLE, CAT, APPLE])


def test_runs_without_captions_take_no_prompt():
    """A prompt would be ignored."""
    experiment = builder.experiment(config.load("moons_vp"))
    untrained = Trained(experiment.denoiser(experiment.parameters()), experiment)
    with pytest.raises(ConfigError, match="--prompt: the network was trained without captions"):
        untrained.job(prompt="a moon")
    spec = {**config.load("moons_vp")["data"], "encoder": "words"}
    with pytest.raises(ConfigError, match=r"config\.data\.encoder: the training items have no cap"):
        builder.construct_data(spec, "config.data")[0]("train")


def test_a_picture_shows_and_holds_its_prompts(export, tmp_path, monkeypatch, capsys):
    """Nobody would know which prompt, seed and sampler made a picture."""
    file = tmp_path / "prompts.txt"
    file.write_text(f"{APPLE}\n{CAT}\n")
    flags = [f"--workdir={export}", f"--prompts={file}", "--negative=face", "--guidance=2"]
    assert ended(monkeypatch, "sample", *flags, "--seed=5", f"--out={tmp_path / 'a.png'}") == 0
    with Image.open(tmp_path / "a.png") as picture:
        texts, width, height = picture.text, *picture.size
    assert texts["prompt"] == f'["{APPLE}", "{CAT}"]' and texts["negative"] == "face"
    assert texts["seed"] == "5" and texts["Software"] == f"diffjax {diffjax.__version__}"
    assert "ddim" in texts["sampler"] and texts["guidance"] == "2.0"
    assert width == 2 * 130 + 2 and height > 132  # two images of 128 pixels above their prompts
    out = tmp_path / "folder"
    assert ended(monkeypatch, "sample", *flags, "--seed=5,7", "--num=4", f"--out={out}") == 0
    for k, (prompt, seed) in enumerate(((APPLE, "5"), (CAT, "7"), (APPLE, "5"), (CAT, "7"))):
        with Image.open(out / f"{k:06d}.png") as picture:
            texts = picture.text
        assert (texts["prompt"], texts["seed"], texts["index"]) == (prompt, seed, str(k // 2))
    assert ended(monkeypatch, "sample", *flags, "--prompt=cat") == 2
    assert "--prompts: --prompt sets texts too" in capsys.readouterr().err
    file.write_text("")
    assert ended(monkeypatch, "sample", *flags) == 2
    assert "is empty; needs one prompt per line" in capsys.readouterr().err
