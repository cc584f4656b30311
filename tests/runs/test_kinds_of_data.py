"""Runs on every kind of data: trained, sampled, drawn and written, or refused by name."""

import json

import jax
import numpy as np
import pytest
from commands import ended, one_device
from PIL import Image

import diffjax
from diffjax import builder, train
from diffjax.config import ConfigError
from diffjax.data import KINDS
from diffjax.runs import output

CONFIG = {
    "seed": 0,
    "sde": {"name": "vp", "schedule": {"name": "linear"}},
    "parameterization": {"name": "v"},
    "loss": {"weight": "uniform_output", "condition_dropout": 0.1},
    "optimizer": {"name": "adamw"},
    "ema": {"name": "constant", "decay": 0.9},
    "sampling": {"sampler": {"name": "ddim"}, "steps": 2},
    "train": {
        "steps": 10,
        "batch_size": 8,
        "steps_per_dispatch": 5,
        "log_every": 10,
        "sample_every": 10,
        "checkpoint_every": 10,
        "held_out_every": 10,
        "held_out": 8,
        "samples": 4,
        "writers": (),
    },
}
MLP = {"name": "mlp", "width": 8, "depth": 1}
DIT = {"name": "dit", "width": 8, "depth": 1, "heads": 2, "patch": 2}
UNET = {"name": "unet", "channels": 8, "multipliers": (1,), "blocks": 1, "attention": ()}
NETWORKS = (
    MLP,
    DIT,
    {**UNET, "heads": 2},
    {**UNET, "name": "edm2", "head_channels": 4},
)
CONDITIONS = ("label", "vector", "tokens", "map")
# Kinds of one rank have one shape, for which the same programs do.
KINDS_OF_RUNS = {
    "image": ((4, 4, 3), DIT),
    "latent": ((4, 4, 3), DIT),
    "points": ((2,), MLP),
    "vector": ((5,), MLP),
    "table": ((4,), MLP),
    "sequence": ((8, 2), DIT),
    "trajectory": ((8, 2), DIT),
    "audio": ((8, 2), DIT),
    "video": ((2, 4, 4, 1), DIT),
    "volume": ((2, 4, 4, 1), DIT),
    "field": ((4, 4, 2), DIT),
    "cloud": ((8, 2), DIT),
    "molecule": ((8, 8), DIT),
    "conformer": ((8, 3), DIT),
}


ONE_OF_EACH_RANK = ("vector", "sequence", "image", "video")
QUICK = {"train": CONFIG["train"] | {"held_out_every": 0}}
"""One program less to compile."""


def config(path, network, **data) -> dict:
    return CONFIG | {"network": network, "data": {"name": f"array:{path}", "holdout": 0.3, **data}}


def archive(folder, shape, **arrays):
    """Write items of a shape, in [-1, 1], and further arrays to a file."""
    x = np.clip(np.random.default_rng(0).normal(size=(24, *shape)) / 2, -1, 1)
    np.savez(folder / "a.npz", x=x.astype(np.float32), **arrays)
    return folder / "a.npz"


def everything(folder, name):
    """Write items of a kind with every kind of condition to a file."""
    shape, rng = KINDS_OF_RUNS[name][0], np.random.default_rng(1)
    floats = lambda *axes: rng.normal(size=(24, *axes)).astype(np.float32)
    more = {"vector": floats(4), "tokens": floats(3, 2), "map": floats(*shape[:-1], 2)}
    return archive(folder, shape, y=np.arange(24) % 2, **more)


def settings(path, network, name, conditions) -> dict:
    """Return the config of a run on items of a kind with these conditions."""
    others = tuple(c for c in conditions if c != "label")
    labels = "label" in conditions
    return config(path, network, kind=name, labels=labels, conditions=others) | QUICK


def refusal(spec) -> str:
    """Return the line with which the config is refused, or "" if it builds."""
    try:
        builder.experiment(spec)
    except ConfigError as error:
        return str(error)
    return ""


def taken(path, network, name) -> list[str] | None:
    """Return the conditions that this network takes of items of this kind.

    It is None where the network takes no such items; each refusal has to name what is refused.
    """
    if message := refusal(settings(path, network, name, ())):
        assert "config.network" in message and "needs" in message
        return None
    refused = {c: refusal(settings(path, network, name, (c,))) for c in CONDITIONS}
    for condition, message in refused.items():
        assert not message or f"condition '{condition}'" in message, message
        assert not message or f"{network['name']} takes" in message, message
    return [c for c in CONDITIONS if not refused[c]]


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_has_a_network_and_conditions(tmp_path, name):
    """Only its source would know a kind. The product is in the thorough tier."""
    if name not in KINDS_OF_RUNS:
        pytest.fail(f"KINDS[{name!r}] is new: say here of what shape, and which network takes it")
    network = KINDS_OF_RUNS[name][1]
    names = ["label", "vector"] + ["tokens", "map"] * (network is DIT)
    spec = settings(everything(tmp_path, name), network, name, names)
    assert builder.experiment(spec).form.names == names


@pytest.mark.thorough
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["name"])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_with_each_network_and_condition(tmp_path, name, network):
    """A network would refuse items that it can take, or end in a traceback.

    Each pair is trained and drawn with all conditions that it takes, or refused by name. Kinds of
    items of one rank are one program to a network: the first of them is trained.
    """
    path, run = everything(tmp_path, name), tmp_path / "run"
    conditions = taken(path, network, name)
    if conditions is None:
        assert network is not KINDS_OF_RUNS[name][1]
        return
    spec = settings(path, network, name, conditions)
    if name not in ONE_OF_EACH_RANK or network is KINDS_OF_RUNS[name][1]:
        assert builder.experiment(spec).form.names == conditions
        return
    with one_device():
        trained = diffjax.fit(spec, run)
    assert trained.experiment.form.names == conditions
    with Image.open(run / "samples" / "step_00000010.png") as picture:
        assert np.asarray(picture).std() > 5


def available(files) -> bool:
    """Return whether the package that a format needs, if any, is installed."""
    try:
        files.check()
    except ValueError:
        return False
    return True


@pytest.mark.thorough
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_trained_sampled_shown_written_and_evaluated(tmp_path, name, monkeypatch):
    """A run on sequences or videos would stop at its first picture."""
    path, run, network = everything(tmp_path, name), tmp_path / "run", KINDS_OF_RUNS[name][1]
    conditions = taken(path, network, name)
    spec = settings(path, network, name, conditions)
    with one_device():
        trained = diffjax.fit(spec, run)
        assert trained.experiment.form.kind == name
        assert trained.experiment.form.names == conditions
        with Image.open(run / "samples" / "step_00000010.png") as picture:
            assert np.asarray(picture).std() > 5
        assert json.loads((run / "data.json").read_text())["kind"] == name
        kind, out = KINDS[name], [f"--out={tmp_path / 'a.npz'}", f"--out={tmp_path / 'a.png'}"]
        out += [f"--out={tmp_path / f'a{e}'}" for e, f in kind.whole().items() if available(f)]
        out += [f"--out={tmp_path / 'folder'}"] if kind.folder() else []
        assert ended(monkeypatch, "sample", f"--workdir={run}", "--num=12", *out) == 0
        flags = ["--num=12", "--metrics=precision_recall:k=1", "--features=pixels"]
        assert ended(monkeypatch, "evaluate", f"--workdir={run}", *flags) == 0
    with np.load(tmp_path / "a.npz") as file:
        assert file["arr_0"].shape == (12, *KINDS_OF_RUNS[name][0])
        assert file["arr_0"].dtype == (np.uint8 if name in ("image", "video") else np.float32)
    assert all((tmp_path / f"a{e}").is_file() for e, f in kind.whole().items() if available(f))
    if files := kind.folder():
        assert len([*(tmp_path / "folder").glob(f"*{files.ending}")]) == 12
    else:
        assert ended(monkeypatch, "sample", f"--workdir={run}", f"--out={tmp_path / 'b'}") == 2


def described(folder):
    """Write points with a vector and tokens each, some of which are missing."""
    rng = np.random.default_rng(1)
    tokens = rng.normal(size=(24, 3, 2)).astype(np.float32)
    tokens[::4] = np.nan
    vector = np.arange(24, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    return archive(folder, (4, 4, 3), vector=vector, tokens=tokens, y=np.arange(24) % 2)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """Train a run on latents with label, vector and tokens."""
    folder = tmp_path_factory.mktemp("conditional")
    names = {"kind": "latent", "labels": True, "conditions": ("vector", "tokens")}
    with one_device():
        return diffjax.fit(config(described(folder), DIT, **names), folder / "run"), folder / "run"


def test_conditions_travel_from_the_file_to_the_samples(conditional, tmp_path, monkeypatch):
    trained, run = conditional
    form = trained.experiment.form
    assert form.names == ["label", "vector", "tokens"]
    weights = trained.denoise.params["network"]
    paths = {jax.tree_util.keystr(p) for p, _ in jax.tree.leaves_with_path(weights)}
    assert any("tokens" in p for p in paths) and any("vector" in p for p in paths)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(next(row["held_out/loss"] for row in rows if "held_out/loss" in row))
    np.save(tmp_path / "each.npy", np.arange(12, dtype=np.float32).reshape(3, 4))
    flags = ["--cond=tokens=[[1, null], [0.5, 2]]", f"--cond=vector={tmp_path / 'each.npy'}"]
    flags += ["--label=1", "--num=3", f"--out={tmp_path / 'a.npz'}", f"--workdir={run}"]
    assert ended(monkeypatch, "sample", *flags) == 0
    with np.load(tmp_path / "a.npz") as file:
        assert file["arr_1"].tolist() == [1, 1, 1]
        np.testing.assert_array_equal(file["vector"], np.arange(12).reshape(3, 4))
        assert file["tokens"].shape == (3, 2, 2) and np.isnan(file["tokens"][:, 0, 1]).all()


def test_omitted_conditions_are_those_of_held_out_items(conditional):
    """A default label would contradict the vector with which it came."""
    trained, _ = conditional
    test = trained.experiment.source("test")
    made = trained.sample(3, cond={"tokens": None})
    held_out = test[np.arange(3)]
    np.testing.assert_array_equal(made.cond["vector"], held_out["vector"])
    np.testing.assert_array_equal(made.label, held_out["label"])
    assert np.isnan(made.cond["tokens"]).all()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cond=text=1"], "the network has no such condition; known: label, vector, tokens"),
        (["--cond=vector=[1, 2]"], "vector=[1, 2]: has the shape (2,); needs finite values"),
        (["--cond=vector=no.npy"], "vector=no.npy: cannot be read"),
        (["--cond=label=2"], "label=2: no such class; known: 0 to 1"),
        (["--cond=label=1", "--label=1"], "--label: --cond=label sets it too"),
        (["--cond=vector=1", "--cond=vector=2"], "--cond=vector: is set twice"),
        (["--cond=vector"], "vector: needs NAME=VALUE or NAME=FILE"),
        (["--out=a.wav"], "unknown ending; known: .png, .npz, none (a folder)"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_in_a_line(
    conditional, flags, message, monkeypatch, capsys
):
    monkeypatch.setattr(output, "trajectory", pytest.fail)
    assert ended(monkeypatch, "sample", f"--workdir={conditional[1]}", *flags) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error


def test_a_file_has_a_row_for_each_sample_or_one(conditional, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "two.npy", np.zeros((2, 4), np.float32))
    flags = [f"--cond=vector={tmp_path / 'two.npy'}", "--num=3", f"--workdir={conditional[1]}"]
    assert ended(monkeypatch, "sample", *flags) == 2
    assert "has shape (2, 4); needs 1 row, or 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("network", "names", "message"),
    [
        (MLP, ("tokens",), r"config\.network.*tokens"),
        (
            DIT | {"conditions": {"vector": {"size": 3}}},
            ("vector",),
            r"config\.network\.conditions\.vector: .*size=3, but the data have .*size=4",
        ),
        (DIT, ("map",), r"config\.data: conditions=map: this data set has no such condition"),
    ],
)
def test_what_network_or_data_lack_is_refused_before_anything_is_compiled(
    tmp_path, network, names, message
):
    spec = config(described(tmp_path), network, kind="latent", conditions=names)
    with pytest.raises(ConfigError, match=message):
        builder.experiment(spec)


@pytest.mark.thorough
def test_training_is_the_command_too(tmp_path, monkeypatch):
    """Flags of the command would not have the effect of a dict in `fit`."""
    folder = described(tmp_path)
    flags = ["--config=moons_vp", f"--workdir={tmp_path / 'run'}", "--config.data.kind=vector"]
    np.savez(folder, x=np.zeros((24, 2), np.float32) + np.arange(24)[:, None] / 24,
             vector=np.ones((24, 3), np.float32))  # fmt: skip
    flags += [f"--config.data.name=array:{folder}", "--config.data.conditions=('vector',)"]
    flags += ["--config.data.labels=False", "--config.network.width=8"]
    flags += [f"--config.train.{k}=2" for k in ("steps", "log_every", "checkpoint_every")]
    flags += ["--config.train.sample_every=2", "--config.train.samples=4"]
    monkeypatch.setattr("sys.argv", ["train.py", *flags])
    assert train.run() == 0
    read = json.loads((tmp_path / "run" / "data.json").read_text())
    assert read["conditions"] == {"vector": {"kind": "vector", "size": 3}}
