"""Textual inversion: one row of a table is trained, nothing else changes, and it goes to files."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import TINY, ended
from PIL import Image
from safetensors.numpy import load_file

import diffjax
from diffjax.config import ConfigError, load, override
from diffjax.io.trees import flat
from diffjax.training.workdir import read_form

TABLE = "words_text/embedding"
TEXT = "network={'name': 'dit', 'width': 8, 'depth': 1, 'heads': 2, 'conditions': {'text': "
TEXT += "{'mechanism': 'cross'}}}"
SHORT = [t for t in TINY if not t.startswith(("network", "train.steps="))]
WORD = "adapter=rows:where=words_text"
MOONS = Path(__file__).parents[1] / "moons.py"


def pictures(folder, captions):
    """Write grey images of 8 x 8 pixels with these captions."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for k, text in enumerate(captions):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{k}.png")
        lines.append(json.dumps({"file_name": f"{k}.png", "text": text}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def fit(images, workdir, *changes, **more):
    data = f"data=folder:path={images},channels=1,holdout=0.0,encoder=words"
    fast = ["optimizer.warmup=0", "optimizer.learning_rate=0.05", "train.steps=3"]
    given = [*SHORT, TEXT, *fast, data, *changes]
    return diffjax.fit(override(load("digits_vp"), given), workdir, **more)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    place = tmp_path_factory.mktemp("base")
    images = pictures(place / "images", ["red dot", "green dot", "green line"])
    fit(images, place / "run")
    return place / "run"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("style") / "images", ["sketch dot", "sketch line"])


@pytest.fixture(scope="module")
def run(base, images, tmp_path_factory):
    """Train the vector of one new word, in two launches."""
    workdir = tmp_path_factory.mktemp("inverted") / "run"
    more = f"data.vocabulary={base}"
    for steps in (3, 6):
        fit(images, workdir, WORD, f"train.steps={steps}", more, resume_from=base)
    return workdir


def network(trained):
    return flat(jax.device_get(trained.denoise.params["network"]))


def test_one_row_is_trained_and_nothing_else_changes(base, run):
    """A word would change what other prompts show."""
    assert read_form(base).vocabulary == ("dot", "green", "line", "red")
    assert read_form(run).vocabulary == ("dot", "green", "line", "red", "sketch")
    before, own = network(diffjax.load(base)), network(diffjax.load(run))
    assert own.pop(f"adapter/{TABLE}/rows").shape == (1, 8)
    held = own.pop(TABLE)
    after = network(diffjax.load(run).merged())
    table = after.pop(TABLE)
    np.testing.assert_array_equal(table[:4], before[TABLE])
    np.testing.assert_allclose(held[4], before[TABLE].mean(0), rtol=1e-6)
    assert np.abs(table[4] - held[4]).max() > 1e-3
    for path, value in after.items():
        np.testing.assert_array_equal(value, before[path])
        np.testing.assert_array_equal(own[path], before[path])


def test_a_run_with_a_word_needs_no_other_run(base, run):
    """A style could not be sampled once the run that it began with is gone."""
    away = base.rename(base.with_name("away"))
    try:
        assert diffjax.load(run).job(prompt="sketch dot").prompts == ("sketch dot",)
    finally:
        away.rename(base)


def test_a_checkpoint_holds_the_row_alone(run):
    """It would be as large as the network."""
    text = (run / "checkpoints/6/state/_METADATA").read_text()
    stored = [path for path in json.loads(text)["tree_metadata"] if "'network'" in path]
    assert stored and all("'rows'" in path or "count" in path for path in stored)


@pytest.mark.parametrize("form", ["diffusers", "kohya"])
def test_a_word_goes_through_a_file_to_its_base(form, base, run, tmp_path, monkeypatch, capsys):
    """A prompt with the word would be refused, or show something else."""
    assert ended(monkeypatch, "tools.convert", run, f"--format={form}", f"--out={tmp_path}/f") == 0
    name = {"diffusers": "learned_embeds", "kohya": "sketch"}[form]
    file = tmp_path / "f" / f"{name}.safetensors"
    assert f"wrote {file}" in capsys.readouterr().out
    [(key, vector)] = load_file(file).items()
    assert key == ("sketch" if form == "diffusers" else "emb_params")
    wanted = network(diffjax.load(run).merged())
    np.testing.assert_allclose(vector.reshape(-1), wanted[TABLE][4])
    for source in (file, run):
        trained = diffjax.load(base, adapters=source)
        assert trained.experiment.form.vocabulary[4] == "sketch"
        for path, value in network(trained).items():
            np.testing.assert_allclose(value, wanted[path], atol=1e-6)
    half = network(diffjax.load(base, adapters={file: 0.5}))[TABLE][4]
    np.testing.assert_allclose(half, (wanted[TABLE][4] + wanted[TABLE][:4].mean(0)) / 2, atol=1e-6)
    asked = f"--workdir={base}", "--prompt=sketch dot", "--num=1", f"--out={tmp_path / 'x.npz'}"
    assert ended(monkeypatch, "sample", *asked) == 2
    assert "unknown word 'sketch'" in capsys.readouterr().err
    assert ended(monkeypatch, "sample", *asked, f"--adapter={file}") == 0
    assert np.load(tmp_path / "x.npz")["arr_0"].shape == (1, 8, 8, 1)


@pytest.mark.thorough
def test_a_word_and_an_adapter_of_kernels_are_trained_together(base, images, tmp_path, monkeypatch):
    """A style would have to do with one of them."""
    both = "adapter={'word': {'name': 'rows', 'where': 'words_text'}, 'style': {'name': 'lora', "
    both += "'where': 'blocks', 'rank': 2}}"
    trained = fit(images, tmp_path / "run", both, f"data.vocabulary={base}", resume_from=base)
    own = {path for path in network(trained) if path.startswith("adapter/")}
    assert f"adapter/{TABLE}/rows" in own and any(path.endswith("/up") for path in own)
    flags = tmp_path / "run", "--format=diffusers", f"--out={tmp_path / 'files'}"
    assert ended(monkeypatch, "tools.convert", *flags) == 0
    files = sorted((tmp_path / "files").iterdir())
    assert [f.name for f in files] == [
        "learned_embeds.safetensors",
        "pytorch_lora_weights.safetensors",
    ]
    wanted = network(trained.merged())
    for source in (files, tmp_path / "run"):
        ours = network(diffjax.load(base, adapters=source))
        for path, value in ours.items():
            np.testing.assert_allclose(value, wanted[path], atol=2e-6)
    twice = both.replace("'rows', 'where': 'words_text'", "'lora', 'where': 'b'")
    with pytest.raises(ConfigError, match="has two adapters; needs other patterns"):
        fit(images, tmp_path / "other", twice, f"data.vocabulary={base}", resume_from=base)


def test_a_word_that_nobody_trains_is_refused(base, images, tmp_path):
    """Its vector would be a random one."""
    more = f"data.vocabulary={base}", "adapter=lora:where=blocks,rank=1"
    with pytest.raises(
        ConfigError, match=rf"of other shapes: 1 \(network/{TABLE} \(4, 8\), needs \(5, 8"
    ):
        fit(images, tmp_path / "run", *more, resume_from=base)
    with pytest.raises(ConfigError, match=r"rows, like: -9: the table has the rows 0 to 4"):
        fit(images, tmp_path / "run", more[0], f"{WORD},rows=(-9,)", resume_from=base)
    with pytest.raises(ConfigError, match=r"where='label': matches no table; known: 1 \(words"):
        fit(images, tmp_path / "run", more[0], "adapter=rows:where=label", resume_from=base)


def test_files_of_words_that_do_not_fit_are_refused(base, run, tmp_path):
    """Another word would be overwritten, or a network without words be changed."""
    from safetensors.numpy import save_file

    for word, vector, message in (
        ("sketch", np.ones(7), "'sketch': has 7 numbers; the network needs 8"),
        ("<my-style>", np.ones(8), "'<my-style>': needs one word of letters and digits; rename"),
        ("sketch", np.ones((2, 8)), "'sketch' has 2 vectors; needs one"),
    ):
        save_file({word: vector.astype(np.float32)}, tmp_path / "word.safetensors")
        with pytest.raises(ConfigError, match=message):
            diffjax.load(base, adapters=tmp_path / "word.safetensors")
    moons = tmp_path / "moons"
    config = override(load(str(MOONS)), ["train.steps=2", "train.checkpoint_every=2"])
    diffjax.fit(config, moons)
    with pytest.raises(ConfigError, match=r"config.data.vocabulary=.*has no vocabulary"):
        fit(tmp_path, tmp_path / "run", WORD, f"data.vocabulary={moons}", resume_from=base)


@pytest.mark.thorough
def test_the_vector_of_a_class_is_trained(tmp_path):
    """A class that a network has a row for could not be learned alone."""
    fit = lambda place, *changes, **more: diffjax.fit(
        override(load(str(MOONS)), ["train.steps=4", *changes]), tmp_path / place, **more
    )
    before = network(fit("base"))
    fit("class", "adapter=rows:where=label,like=1,rows=(2,)", resume_from=tmp_path / "base")
    after = network(diffjax.load(tmp_path / "class").merged())
    moved = {k for k, v in after.items() if np.abs(v - before[k]).max() > 0}
    assert moved == {"Embedding_0/label/embedding"}
    table = after["Embedding_0/label/embedding"]
    np.testing.assert_array_equal(table[:2], before["Embedding_0/label/embedding"][:2])
    assert 0 < np.abs(table[2] - table[1]).max() < 0.1
    other = network(diffjax.load(tmp_path / "base", adapters=tmp_path / "class"))
    np.testing.assert_allclose(other["Embedding_0/label/embedding"], table, atol=1e-6)
