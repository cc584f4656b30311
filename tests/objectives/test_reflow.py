"""Reflow on Gaussian data: straight paths, whose loss is 0 and which one Euler step follows."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from commands import one_device

import diffjax
from diffjax import analytic, builder, schedules
from diffjax.config import ConfigError, load, override
from diffjax.denoiser import Denoiser, Model
from diffjax.nets import Network
from diffjax.objectives import PAIRINGS, Context, Denoising
from diffjax.parameterization import Velocity, time_999
from diffjax.runs.trained import Trained
from diffjax.sde import Flow
from diffjax.tools import pairs

MEAN, VAR = 0.7, 0.3
FLOW = Flow(schedules.Logit())  # x_t = (1 - t) x0 + t eps


def straight(params, x, c_noise, cond, *, key=None):
    """Return eps - x0 of the pair (m + sqrt(S) eps, eps) that x_t lies on, plus params."""
    t = (c_noise / 999)[:, None]
    eps = (x - (1 - t) * MEAN) / ((1 - t) * VAR**0.5 + t)
    return eps - (MEAN + VAR**0.5 * eps) + params["w"]


def test_after_reflow_one_euler_step_is_exact_and_the_least_loss_is_0(x64):
    """The pairs would be mixed up, and the paths stay curved (F15)."""
    rng = np.random.default_rng(0)
    eps = rng.normal(size=(64, 1))
    exact = analytic.gaussian(jnp.array([MEAN]), jnp.array([VAR])).flow_map(FLOW)
    network: Any = Network
    parameterization = Velocity(c_noise=time_999, scale_input=False)
    model = Model(FLOW, parameterization, network(lambda *_: {}, straight))

    @jax.jit
    def measured(shift):
        x0 = exact(jnp.asarray(eps), jnp.ones(64), to=jnp.zeros(64)).x0

        def loss(shift, pairing="stored"):
            params = {"network": {"w": shift}}
            batch = {"x": x0, "noise": jnp.asarray(eps)}
            context = Context(model, params, batch, jax.random.key(0))
            return Denoising(pairing=PAIRINGS[pairing])(context)[0]

        step = Denoiser(model, {"network": {"w": shift}})(jnp.asarray(eps), jnp.ones(64)).x0
        return *jax.value_and_grad(loss)(shift), loss(shift, "independent"), jnp.abs(step - x0)

    value, slope, curved, error = measured(0.0)
    assert value < 1e-20 and abs(slope) < 1e-10 and error.max() < 1e-12
    assert curved > 0.1 and measured(0.1)[0] == pytest.approx(0.01)


def test_noise_that_is_missing_is_refused():
    """Other noise would be drawn in its place."""
    network: Any = Network
    model = Model(FLOW, Velocity(), network(lambda *_: {}, straight))
    batch = {"x": jnp.zeros((4, 1))}
    with pytest.raises(ValueError, match="needs batch"):
        Denoising(pairing=PAIRINGS["stored"])(Context(model, {}, batch, jax.random.key(0)))
    batch["noise"] = jnp.zeros((3, 1))
    with pytest.raises(ValueError, match="has the shape"):
        Denoising(pairing=PAIRINGS["stored"])(Context(model, {}, batch, jax.random.key(0)))


@pytest.fixture(scope="module", autouse=True)
def one():
    with one_device():
        yield


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """An export of a small network on labelled points."""
    changes = ["network.width=8", "network.depth=1", "data.size=50", "sampling.steps=1"]
    experiment = builder.experiment(override(load("moons_vp"), changes))
    folder = tmp_path_factory.mktemp("teacher") / "export"
    Trained(experiment.denoiser(experiment.parameters()), experiment).save(folder)
    return folder


@pytest.fixture
def tool(monkeypatch, teacher):
    def run(*flags):
        argv = ["pairs", f"--workdir={teacher}", "--num=6", "--batch-size=4", *map(str, flags)]
        monkeypatch.setattr(sys, "argv", argv)
        assert pairs.run() == 0

    return run


def test_the_command_stores_pairs_that_training_reads(tool, teacher, tmp_path):
    """An item would have the noise of another, or an interruption change them."""
    out = tmp_path / "pairs"
    tool(f"--out={out}")
    arrays = dict(np.load(out / "pairs.npz"))
    trained = diffjax.load(teacher)
    sde, noise, label = trained.sde, jnp.asarray(arrays["cond_noise"]), jnp.asarray(arrays["y"])
    t = jnp.full(6, sde.t_max)
    x = sde.sigma(t)[:, None] * noise
    x0 = jax.jit(lambda: trained.denoise(x, t, {"label": label}).x0)()
    np.testing.assert_allclose(arrays["x"], x0, rtol=1e-4, atol=1e-4)
    assert arrays["y"].tolist() == [0, 1, 0, 1, 0, 1]
    whole = (out / "pairs.npz").read_bytes()
    (out / "pairs.npz").unlink()
    sorted((out / "parts").glob("*.npz"))[-1].unlink()  # an interruption between the batches
    tool(f"--out={out}")
    assert (out / "pairs.npz").read_bytes() == whole
    data = {"name": f"array:{out / 'pairs.npz'}", "labels": True, "holdout": 0.0}
    config = trained.config | {"data": data}
    config["loss"] = config["loss"] | {"pairing": "stored"}
    experiment = builder.experiment(config)
    items = experiment.source("train")[np.array([5, 2])]
    batch = experiment.batch(items)
    np.testing.assert_array_equal(batch["noise"], arrays["cond_noise"][[5, 2]])
    assert sorted(batch) == ["cond", "noise", "x"] and sorted(batch["cond"]) == ["label"]
    with pytest.raises(ConfigError, match="another network"):
        tool(f"--out={out}", "--seed=1")
    with pytest.raises(ConfigError, match="no condition 'noise'"):
        builder.experiment(config | {"data": trained.config["data"]})


def test_samplers_with_noise_and_other_folders_are_refused(tool, tmp_path):
    """Pairs would have no map to learn, or files be lost."""
    with pytest.raises(ConfigError, match="--sampler=ancestral: adds noise"):
        tool(f"--out={tmp_path / 'new'}", "--sampler=ancestral", "--steps=3")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="other files"):
        tool(f"--out={tmp_path}")
