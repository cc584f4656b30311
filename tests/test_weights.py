"""Weights against their published forms, written in NumPy on the squared error of x0."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax.arrays import expand
from diffjax.denoiser import Model
from diffjax.draws import LogNormal
from diffjax.nets import Network
from diffjax.objectives import Denoising
from diffjax.parameterization import PARAMETERIZATIONS, X0, Edm, Eps, V, Velocity
from diffjax.schedules import Cosine, Linear, Logit, Shifted, ZeroTerminal
from diffjax.schedules import Edm as EdmSchedule
from diffjax.sde import SDES, VE, VP, Flow
from diffjax.weights import WEIGHTS, edm, elbo, min_snr, uniform_output

SILENT = Network(lambda key, x, c_noise, cond: {}, lambda params, x, c_noise, cond, key=None: 0 * x)
T_MIN, T_MAX = 0.02, 0.95
WIDTH = T_MAX - T_MIN
TIMES = np.linspace(T_MIN, T_MAX, 25)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# (alpha, sigma) of each frame at log-SNR l.
FRAMES = {
    "vp": lambda l: (sigmoid(l) ** 0.5, sigmoid(-l) ** 0.5),
    "ve": lambda l: (np.ones_like(l), np.exp(-l / 2)),
    "sub_vp": lambda l: (
        (1 - 2 / (1 + (1 + 4 * np.exp(l)) ** 0.5)) ** 0.5,
        2 / (1 + (1 + 4 * np.exp(l)) ** 0.5),
    ),
    "flow": lambda l: (sigmoid(l / 2), sigmoid(-l / 2)),
}
# Errors of F in squared errors of x0 (d eps = -alpha / sigma d x0), from alpha, sigma and l'.
FACTOR = {
    "eps": lambda alpha, sigma, slope: (alpha / sigma) ** 2,
    "score": lambda alpha, sigma, slope: (alpha / sigma**2) ** 2,
    "x0": lambda alpha, sigma, slope: np.ones_like(alpha),
    "v": lambda alpha, sigma, slope: ((alpha**2 + sigma**2) / sigma) ** 2,
    "velocity": lambda alpha, sigma, slope: (alpha * slope / 2) ** 2,
    "edm": lambda alpha, sigma, slope: (alpha / sigma) ** 2 + 1 / 0.5**2,
}
# Weights on squared errors of x0, with their default settings. uniform_output is that of F.
CLOSED = {
    "uniform_x0": lambda alpha, sigma, slope: np.ones_like(alpha),
    "uniform_eps": lambda alpha, sigma, slope: (alpha / sigma) ** 2,
    "uniform_v": FACTOR["v"],
    "uniform_velocity": FACTOR["velocity"],
    "uniform_score": FACTOR["score"],
    "edm": lambda alpha, sigma, slope: ((sigma / alpha) ** 2 + 0.5**2) / (sigma / alpha * 0.5) ** 2,
    "snr": lambda alpha, sigma, slope: (alpha / sigma) ** 2,
    "truncated_snr": lambda alpha, sigma, slope: np.maximum((alpha / sigma) ** 2, 1),
    "min_snr": lambda alpha, sigma, slope: np.minimum((alpha / sigma) ** 2, 5),
    "soft_min_snr": lambda alpha, sigma, slope: 1 / ((sigma / alpha) ** 2 + 0.5**2),
    "p2": lambda alpha, sigma, slope: (alpha / sigma) ** 2 / (1 + (alpha / sigma) ** 2),
    "elbo": lambda alpha, sigma, slope: -slope / 2 * WIDTH * (alpha / sigma) ** 2,
    "likelihood": lambda alpha, sigma, slope: -slope * (alpha / sigma) ** 2,
    "sigmoid": lambda alpha, sigma, slope: (
        -slope / 2 * WIDTH * (alpha / sigma) ** 2 * sigmoid(-2 * np.log(alpha / sigma))
    ),
}
# Weights with other settings, on x0.
SETTINGS = {
    "snr-0": (functools.partial(WEIGHTS["snr"], power=0.0), lambda snr: np.ones_like(snr)),
    "snr-half": (functools.partial(WEIGHTS["snr"], power=0.5), lambda snr: snr**0.5),
    "truncated_snr-3": (
        functools.partial(WEIGHTS["truncated_snr"], floor=3.0),
        lambda snr: np.maximum(snr, 3),
    ),
    "min_snr-1": (functools.partial(min_snr, gamma=1.0), lambda snr: np.minimum(snr, 1)),
    "soft_min_snr-9": (
        functools.partial(WEIGHTS["soft_min_snr"], gamma=9.0),
        lambda snr: snr * 9 / (snr + 9),
    ),
    "p2-half": (
        functools.partial(WEIGHTS["p2"], k=2.0, gamma=0.5),
        lambda snr: snr / (2 + snr) ** 0.5,
    ),
    "edm-1": (functools.partial(edm, sigma_data=1.0), lambda snr: 1 + snr),
}


def model(sde, parameterization):
    return Model(sde, parameterization, SILENT)


def linear(frame):
    """Return a process, and alpha, sigma and l' at TIMES, in NumPy."""
    integral, beta = 0.1 * TIMES + 19.9 / 2 * TIMES**2, 0.1 + 19.9 * TIMES
    l = -np.log(np.expm1(integral))
    sde = SDES[frame](Linear(), t_min=T_MIN, t_max=T_MAX)
    return sde, (*FRAMES[frame](l), -beta / -np.expm1(-integral))


@functools.cache
def wrong(frame):
    """Return the squared error of a wrong x0, (N,), and models that predict it.

    There is one model for each parameterization, with the squared error of its output.
    """
    sde, _ = linear(frame)
    rng, t = np.random.default_rng(0), jnp.asarray(TIMES)
    x0, eps, guess = (jnp.asarray(a) for a in rng.normal(size=(3, len(TIMES), 3)))
    x = sde.perturb(x0, eps, t)
    alpha, sigma = expand(sde.alpha(t), x), expand(sde.sigma(t), x)
    guessed_eps = (x - alpha * guess) / sigma
    models = []
    for make in PARAMETERIZATIONS.values():
        m = model(sde, make())
        a, b = (expand(c, x) for c in m.parameterization.target(sde, t))
        error = (a * guess + b * guessed_eps - (a * x0 + b * eps)) ** 2
        models.append((m, np.asarray(error.mean(1))))
    return np.asarray(((x0 - guess) ** 2).mean(1)), models


def test_every_weight_has_a_closed_form():
    """A weight, a frame or a parameterization without its formula here would go untested."""
    assert {*CLOSED, "uniform_output"} == set(WEIGHTS)
    assert set(FACTOR) == set(PARAMETERIZATIONS) and set(FRAMES) == set(SDES)


ONCE = [*zip(CLOSED, itertools.cycle(SDES), strict=False)]
"""Every weight in one frame."""
IN_FRAMES = [
    pytest.param(*pair, marks=[] if pair in ONCE else [pytest.mark.thorough])
    for pair in itertools.product(CLOSED, SDES)
]


@pytest.mark.parametrize(("name", "frame"), IN_FRAMES)
def test_the_same_denoiser_has_the_same_loss_in_every_parameterization(name, frame, x64):
    """A weight would mean one thing for eps and another for v (MATH 12; T10).

    The same wrong x0 is written as the output of each parameterization; its weighted error is the
    published weight times the squared error of x0.
    """
    _, at = linear(frame)
    error_of_x0, models = wrong(frame)
    expected, t = CLOSED[name](*at) * error_of_x0, jnp.asarray(TIMES)
    for m, error in models:
        loss = np.asarray(WEIGHTS[name](m, t)) * error
        np.testing.assert_allclose(loss, expected, rtol=1e-8)


@pytest.mark.parametrize("frame", SDES)
@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_error_factors(name, frame, x64):
    """uniform_output would not weight errors of F: its loss is that of x0 times these factors."""
    sde, at = linear(frame)
    m, t = model(sde, PARAMETERIZATIONS[name]()), jnp.asarray(TIMES)
    by_x0 = np.asarray(uniform_output(m, t) / WEIGHTS["uniform_x0"](m, t))
    np.testing.assert_allclose(by_x0, FACTOR[name](*at), rtol=1e-8)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.typed
def test_settings_enter_where_they_are_published(name, x64):
    """gamma, k, floor or power would do nothing, or something else."""
    weight, on_x0 = SETTINGS[name]
    sde, (alpha, sigma, _) = linear("flow")
    found = weight(model(sde, X0()), jnp.asarray(TIMES))
    np.testing.assert_allclose(found, on_x0((alpha / sigma) ** 2), rtol=1e-8)


def test_min_snr_has_its_three_published_forms(x64):
    """v would get the weight of eps (T25), a mistake that diffusers shipped twice."""
    sde, (alpha, sigma, _) = linear("vp")
    snr, t = (alpha / sigma) ** 2, jnp.asarray(TIMES)
    least = np.minimum(snr, 5)
    assert (snr > 5).any() and (snr < 5).any()
    np.testing.assert_allclose(min_snr(model(sde, X0()), t), least, rtol=1e-8)
    np.testing.assert_allclose(min_snr(model(sde, Eps()), t), least / snr, rtol=1e-8)
    np.testing.assert_allclose(min_snr(model(sde, V()), t), least / (snr + 1), rtol=1e-8)


@pytest.mark.parametrize(
    "parameterization", [pytest.param(X0(), marks=pytest.mark.thorough), V()], ids=["x0", "v"]
)
@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.typed
def test_weights_are_finite_at_zero_terminal_snr(name, parameterization):
    """One sample at t = 1 would make the loss of a whole batch NaN."""
    sde = VP(ZeroTerminal(Linear()))
    t = jnp.array([0.999, 1.0])
    assert sde.alpha(t)[1] == 0
    w = np.asarray(WEIGHTS[name](model(sde, parameterization), t))
    assert np.isfinite(w).all() and (w >= 0).all()
    assert w[1] <= 1.1 * w[0] + 0.1


def implicit(m, weight, x64_times):
    """Return the weight p(l) on E mean (eps - eps_hat)^2 over l, for uniform t."""
    sde, t = m.sde, jnp.asarray(x64_times)
    slope = jax.jvp(sde.logsnr, (t,), (jnp.ones_like(t),))[1]
    on_eps = weight(m, t) / WEIGHTS["uniform_eps"](m, t)
    return np.asarray(sde.logsnr(t)), np.asarray(on_eps / -slope / (sde.t_max - sde.t_min))


def test_cosine_with_v_is_flow_matching_up_to_a_constant(x64):
    """Two famous recipes would train differently (T19).

    Their weights are exp(-l / 2) / pi and exp(-l / 2) / 2.
    """
    ends = {"t_min": 1e-9, "t_max": 1 - 1e-9}
    l, cosine = implicit(model(VP(Cosine(0.0), **ends), V()), uniform_output, TIMES)
    np.testing.assert_allclose(cosine, np.exp(-l / 2) / math.pi, rtol=1e-7)
    l, flow = implicit(model(Flow(Logit(), **ends), Velocity()), uniform_output, TIMES)
    np.testing.assert_allclose(flow, np.exp(-l / 2) / 2, rtol=1e-7)
    l, eps = implicit(model(VP(Cosine(0.0), **ends), Eps()), uniform_output, TIMES)
    np.testing.assert_allclose(eps, 1 / np.cosh(l / 2) / (2 * math.pi), rtol=1e-7)


@pytest.mark.parametrize("frame", SDES)
@pytest.mark.parametrize("schedule", [Linear(), Cosine(), Logit()], ids=["linear", "cos", "logit"])
def test_the_bound_weighs_every_log_snr_alike(schedule, frame, x64):
    """The weight of the bound would depend on schedule or frame: it is int / 2 over l, w = 1."""
    m = model(SDES[frame](schedule, t_min=T_MIN, t_max=T_MAX), V())
    l, bound = implicit(m, elbo, TIMES)
    np.testing.assert_allclose(bound, 0.5, rtol=1e-7)
    _, likelihood = implicit(m, WEIGHTS["likelihood"], TIMES)
    np.testing.assert_allclose(likelihood, 1 / WIDTH, rtol=1e-7)
    _, squeezed = implicit(m, functools.partial(WEIGHTS["sigmoid"], bias=2.0), TIMES)
    np.testing.assert_allclose(squeezed, sigmoid(2 - l) / 2, rtol=1e-7)


def test_edm_is_its_paper(x64):
    """EDM's weight and log-normal together would not be those of the paper (T19, T24).

    They are N(l; 2.4, 2.4^2) (exp(-l) + s^2), and the weight is 1 on EDM's own output.
    """
    sde = VE(EdmSchedule(), t_min=0.002 / 80)
    m, u = model(sde, Edm()), jnp.linspace(0.02, 0.98, len(TIMES))
    draw = LogNormal()
    logsnr = lambda u: sde.logsnr(draw.quantile(sde, u, ()))
    l, slope = jax.jvp(logsnr, (u,), (jnp.ones_like(u),))
    t = sde.inverse(l)
    found = edm(m, t) / WEIGHTS["uniform_eps"](m, t) / -slope
    expected = stats.norm(2.4, 2.4).pdf(l) * (np.exp(-l) + 0.5**2)
    ratio = np.asarray(found / expected)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
    np.testing.assert_allclose(edm(m, t), 1.0, rtol=1e-9)
    on_x0 = 1 / WEIGHTS["uniform_x0"](m, t)  # of the weight 1 on F
    np.testing.assert_allclose(edm(m, t, power=1.5) * on_x0, on_x0**1.5, rtol=1e-9)


def test_a_shift_is_another_choice_of_times(x64):
    """SD3's shift would change the bound itself, in addition to its times (T20)."""
    s, t = 3.0, jnp.asarray(TIMES)
    later = lambda t: s * t / (1 + (s - 1) * t)
    shifted = Flow(Shifted(Logit(), -2 * math.log(s)), t_min=T_MIN, t_max=T_MAX)
    base = Flow(Logit(), t_min=float(later(T_MIN)), t_max=float(later(T_MAX)))
    np.testing.assert_allclose(shifted.sigma(t), later(t), rtol=1e-9)
    np.testing.assert_allclose(shifted.alpha(t), 1 - later(t), rtol=1e-9)
    slope = jax.jvp(later, (t,), (jnp.ones_like(t),))[1]
    by_shifted = elbo(model(shifted, V()), t) / WIDTH
    by_base = elbo(model(base, V()), later(t)) / (base.t_max - base.t_min)
    np.testing.assert_allclose(by_shifted, by_base * slope, rtol=1e-7)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        ("edm", "sigma_data"),
        ("truncated_snr", "floor"),
        ("min_snr", "gamma"),
        ("soft_min_snr", "gamma"),
        ("p2", "k"),
    ],
)
def test_bad_settings_are_refused_by_name(name, argument, bad):
    """A run would train on a loss of 0 or NaN."""
    weight = functools.partial(WEIGHTS[name], **{argument: bad})
    m = model(VP(Linear()), V())
    with pytest.raises(ValueError, match=rf"{argument}={bad}: needs {argument} > 0"):
        weight(m, jnp.full(2, 0.5))
    with pytest.raises(ValueError, match=rf"{argument}={bad}"):
        Denoising(weight).check(m)
