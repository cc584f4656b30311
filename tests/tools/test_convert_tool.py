"""Weights in and out: a run is exported and loaded again, and mistakes give one line."""

import json
import re
import shutil
import sys

import chex
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import diffjax
from diffjax import cli, evaluate, sample, train
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.io.trees import flat, nested
from diffjax.published import FAMILIES, recognised
from diffjax.published.tables import blocks, conv, converted, layer
from diffjax.tools import convert
from diffjax.training.workdir import WEIGHTS

COMMANDS = {"convert": convert, "evaluate": evaluate, "sample": sample, "train": train}


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process; return exit code, stdout and stderr."""

    def run(command, *flags):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(COMMANDS[command].run)
        return (ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def exported(toy, tmp_path_factory):
    """Return the export of the toy run."""
    out = tmp_path_factory.mktemp("exported") / "toy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["convert.py", str(toy), f"--out={out}"])
        assert convert.run() == 0
    return out


@pytest.mark.typed
def test_an_exported_run_comes_back_identical(toy, exported):
    """Exported weights would differ from the trained ones."""
    ours, back = diffjax.load(toy), diffjax.load(exported)
    assert sorted(p.name for p in exported.iterdir()) == [
        "SHA256SUMS",
        "config.json",
        "data.json",
        WEIGHTS,
    ]
    assert ours.step == back.step == 4
    assert json.loads(json.dumps(ours.config)) == back.config
    chex.assert_trees_all_equal(ours.denoise.params, back.denoise.params)
    chex.assert_trees_all_equal_dtypes(ours.denoise.params, back.denoise.params)
    assert all(a.dtype == np.float32 for a in load_file(exported / WEIGHTS).values())
    assert repr(back).startswith("Trained(mlp, ") and "step=4" in repr(back)


def test_a_network_is_exported_from_python(toy, tmp_path):
    """Weights could be exported by the command only."""
    trained = diffjax.load(toy)
    trained.save(tmp_path / "out")
    back = diffjax.load(str(tmp_path / "out"))
    assert back.step == trained.step and back.ema == trained.ema
    chex.assert_trees_all_equal(trained.denoise.params, back.denoise.params)
    with pytest.raises(ValueError, match="exists already"):
        trained.save(tmp_path / "out")


def test_an_exported_run_samples_the_same(toy, exported, call, tmp_path):
    """The export would be refused by the commands, or give other samples."""
    for workdir, name in ((toy, "a.npz"), (exported, "b.npz")):
        flags = ["--num=4", "--seed=3", f"--out={tmp_path / name}"]
        assert call("sample", f"--workdir={workdir}", *flags)[0] == 0
    a, b = (np.load(tmp_path / name)["arr_0"] for name in ("a.npz", "b.npz"))
    np.testing.assert_array_equal(a, b)


def test_an_exported_run_is_exported_again_with_another_config(exported, call, tmp_path):
    """A config could not be corrected without training again."""
    code, out, _ = call("convert", exported, f"--out={tmp_path / 'x'}", "--config.sampling.steps=7")
    assert code == 0
    assert f"python -m diffjax.sample --workdir={tmp_path / 'x'}" in out
    assert f"python -m diffjax.evaluate --workdir={tmp_path / 'x'}" in out
    assert diffjax.load(tmp_path / "x").config["sampling"]["steps"] == 7


@pytest.mark.parametrize(
    ("command", "flags", "parts"),
    [
        ("convert", ["{toy}", "--out={toy}"], ["--out=", "exists already"]),
        ("convert", ["{toy}", "--out=new", "--set", "heads=2"], ["is a run of diffjax"]),
        ("convert", ["{toy}", "--out=new", "--set", "heads"], ["--set=heads", "has no value"]),
        (
            "convert",
            ["{toy}", "--out=new", "--config.network.width=8"],
            ["other shapes", "(2, 16)"],
        ),
        ("convert", ["{toy}", "--out=new", "--config.network.depth=2"], ["missing: "]),
        ("convert", ["{toy}/none", "--out=new"], ["no such file"]),
        ("convert", ["{toy}/config.json", "--out=new"], ["unknown ending", ".safetensors"]),
        ("convert", ["{toy}/samples", "--out=new"], ["no tensors in it"]),
        ("convert", ["odd.safetensors", "--out=new"], ["fit none", "diffusers"]),
        ("convert", ["dit.safetensors", "--out=new"], ["fit dit and sit"]),
        ("convert", ["dit.safetensors", "--family=dit", "--out=new"], ["heads", "6 (384 x 12)"]),
        ("convert", ["odd.safetensors", "--family=x", "--out=new"], ["family='x'", "dit"]),
        ("convert", ["broken.safetensors", "--out=new"], ["broken.safetensors: cannot be read"]),
        (
            "convert",
            ["dit.safetensors", "--family=dit", "--set", "head=2", "--out=new"],
            ["dit.head", "did you mean 'heads'"],
        ),
        ("train", ["--config={toy}/../mine.py", "--workdir={exported}"], ["converted weights"]),
    ],
)
def test_what_cannot_work_is_one_line(
    command, flags, parts, toy, exported, call, tmp_path, monkeypatch
):
    """A traceback would appear, or a folder of useless weights."""
    monkeypatch.chdir(tmp_path)
    save_file({"a": np.zeros(2, np.float32)}, "odd.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    save_file(transformer(), "dit.safetensors")
    flags = [flag.format(toy=toy, exported=exported) for flag in flags]
    code, _, err = call(command, *flags)
    assert code == 2, err
    assert len(err.splitlines()) == 1, err
    assert all(part in err for part in parts), err
    assert not re.search(r"(\S+): \1: ", err), "says twice where it is"
    assert not (tmp_path / "new").exists()
    assert not (exported / ".lock").exists()  # a refused training leaves nothing behind


def transformer():
    """Return some tensors of a DiT of no published size."""
    shapes = {
        "x_embedder.proj.weight": (8, 4, 2, 2),
        "y_embedder.embedding_table.weight": (3, 8),
        "final_layer.linear.bias": (32,),
        "blocks.0.mlp.fc1.bias": (32,),
    }
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


@pytest.mark.parametrize("change", ["missing", "surplus", "misfit"])
def test_weights_of_another_network_are_named(exported, change, tmp_path):
    """An edited file, or one in the wrong folder, would fail deep inside the network."""
    folder = shutil.copytree(exported, tmp_path / "copy")
    tensors = load_file(folder / WEIGHTS)
    name = sorted(tensors)[0]
    if change == "missing":
        del tensors[name]
    elif change == "surplus":
        tensors["more"] = tensors[name]
    else:
        tensors[name] = np.zeros((3, 3), np.float32)
    save_file(tensors, folder / WEIGHTS)
    with pytest.raises(ValueError, match="not the parameters of config") as refused:
        diffjax.load(folder)
    assert ("more" if change == "surplus" else name) in str(refused.value)


def test_a_table_names_several_tensors_of_each_kind():
    """The message would name the first of many missing tensors only."""
    table = conv("a", "x")
    with pytest.raises(ValueError, match=r"missing: 2 \(x\.bias, x\.weight\); unexpected: 7 \(0"):
        converted(table, {str(i): np.zeros(1) for i in range(7)})
    tensors = {"x.weight": np.zeros(()), "x.bias": np.zeros(2)}
    with pytest.raises(ValueError, match=r"a/kernel: does not follow from x\.weight \(\)"):
        converted(table, tensors)


def test_blocks_are_stacked_in_their_order():
    """The tenth block would come after the first."""
    tensors = {f"{i}.weight": np.full((2, 3), i, np.float16) for i in range(11)}
    made = converted(blocks(layer("b", "{i}", bias=None), 11), tensors)
    assert made["b"]["kernel"].shape == (11, 3, 2) and made["b"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(made["b"]["kernel"][:, 0, 0], np.arange(11))
    assert nested(flat(made)).keys() == made.keys()


def test_families_tell_each_other_apart():
    """A checkpoint would be read by the rules of another codebase."""
    names = {
        "diffusers": ["conv_in.weight", "time_embedding.linear_1.weight"],
    }
    for family, known in names.items():
        assert recognised(Contents(dict.fromkeys(known, np.zeros(1)), {})) == family
        assert family in FAMILIES


def test_tensors_in_several_files_are_read_as_one(exported, tmp_path):
    """Large checkpoints, which are published in parts, could not be read."""
    tensors = load_file(exported / WEIGHTS)
    names = sorted(tensors)
    for k in range(2):
        part = {name: tensors[name] for name in names[k::2]}
        save_file(part, tmp_path / f"model-{k}-of-2.safetensors")
    where = {name: f"model-{k % 2}-of-2.safetensors" for k, name in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    found = read(tmp_path).tensors
    assert set(found) == set(tensors)
    for name in names:
        np.testing.assert_array_equal(found[name], tensors[name])
