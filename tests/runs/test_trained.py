"""A small network, really trained: its samples must be as good under another process."""

import dataclasses

import jax
import numpy as np
import pytest

from diffjax import builder, config
from diffjax.data import load
from diffjax.data.pipeline import read
from diffjax.denoiser import reframe
from diffjax.evaluation import frechet_with_floor
from diffjax.generation.program import Generation
from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS
from diffjax.samplers.plan import Plan
from diffjax.sde import VE
from diffjax.training.step import scan

pytestmark = pytest.mark.thorough
STEPS, NUM = 600, 1000


@pytest.fixture(scope="module")
def trained():
    """Train the moons config for a few seconds; return initial and averaged parameters."""
    overrides = ["network.width=64", "network.depth=2", "train.batch_size=256"]
    e = builder.experiment(config.override(config.load("moons_vp"), overrides))
    steps, state = jax.jit(scan(e.step()), donate_argnums=0), jax.jit(e.initialise)()
    first = jax.device_get(state.params)
    for stack in read(e.batches(), 0, STEPS, 100):
        state, metrics = steps(state, e.batch(stack))
    assert np.isfinite(metrics["loss"]).all()
    return e, e.denoiser(first), e.denoiser(state.ema["power"])


def quality(e, denoise, sde, name):
    """Return samples and their Frechet distance to the training set."""
    plan = Plan(SAMPLERS[name](sde, uniform(sde, 30)), e.plan(sde).guidance)
    (x,) = Generation(denoise, plan, 0, NUM, e.shape, e.conditions(NUM), batch_size=NUM)
    return x, frechet_with_floor(x, load(e.source("train")).x)


def test_training_reaches_the_data(trained):
    """A loss, an optimizer or a sampler that is wrong would not bring samples near the data."""
    e, begun, denoise = trained
    _, untrained = quality(e, begun, denoise.sde, "ddim")
    _, result = quality(e, denoise, denoise.sde, "ddim")
    assert result.distance < 0.02 < untrained.distance


def more(name):
    """Mark a further case of the same claim as thorough."""
    return pytest.param(name, marks=pytest.mark.thorough)


@pytest.mark.parametrize("name", ["ddim", more("heun"), more("unipc")])
def test_reframed_network_samples_as_well(trained, name):
    """Samples of a VP network would be worse under VE over its schedule.

    Reading the network's v in the new frame, instead of asking it in its own, would fail here.
    """
    e, _, denoise = trained
    ve = VE(denoise.sde.schedule, denoise.sde.t_min, denoise.sde.t_max)
    x, here = quality(e, denoise, denoise.sde, name)
    y, there = quality(e, reframe(denoise, ve), ve, name)
    # VE starts from N(0, sigma^2 I) as VP does, except for alpha: the paths agree in x / alpha.
    scale = np.abs(x).max()
    np.testing.assert_allclose(y, x, atol=2e-3 * scale)
    assert there.distance == pytest.approx(here.distance, rel=0.1, abs=1e-3)


def test_a_network_that_is_not_reframed_samples_badly(trained):
    """The test above could not fail."""
    e, _, denoise = trained
    _, here = quality(e, denoise, denoise.sde, "ddim")
    ve = VE(denoise.sde.schedule, denoise.sde.t_min, denoise.sde.t_max)
    wrong = dataclasses.replace(denoise, model=dataclasses.replace(denoise.model, sde=ve))
    _, broken = quality(e, wrong, ve, "ddim")
    assert broken.distance > 2 * here.distance
