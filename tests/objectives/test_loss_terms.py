"""Errors, and terms that losses can add: uncertainty, learned variances, the bound."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from silent import SDE, Fixed, images, init, run, seed

from diffjax import likelihood
from diffjax.denoiser import Model
from diffjax.draws import DRAWS, LogNormal
from diffjax.nets import Network
from diffjax.objectives import ERRORS, Context, Denoising
from diffjax.objectives.errors import huber, l2, pseudo_huber
from diffjax.parameterization import X0, Eps, V
from diffjax.schedules import Learned, Linear, ZeroTerminal
from diffjax.sde import VP, levels
from diffjax.weights import elbo

pytestmark = pytest.mark.typed

ZERO_TERMINAL = VP(ZeroTerminal(Linear()), t_min=0.01)


# Errors of one number; the two that have a scale are twice SciPy's.
ERROR = {
    "l2": lambda d: d**2,
    "l1": np.abs,
    "huber": lambda d: 2 * special.huber(1.0, d),
    "pseudo_huber": lambda d: 2 * special.pseudo_huber(0.03, d),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_their_closed_forms(name, x64):
    """Outliers would count more than the error states."""
    d = np.array([-1e4, -3.0, -1.0, -0.03, -1e-6, 0.0, 1e-9, 0.01, 0.999, 1.001, 50.0])
    np.testing.assert_allclose(ERRORS[name](jnp.asarray(d)), ERROR[name](d), rtol=1e-6, atol=1e-18)
    slopes = jax.vmap(jax.grad(lambda d: ERRORS[name](d[None])[0]))(jnp.asarray(d))
    assert np.isfinite(slopes).all() and (np.asarray(slopes) * d >= 0).all()


def test_huber_errors_are_squares_near_0_and_tangents_far_out():
    """The learning rate of l2 would not fit, or the gradient jump where the error changes."""
    near, far = jnp.array([1e-4, 0.3]), jnp.array([2.0, 9.0])
    np.testing.assert_array_equal(huber(near), l2(near))
    np.testing.assert_allclose(pseudo_huber(near[:1]), l2(near[:1]), rtol=1e-4)
    for error, delta in ((huber, 0.5), (pseudo_huber, 0.01)):
        slope = jax.grad(lambda d, e=error, c=delta: e(d, c).sum())(far)
        np.testing.assert_allclose(slope, 2 * delta, rtol=1e-3)
    just = jnp.array([1 - 1e-4, 1 + 1e-4])
    np.testing.assert_allclose(jax.grad(lambda d: huber(d).sum())(just), 2.0, rtol=1e-3)


@pytest.mark.thorough
def test_the_best_uncertainty_is_the_log_of_the_loss():
    """Noise levels would not be weighted by their attainable loss: min L / exp(u) + u (EDM2)."""
    x0 = images(4, 3)
    level = (x0**2).mean()
    loss = Denoising(draw=Fixed(), uncertainty=True)
    network = Network(init, lambda params, x, c_noise, cond, key=None: 0 * x)
    model = Model(SDE, X0(), network)
    zero = loss.init(model, jax.random.key(0), jnp.zeros((1, 2)))["uncertainty"]

    def value(u):
        params = {"network": {}, "loss": {"uncertainty": zero.at[0].set(u)}}  # cos(0 y) = 1
        found, metrics, _ = loss(Context(model, params, {"x": jnp.asarray(x0)}, seed(0)))
        return found, metrics["loss"]

    best = float(np.log(level))
    for u in (best - 1, best, best + 1):
        (found, plain), slope = jax.value_and_grad(value, has_aux=True)(u)
        np.testing.assert_allclose(plain, level, rtol=1e-5)
        np.testing.assert_allclose(found, level * np.exp(-u) + u, rtol=1e-5)
        np.testing.assert_allclose(slope, 1 - level * np.exp(-u), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("second", [-1.0, 0.3, 1.5])
def test_the_hybrid_term_is_the_kl_of_two_gaussians(second):
    """The learned variance would be trained for something else (improved DDPM, sec. 3.1)."""
    steps, t, x0 = 10, 0.5, images(4, 3)
    loss = Denoising(draw=Fixed(at=t), hybrid=0.7, steps=steps)
    found = run(loss, {"x": x0}, said=0.2, second=second)
    at = levels(SDE, np.array([t - 1 / steps, t]))
    (a_s, a_t), (v_s, v_t) = at.alpha, at.sigma**2
    ratio = a_t / a_s
    given = v_t - ratio**2 * v_s  # variance of x_t given x_s
    small, b = v_s * given / v_t, a_s * given / v_t
    var = np.exp((1 + second) / 2 * np.log(given) + (1 - second) / 2 * np.log(small))
    gap = (b * (x0.astype(np.float64) - 0.2)) ** 2
    kl = 0.5 * (np.log(var / small) + (small + gap) / var - 1).sum(1)
    expected = 0.7 * steps * kl.mean() / 3 / np.log(2)
    np.testing.assert_allclose(found.metrics["hybrid"], expected, rtol=1e-3)
    np.testing.assert_allclose(found.value, found.metrics["loss"] + expected, rtol=1e-3)


def test_the_last_step_of_the_hybrid_term_is_the_decoder():
    """The step to the data would be a Gaussian, although images are discrete."""
    steps, x0 = 10, images(4, 3)
    loss = Denoising(draw=Fixed(at=1 / steps), hybrid=1.0, steps=steps)
    found = run(loss, {"x": x0}, said=0.2, second=1.0)
    scale = levels(SDE, np.array([0.1])).sigma[0]  # variance of the forward step from the data
    cdf = lambda x: stats.norm(0.2, scale).cdf(x)
    high = np.where(x0 > 0.999, 1, cdf(x0 + 1 / 255))
    p = high - np.where(x0 < -0.999, 0, cdf(x0 - 1 / 255))
    expected = -steps * np.log2(p).sum(1).mean() / 3
    np.testing.assert_allclose(found.metrics["hybrid"], expected, rtol=1e-3)


@pytest.mark.thorough
def test_the_hybrid_term_trains_the_second_output_alone():
    """The noise of the term would spoil F, whose gradient sec.

    3.1 stops, or a sample turn it into NaN.
    """

    def apply(params, x, c_noise, cond, *, key=None):
        return params["f"] * x, params["v"] * x

    batch = {"x": jnp.asarray(images(16, 3))}

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(loss, params):
        model = Model(ZERO_TERMINAL, V(), Network(init, apply))
        objective = lambda p: loss(Context(model, {"network": p}, batch, seed(0)))[0]
        return jax.grad(objective)(params)

    params = {"f": jnp.asarray(0.3), "v": jnp.asarray(0.1)}
    draw = DRAWS["discrete"](steps=16, stratified=True)  # t = 1 / steps and t = 1 too
    plain = gradient(Denoising(draw=draw), params)
    both = gradient(Denoising(draw=draw, hybrid=1.0, steps=16), params)
    np.testing.assert_array_equal(both["f"], plain["f"])
    assert np.isfinite(both["v"]) and abs(both["v"]) > 1e-6 and plain["v"] == 0


def test_hybrid_without_a_second_output_is_refused_by_name():
    """The term would silently be left out."""
    with pytest.raises(ValueError, match=r"hybrid=0\.5: the network has no second output"):
        run(Denoising(hybrid=0.5), {"x": images(2, 3)})


def test_the_bound_adds_prior_and_decoder():
    """The loss would not be the variational bound, and a learned schedule diverge."""
    x0, weight = images(4, 3), np.array([0.5, 1.0, 1.5, 1.0], np.float32)
    found = run(Denoising(elbo, Fixed(), bound=True), {"x": x0, "weight": weight})
    at = levels(SDE, np.array([0.5, SDE.t_min, SDE.t_max]))
    eps = (np.asarray(found.x) - at.alpha[0] * x0) / at.sigma[0]
    prior = np.exp(2 * at.lam[2]) / 2 * (x0**2).sum(1)
    decoder = likelihood.decoder_nll(
        jnp.asarray(x0), jnp.asarray(x0 + np.exp(-at.lam[1]) * eps), jnp.asarray(np.exp(-at.lam[1]))
    )
    expected = (weight * (prior + np.asarray(decoder))).mean() / 3
    np.testing.assert_allclose(found.metrics["bound"], expected, rtol=1e-4)
    np.testing.assert_allclose(found.value, found.metrics["loss"] + expected, rtol=1e-4)


def test_what_the_model_does_not_allow_is_refused_by_name():
    """A schedule would collapse, or training stop at its first step."""
    network = Network(init, lambda params, x, c_noise, cond, key=None: 0 * x)
    model = Model(VP(Learned()), Eps(), network)
    for loss in (Denoising(), Denoising(elbo)):
        with pytest.raises(ValueError, match=r"needs weight='elbo' and bound=True"):
            loss.check(model)
    for loss in (
        Denoising(bound=True),
        Denoising(elbo, LogNormal(), bound=True),
        Denoising(elbo, error=huber, bound=True),
    ):
        with pytest.raises(ValueError, match=r"bound=True is the variational bound only with"):
            loss.check(model)
    Denoising(elbo, bound=True).check(model)
    # Loss / exp(u) + u is no bound either, and falls where the schedule hides its noise.
    with pytest.raises(ValueError, match="no uncertainty"):
        Denoising(elbo, bound=True, uncertainty=True).check(model)
    for error, name in ((huber, "delta"), (pseudo_huber, "c")):
        bad = Denoising(error=functools.partial(error, **{name: -2.0}))
        with pytest.raises(ValueError, match=rf"{name}=-2\.0: needs {name} > 0"):
            bad.check(Model(SDE, V(), network))
