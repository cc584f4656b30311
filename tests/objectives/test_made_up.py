"""An objective defined in this file only, and a run that uses it by the protocol alone."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax
from diffjax import builder, objectives
from diffjax.config import ConfigError, load, override
from diffjax.objectives import OBJECTIVES, Context, Denoising, Objective, Part

MOONS = Path(__file__).parents[1] / "moons.py"
SHORT = (
    "train.steps=4",
    "train.accumulate=2",
    "train.batch_size=16",
    "train.checkpoint_every=4",
    "train.held_out_every=4",
    "train.held_out=20",
    "train.snapshot_every=0",
)
SHAPES = {"square": lambda d: d**2, "absolute": jnp.abs}


@dataclass(frozen=True)
class Matching(Objective):
    """|x0_hat - x0| at one t for all, times a learned scale, with a state and parameters."""

    shape: object = SHAPES["square"]
    at: float = 0.5
    parts: ClassVar = {"shape": Part(SHAPES, partial=True)}

    def check(self, model, task=objectives.Task()):
        if not model.sde.t_min < self.at < model.sde.t_max:
            raise ValueError(f"at={self.at}: needs t_min < at < t_max")

    def init(self, model, key, x):
        return {"scale": jnp.ones(())}

    def init_state(self, model):
        return {"calls": jnp.zeros(()), "shift": jnp.zeros(())}

    def before_split(self, batch, key):
        return {**batch, "shift": jnp.full(len(batch["x"]), 3.0)}

    def __call__(self, context):
        model, params = context.model.bind(context.params), context.params
        x0 = context.batch["x"]
        key_eps, key_network = jax.random.split(context.key)
        eps = jax.random.normal(key_eps, x0.shape)
        t = jnp.full(len(x0), self.at)
        x = model.sde.perturb(x0, eps, t)
        cond = context.batch.get("cond", {})
        output, _ = model.output(params, x, t, cond, key_network)
        error = self.shape(model.views(output, x, t)[0] - x0).mean()
        scale = params["loss"]["scale"]
        mean = sum(a.sum() for a in jax.tree.leaves(context.averages))
        value = error / scale**2 + jnp.log(scale**2) + 0 * mean
        shift = context.batch.get("shift", jnp.zeros(1))[0]
        state = {"calls": context.state["calls"] + 1, "shift": shift}
        metrics = {"loss": error, "evaluating": jnp.float32(context.evaluating)}
        return value, metrics | {"before": jnp.float32(context.step)}, state


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "matching", Matching)


def config(*changes, **loss):
    return override(load(str(MOONS)), (*SHORT, *changes)) | {"loss": {"name": "matching", **loss}}


@pytest.mark.thorough
def test_it_trains_is_held_out_costed_and_sampled(known, tmp_path):
    """A new objective would have to be known in a dozen places."""
    trained = diffjax.fit(config(shape="absolute"), tmp_path / "run")
    assert trained.experiment.loss == Matching(SHAPES["absolute"])
    rows = [json.loads(s) for s in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    (held_out,) = [row for row in rows if "held_out/loss" in row]
    assert held_out["held_out/evaluating"] == 1 and held_out["held_out/before"] == 0
    assert np.isfinite(held_out["held_out/loss"])
    cost = json.loads((tmp_path / "run" / "cost.json").read_text())
    leaves = jax.tree.leaves(trained.denoise.params)
    assert cost["parameters"] == sum(a.size for a in leaves) and cost["flops"] > 0
    assert trained.denoise.params["loss"]["scale"] != 1  # trained, without decay
    assert np.isfinite(trained.sample(3).x).all()
    state = diffjax.training.workdir.load_state(trained.experiment, tmp_path / "run")
    assert float(state.loss["calls"]) == 4 * 2  # each part of each batch
    assert float(state.loss["shift"]) == 3  # drawn before the batch is split
    assert diffjax.fit(config(shape="absolute"), tmp_path / "run").step == 4


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"name": "matchin"}, "config.loss.name='matchin': unknown (did you mean 'matching'?)"),
        ({"att": 0.5}, "config.loss.att: no such field (did you mean 'at'?); known: at, name, sh"),
        ({"weight": "elbo"}, "config.loss.weight: no such field"),
        ({"shape": "cube"}, "config.loss.shape.name='cube': unknown"),
        ({"at": 2.0}, "config.loss: at=2.0: needs t_min < at < t_max"),
        ({"at": "now"}, "config.loss.at='now': needs float"),
    ],
)
def test_what_it_does_not_know_is_refused_with_its_place(known, loss, said):
    """A typing error in a setting would train something else."""
    with pytest.raises(ConfigError) as refused:
        builder.experiment(config(**loss))
    assert said in str(refused.value)


def test_the_name_may_be_left_out():
    """Configs written before there was a choice of objectives could not be read."""
    settings = override(load(str(MOONS)), SHORT)
    named = settings | {"loss": {"name": "denoising", **settings["loss"]}}
    found = [builder.experiment(c).loss for c in (settings, named)]
    assert found[0] == found[1] and isinstance(found[0], Denoising)


def test_nothing_that_trains_names_a_field_of_denoising():
    """The protocol would exist in name only."""
    fields = {f.name for f in dataclasses.fields(Denoising)} - {"steps", "weight", "error", "bound"}
    root = Path(diffjax.__file__).parent
    text = "".join(
        path.read_text()
        for folder in ("training", "builder")
        for path in root.joinpath(folder).glob("*.py")
    )
    assert not [name for name in fields if f"loss.{name}" in text or f"{name}=0" in text]
    assert "Denoising" not in text and "PAIRINGS" not in text and "ERRORS" not in text


def test_evaluating_drops_no_condition():
    """The held-out loss would, by chance, be that of the unconditional model."""
    seen = []

    def apply(params, x, c_noise, cond, *, key=None):
        seen.append(cond["label"])
        return jnp.zeros_like(x)

    experiment = builder.experiment(override(load(str(MOONS)), SHORT))
    network = dataclasses.replace(experiment.model.network, apply=apply)
    model = dataclasses.replace(experiment.model, network=network)
    batch = {"x": jnp.ones((8, 2)), "cond": {"label": jnp.ones(8, jnp.int32)}}
    for evaluating in (False, True):
        context = Context(model, {"network": {}}, batch, jax.random.key(0), evaluating=evaluating)
        Denoising(condition_dropout=1.0)(context)
    assert (seen[0] == -1).all() and (seen[1] == 1).all()
