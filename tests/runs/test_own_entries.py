"""User-defined entries, all in this file: by name in configs and commands, as objects in `fit`."""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import ended, one_device
from flax import linen as nn

import diffjax
from diffjax import builder, grids, samplers
from diffjax.builder.training import construct_loss
from diffjax.config import Applied, ConfigError, load, lookup, override, parse, written
from diffjax.data import KINDS, Memory
from diffjax.draws import LogitNormal
from diffjax.nets import NETWORKS, linen, mlp
from diffjax.nets.conditions import Conditions, Vector, absent, learned, place, present, settled
from diffjax.nets.layers import NONE, VECTORS, Embedding
from diffjax.objectives import Denoising, Objective
from diffjax.weights import min_snr

MOONS = Path(__file__).parents[1] / "moons.py"
HERE = __name__
SHORT = (
    "train.steps=2",
    "train.checkpoint_every=2",
    "train.held_out_every=0",
    "train.snapshot_every=0",
    "train.samples=4",
)
RING = dataclasses.replace(
    KINDS["vector"],
    name="ring",
    normalise=lambda x: x / np.pi,
    denormalise=lambda x, dtype: (np.pi * x + np.pi) % (2 * np.pi) - np.pi,
    noun="angle",
)


@pytest.fixture(scope="module", autouse=True)
def one():
    with one_device():
        yield


class Small(nn.Module):
    """A network of one layer."""

    width: int = 8
    conditions: Conditions = NONE

    @nn.compact
    def __call__(self, x, c_noise, cond, train=False):
        cond = self.conditions.check(x, cond)
        emb = Embedding(self.width, self.width, self.conditions)(x, c_noise, cond)
        return nn.Dense(x.shape[-1])(nn.silu(nn.Dense(self.width)(x) + emb))


def small(width: int = 8, conditions: tuple = ()):
    return linen(Small(width, settled(conditions, "small", VECTORS)))


def bare(width: int = 8):
    return linen(Small(width))


def nothing():
    return {}


def rings(split: str, size: int = 40, radius: float = 1.0) -> Memory:
    rng = np.random.default_rng(len(split))
    angle = 2 * np.pi * rng.random((size, 1))
    x = radius * np.concatenate([np.cos(angle), np.sin(angle)], 1)
    wind = {"wind": angle.astype(np.float32)}
    return Memory(x.astype(np.float32), kind=f"{HERE}:RING", cond=wind)


@dataclass(frozen=True)
class WindDirection:
    """An angle (B, 1), embedded by its cosine and sine."""

    size: int = 1
    name: str = "wind"
    mechanism: str = ""
    scale: float = 1.0
    mechanisms: ClassVar[tuple[str, ...]] = ("embedding",)
    droppable: ClassVar[bool] = True

    def shape(self, x):
        return (x[0], 1)

    def missing(self, x):
        return absent(len(x), 1)

    def embed(self, value, width, dtype, rows):
        angle, there = present(value, dtype)
        turned = jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], -1) * self.scale
        vector = nn.Dense(width, name=place(self))(turned)
        return jnp.where(there, vector, learned(f"no_{place(self)}", len(value), width))


@dataclass(frozen=True)
class Imitation(Objective):
    """An objective: match x0 of a teacher at one noise level."""

    teacher: Any = None
    at: float = 0.5
    loads: ClassVar = ("teacher",)

    def __call__(self, context):
        model, x0 = context.model, context.batch["x"]
        t = jnp.full(len(x0), self.at)
        x = model.sde.perturb(x0, jax.random.normal(context.key, x0.shape), t)
        cond = context.batch["cond"]
        output, _ = model.output(context.params, x, t, cond, context.key)
        wanted = x0
        if self.teacher is not None:
            wanted = self.teacher.output(context.held["teacher"], x, t, cond, None)[0]
        loss = ((output - wanted) ** 2).mean()
        return loss, {"loss": loss}, context.state


@dataclass(frozen=True)
class Regression(Imitation):
    """An objective without a teacher."""

    loads: ClassVar = ()


@samplers.sampler(order=1)
def leap(sde, times):
    return samplers.ddim(sde, times)


def steps_of(sde, steps: int, power: float = 1.0):
    return grids.uniform(sde, steps)


def spread(real, samples, scale: float = 1.0) -> dict:
    return {"value": scale * float(np.std(samples.x))}


def config(*changes) -> dict:
    return override(load(str(MOONS)), (*SHORT, *changes))


ALL = (
    f"data={HERE}:rings:radius=1.5",
    "data.conditions=('wind',)",
    f"network={HERE}:small:width=4",
    f"network.conditions={{'wind': {{'kind': '{HERE}:WindDirection', 'scale': 2.0}}}}",
    f"loss={{'name': '{HERE}:Regression', 'at': 0.4}}",
    f"sampling.sampler={HERE}:leap",
    f"sampling.grid={{'name': '{HERE}:steps_of', 'power': 2.0}}",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train a run in which this file defines every noun that a user may want to replace."""
    workdir = tmp_path_factory.mktemp("own") / "run"
    return diffjax.fit(config(*ALL), workdir), workdir


@pytest.mark.thorough
def test_user_defined_entries_train_sample_and_evaluate(run, tmp_path, monkeypatch, capsys):
    """The package would have to be edited for a condition, kind, source, network or sampler."""
    trained, workdir = run
    assert isinstance(trained.experiment.loss, Regression)
    assert trained.experiment.form.items is RING
    known = trained.experiment.model.network.init.module.conditions
    assert known.by("embedding") == [WindDirection(scale=2.0, mechanism="embedding")]
    batch = {"x": np.full((1, 2), np.pi, np.float32)}
    seen = trained.experiment.reading.on_device(jax.random.key(0), batch)
    np.testing.assert_allclose(seen["x"], 1.0, rtol=1e-6)
    again = diffjax.load(workdir)
    made = [t.sample(12, cond={"wind": [[0.0], [1.0], [2.0]]}).x for t in (trained, again)]
    np.testing.assert_array_equal(*made)
    assert np.abs(made[0]).max() <= np.pi
    out = tmp_path / "a.csv"
    assert ended(monkeypatch, "sample", f"--workdir={workdir}", "--num=12", f"--out={out}") == 0
    assert len(out.read_text().splitlines()) == 13
    metrics = f"--metrics={HERE}:spread:scale=2.0"
    flags = ["--num=12", metrics, "--features=pixels", "--batch-size=12"]
    assert ended(monkeypatch, "evaluate", f"--workdir={workdir}", *flags) == 0, capsys.readouterr()
    assert "spread" in (workdir / "evaluation.json").read_text()


@pytest.mark.thorough
def test_what_a_run_was_given_as_objects_is_in_its_config_by_name(run, tmp_path):
    """The run could not be loaded again, or would load another network."""
    wind = {"wind": {"kind": WindDirection, "scale": 2.0}}
    experiment = builder.experiment(
        {
            **config(),
            "data": {"name": rings, "radius": 1.5, "conditions": ("wind",)},
            "network": {"name": small, "width": 4, "conditions": wind},
            "loss": Regression(at=0.4),
            "sampling": {"sampler": leap, "grid": functools.partial(steps_of, power=2.0)}
            | {"steps": 2},
        }
    )
    stored = diffjax.training.workdir.read_config(run[1])
    ours = json.loads(json.dumps(experiment.complete(experiment.config)))
    assert {k: ours[k] for k in ("network", "loss", "sampling")} == {
        k: stored[k] for k in ("network", "loss", "sampling")
    }
    assert experiment.model == run[0].experiment.model


@pytest.mark.thorough
def test_fit_takes_objects_and_held_ones(run, tmp_path):
    """A teacher in memory would have to be exported first."""
    teacher = run[0]
    fit = functools.partial(
        diffjax.fit,
        config(),
        tmp_path / "run",
        "data.conditions=('wind',)",
        "train.steps=2",
        network=functools.partial(small, width=4),
        source=rings,
        objective=functools.partial(Imitation, at=0.3),
    )
    trained = fit(held={"teacher": teacher})
    assert trained.config["loss"] == {"name": f"{HERE}:Imitation", "at": 0.3, "teacher": "held"}
    assert diffjax.load(tmp_path / "run" / "held" / "teacher").step == teacher.step
    assert fit().step == 2  # the run holds a copy
    with pytest.raises(ConfigError, match=r"config.loss: held.master: no such field; known"):
        diffjax.fit(config(), tmp_path / "b", source=rings, objective=Imitation, held={"master": 0})
    with pytest.raises(ConfigError, match=r"config.loss.teacher=None: needs the path"):
        diffjax.fit(config(), tmp_path / "b", source=rings, objective=Imitation)
    loss = {"name": f"{HERE}:Imitation", "teacher": "held"}
    with pytest.raises(ConfigError, match="pass it again"):
        diffjax.fit({**config(), "loss": loss}, tmp_path / "b", source=rings)
    assert not (tmp_path / "b").exists()


def test_a_run_of_a_notebook_takes_its_entries_again(run, tmp_path):
    """A moved module would make its trained runs useless."""
    import shutil

    moved = shutil.copytree(run[1], tmp_path / "run")
    text = (moved / "config.json").read_text()
    for name in ("small", "rings", "Regression"):
        text = text.replace(f"{HERE}:{name}", f"__main__:{name}_of_a_notebook")
    (moved / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"name='__main__:.*_of_.*load\(path, netw"):
        diffjax.load(moved)
    loaded = diffjax.load(moved, network=small, objective=Regression)  # no data, no source
    cond = {"wind": [[0.5]]}
    np.testing.assert_array_equal(loaded.sample(12, cond=cond).x, run[0].sample(12, cond=cond).x)
    with pytest.raises(ConfigError, match=r"config.data.name='__main__:rings_of"):
        loaded.sample(2)
    whole = diffjax.load(moved, network=small, objective=Regression, source=rings)
    assert len(whole.experiment.source("test")) == 40


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with modules that do not work."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if p])
    (tmp_path / "broken_entries.py").write_text("import no_such_module_anywhere\n")
    (tmp_path / "ending_entries.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "fine_entries.py").write_text("WIDTH = 3\ndef small(width=8):\n    return {}\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:small", "no module 'no_such_module' in the current folder or on the PYTH"),
        ("fine_entries.inner:small", "no module 'fine_entries.inner'"),
        ("broken_entries:small", "cannot be imported: ModuleNotFoundError: No module"),
        ("ending_entries:small", "cannot be imported: SystemExit: 3"),
        ("fine_entries:smal", "the module has no 'smal' (did you mean 'small'?); known: small"),
        ("fine_entries:WIDTH", "is of type int; needs a function or a class"),
        ("fine_entries", "unknown; known: autoencoder, dit"),
        ("mlp:width", "'width' has no value; the form is mlp:argument=value,..."),
    ],
)
def test_a_name_that_stands_for_nothing_is_refused_in_one_line(folder, name, message):
    """A traceback from an import would appear, or another network be trained."""
    for spec in (f"network.name={name}", f"network={name}"):
        with pytest.raises(ConfigError) as refused:
            builder.experiment(config(spec))
        text = str(refused.value)
        assert f"config.network.name={name!r}: " in text and message in text and "\n" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (f"network={HERE}:bare:depth=2", "config.network.depth: no such field"),
        (f"network={HERE}:nothing", "config.network: returned dict; needs diffjax.nets.netw"),
        (f"loss={{'name': '{HERE}:nothing'}}", "config.loss: returned dict; needs diffjax.obj"),
        (f"sde={HERE}:nothing", "config.sde"),
        (f"sde.schedule={HERE}:nothing", "config.sde.schedule: returned dict"),
    ],
)
def test_an_entry_that_does_not_fit_its_catalogue_is_refused(change, message):
    """The entry would fail deep inside, with a traceback."""
    with pytest.raises(ConfigError) as refused:
        builder.experiment(config("loss={}", "data.labels=False", change))
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_network_without_conditions_is_not_for_data_with_labels():
    with pytest.raises(ConfigError, match="bare takes no conditions, but the data have label"):
        builder.experiment(config(f"network={HERE}:bare"))


def test_objects_without_a_name_are_refused():
    """The run would train, and never be loaded again."""
    inner = lambda: mlp()

    def local(width=8):
        return mlp(width)

    for network in (inner, local, mlp(), np.zeros(3), functools.partial(local, width=3)):
        with pytest.raises(ConfigError, match=r"config.network.*=.*another process could import"):
            builder.plain({**config(), "network": network})


def test_what_is_written_is_built_again():
    """An objective with functions and objects in its fields would lose them."""
    objective = Denoising(
        weight=Applied(min_snr, (("gamma", 3.0),)), draw=LogitNormal(std=2.0), hybrid=0.0
    )
    text = json.dumps(written(objective))
    spec = json.loads(text)
    assert construct_loss(spec, "config.loss")[0] == objective
    assert written({"a": (1, [2.5, None, "x", True])}) == {"a": (1, [2.5, None, "x", True])}
    assert written(Vector(2)) == {"name": "diffjax.nets.conditions.vector:Vector", "size": 2}


def test_short_texts_name_entries_too():
    """`mymodule:small` would be cut at its colon."""
    assert parse("a.b:small") == {"name": "a.b:small"}
    assert parse("a:small:width=3,depth=2") == {"name": "a:small", "width": 3, "depth": 2}
    assert parse("ddim:eta=0.5") == {"name": "ddim", "eta": 0.5}
    assert lookup(NETWORKS, f"{HERE}:Small.__call__", "network") is Small.__call__
