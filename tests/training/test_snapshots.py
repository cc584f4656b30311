"""Post-hoc averages against those that were tracked, step by step."""

import functools
import json
import sys

import chex
import numpy as np
import pytest
from scipy import integrate

import diffjax
from diffjax import cli, train
from diffjax.config import ConfigError
from diffjax.io.reading import Tensors
from diffjax.tools import convert, ema
from diffjax.training.ema import Power
from diffjax.training.snapshots import LARGEST, Profile, Snapshots, fit, inner, reach, save
from diffjax.training.workdir import load_state

T, TAKEN = 4000, 32
"""Steps of a training, and how often snapshots of two averages are taken: 64 in all."""
TRACKED = {"short": 0.05, "long": 0.10}
WANTED = (0.05, 0.07, 0.10, 0.15, 0.20)
CONFIG = """
import ml_collections
def get_config():
    return ml_collections.ConfigDict({})
"""


def trainings():
    """Return parameters (T, D): a random walk, one with drift, and one that settles."""
    rng, t = np.random.default_rng(0), np.arange(1, T + 1)[:, None] / T
    noise = rng.normal(size=(T, 30))
    walk = np.cumsum(noise, 0)
    return {"walk": walk, "drift": walk + 300 * t, "settling": 1 + np.exp(-3 * t) * (1 + noise)}


def averages(theta, std):
    """Return the average after each step (T, D), by its recursion in float64."""
    made, mean, gamma = [], np.zeros(theta.shape[1]), Power(std).gamma
    for k, new in enumerate(theta, 1):
        decay = (1 - 1 / k) ** (gamma + 1)
        mean = decay * mean + (1 - decay) * new
        made.append(mean)
    return np.stack(made)


def profiles(taken=TAKEN):
    ends = np.arange(1, taken + 1) * (T // taken)
    return [Profile(std, int(end)) for end in ends for std in TRACKED.values()]


@pytest.mark.parametrize("name", ["walk", "drift", "settling"])
def test_averages_made_afterwards_are_those_that_are_tracked(name):
    """Another width would need another training.

    Within 1 % of the parameters from 64 snapshots. The relative error is that of the whole vector,
    against the exact recursion of every step.
    """
    theta, known = trainings()[name], profiles()
    at = {std: averages(theta, std) for std in TRACKED.values()}
    stored = np.stack([at[p.std][p.end - 1] for p in known])
    for std in WANTED:
        exact = averages(theta, std)[-1]
        made = fit(known, Profile(std, T)).coefficients @ stored
        error = np.linalg.norm(made - exact) / np.linalg.norm(exact)
        print(f"{name} {std}: {error:.2e}")
        assert error < 0.01
        far = np.linalg.norm(theta[-1] - exact) / np.linalg.norm(exact)
        assert far > 0.02, "the parameters themselves would pass"


def test_more_snapshots_are_better():
    """The formulas would be wrong: their error falls with the number of snapshots."""
    errors = [fit(profiles(n), Profile(0.15, T)).error for n in (8, 16, 32)]
    assert errors[2] < errors[1] / 3 < errors[0] / 9


@pytest.mark.parametrize("wanted", [Profile(0.05, T), Profile(0.10, T), Profile(0.10, T // 2)])
def test_a_stored_snapshot_is_given_back(wanted):
    """A stored snapshot would not be returned, with all coefficients but its own zero."""
    known = profiles()
    found = fit(known, wanted)
    expected = np.array([float(p == wanted) for p in known])
    np.testing.assert_allclose(found.coefficients, expected, atol=1e-9)
    assert found.error < 1e-6


@pytest.mark.parametrize("std", WANTED)
def test_the_coefficients_add_up_to_one_and_are_the_nearest(std):
    """Constant parameters would be scaled, or coefficients of that sum be suboptimal."""
    known, wanted = profiles(), Profile(std, T)
    found = fit(known, wanted)
    assert found.coefficients.sum() == pytest.approx(1, abs=1e-12)
    assert found.condition < 1e6  # float64 leaves ten digits
    distance = lambda c: (
        inner([wanted], [wanted])[0, 0]
        - 2 * c @ inner(known, [wanted])[:, 0]
        + c @ inner(known, known) @ c
    )
    best, rng = distance(found.coefficients), np.random.default_rng(0)
    for _ in range(20):
        other = rng.normal(size=len(known))
        assert distance(found.coefficients + 1e-3 * (other - other.mean())) > best


@pytest.mark.parametrize("a", [Profile(0.05, 3), Profile(0.2, 5)])
@pytest.mark.parametrize("b", [Profile(0.1, 3), Profile(0.02, 4), Profile(0.05, 9)])
def test_inner_products_are_integrals(a, b):
    """Coefficients would be those of other profiles."""

    def density(p, t):
        gamma = Power(p.std).gamma
        return (gamma + 1) / p.end * (t / p.end) ** gamma * (t <= p.end)

    exact, _ = integrate.quad(lambda t: density(a, t) * density(b, t), 0, min(a.end, b.end))
    np.testing.assert_allclose(inner([a], [b]), [[exact]], rtol=1e-7)
    np.testing.assert_allclose(inner([b], [a]), [[exact]], rtol=1e-7)


def test_the_reach_is_where_the_error_is_small():
    """Widths would be refused that can be computed, or computed that cannot."""
    known = profiles(16)
    low, high = reach(known, T)
    assert 0.01 < low < 0.05 and 0.15 < high < 0.28
    error = lambda std: fit(known, Profile(std, T)).error
    assert max(error(low), error(high)) <= LARGEST < min(error(low - 0.001), error(high + 0.001))


def test_snapshots_are_stored_whole_and_combined_by_leaf(tmp_path):
    """A leaf would be that of another step, or of another average."""
    leaf = lambda step, k: np.full((2, 3), step + 0.5 * k, np.float32)
    for step in (10, 20, 30):
        tree = {name: {"a": {"w": leaf(step, k)}} for k, name in enumerate(TRACKED)}
        save(tmp_path, step, tree | {"other": {}}, TRACKED)
    assert sorted(p.name for p in (tmp_path / "snapshots").iterdir()) == [
        f"step_{step:08d}.safetensors" for step in (10, 20, 30)
    ]
    stored = Snapshots(tmp_path, 20)
    assert stored.profiles == [Profile(s, k) for k in (10, 20) for s in TRACKED.values()]
    assert stored.names == ["a/w"]
    c = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]])
    first = 10 + 2 * 10.5 + 3 * 20 + 4 * 20.5
    expected = np.stack([np.full((2, 3), first), np.full((2, 3), 20.5)])
    np.testing.assert_allclose(stored.combine("a/w", c), expected)
    assert stored.combine("a/w", c).dtype == np.float32
    assert Snapshots(tmp_path, names=["long"]).profiles == [Profile(0.1, k) for k in (10, 20, 30)]
    with pytest.raises(ConfigError, match="--step=25: no snapshot of this step; known: 10, 20, 30"):
        Snapshots(tmp_path, 25)
    (tmp_path / "snapshots" / "step_00000040.safetensors").write_bytes(b"half")
    with pytest.raises(ConfigError, match=r"step_00000040.*: holds no snapshot"):
        Snapshots(tmp_path)


@pytest.fixture(scope="module")
def run(toy, tmp_path_factory):
    """Train a run on points with two power-function averages and twelve snapshots of them."""
    config = json.loads((toy / "config.json").read_text())
    folder = tmp_path_factory.mktemp("snapshots")
    config["ema"] = {name: {"name": "power", "std": std} for name, std in TRACKED.items()}
    config["ema"]["other"] = {"name": "warmup"}
    config["train"] |= {"steps": 60, "snapshot_every": 5, "steps_per_dispatch": 5}
    config["train"]["held_out_every"] = 0
    config["train"] |= {"log_every": 30, "sample_every": 60, "checkpoint_every": 30}
    text = (
        f"import ml_collections\ndef get_config():\n    return ml_collections.ConfigDict({config})"
    )
    (folder / "mine.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        flags = [f"--config={folder / 'mine.py'}", f"--workdir={folder / 'run'}"]
        patch.setattr(sys, "argv", ["train.py", *flags])
        assert train.run() == 0
    return folder / "run"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command in this process; return exit code, stdout and stderr."""

    def call(command, *flags):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tool.py", *map(str, flags)])
        with pytest.raises(SystemExit) as ended:
            cli.main(command.run)
        return (ended.value.code, *capsys.readouterr())

    return call


@pytest.mark.thorough
def test_the_tool_makes_what_training_tracks(run, call):
    """Tracked averages could not be recovered by the tool, from the file to the network.

    The tracked ones are among the snapshots at their end, so this is exact; others differ from
    them.
    """
    code, out, err = call(ema, f"--workdir={run}", "--std=0.05,0.1,0.15")
    assert code == 0, err
    assert "24 snapshots up to step 60" in out and out.count("wrote ") == 3
    experiment = diffjax.load(run).experiment
    state = load_state(experiment, run)
    load = functools.cache(lambda name: diffjax.load(run, ema=name))
    for asked, name in ((0.05, "short"), ("0.10", "long"), ("std_0.050", "short")):
        made = load(asked)
        assert made.step == 60 and made.ema == f"std_{TRACKED[name]:.3f}"
        chex.assert_trees_all_close(made.denoise.params, state.ema[name], rtol=1e-5, atol=1e-6)
    for name in (*TRACKED, "other"):
        assert load(name).ema == name
        chex.assert_trees_all_equal(load(name).denoise.params, state.ema[name])
    chex.assert_trees_all_equal(load("raw").denoise.params, state.params)
    assert load(None).ema == "long"  # the first average by name
    lengths = [load(name).denoise.params for name in ("raw", 0.05, 0.1, 0.15)]
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(lengths[-1], lengths[-2], rtol=1e-4)


def test_an_earlier_end_has_its_own_file(run, call):
    """An average at an earlier step would overwrite that of the whole training."""
    code, out, err = call(ema, f"--workdir={run}", "--std=0.1", "--step=30")
    assert code == 0, err
    assert "12 snapshots up to step 30" in out
    made = diffjax.load(run, ema="std_0.100_step_00000030")
    assert (made.step, made.ema) == (30, "std_0.100_step_00000030")
    stored = Tensors(run / "snapshots" / "step_00000030.safetensors")
    ours = Tensors(run / "ema" / "std_0.100_step_00000030.safetensors")
    for name in ours:
        np.testing.assert_allclose(ours[name], stored[f"long/{name}"], rtol=1e-5, atol=1e-6)


def test_an_average_is_exported_and_known_there(run, call, tmp_path):
    """The export would contain another average than the requested one."""
    code, _, err = call(convert, run, "--ema=short", f"--out={tmp_path / 'out'}")
    assert code == 0, err
    back = diffjax.load(tmp_path / "out")
    assert (back.ema, back.step) == ("short", 60)
    chex.assert_trees_all_equal(back.denoise.params, diffjax.load(run, ema="short").denoise.params)
    with pytest.raises(ConfigError, match=r"ema=long: .* holds one average; known: short"):
        diffjax.load(tmp_path / "out", ema="long")


def test_what_cannot_be_is_refused_in_one_line(run, toy, call):
    """Another average would silently be used, or the command raise a traceback."""
    with pytest.raises(ConfigError, match=r"ema=shrt: unknown \(did you mean 'short'\?\)") as error:
        diffjax.load(run, ema="shrt")
    assert "long, other, raw, short" in str(error.value)
    with pytest.raises(ConfigError, match=r"tools.ema --workdir=.*/run --std=0.123"):
        diffjax.load(run, ema=0.123)
    for flag, message in (
        ("--std=0.28", "approximate its profile with an error of"),
        ("--std=0.3", "std=0.3: needs 0 < std < 0.2887"),
        ("--std=0.1234", "at most three digits"),
        ("--std=0.1 --step=31", "--step=31: no snapshot"),
    ):
        code, _, err = call(ema, f"--workdir={run}", *flag.split())
        assert code == 2 and message in err and len(err.splitlines()) == 1, err
    code, _, err = call(ema, f"--workdir={toy}", "--std=0.1")
    assert code == 2 and "config.train.snapshot_every" in err and len(err.splitlines()) == 1
