"""The families of the study of generative models: closed forms, and the budgets of its files."""

import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.data.digits import digits
from diffjax.nets.costs import count
from experiments import plane
from experiments.generative import data, extra
from experiments.generative.data import DATA
from experiments.generative.flow import RealNvp
from experiments.generative.gan import judged, pair_loss
from experiments.generative.made import Made
from experiments.generative.study import FAMILIES, allowed, sized, step_flops
from experiments.generative.trunk import Task, mlp, mlp_init
from experiments.generative.vae import Vae, logistic_logp

SMALL = Task("small", (4,), 3, parameters=100, depth=1, latent=2, batch=4)


def redrawn(model, seed=0, scale=0.5):
    """Draw all parameters anew: some start at zero, where everything would be the identity."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
    return jax.tree.map(
        lambda a: jnp.asarray(scale * rng.normal(size=a.shape), jnp.float32), shapes
    )


def test_the_gan_compares_pairs_and_punishes_slopes():
    """Another GAN than R3GAN would be measured under its name."""
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 8))
    exact = np.log1p(np.exp(-(real - fake))).mean()
    assert float(pair_loss(jnp.asarray(real), jnp.asarray(fake))) == pytest.approx(exact, rel=1e-5)
    x, w = rng.normal(size=(8, 3)), jnp.asarray([1.0, 2.0, -2.0])
    logits, penalty = judged(lambda x: (x**2) @ w, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(logits, x**2 @ np.asarray(w), rtol=1e-5)
    assert float(penalty) == pytest.approx(((2 * x * np.asarray(w)) ** 2).sum(1).mean(), rel=1e-5)


def test_probabilities_of_the_logistic_decoder_are_those_of_its_bins():
    """Bits of the VAE would not be those of a distribution over the levels."""
    x = np.linspace(-1, 1, 17)
    s = lambda v: 1 / (1 + np.exp(-v))
    for mean, log_scale in ((0.1, -2.0), (-1.3, -1.0), (0.9, 1.0)):
        found = np.asarray(
            logistic_logp(jnp.asarray(x), jnp.float32(mean), jnp.float32(log_scale), 17)
        )
        edges = np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]])
        exact = np.diff(s((edges - mean) / np.exp(log_scale)))
        np.testing.assert_allclose(np.exp(found), exact, rtol=1e-4, atol=1e-7)
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-5)


def test_the_bound_of_the_vae_is_exact_where_the_decoder_ignores_z():
    """Bits of the VAE would miss a term of the importance weights."""
    model = Vae(SMALL, 4)
    params = redrawn(model)
    params["decoder"]["in"]["w"] = jnp.zeros_like(params["decoder"]["in"]["w"])
    params["encoder"]["out"] = jax.tree.map(jnp.zeros_like, params["encoder"]["out"])
    x = jnp.asarray([[-1.0, 0.0, 1.0, 0.0]])
    exact = -model.log_likelihood(params, x, jnp.zeros((1, 2)))
    np.testing.assert_allclose(model.nll(params, x, jax.random.key(0)), exact, rtol=1e-5)


@pytest.mark.parametrize("shape", [(2,), (4, 4), (2, 2, 3)])
def test_the_flow_inverts_and_knows_its_volume(shape):
    """Densities of the flow would not integrate to one."""
    model = RealNvp(Task("flow", shape, 0, parameters=100, depth=2, latent=2, batch=4), 4)
    params, y = (
        redrawn(model, scale=0.3),
        jnp.asarray(np.random.default_rng(1).normal(size=(2, model.task.size))),
    )
    y = y.astype(jnp.float32)
    z, logdet = model.encode(params, y)
    np.testing.assert_allclose(model.decode(params, z), y, rtol=1e-3, atol=1e-3)
    one = lambda y: model.encode(params, y[None])[0][0]
    exact = np.linalg.slogdet(np.asarray(jax.jacfwd(one)(y[0])))[1]
    assert float(logdet[0]) == pytest.approx(exact, abs=1e-3)
    assert {int(i) for k in range(6) for i in model.halves(k)[1]} == set(range(model.task.size))


def test_the_autoregressive_model_is_a_distribution():
    """Bits would count a pixel that the network sees before it predicts it."""
    model = Made(SMALL, 8)
    params = redrawn(model)
    all_of = np.array([*itertools.product((-1.0, 0.0, 1.0), repeat=4)], np.float32)
    nll = model.nll(params, jnp.asarray(all_of), None)
    assert float(jnp.exp(-nll).sum()) == pytest.approx(1, abs=1e-5)
    first = jnp.zeros((1, 4), int)
    base = model.logits(params, first)
    for j in range(4):
        moved = np.abs(np.asarray(model.logits(params, first.at[0, j].set(2)) - base)).max((0, 2))
        assert (moved[: j + 1] == 0).all() and (moved[j + 1 :] > 0).all(), j


def test_the_trunk_starts_with_blocks_that_change_nothing():
    """Deep networks without normalisation would start with exploding outputs."""
    p = mlp_init(jax.random.key(0), 3, 8, 2, 1)
    x = jnp.ones((2, 3))
    np.testing.assert_array_equal(mlp(p, x), mlp(p | {"blocks": []}, x))


def test_measures_of_the_data_themselves():
    """Modes, levels or copies would be counted wrongly for every family."""
    toy = data.Gaussians(Path())
    whole = toy.measure(toy.real)
    assert whole["found"] == 25 and whole["near"] > 0.98 and whole["w2"] == 0
    part = toy.measure(np.resize(toy.real[toy.real[:, 0] < -0.3], toy.real.shape))
    assert part["found"] == 10 and part["histogram_kl"] == pytest.approx(np.log(2.5), abs=0.02)
    exact = np.asarray(data.exact_logp(toy.items, toy.held_out))
    wanted = -np.log(25) - 1 - np.log(2 * np.pi * data.NOISE**2)  # apart: minus the entropy
    assert exact.mean() == pytest.approx(wanted, abs=0.08)
    assert plane.deviation(toy.items) == pytest.approx(1, abs=0.02)
    x = digits("test").x
    np.testing.assert_array_equal(data.images(data.vectors(x)), x)
    one = np.eye(3)
    np.testing.assert_array_equal(extra.reproduced(one[[0, 0, 2]] + 0.01, one, 0.1), [2, 0, 1])


@pytest.mark.thorough
@pytest.mark.parametrize("source", DATA.values(), ids=[*DATA])
def test_families_sample_with_equal_numbers_of_parameters(source):
    """Families would be compared at unequal sizes."""
    for label, family in FAMILIES.items():
        if allowed(label, source):
            model = sized(family, source.task)
            params = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
            number = count(model.sampling(params))
            assert number == pytest.approx(source.task.parameters, rel=0.1), label
            assert len(model.trials) == 4
            assert step_flops(model) > 3 * 2 * source.task.batch * number / 2, label
