"""Runs with an adapter: their base never changes, checkpoints hold the adapter alone, and the
adapter goes to other networks, into files and into the kernels."""

import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from commands import ended
from safetensors.numpy import load_file

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.io.trees import flat
from diffjax.published.adapter_files import FORMATS
from diffjax.training.transfer import transfer

MOONS = Path(__file__).parents[1] / "moons.py"
LORA = "adapter=lora:rank=2,where=^Dense_,alpha=3"
SHORT = ("train.checkpoint_every=2", "train.held_out_every=2", "train.snapshot_every=2")
SHORT = (*SHORT, "optimizer.learning_rate=0.1")


def fit(workdir, *changes, **more):
    return diffjax.fit(override(load(str(MOONS)), (*SHORT, *changes)), workdir, **more)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Train a whole network."""
    folder = tmp_path_factory.mktemp("base") / "run"
    fit(folder, "train.steps=2")
    return folder


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    """Train an adapter that resumed once, after the run with its base was deleted."""
    folder = tmp_path_factory.mktemp("adapted")
    shutil.copytree(base, folder / "base")
    fit(folder / "run", LORA, "train.steps=2", resume_from=folder / "base", resume_ema="raw")
    held = (folder / "run/held/frozen.safetensors").read_bytes()
    shutil.rmtree(folder / "base")
    fit(folder / "run", LORA, "train.steps=4")
    assert (folder / "run/held/frozen.safetensors").read_bytes() == held
    return folder / "run"


def network(path, **more):
    return flat(jax.device_get(diffjax.load(path, **more).denoise.params["network"]))


def differs(ours, theirs):
    """Return the paths of the arrays that differ."""
    assert set(ours) == set(theirs)
    return {path for path in ours if np.abs(ours[path] - theirs[path]).max() > 0}


def test_the_base_stays_bit_for_bit_what_it_was(base, run):
    """Training an adapter would change the network that it is loaded on."""
    ours, theirs = network(run, ema="raw"), network(base, ema="raw")
    moved = {k: v for k, v in ours.items() if k.startswith("adapter/")}
    assert differs({k: v for k, v in ours.items() if k not in moved}, theirs) == set()
    assert len(moved) == 10 and all(np.abs(v).max() > 0 for v in moved.values())


def test_checkpoints_hold_the_adapter_alone(base, run):
    """A checkpoint of an adapter would be as large as one of the network."""
    state = "checkpoints/4/state/_METADATA"
    stored = json.loads((run / state).read_text())["tree_metadata"]
    whole = str(json.loads((base / state.replace("4", "2")).read_text())["tree_metadata"])
    kernels = [path for path in stored if "'network'" in path]
    assert kernels and all("adapter" in path or "count" in path for path in kernels), kernels
    assert "adapter" not in whole
    held = load_file(run / "held/frozen.safetensors")
    assert set(held) == set(flat(diffjax.load(base).denoise.params))
    snapshots = [load_file(path) for path in sorted(run.glob("snapshots/**/*.safetensors"))]
    assert snapshots and all("adapter" in path for tensors in snapshots for path in tensors)


def test_an_average_computed_later_has_the_base_too(run, monkeypatch):
    """A post-hoc average would be an adapter without its network."""
    assert ended(monkeypatch, "tools.ema", f"--workdir={run}", "--std=0.105") == 0
    ours, raw = network(run, ema=0.105), network(run, ema="raw")
    moved = differs(ours, raw)
    assert moved and all(path.startswith("adapter/") for path in moved)


def test_an_adapter_on_its_base_is_the_network_that_was_trained(base, run):
    """Another network would be sampled than the one that was trained."""
    merged = diffjax.load(run).merged()
    assert "adapter" not in merged.config
    wanted = flat(jax.device_get(merged.denoise.params["network"]))
    on_base = diffjax.load(base, ema="raw", adapters=run)
    assert on_base.notes == (f"{run}: adapter merged with weight 1",)
    for path, value in flat(jax.device_get(on_base.denoise.params["network"])).items():
        np.testing.assert_allclose(value, wanted[path], atol=1e-6)
    x, t = np.ones((3, 2), np.float32), np.full(3, 0.5, np.float32)
    apart, together = diffjax.load(run).denoise(x, t), merged.denoise(x, t)
    np.testing.assert_allclose(apart.x0, together.x0, rtol=1e-5)
    minus = network(base, ema="raw", adapters={run: -1.0})
    zero = network(base, ema="raw", adapters={run: 0.0})
    before = network(base, ema="raw")
    assert differs(zero, before) == set()
    changed = {path for path in wanted if np.abs(wanted[path] - before[path]).max() > 1e-6}
    assert changed and all(re.search("^Dense_./kernel", path) for path in changed)
    for path in changed:
        np.testing.assert_allclose(minus[path], 2 * before[path] - wanted[path], atol=1e-5)


@pytest.mark.parametrize("form", FORMATS)
def test_commands_write_and_merge_adapters(form, base, run, tmp_path, monkeypatch, capsys):
    """A line of the documentation would be refused, or merge something else."""
    convert = lambda *flags: ended(monkeypatch, "tools.convert", *flags)
    assert convert(run, f"--format={form}", f"--out={tmp_path / 'file'}") == 0
    assert "wrote" in capsys.readouterr().out
    merge = base, f"--adapter={tmp_path / 'file'}=1.0", "--ema=raw", f"--out={tmp_path / 'with'}"
    assert convert(*merge) == 0
    assert "adapter merged with weight 1" in capsys.readouterr().out
    assert convert(run, "--merge", f"--out={tmp_path / 'merged'}") == 0
    ours, wanted = network(tmp_path / "with"), network(tmp_path / "merged")
    for path, value in wanted.items():
        np.testing.assert_allclose(ours[path], value, atol=1e-6)
    for flag in (f"--format={form}", "--merge"):
        assert convert(base, flag, f"--out={tmp_path / 'none'}") == 2
        assert "has no adapter; needs a run with config.adapter" in capsys.readouterr().err


def test_an_export_of_an_adapter_is_a_network_and_an_adapter(base, run, tmp_path):
    """An exported run could not be sampled, or not be used on another network."""
    diffjax.load(run).save(tmp_path / "export")
    assert differs(network(tmp_path / "export"), network(run)) == set()
    ours, wanted = (network(base, adapters=path) for path in (tmp_path / "export", run))
    assert differs(ours, wanted) == set() and differs(ours, network(base))
    with pytest.raises(ConfigError, match="has no adapter"):
        network(run, adapters=base)


def test_a_sample_has_the_adapters_of_its_flags(base, run, tmp_path, monkeypatch, capsys):
    """The flag would be ignored."""
    asked = f"--workdir={base}", "--num=2", "--ema=raw", "--steps=1", "--sampler=ddim"
    for name, flags in {"plain": (), "adapted": (f"--adapter={run}",)}.items():
        assert ended(monkeypatch, "sample", *asked, *flags, f"--out={tmp_path / name}.npz") == 0
    plain, adapted = (np.load(tmp_path / f"{n}.npz")["arr_0"] for n in ("plain", "adapted"))
    assert np.abs(plain - adapted).max() > 1e-4
    assert ended(monkeypatch, "sample", *asked, "--adapter=nowhere") == 2
    assert "adapters: nowhere: no such file or folder" in capsys.readouterr().err


COMMANDS = {
    "evaluate": ("--num=4",),
    "tools.edit": ("invert", "--image=test:0"),
    "tools.restore": ("--image=test:0", "--problem=half"),
    "tools.steps": (),
    "tools.pairs": ("--out=pairs",),
    "tools.prior": ("--out=prior",),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_samples_reads_adapters(command, base, monkeypatch, capsys):
    """The flag would be ignored."""
    flags = (*COMMANDS[command], f"--workdir={base}", "--adapter=nowhere=0.5")
    assert ended(monkeypatch, command, *flags) == 2
    assert "adapters: nowhere: no such file or folder" in capsys.readouterr().err


def test_an_adapter_needs_a_base(base, tmp_path):
    """It would be trained on random weights."""
    with pytest.raises(ConfigError, match=r"config\.adapter: .*--resume_from=RUN"):
        fit(tmp_path / "run", LORA)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=r"--resume_from=.*missing: "):
        fit(tmp_path / "run", LORA, "network.depth=2", resume_from=base)


WRONG = {
    "config.adapter: where='Conv': matches no kernel; known": "lora:where=Conv",
    "config.adapter: rank=17: exceeds that of": "lora:where=Dense,rank=17",
    "config.adapter.name='loha': unknown": "loha:where=Dense",
    "config.adapter.where: missing": "lora:rank=2",
    "config.adapter.rnk: unknown": "lora:where=Dense,rnk=2",
}


@pytest.mark.parametrize("message", WRONG)
def test_an_adapter_that_cannot_work_is_refused_by_name(message):
    with pytest.raises(ConfigError) as error:
        builder.experiment(builder.plain(override(load(str(MOONS)), [f"adapter={WRONG[message]}"])))
    assert str(error.value).startswith(message.split(" missing")[0].split(" unknown")[0])


def test_only_the_adapter_may_be_missing_in_the_base(base, run):
    """A run would begin with random weights in layers of another name."""
    experiment = diffjax.load(run).experiment
    whole, own = (diffjax.load(path).denoise.params for path in (base, run))
    assert transfer(experiment, whole).missing == ()
    assert transfer(experiment, own).complete
    part = {**own, "network": {k: v for k, v in own["network"].items() if k != "adapter"}}
    part["network"]["adapter"] = {"Dense_0": own["network"]["adapter"]["Dense_0"]}
    assert transfer(experiment, part).missing
