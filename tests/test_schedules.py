"""Schedules against 50-digit arithmetic: their inverses, ends and equality."""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decimals import (
    TIMES,
    Marginal,
    between,
    cosine,
    cosine_table,
    edm,
    exponential,
    geometric,
    karras,
    laplace,
    learned,
    linear,
    linear_table,
    logistic,
    logit,
    polynomial,
    quadratic,
    scaled_linear,
    scaled_linear_table,
    sigmoid,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tiers import some

from diffjax.schedules import (
    SCHEDULES,
    Clamped,
    Cosine,
    Discrete,
    Edm,
    Exponential,
    Geometric,
    Karras,
    Laplace,
    Learned,
    Linear,
    Polynomial,
    Quadratic,
    ScaledLinear,
    Shifted,
    Sigmoid,
    Truncated,
    ddpm_cosine,
    ddpm_linear,
    ddpm_scaled_linear,
    from_betas,
)
from diffjax.sde import VP


class Case(NamedTuple):
    """The facts about a schedule: its definition, its infinite ends, and its settings."""

    oracle: Callable[..., Marginal]
    infinite: tuple[bool, bool]
    settings: st.SearchStrategy


BETA_ENDS = st.tuples(st.floats(1e-3, 1.0), st.floats(1.0, 30.0))
CASES = {
    "linear": Case(linear, (True, False), BETA_ENDS),
    "scaled_linear": Case(scaled_linear, (True, False), BETA_ENDS),
    "quadratic": Case(quadratic, (True, False), BETA_ENDS),
    "exponential": Case(exponential, (True, False), st.tuples(st.floats(0.1, 30.0))),
    "cosine": Case(cosine, (True, True), st.tuples(st.floats(0, 0.1))),
    "sigmoid": Case(
        sigmoid,
        (True, True),
        st.tuples(st.floats(-6.0, 0.5), st.floats(1.0, 6.0), st.floats(0.1, 2.0)),
    ),
    "polynomial": Case(polynomial, (True, True), st.tuples(st.floats(0.25, 4.0))),
    "laplace": Case(
        laplace,
        (True, True),
        st.tuples(st.floats(-3.0, 3.0), st.floats(0.1, 3.0)),
    ),
    "logit": Case(logit, (True, True), st.tuples()),
    "geometric": Case(
        geometric,
        (False, False),
        st.tuples(st.floats(1e-3, 0.5), st.floats(1.0, 100.0)),
    ),
    "karras": Case(
        karras,
        (False, False),
        st.tuples(st.floats(1e-3, 0.5), st.floats(1.0, 100.0), st.floats(0.5, 10.0)),
    ),
    "edm": Case(edm, (True, False), st.tuples(st.floats(1.0, 200.0))),
    "learned": Case(
        learned,
        (False, False),
        st.tuples(st.floats(5.0, 20.0), st.floats(-20.0, -1.0), st.sampled_from([1, 32])),
    ),
    "ddpm_linear": Case(
        lambda schedule, t: between(linear_table(len(schedule.betas)), t),
        (False, False),
        st.tuples(st.sampled_from([2, 10, 1000]), st.floats(1e-5, 1e-3), st.floats(0.01, 0.1)),
    ),
    "ddpm_scaled_linear": Case(
        lambda schedule, t: between(scaled_linear_table(len(schedule.betas)), t),
        (False, False),
        st.tuples(st.sampled_from([2, 10, 1000]), st.floats(1e-5, 1e-3), st.floats(0.01, 0.1)),
    ),
    "ddpm_cosine": Case(
        lambda schedule, t: between(cosine_table(len(schedule.betas)), t),
        (False, False),
        st.tuples(st.sampled_from([2, 10, 1000]), st.floats(0, 0.1), st.floats(0.9, 0.9999)),
    ),
}
every = pytest.mark.parametrize("name", SCHEDULES)
drawn = settings(deadline=None, max_examples=8, database=None, derandomize=True)


def test_every_schedule_has_an_oracle():
    """A schedule in the catalogue without its 50-digit definition here would go untested."""
    assert set(CASES) == set(SCHEDULES)


@every
def test_float32_keeps_its_digits(name):
    """Float32 training and sampling would see wrong noise levels near the ends.

    Between its entries a table has its place t T rounded, which costs half an epsilon of t times
    the slope of l: up to 2e-4 in l in the last entries of ddpm_cosine, where l falls by 7 in 1 / T.
    """
    schedule = SCHEDULES[name]()
    sde = VP(schedule)
    t = jnp.asarray(np.append(TIMES, 1.0), jnp.float32)
    exact = [CASES[name].oracle(schedule, Decimal(float(a))) for a in t]
    alpha = np.array([float(a.sqrt()) for a, _ in exact])
    sigma = np.array([float(s.sqrt()) for _, s in exact])
    ours = jax.jit(lambda t: (sde.alpha(t), sde.sigma(t), sde.logsnr(t)))(t)
    place = np.zeros(len(t))
    if isinstance(schedule, Discrete):
        slope = jax.jvp(schedule, (t,), (jnp.ones_like(t),))[1]
        place = np.finfo(np.float32).eps / 2 * np.abs(t * slope)
    assert (np.abs(ours[0] - alpha) <= (2e-6 + place / 2) * alpha).all()
    assert (np.abs(ours[1] - sigma) <= (2e-6 + place / 2) * sigma).all()
    finite = alpha > 0
    l = np.array([float((a / s).ln()) for a, s in exact if a > 0])
    error = np.abs(np.asarray(ours[2], np.float64)[finite] - l)
    assert (error <= 2e-6 * np.maximum(1, np.abs(l)) + place[finite]).all()


@pytest.mark.parametrize(
    ("schedule", "nodes"),
    [
        (ddpm_linear(), linear_table),
        (ddpm_linear(50), linear_table),
        (ddpm_scaled_linear(), scaled_linear_table),
        (ddpm_cosine(), cosine_table),
        (ddpm_cosine(50), cosine_table),
    ],
    ids=("linear-1000", "linear-50", "scaled-1000", "cosine-1000", "cosine-50"),
)
def test_tables_are_exact_at_their_entries(schedule, nodes):
    """A discrete-time model would be called at other noise levels than in training."""
    steps = len(schedule.betas)
    t = jnp.asarray(np.arange(1, steps + 1) / steps, jnp.float32)
    ours = jax.jit(lambda t: (VP(schedule).alpha(t), VP(schedule).sigma(t), schedule(t)))(t)
    exact = nodes(steps)[1:]
    sqrt = lambda a: float(a.sqrt())
    np.testing.assert_allclose(ours[0], [sqrt(logistic(l)) for l in exact], rtol=2e-6)
    np.testing.assert_allclose(ours[1], [sqrt(logistic(-l)) for l in exact], rtol=2e-6)
    np.testing.assert_allclose(ours[2], [float(l) for l in exact], rtol=2e-6, atol=2e-6)


@every
def test_float64_matches_50_digits(name, x64):
    """Sampler tables, which are computed in float64, would use a wrong schedule."""
    schedule = SCHEDULES[name]()
    exact = [CASES[name].oracle(schedule, Decimal(float(t))) for t in TIMES]
    l = np.array([float((a / s).ln()) for a, s in exact])
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(TIMES)), l, rtol=1e-11, atol=1e-13)


@every
@pytest.mark.typed
def test_decreases(name):
    """Time would not order noise levels, and the inverse would not exist."""
    t = jnp.linspace(1e-4, 1 - 1e-4, 2000)
    assert (np.diff(jax.jit(SCHEDULES[name]())(t)) < 0).all()


@pytest.mark.parametrize("name", some(SCHEDULES, ["linear", "cosine", "learned"]))
@drawn
@given(data=st.data())
def test_decreases_with_any_settings(name, data):
    """Time would not order noise levels, for some settings that a config may have."""
    schedule = SCHEDULES[name](*data.draw(CASES[name].settings))
    with jax.enable_x64(True):
        l = schedule(jnp.asarray(np.linspace(1e-6, 1 - 1e-6, 500)))
    assert np.isfinite(l).all() and (np.diff(l) < 0).all()


@every
@drawn
@given(data=st.data(), t=st.floats(1e-6, 1 - 1e-6))
def test_inverse_in_float64(name, data, t):
    """`reframe` and log-SNR grids would call the network at a wrong time, for some settings.

    Where l is flat next to a finite end its rounding is an absolute error of t.
    """
    schedule = SCHEDULES[name](*data.draw(CASES[name].settings))
    with jax.enable_x64(True):
        back = schedule.inverse(schedule(jnp.asarray(t, jnp.float64)))
        np.testing.assert_allclose(back, t, rtol=1e-9, atol=1e-12)


@every
def test_inverse_in_float32(name):
    """The inverse would lose more than the rounding of the log-SNR costs, by its slope."""
    schedule = SCHEDULES[name]()
    t = jnp.asarray(TIMES, jnp.float32)
    there_and_back = lambda t: (schedule.inverse(schedule(t)), schedule(t))
    back, l = jax.jit(there_and_back)(t)
    slope = jax.jit(lambda t: jax.jvp(schedule, (t,), (jnp.ones_like(t),))[1])(t)
    rounding = 4 * np.finfo(np.float32).eps * np.maximum(1, np.abs(l)) / np.abs(slope)
    error = np.abs(np.asarray(back) - np.asarray(t))
    assert (error <= rounding + 1e-6 * np.asarray(t)).all()


@every
@pytest.mark.typed
def test_ends(name):
    """l would be NaN at an end, or a frame not notice an unbounded end that it has to refuse."""
    schedule = SCHEDULES[name]()
    l, back = jax.jit(lambda t: (schedule(t), schedule.inverse(schedule(t))))(jnp.array([0.0, 1.0]))
    assert not jnp.isnan(l).any()
    assert tuple(np.isinf(l).tolist()) == CASES[name].infinite
    assert l[0] > 0 > l[1]
    np.testing.assert_allclose(back, [0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("make", "argument", "allowed"),
    [
        (lambda: Linear(beta_min=0.0), "beta_min=0.0", "0 < beta_min"),
        (lambda: Linear(beta_min=-1.0), "beta_min=-1.0", "0 < beta_min"),
        (lambda: Linear(beta_min=2.0, beta_max=1.0), "beta_max=1.0", "beta_min <= beta_max"),
        (lambda: Linear(beta_max=float("nan")), "beta_max=nan", "beta_min <= beta_max"),
        (lambda: Linear(beta_max=math.inf), "beta_max=inf", "beta_max < inf"),
        (lambda: ScaledLinear(beta_min=0.0), "beta_min=0.0", "0 < beta_min"),
        (lambda: Quadratic(beta_max=0.01), "beta_max=0.01", "beta_min <= beta_max"),
        (lambda: Exponential(rate=0.0), "rate=0.0", "0 < rate < inf"),
        (lambda: Cosine(s=-0.1), "s=-0.1", "0 <= s < 1"),
        (lambda: Cosine(s=1.0), "s=1.0", "0 <= s < 1"),
        (lambda: Geometric(sigma_min=0.0), "sigma_min=0.0", "0 < sigma_min"),
        (lambda: Geometric(sigma_max=0.01), "sigma_max=0.01", "sigma_min < sigma_max"),
        (lambda: Sigmoid(start=3.0), "start=3.0", "start < end"),
        (lambda: Sigmoid(tau=0.0), "tau=0.0", "tau > 0"),
        (lambda: Sigmoid(tau=0.01), "tau=0.01", "(end - start) / tau < 160"),
        (lambda: Polynomial(power=5.0), "power=5.0", "0 < power <= 4"),
        (lambda: Laplace(mean=math.nan), "mean=nan", "a finite mean"),
        (lambda: Laplace(scale=0.0), "scale=0.0", "0 < scale < inf"),
        (lambda: Karras(sigma_min=-1.0), "sigma_min=-1.0", "0 < sigma_min"),
        (lambda: Karras(rho=0.0), "rho=0.0", "0 < rho < inf"),
        (lambda: Karras(rho=math.inf), "rho=inf", "0 < rho < inf"),
        (lambda: Edm(sigma_max=0.0), "sigma_max=0.0", "0 < sigma_max < inf"),
        (lambda: ddpm_linear(steps=1), "steps=1", "steps >= 2"),
        (lambda: ddpm_scaled_linear(steps=1), "steps=1", "steps >= 2"),
        (lambda: ddpm_cosine(steps=0), "steps=0", "steps >= 2"),
        (lambda: from_betas([]), "betas=()", "at least two"),
        (lambda: from_betas([0.5]), "betas=(0.5,)", "at least two"),
        (lambda: from_betas([0.5, 0.0]), "betas[1]=0.0", "0 < beta < 1"),
        (lambda: from_betas([1.0, 0.5]), "betas[0]=1.0", "0 < beta < 1"),
        (lambda: from_betas([0.5, -0.1]), "betas[1]=-0.1", "0 < beta < 1"),
        (lambda: from_betas([0.5, math.nan]), "betas[1]=nan", "0 < beta < 1"),
        (lambda: Learned(1.0, 1.0), "logsnr_max=1.0", "logsnr_min < logsnr_max"),
        (lambda: Learned(logsnr_max=math.inf), "logsnr_max=inf", "both finite"),
        (lambda: Learned(width=0), "width=0", "width >= 1"),
        (lambda: Shifted(Linear(), math.inf), "by=inf", "a finite number"),
        (lambda: Clamped(Linear(), 1.0, -1.0), "logsnr_max=-1.0", "logsnr_min < logsnr_max"),
        (lambda: Clamped(Linear(), -math.inf), "logsnr_min=-inf", "both finite"),
        (lambda: Truncated(Cosine(), 2.0, 2.0), "logsnr_max=2.0", "logsnr_min < logsnr_max"),
        (lambda: Truncated(Linear()), "logsnr_min=-15.0", "goes from inf to -10.05"),
        (lambda: Truncated(Geometric(), -5.0), "logsnr_max=15.0", "from 9.21034 to -7.82405"),
    ],
)
def test_bad_settings_name_the_argument_and_its_range(make, argument, allowed):
    """A typo in a config would train on a wrong process, or fail far from its cause."""
    with pytest.raises(ValueError, match=re.escape(argument) + ".*" + re.escape(allowed)):
        make()


@pytest.mark.parametrize("make", [Linear, ScaledLinear, Quadratic])
def test_constant_beta_is_allowed(make):
    """The inverse would divide by zero at slope 0."""
    schedule = make(2.0, 2.0)
    t = jnp.linspace(0.1, 1.0, 5)
    back = jax.jit(lambda t: schedule.inverse(schedule(t)))(t)
    np.testing.assert_allclose(back, t, rtol=1e-5)


def test_clean_cosine_is_its_closed_form():
    """`s=0` would no longer give l = -2 log tan(pi t / 2)."""
    t = jnp.linspace(0.01, 0.99, 50)
    l = -2 * np.log(np.tan(np.pi / 2 * np.asarray(t, np.float64)))
    np.testing.assert_allclose(jax.jit(Cosine(0.0))(t), l, rtol=2e-6, atol=2e-6)


@every
def test_equal_schedules_do_not_retrace(name):
    """Each new but equal object would compile the program again."""
    make, traces = SCHEDULES[name], []

    def logsnr(t, schedule):
        traces.append(schedule)
        return schedule(t)

    run = jax.jit(logsnr, static_argnums=1)
    a, b = run(jnp.asarray(0.5), make()), run(jnp.asarray(0.5), make())
    assert make() == make() and hash(make()) == hash(make())
    assert len(traces) == 1 and a == b
