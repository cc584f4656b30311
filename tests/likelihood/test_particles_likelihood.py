"""The likelihood of particles: a config, its space, and a divergence that is known exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from redrawn import redrawn

from diffjax import builder, config
from diffjax.data.particles import SYSTEMS
from diffjax.evaluation import Subject, bpd
from diffjax.likelihood import TRACES, Ode, logp
from diffjax.report.evaluated import bits_line
from diffjax.spaces import Centred

ABOUT = {"data": "dw4", "split": "test", "trained": 0, "ema": ""}


@functools.cache
def experiment():
    small = ["data.size=100", "network.width=8", "network.depth=1", "network.radial=4"]
    return builder.experiment(config.override(config.load("dw4"), small))


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The metric of a fresh network, whose output is 0."""
    e = experiment()
    denoise = e.denoiser(e.parameters())
    folder, source = tmp_path_factory.mktemp("dw4"), e.source("test")
    subject = Subject(denoise, e.form, e.reading, e.config, source, ABOUT, folder, batch_size=32)
    return subject, bpd(subject, num=32, trace=TRACES["exact"], ode=Ode(steps=20))


def test_bits_count_the_rank_and_the_divergence_is_exact(result):
    """Bits would be per coordinate, of which there are 8, and the divergence another number.

    v = 0 is the prediction for normal data, so q = N(0, 1) in 6 dimensions, with the noise of
    t_min.
    """
    subject, measured = result
    assert subject.rank == 6 and subject.size == 8
    assert isinstance(subject.denoise.model.space, Centred)
    index = subject.chosen(32)
    x = subject.source[index]["x"].astype(np.float64)
    var = float(subject.denoise.sde.alpha(jnp.asarray(subject.denoise.sde.t_min))) ** -2
    nats = 0.5 * (x**2).sum((1, 2)) / var + 3 * np.log(2 * np.pi * var)
    assert abs(measured["bits"] - nats.mean() / (6 * np.log(2))) < 1e-4
    excess = SYSTEMS["dw4"].logp(x) + nats
    assert abs(measured["kl"] - excess.mean()) < 1e-3
    assert abs(measured["kl_error"] - excess.std(ddof=1) / 32**0.5) < 1e-3
    assert f"kl {measured['kl']:.5g}" in bits_line("bpd", measured)


def test_the_likelihood_does_not_depend_on_the_orientation(result):
    """A molecule would be more likely in one orientation, or in one order of its atoms."""
    denoise, rng = redrawn(experiment()).denoise, np.random.default_rng(0)
    x = jnp.asarray(result[0].source[np.arange(3)]["x"])
    q = jnp.asarray(np.linalg.qr(rng.normal(size=(2, 2)))[0], x.dtype)
    keys = jax.random.split(jax.random.key(0), 3)
    density = jax.jit(lambda x: logp(denoise, x, keys, ode=Ode(steps=20)).logp)
    before = np.asarray(density(x))
    assert np.ptp(before) > 0.1
    for other in (x @ q, -x, x[:, ::-1], x + 2.0):
        np.testing.assert_allclose(density(other), before, atol=2e-3)
