"""Schedules against 50-digit arithmetic, their inverses, their ends and their identity."""

import decimal
import re
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffjax.schedules import SCHEDULES, Cosine, Geometric, Linear
from diffjax.sde import VP

decimal.getcontext().prec = 50
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")


def sin(x: Decimal) -> Decimal:
    """Taylor series."""
    term, total, n = x, x, 1
    while abs(term) > Decimal("1e-48"):
        n += 2
        term *= -x * x / (n * (n - 1))
        total += term
    return total


def linear(schedule: Linear, t: Decimal) -> tuple[Decimal, Decimal]:
    """alpha^2 and sigma^2 in VP."""
    low, high = Decimal(schedule.beta_min), Decimal(schedule.beta_max)
    alpha2 = (-(low * t + (high - low) * t * t / 2)).exp()
    return alpha2, 1 - alpha2


def cosine(schedule: Cosine, t: Decimal) -> tuple[Decimal, Decimal]:
    """alpha^2 and sigma^2 in VP: cos(a) = sin(pi/2 - a)."""
    s = Decimal(schedule.s)
    at = lambda t: sin(PI / 2 - (t + s) / (1 + s) * PI / 2) ** 2
    alpha2 = at(t) / at(Decimal(0))
    return alpha2, 1 - alpha2


def geometric(schedule: Geometric, t: Decimal) -> tuple[Decimal, Decimal]:
    """alpha^2 and sigma^2 in VP, where sigma / alpha = sigma_min (sigma_max / sigma_min)^t."""
    low, high = Decimal(schedule.sigma_min), Decimal(schedule.sigma_max)
    ratio = (2 * (low.ln() + t * (high.ln() - low.ln()))).exp()
    return 1 / (1 + ratio), ratio / (1 + ratio)


class Case(NamedTuple):
    """What is known of a schedule: its definition, its ends (l at t = 0 and 1), its settings."""

    oracle: Callable[..., tuple[Decimal, Decimal]]
    infinite: tuple[bool, bool]
    draw: st.SearchStrategy


CASES = {
    "linear": Case(
        linear,
        (True, False),
        st.builds(Linear, st.floats(1e-3, 1.0), st.floats(1.0, 30.0)),
    ),
    "cosine": Case(cosine, (True, True), st.builds(Cosine, st.floats(0, 0.1))),
    "geometric": Case(
        geometric,
        (False, False),
        st.builds(Geometric, st.floats(1e-3, 0.5), st.floats(1.0, 100.0)),
    ),
}
every = pytest.mark.parametrize("name", SCHEDULES)
TIMES = np.concatenate([np.geomspace(1e-6, 0.5, 40), 1 - np.geomspace(1e-6, 0.5, 40)[:-1]])


def test_every_schedule_has_an_oracle():
    """A schedule in the catalogue without its 50-digit definition here would go untested."""
    assert set(CASES) == set(SCHEDULES)


@every
@pytest.mark.fast
def test_float32_keeps_its_digits(name):
    """Float32 training and sampling would see wrong noise levels near the ends."""
    schedule = SCHEDULES[name]()
    sde = VP(schedule)
    t = jnp.asarray(np.append(TIMES, 1.0), jnp.float32)
    exact = [CASES[name].oracle(schedule, Decimal(float(a))) for a in t]
    alpha = np.array([float(a.sqrt()) for a, _ in exact])
    sigma = np.array([float(s.sqrt()) for _, s in exact])
    ours = jax.jit(lambda t: (sde.alpha(t), sde.sigma(t), sde.logsnr(t)))(t)
    np.testing.assert_allclose(ours[0], alpha, rtol=2e-6)
    np.testing.assert_allclose(ours[1], sigma, rtol=2e-6)
    finite = alpha > 0
    l = np.array([float((a / s).ln()) for a, s in exact if a > 0])
    error = np.abs(np.asarray(ours[2], np.float64)[finite] - l)
    assert (error <= 2e-6 * np.maximum(1, np.abs(l))).all()


@every
def test_float64_matches_50_digits(name, x64):
    """Sampler tables, made in float64, would carry a wrong schedule."""
    schedule = SCHEDULES[name]()
    exact = [CASES[name].oracle(schedule, Decimal(float(t))) for t in TIMES]
    l = np.array([float((a / s).ln()) for a, s in exact])
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(TIMES)), l, rtol=1e-11, atol=1e-13)


@every
def test_decreases(name):
    """Time would not order noise levels, and the inverse would not exist."""
    t = jnp.linspace(1e-4, 1 - 1e-4, 2000)
    assert (np.diff(jax.jit(SCHEDULES[name]())(t)) < 0).all()


@every
@pytest.mark.fast
@settings(deadline=None, max_examples=50, database=None, derandomize=True)
@given(data=st.data(), t=st.floats(1e-6, 1 - 1e-6))
def test_inverse_in_float64(name, data, t):
    """`reframe` and log-SNR grids would ask the network at a wrong time, for some settings."""
    schedule = data.draw(CASES[name].draw)
    with jax.enable_x64(True):
        back = schedule.inverse(schedule(jnp.asarray(t, jnp.float64)))
        np.testing.assert_allclose(back, t, rtol=1e-9)


@every
def test_inverse_in_float32(name):
    """The inverse would lose more than rounding of the log-SNR costs (its slope tells how much)."""
    schedule = SCHEDULES[name]()
    t = jnp.asarray(TIMES, jnp.float32)
    there_and_back = lambda t: (schedule.inverse(schedule(t)), schedule(t))
    back, l = jax.jit(there_and_back)(t)
    slope = jax.jit(lambda t: jax.jvp(schedule, (t,), (jnp.ones_like(t),))[1])(t)
    rounding = 4 * np.finfo(np.float32).eps * np.maximum(1, np.abs(l)) / np.abs(slope)
    error = np.abs(np.asarray(back) - np.asarray(t))
    assert (error <= rounding + 1e-6 * np.asarray(t)).all()


@every
@pytest.mark.fast
def test_ends(name):
    """l would be NaN at an end, or an unbounded end go unnoticed by the frames that refuse it."""
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
        (lambda: Cosine(s=-0.1), "s=-0.1", "0 <= s < 1"),
        (lambda: Cosine(s=1.0), "s=1.0", "0 <= s < 1"),
        (lambda: Geometric(sigma_min=0.0), "sigma_min=0.0", "0 < sigma_min"),
        (lambda: Geometric(sigma_max=0.01), "sigma_max=0.01", "sigma_min < sigma_max"),
    ],
)
def test_bad_settings_name_the_argument_and_its_range(make, argument, allowed):
    """A typo in a config would train on a wrong process, or fail far from its cause."""
    with pytest.raises(ValueError, match=re.escape(argument) + ".*" + re.escape(allowed)):
        make()


def test_constant_beta_is_allowed():
    """The inverse of a linear schedule would divide by zero at slope 0."""
    schedule = Linear(2.0, 2.0)
    t = jnp.linspace(0.1, 1.0, 5)
    back = jax.jit(lambda t: schedule.inverse(schedule(t)))(t)
    np.testing.assert_allclose(back, t, rtol=1e-5)


@pytest.mark.fast
def test_clean_cosine_is_its_closed_form():
    """`s=0` would no longer be l = -2 log tan(pi t / 2)."""
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
