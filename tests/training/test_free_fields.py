"""Fields of a config that may change when a run resumes, and fields that must not."""

import json
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from diffjax import builder
from diffjax.builder.defaults import FILLED
from diffjax.builder.network import construct_network
from diffjax.builder.training import construct_averages, construct_loss
from diffjax.config import ConfigError, load, override
from diffjax.devices import mesh
from diffjax.training import loop
from diffjax.training.experiment import Train
from diffjax.training.workdir import FREE, load_state, open_run

FILE = Path(__file__).parents[1] / "moons.py"
SHORT = ("train.held_out_every=0", "train.snapshot_every=0", "train.checkpoint_every=4")
CHANGED = {
    "sampling": ("sampling.sampler=ddim:eta=0.5", "sampling.steps=3", "sampling.guidance=2.0"),
    "train.steps": ("train.steps=8",),
    "train.steps_per_dispatch": ("train.steps_per_dispatch=2",),
    "train.log_every": ("train.log_every=2",),
    "train.sample_every": ("train.sample_every=10",),
    "train.checkpoint_every": ("train.checkpoint_every=2",),
    "train.snapshot_every": ("train.snapshot_every=8",),
    "train.keep": ("train.keep=3",),
    "train.samples": ("train.samples=2",),
    "train.held_out_every": ("train.held_out_every=8",),
    "train.held_out": ("train.held_out=8",),
    "train.writers": ("train.writers=('tensorboard',)",),
    "train.max_bad_steps": ("train.max_bad_steps=3",),
    "train.sharding": ("train.sharding='fsdp'",),
    "train.peak_flops": ("train.peak_flops=1e12",),
    "data.memory": ("data.memory=0.0",),
    "data.workers": ("data.workers=2",),
    "data.timeout": ("data.timeout=99.0",),
    "data.codec": ("data.codec='elsewhere'",),
}
"""Another value of every free field."""


def experiment(*fields: str):
    return builder.experiment(override(load(str(FILE)), [*SHORT, *fields]))


def advance(workdir: Path, *fields: str):
    """Train there on one device, and return the parameters."""
    made = experiment(*fields)
    open_run(workdir, made, ["test"])
    loop.train(made, workdir, mesh.layout(jax.devices()[:1]))
    return jax.tree.map(np.asarray, load_state(made, workdir).moving)


def test_every_free_field_has_another_value_here():
    """A field could be listed as free although it changes the steps of a run."""
    of_config = [place for place in FREE if place.startswith("config")]
    named = {f"{place}.{k}".removeprefix("config.") for place in of_config for k in FREE[place]}
    assert named == set(CHANGED)


@pytest.mark.thorough
def test_a_run_resumed_with_other_free_fields_has_the_same_bits(tmp_path, monkeypatch):
    """A run would change if it logs, saves or samples otherwise from some step on."""
    monkeypatch.setattr(loop, "picture", lambda *_: np.zeros((2, 2, 3), np.uint8))
    whole = advance(tmp_path / "whole", "train.steps=8")
    advance(tmp_path / "run", "train.steps=4")
    resumed = advance(tmp_path / "run", *(text for texts in CHANGED.values() for text in texts))
    assert int(resumed.step) == 8
    chex.assert_trees_all_equal(resumed, whole)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())
    assert kept["sampling"]["steps"] == 3 and kept["train"]["steps_per_dispatch"] == 2


def test_a_field_that_steps_read_is_refused_with_both_values(tmp_path):
    """A run would silently resume with another learning rate, batch or network."""
    open_run(tmp_path, experiment(), ["test"])
    for text, message in {
        "optimizer.learning_rate=0.1": "config.optimizer.learning_rate is 0.001 there and 0.1 here",
        "train.batch_size=16": "config.train.batch_size is 8 there and 16 here",
        "train.accumulate=2": "config.train.accumulate is 1 there and 2 here",
        "seed=1": "config.seed is 0 there and 1 here",
        "loss.draw={'name': 'uniform', 'stratified': True}": (
            "config.loss.draw.stratified is False there and True here"
        ),
        "ema={'name': 'constant', 'decay': 0.5}": "config.ema.decay is None there and 0.5 here",
    }.items():
        with pytest.raises(ConfigError) as raised:
            open_run(tmp_path, experiment(text), ["test"])
        assert message in str(raised.value) and "sampling" not in str(raised.value)


@pytest.mark.parametrize("text", ["optimizer.eps=1e-8", "train.spike=20.0", "sde.t_min=0.001"])
def test_a_default_that_is_written_out_is_no_difference(tmp_path, text):
    """Old runs would not resume after a default is written out, or a new field gets a default."""
    (tmp_path / "config.json").write_text(json.dumps(load(str(FILE))))
    made = experiment(text)
    (tmp_path / "data.json").write_text("{}")
    with pytest.raises(ConfigError) as raised:
        open_run(tmp_path, made, ["test"])
    assert "holds a run of another config: data." in str(raised.value)


def names() -> list[str]:
    return sorted(p.stem for p in Path(builder.__file__).parents[2].glob("ml_coll*/[!_]*_*.py"))


@pytest.mark.parametrize("name", names())
def test_a_completed_config_means_the_same(name):
    """The stored config would describe another process, loss, network or average."""
    config = load(name)
    whole = builder.completed(config)
    assert builder.completed(whole) == whole and json.loads(json.dumps(whole))
    here = lambda sections: {k: v for k, v in sections.items() if k in config}
    for section, fill in here(FILLED).items():
        assert fill(config[section]) == whole[section]
        assert set(whole[section]) >= set(config[section])
    assert set(whole["train"]) == set(vars(Train()))
    sections = {
        "sde": lambda spec: builder.construct_sde(spec, "sde"),
        "network": lambda spec: construct_network({**spec, "conditions": {}}, (), "network"),
        "ema": lambda spec: construct_averages(spec, "ema"),
        "train": lambda spec: builder.call(Train, spec, "train"),
    }
    for section, build in here(sections).items():
        assert build(whole[section]) == build(config[section]), section
    # A weight with its own defaults is another object, and the same function.
    build = lambda spec: vars(construct_loss(spec, "loss")[0])
    plain = lambda made: {k: getattr(v, "function", v) for k, v in made.items()}
    assert plain(build(whole["loss"])) == plain(build(config["loss"]))
    first, second = build(whole["loss"]), build(config["loss"])
    for field in {"pairing", "error"} & {*first}:  # recognised by identity in checks
        assert first[field] is second[field]
