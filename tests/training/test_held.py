"""Held and frozen parameters never change, are not averaged, and are saved once."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax
from diffjax import builder
from diffjax.config import ConfigError, load, override
from diffjax.devices.mesh import FSDP, Data, layout
from diffjax.io.trees import flat
from diffjax.nets.network import FIXED
from diffjax.objectives import OBJECTIVES, Objective
from diffjax.tools import ema as ema_tool
from diffjax.training import held
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.loop import begin, compile_steps
from diffjax.training.step import FROZEN
from diffjax.training.workdir import load_state

MOONS = Path(__file__).parents[1] / "moons.py"
SHORT = (
    "train.batch_size=16",
    "train.checkpoint_every=2",
    "train.held_out_every=2",
    "train.held_out=20",
    "train.snapshot_every=2",
    "train.keep=10",
    "train.sharding=fsdp:smallest=1",
    "optimizer.learning_rate=0.1",
)
PART = "network/Dense_0"


@dataclass(frozen=True)
class Imitation(Objective):
    """An objective: match a teacher at noise, near a locked copy of the first parameters."""

    teacher: Any = None
    loads: ClassVar = ("teacher",)

    def check(self, model, task=None):
        assert self.teacher is not None

    def hold(self, model, params):
        return {"copy": jax.tree.map(lambda a: a + 1, params)}

    def __call__(self, context):
        x, t = context.batch["x"], jnp.full(len(context.batch["x"]), 0.5)
        key, cond = context.key, context.batch["cond"]
        x = x + jax.random.normal(key, x.shape)
        ask = lambda model, params, key: model.output(params, x, t, cond, key)[0]
        student = ask(context.model, context.params, key)
        teacher = ask(self.teacher, context.held["teacher"], None)
        copy = ask(context.model, context.held["copy"], None)
        loss = ((student - teacher) ** 2).mean() + 0.1 * ((student - copy) ** 2).mean()
        return loss, {"loss": loss}, context.state


@pytest.fixture(scope="module", autouse=True)
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OBJECTIVES, "imitation", Imitation)
        yield


def config(*changes, frozen=(PART,), **loss):
    made = override(load(str(MOONS)), (*SHORT, *changes))
    made["optimizer"]["frozen"] = frozen
    return made | ({"loss": loss} if loss else {})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Export an untrained, redrawn network of another width."""
    folder = tmp_path_factory.mktemp("teacher") / "export"
    made = config("network.width=24", frozen=())
    experiment = builder.experiment(made)
    params = jax.tree.map(lambda a: jnp.full_like(a, 0.1), experiment.parameters())
    weights = diffjax.training.workdir.Weights(7, params, "power")
    diffjax.training.workdir.write_weights(folder, experiment, weights)
    return folder


def files(workdir: Path) -> dict[str, bytes]:
    kept = workdir / held.FOLDER
    return {str(p.relative_to(kept)): p.read_bytes() for p in kept.rglob("*") if p.is_file()}


def restored(workdir):
    """Return the newest state, with everything it holds, laid out over all devices."""
    from diffjax.runs.launch import loader
    from diffjax.training.workdir import read_config

    experiment = builder.experiment(read_config(workdir), load=loader(workdir, {}))
    where = layout(sharding=experiment.sharding)
    abstract = jax.eval_shape(experiment.initialise)
    shardings = where.state(abstract)
    reader = Checkpoints(workdir / "checkpoints", write=False)
    state = reader.restore(abstract.moving, shardings.moving)
    reader.close()
    kept = held.restore(workdir, experiment, abstract, shardings)
    return experiment, shardings, state.holding(kept)


@pytest.fixture(scope="module")
def run(teacher, tmp_path_factory):
    """Train a run that resumed once, after the teacher with which it began was deleted."""
    folder = tmp_path_factory.mktemp("held")
    shutil.copytree(teacher, folder / "teacher")
    settings = {"name": "imitation", "teacher": str(folder / "teacher")}
    diffjax.fit(config("train.steps=2", **settings), folder / "run")
    before = files(folder / "run")
    state = restored(folder / "run")[2]
    shutil.rmtree(folder / "teacher")
    trained = diffjax.fit(config("train.steps=4", **settings), folder / "run")
    return folder / "run", before, state, trained


def test_what_is_held_is_saved_once_and_restored_bit_for_bit(run, teacher):
    """A teacher would be written with every checkpoint, or change after a resume."""
    workdir, before, state, trained = run
    assert trained.step == 4
    names = ["copy.safetensors", "frozen.safetensors"]
    export = ["SHA256SUMS", "config.json", "data.json", "weights.safetensors"]
    assert sorted(before) == sorted([*names, *(f"teacher/{name}" for name in export)])
    assert files(workdir) == before
    after = restored(workdir)[2]
    assert int(after.step) == 4 and int(state.step) == 2
    chex.assert_trees_all_equal(jax.device_get(after.held), jax.device_get(state.held))
    original = diffjax.load(teacher).denoise.params
    chex.assert_trees_all_equal(jax.device_get(after.held["teacher"]), jax.device_get(original))
    for step in (2, 4):  # no checkpoint contains the teacher
        text = (workdir / "checkpoints" / str(step) / "state" / "_METADATA").read_text()
        stored = json.loads(text)["tree_metadata"]
        assert "params" in str(stored) and "teacher" not in str(stored)
        layer = lambda name: f"'network', '{name}', 'kernel'"
        assert layer("Dense_1") in str(stored) and layer("Dense_0") not in str(stored)


def test_what_is_held_is_laid_out_by_the_rule(run):
    """Every device would need memory for the whole teacher."""
    _, shardings, state = restored(run[0])
    same = lambda a, where: a.sharding.is_equivalent_to(where, a.ndim)
    assert all(jax.tree.leaves(jax.tree.map(same, state.held, shardings.held)))
    kernel = state.held["teacher"]["network"]["Dense_0"]["kernel"]
    assert len(jax.devices()) == 8 and kernel.addressable_shards[0].data.size == kernel.size // 8


def test_what_is_frozen_is_unchanged_and_has_no_state(run):
    """A frozen part would drift by weight decay or projection, or need memory for moments."""
    workdir, _, before, trained = run
    experiment, _, state = restored(workdir)
    chex.assert_trees_all_equal(jax.device_get(before.held), jax.device_get(state.held))
    params = flat(jax.device_get(experiment.parameters()))
    frozen = {k for k in params if PART in k}
    assert frozen and len(frozen) < len(params)
    fixed = {k for k in params if k.endswith(FIXED)}
    found = flat(jax.device_get(trained.denoise.params))
    assert set(found) == set(params)
    for path, value in params.items():
        if path in frozen | fixed:  # except for the last digit, which a compiled init may change
            np.testing.assert_allclose(found[path], value, rtol=1e-6, atol=1e-7)
        else:
            assert np.abs(found[path] - value).max() > 1e-3, path
    trees = (state.params, state.ema, state.optimizer)
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(trees)]
    assert any("['network']['Dense_1']" in path for path in paths)
    assert not any("['network']['Dense_0']" in path for path in paths)
    mean = load_state(experiment, workdir).weights("power")
    chex.assert_trees_all_equal_shapes(mean, trained.denoise.params)


def test_averages_of_other_lengths_have_what_is_frozen(run, monkeypatch, capsys):
    """A network would lack its frozen layers, which snapshots do not contain."""
    workdir = run[0]
    monkeypatch.setattr("sys.argv", ["ema", f"--workdir={workdir}", "--std=0.1"])
    assert ema_tool.run() == 0
    made = diffjax.load(workdir, ema=0.1)
    chex.assert_trees_all_equal_shapes(made.denoise.params, run[3].denoise.params)
    assert np.isfinite(made.sample(2, steps=2).x).all()


def test_sampling_needs_no_teacher_and_an_export_stands_alone(run, tmp_path):
    """A user of the network would need everything that it was trained with."""
    moved = tmp_path / "moved"
    shutil.copytree(run[0], moved)
    shutil.rmtree(moved / held.FOLDER / "teacher")
    trained = diffjax.load(moved)
    trained.save(tmp_path / "export")
    again = diffjax.load(tmp_path / "export")
    chex.assert_trees_all_equal(again.denoise.params, run[3].denoise.params)
    assert np.isfinite(again.sample(2, steps=2).x).all()


def test_a_damaged_file_of_it_is_named(run, tmp_path):
    """A run would resume with another teacher than it was trained with."""
    workdir = tmp_path / "run"
    shutil.copytree(run[0], workdir)
    path = workdir / held.FOLDER / "frozen.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"frozen.safetensors: the checksum of network/Dense_0"):
        diffjax.load(workdir)
    path.unlink()
    with pytest.raises(ConfigError, match=r"frozen.safetensors: cannot be read"):
        diffjax.load(workdir)


def test_a_step_leaves_it_in_its_memory(teacher, tmp_path):
    """A donated teacher would be gone after the first step, a copied one take twice its memory."""
    settings = {"name": "imitation", "teacher": str(teacher)}
    load_it = lambda name, path: diffjax.load(path)
    e = builder.experiment(config(**settings), load=load_it)
    where = layout(jax.devices()[:1], Data())
    checkpoints = Checkpoints(tmp_path / "checkpoints", write=False)
    shardings = where.state(jax.eval_shape(e.initialise))
    state = begin(e, tmp_path, checkpoints, where, shardings)
    batch = where.place(jax.tree.map(lambda a: a[None], e.batch(e.batches()[0])))
    steps = compile_steps(e, where, state, batch)
    after, _ = steps(state, batch)
    for old, new in zip(jax.tree.leaves(state.held), jax.tree.leaves(after.held), strict=True):
        assert new is old and not old.is_deleted()
    assert all(a.is_deleted() for a in jax.tree.leaves(state.params))
    assert FROZEN in after.held


@pytest.mark.parametrize(
    ("frozen", "said"),
    [
        (
            ("Dense_7",),
            "config.optimizer.frozen: 'Dense_7': matches no parameter; known: network",
        ),
        (("(",), "config.optimizer.frozen: '(': not a regular expression"),
        (("network",), "config.optimizer.frozen=('network',): matches every parameter"),
        ("Dense_0", "config.optimizer.frozen='Dense_0': needs tuple"),
    ],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(frozen, said):
    """A typing error would train what should stay."""
    with pytest.raises(ConfigError) as refused:
        builder.experiment(config(frozen=frozen))
    assert said in str(refused.value)


def test_a_rate_of_what_is_frozen_is_refused():
    made = config()
    made["optimizer"]["rates"] = {PART: 0.1}
    with pytest.raises(ConfigError, match="matches no parameter"):
        builder.experiment(made)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (None, "config.loss.teacher=None: needs the path of a run or of an export"),
        ("nowhere", "nowhere: no run here"),
    ],
)
def test_a_teacher_that_is_not_there_is_refused(tmp_path, path, said):
    """The run would start, and raise a traceback."""
    settings = {"name": "imitation"} | ({"teacher": path} if path else {})
    with pytest.raises(ConfigError) as refused:
        diffjax.fit(config(**settings), tmp_path / "run")
    assert said in str(refused.value) and not (tmp_path / "run").exists()


def test_rules_split_what_is_held():
    """The state would not fit the devices under a rule that knows only `params`."""
    e = builder.experiment(config())
    shardings = layout(sharding=FSDP(smallest=1)).state(jax.eval_shape(e.initialise))
    specs = [s.spec for s in jax.tree.leaves(shardings.held[FROZEN])]
    assert specs and all("data" in spec for spec in specs)
