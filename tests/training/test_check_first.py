"""Impossible requests are refused before anything is written; untrained parts are reported."""

import contextlib
import dataclasses
import logging
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffjax
from diffjax import builder, train
from diffjax.config import ConfigError, load, override
from diffjax.data.form import labelled
from diffjax.devices import mesh
from diffjax.objectives.pairings import optimal_transport
from diffjax.samplers.run import Result
from diffjax.training import loop, pictures

FILE = Path(__file__).parents[1] / "moons.py"


def experiment(*fields: str, name: str = str(FILE), form=None):
    return builder.experiment(override(load(name), fields), form)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("train.batch_size=12",), r"batch_size=12: needs a multiple of 8"),
        (("train.writers=('wandb',)",), r"train.writers: wandb is not installed: pip install"),
        (("train.spike=nan",), r"config.train.spike"),
    ],
)
def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path, monkeypatch, fields, message):
    """The corrected command would be refused as another config in the same folder."""
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=message):
        diffjax.fit(FILE, tmp_path / "run", *fields)
    assert not (tmp_path / "run").exists()


def test_an_empty_workdir_is_refused(monkeypatch, capsys):
    """An unset variable would train into the current folder."""
    with pytest.raises(ConfigError, match=r"workdir='': the path is empty"):
        diffjax.fit(FILE, "")
    monkeypatch.setattr(sys, "argv", ["train.py", f"--config={FILE}", "--workdir="])
    with pytest.raises(SystemExit) as stopped:
        train.run()
    assert stopped.value.code == 2 and "--workdir: the value is empty" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "field",
    [
        "data.memory",
        "data.timeout",
        "sde.t_min",
        "sde.schedule.beta_max",
        "parameterization.sigma_data",
        "loss.condition_dropout",
        "loss.hybrid",
        "optimizer.learning_rate",
        "optimizer.weight_decay",
        "optimizer.clip",
        "ema.std",
        "sampling.guidance",
        "train.peak_flops",
        "train.spike",
    ],
)
def test_what_is_not_finite_is_refused_in_every_section(field, value):
    """A run would train to the last step with a loss of NaN, or wait for ever."""
    config = load(str(FILE))
    *parents, leaf = field.split(".")
    section = config
    for name in parents:
        section = section[name]
    section[leaf] = float(value)
    with pytest.raises(ConfigError, match=rf"^config\.{parents[0]}\b.*{value}"):
        builder.experiment(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            ("sampling.corrector={'name': 'langevin'}",),
            r"config.sampling.corrector: the corrector langevin .* allowed: the corrector refresh",
        ),
        (
            ("loss.pairing=optimal_transport", "sampling.sampler=ddim:eta=0.5"),
            r"does not train a score, but config.sampling.sampler.name='ddim' adds noise",
        ),
        (
            (
                "loss.pairing=optimal_transport",
                "sampling.sampler=ddim",
                "sampling.corrector={'name': 'refresh'}",
            ),
            r"does not train a score, but config.sampling.corrector.name='refresh' adds noise",
        ),
        (
            (
                "sde.schedule=cosine",
                "parameterization.name=v",
                "parameterization.c_noise=half_logsnr",
            ),
            r"config.parameterization: c_noise=half_logsnr .* -inf at t_max=1; allowed",
        ),
        (("network.width=1",), r"config.network: width=1: needs width >= 2"),
    ],
)
def test_what_fails_later_is_refused_when_it_is_built(fields, message):
    """A run would raise a traceback at its first picture, or its network would return NaN."""
    config = load(str(FILE))
    config["loss"]["pairing"] = "independent"
    config["sampling"]["corrector"] = {"name": "refresh"}
    config["parameterization"] = {"name": "eps", "c_noise": "time"}
    config = override(config, fields)
    if not any("corrector" in field for field in fields):
        del config["sampling"]["corrector"]
    with pytest.raises(ConfigError, match=message):
        builder.experiment(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (("network.attention=(16,)",), r"no level has the side 16; for input .* 8, 4"),
        (("network.channels=1", "network.heads=1"), r"channels=1: needs channels >= 2"),
    ],
)
def test_what_a_network_selects_must_exist(fields, message):
    """Attention would be nowhere, and the network smaller than the config states."""
    with pytest.raises(ConfigError, match=rf"^config.network: .*{message}"):
        experiment(*fields, name="digits_vp", form=labelled("image", (8, 8, 1), 10))


@pytest.mark.parametrize(
    ("dropout", "guidance", "said"),
    [
        (0.0, 2.0, True),
        (0.0, {"weight": 2.0, "reference": "null"}, True),
        (0.0, {"weight": 2.0, "reference": {"name": "negative", "label": 0}}, False),
        (0.0, 1.0, False),
        (0.1, 2.0, False),
        ({"label": 0.1}, 2.0, False),
    ],
)
def test_guidance_away_from_untrained_output_is_reported(dropout, guidance, said):
    """Samples would be pushed away from the output of untrained weights."""
    config = load(str(FILE))
    config["loss"]["condition_dropout"] = dropout
    config["sampling"]["guidance"] = guidance
    experiment = builder.experiment(config, labelled("points", (2,), 2))
    line = builder.untrained(experiment)
    assert bool(line) == said and ("config.loss drops no" in line) == said
    bare = dataclasses.replace(experiment, form=labelled("points", (2,)))
    assert builder.untrained(bare) == ""


def test_a_failed_picture_of_samples_is_reported_and_not_drawn(monkeypatch, caplog):
    """A run would show noise as samples, although sampling failed."""
    made = experiment()
    bad = Result(jnp.zeros((6, 2)), jnp.asarray(1))
    monkeypatch.setattr(pictures, "generate", lambda *_, **__: bad)
    layout = mesh.layout(jax.devices()[:1])
    state = types.SimpleNamespace(ema={"power": {}}, weights=lambda name: {})
    log = types.SimpleNamespace(paused=contextlib.nullcontext, picture=None)
    callbacks = loop.Callbacks(override_every(made), Path(), layout, log, None, None)
    with caplog.at_level(logging.WARNING):
        callbacks.look(1, state, last=False, progress=None)
    assert "samples of step 1: the network's output is not finite at row 1 of" in caplog.text


def override_every(made):
    """Return the experiment with a picture, and nothing else, after each step."""
    never = {"log_every": 10, "checkpoint_every": 10, "snapshot_every": 0, "held_out_every": 0}
    return dataclasses.replace(made, train=dataclasses.replace(made.train, **never, sample_every=1))


def test_optimal_transport_pairs_within_a_class():
    """The noise of a class would have a mean, and its sampling start elsewhere."""
    x0 = jnp.repeat(jnp.array([[-5.0], [5.0]]), 32, 0)
    label = jnp.repeat(jnp.array([0, 1]), 32)
    eps = jax.random.normal(jax.random.key(0), x0.shape)
    paired = optimal_transport(x0, eps, label)
    for part in (slice(0, 32), slice(32, 64)):
        np.testing.assert_array_equal(np.sort(paired[part, 0]), np.sort(eps[part, 0]))
    assert abs(optimal_transport(x0, eps, None)[:32].mean()) > 0.5
    x0 = jax.random.normal(jax.random.key(1), x0.shape)
    cost = lambda noise: float(((x0 - noise) ** 2).sum())
    paired = optimal_transport(x0, eps, label)
    assert cost(optimal_transport(x0, eps, None)) < cost(paired) < cost(eps)
    exact = sum(
        ((np.sort(x0[p, 0]) - np.sort(eps[p, 0])) ** 2).sum() for p in (slice(0, 32), slice(32, 64))
    )
    np.testing.assert_allclose(cost(paired), exact, rtol=1e-4)
