"""Schedules against 50-digit arithmetic, their inverses, their ends and their identity."""

import decimal
import functools
import itertools
import math
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

from diffjax.schedules import (
    DERIVED,
    SCHEDULES,
    Clamped,
    ClassicSubVP,
    Cosine,
    Discrete,
    Edm,
    Exponential,
    Geometric,
    Karras,
    Laplace,
    Linear,
    Logit,
    Polynomial,
    Quadratic,
    ScaledLinear,
    Schedule,
    Shifted,
    Sigmoid,
    Truncated,
    ZeroTerminal,
    ddpm_cosine,
    ddpm_linear,
    from_betas,
)
from diffjax.sde import SDE, VP, SubVP

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


def power(x: Decimal, p: Decimal) -> Decimal:
    """x^p for x > 0."""
    return (p * x.ln()).exp()


def logistic(x: Decimal) -> Decimal:
    """1 / (1 + exp(-x)), at infinite x too."""
    return 1 / (1 + (-x).exp())


Marginal = tuple[Decimal, Decimal]
"""alpha^2 and sigma^2 in VP."""


def of_integral(b: Decimal) -> Marginal:
    """alpha^2 = exp(-B)."""
    alpha2 = (-b).exp()
    return alpha2, 1 - alpha2


def of_ratio(sigma: Decimal, alpha: Decimal = Decimal(1)) -> Marginal:
    """From sigma and alpha in any frame."""
    return alpha**2 / (alpha**2 + sigma**2), sigma**2 / (alpha**2 + sigma**2)


def of_logsnr(l: Decimal) -> Marginal:
    """alpha^2 = logistic(l)."""
    return logistic(l), logistic(-l)


def linear(schedule: Linear, t: Decimal) -> Marginal:
    """B = b0 t + (b1 - b0) t^2 / 2."""
    low, high = Decimal(schedule.beta_min), Decimal(schedule.beta_max)
    return of_integral(low * t + (high - low) * t * t / 2)


def scaled_linear(schedule: ScaledLinear, t: Decimal) -> Marginal:
    """beta = (a + d t)^2: B = a^2 t + a d t^2 + d^2 t^3 / 3."""
    a = Decimal(schedule.beta_min).sqrt()
    d = Decimal(schedule.beta_max).sqrt() - a
    return of_integral(a**2 * t + a * d * t**2 + d**2 * t**3 / 3)


def quadratic(schedule: Quadratic, t: Decimal) -> Marginal:
    """beta = b0 + (b1 - b0) t^2: B = b0 t + (b1 - b0) t^3 / 3."""
    low, high = Decimal(schedule.beta_min), Decimal(schedule.beta_max)
    return of_integral(low * t + (high - low) * t**3 / 3)


def exponential(schedule: Exponential, t: Decimal) -> Marginal:
    """B = rate t."""
    return of_integral(Decimal(schedule.rate) * t)


def cosine(schedule: Cosine, t: Decimal) -> Marginal:
    """cos(a) = sin(pi/2 - a)."""
    s = Decimal(schedule.s)
    at = lambda t: sin(PI / 2 - (t + s) / (1 + s) * PI / 2) ** 2
    alpha2 = at(t) / at(Decimal(0))
    return alpha2, 1 - alpha2


def sigmoid(schedule: Sigmoid, t: Decimal) -> Marginal:
    """(S(end) - S(u)) / (S(end) - S(start)), u from start to end, all over tau."""
    start, end, tau = Decimal(schedule.start), Decimal(schedule.end), Decimal(schedule.tau)
    first, last = logistic(start / tau), logistic(end / tau)
    alpha2 = (last - logistic((t * (end - start) + start) / tau)) / (last - first)
    return alpha2, 1 - alpha2


def polynomial(schedule: Polynomial, t: Decimal) -> Marginal:
    """alpha = 1 - t^power."""
    alpha2 = (1 - power(t, Decimal(schedule.power))) ** 2
    return alpha2, 1 - alpha2


def laplace(schedule: Laplace, t: Decimal) -> Marginal:
    """l = mean - scale sgn(0.5 - t) log(1 - 2 |t - 0.5|)."""
    half = Decimal("0.5")
    sign = (half - t).compare(Decimal(0))
    log = (1 - 2 * abs(t - half)).ln()
    return of_logsnr(Decimal(schedule.mean) - Decimal(schedule.scale) * sign * log)


def logit(schedule: Logit, t: Decimal) -> Marginal:
    """alpha = 1 - t and sigma = t in Flow."""
    return of_ratio(t, 1 - t)


def geometric(schedule: Geometric, t: Decimal) -> Marginal:
    """sigma / alpha = sigma_min (sigma_max / sigma_min)^t."""
    low, high = Decimal(schedule.sigma_min), Decimal(schedule.sigma_max)
    return of_ratio(low * power(high / low, t))


def karras(schedule: Karras, t: Decimal) -> Marginal:
    """(sigma / alpha)^(1 / rho) linear in t."""
    rho = Decimal(schedule.rho)
    low, high = (power(Decimal(s), 1 / rho) for s in (schedule.sigma_min, schedule.sigma_max))
    return of_ratio(power(low + t * (high - low), rho))


def edm(schedule: Edm, t: Decimal) -> Marginal:
    """sigma / alpha = sigma_max t."""
    return of_ratio(Decimal(schedule.sigma_max) * t)


def logsnr(marginal: Marginal) -> Decimal:
    """log(alpha^2 / sigma^2)."""
    return (marginal[0] / marginal[1]).ln()


def table(betas: list[Decimal]) -> list[Decimal]:
    """l at t = 0, 1 / T, ..., 1: that of the product of 1 - beta, on a line before 1 / T."""
    alpha2, l = Decimal(1), []
    for beta in betas:
        alpha2 *= 1 - beta
        l.append(logsnr((alpha2, 1 - alpha2)))
    return [l[0] + (l[0] - l[1]), *l]


def between(nodes: list[Decimal], t: Decimal) -> Marginal:
    """l linear in t between the nodes."""
    steps = len(nodes) - 1
    k = min(int(t * steps), steps - 1)
    return of_logsnr(nodes[k] + (t * steps - k) * (nodes[k + 1] - nodes[k]))


@functools.cache
def linear_table(steps: int) -> list[Decimal]:
    """betas on a line from 1e-4 to 0.02."""
    low, high = Decimal("1e-4"), Decimal("0.02")
    return table([low + (high - low) * k / (steps - 1) for k in range(steps)])


@functools.cache
def cosine_table(steps: int) -> list[Decimal]:
    """beta = min(1 - f(t) / f(s), 0.999), f the squared cosine."""
    f = [cosine(Cosine(), Decimal(k) / steps)[0] for k in range(steps + 1)]
    return table([min(1 - t / s, Decimal("0.999")) for s, t in itertools.pairwise(f)])


class Case(NamedTuple):
    """What is known of a schedule: its definition, which ends of l are infinite, its settings."""

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
    "ddpm_linear": Case(
        lambda schedule, t: between(linear_table(len(schedule.betas)), t),
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
drawn = settings(deadline=None, max_examples=20, database=None, derandomize=True)
TIMES = np.concatenate([np.geomspace(1e-6, 0.5, 40), 1 - np.geomspace(1e-6, 0.5, 40)[:-1]])


def test_every_schedule_has_an_oracle():
    """A schedule in the catalogue without its 50-digit definition here would go untested."""
    assert set(CASES) == set(SCHEDULES)


@every
@pytest.mark.fast
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


@pytest.mark.fast
@pytest.mark.parametrize(
    ("schedule", "nodes"),
    [
        (ddpm_linear(), linear_table),
        (ddpm_linear(50), linear_table),
        (ddpm_cosine(), cosine_table),
        (ddpm_cosine(50), cosine_table),
    ],
    ids=("linear-1000", "linear-50", "cosine-1000", "cosine-50"),
)
def test_tables_are_exact_at_their_entries(schedule, nodes):
    """A discrete-time model would be asked at other noise levels than it was trained with."""
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
@drawn
@given(data=st.data())
def test_decreases_with_any_settings(name, data):
    """Time would not order noise levels, for some settings that a config may have."""
    schedule = SCHEDULES[name](*data.draw(CASES[name].settings))
    with jax.enable_x64(True):
        l = schedule(jnp.asarray(np.linspace(1e-6, 1 - 1e-6, 500)))
    assert np.isfinite(l).all() and (np.diff(l) < 0).all()


@every
@pytest.mark.fast
@drawn
@given(data=st.data(), t=st.floats(1e-6, 1 - 1e-6))
def test_inverse_in_float64(name, data, t):
    """`reframe` and log-SNR grids would ask the network at a wrong time, for some settings.

    Where l is flat next to a finite end its rounding is an absolute error of t.
    """
    schedule = SCHEDULES[name](*data.draw(CASES[name].settings))
    with jax.enable_x64(True):
        back = schedule.inverse(schedule(jnp.asarray(t, jnp.float64)))
        np.testing.assert_allclose(back, t, rtol=1e-9, atol=1e-12)


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
        (lambda: ddpm_cosine(steps=0), "steps=0", "steps >= 2"),
        (lambda: from_betas([]), "betas=()", "two or more"),
        (lambda: from_betas([0.5]), "betas=(0.5,)", "two or more"),
        (lambda: from_betas([0.5, 0.0]), "betas[1]=0.0", "0 < beta < 1"),
        (lambda: from_betas([1.0, 0.5]), "betas[0]=1.0", "0 < beta < 1"),
        (lambda: from_betas([0.5, -0.1]), "betas[1]=-0.1", "0 < beta < 1"),
        (lambda: from_betas([0.5, math.nan]), "betas[1]=nan", "0 < beta < 1"),
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


BASE = Linear()
BETAS = (0.001, 0.01, 0.1, 0.05, 0.3)


def base(t: Decimal) -> Decimal:
    """Log-SNR of BASE."""
    return logsnr(linear(BASE, t))


def base_time(l: Decimal) -> Decimal:
    """Time at which BASE is at l: B = log(1 + exp(-l)) is a quadratic polynomial of t."""
    low, high = Decimal(BASE.beta_min), Decimal(BASE.beta_max)
    b = (1 + (-l).exp()).ln()
    return ((low**2 + 2 * (high - low) * b).sqrt() - low) / (high - low)


def roots(marginal: Marginal) -> Marginal:
    """alpha and sigma in VP."""
    return marginal[0].sqrt(), marginal[1].sqrt()


def truncated(t: Decimal) -> Marginal:
    """base(t0 + (t1 - t0) t), from l = 12 to -9."""
    first, last = base_time(Decimal(12)), base_time(Decimal(-9))
    return roots(of_logsnr(base(first + (last - first) * t)))


def zero_terminal(t: Decimal) -> Marginal:
    """alpha' = (alpha - alpha(1)) alpha(0) / (alpha(0) - alpha(1))."""
    alpha = lambda t: linear(BASE, t)[0].sqrt()
    first, last = alpha(Decimal(0)), alpha(Decimal(1))
    moved = (alpha(t) - last) * first / (first - last)
    return moved, (1 - moved**2).sqrt()


class Derived(NamedTuple):
    """A schedule of the catalogue DERIVED, and alpha and sigma of its definition in a frame."""

    schedule: Schedule
    oracle: Callable[[Decimal], Marginal]
    frame: type[SDE] = VP
    rtol: float = 2e-6
    t_max: float = 1.0


OVER_BASE = {
    "discrete": Derived(
        from_betas(BETAS), lambda t: roots(between(table([Decimal(b) for b in BETAS]), t))
    ),
    "shifted": Derived(Shifted(BASE, -1.25), lambda t: roots(of_logsnr(base(t) - Decimal("1.25")))),
    "truncated": Derived(Truncated(BASE, -9.0, 12.0), truncated),
    "clamped": Derived(
        Clamped(BASE, -8.0, 6.0),
        lambda t: roots(of_logsnr(max(min(base(t), Decimal(6)), Decimal(-8)))),
    ),
    # Towards t = 1 alpha is a difference of equal numbers: l is worth as much as its own digits.
    "zero_terminal": Derived(ZeroTerminal(BASE), zero_terminal, rtol=1e-5, t_max=0.99),
    "classic_sub_vp": Derived(
        ClassicSubVP(BASE), lambda t: (linear(BASE, t)[0].sqrt(), linear(BASE, t)[1]), SubVP
    ),
}
derived = pytest.mark.parametrize("name", DERIVED)


def test_every_derived_schedule_has_an_oracle():
    """A schedule made of others without its 50-digit definition here would go untested."""
    assert set(OVER_BASE) == set(DERIVED)
    assert all(isinstance(OVER_BASE[name].schedule, DERIVED[name]) for name in DERIVED)


@derived
@pytest.mark.fast
def test_derived_in_float32(name):
    """Float32 training and sampling would see wrong noise levels near the ends."""
    case = OVER_BASE[name]
    sde = case.frame(case.schedule)
    times = np.append(TIMES, 1.0)
    t = jnp.asarray(times[times <= case.t_max], jnp.float32)
    exact = [case.oracle(Decimal(float(a))) for a in t]
    alpha, sigma = jax.jit(lambda t: (sde.alpha(t), sde.sigma(t)))(t)
    np.testing.assert_allclose(alpha, [float(a) for a, _ in exact], rtol=case.rtol)
    np.testing.assert_allclose(sigma, [float(s) for _, s in exact], rtol=case.rtol)


@derived
def test_derived_in_float64(name, x64):
    """Sampler tables, made in float64, would carry a wrong schedule."""
    schedule, oracle = OVER_BASE[name][:2]
    l = [float(2 * (alpha / sigma).ln()) for alpha, sigma in map(oracle, map(Decimal, TIMES))]
    rtol = 1e-9 if name == "zero_terminal" else 1e-11
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(TIMES)), l, rtol=rtol, atol=1e-12)


@derived
@pytest.mark.fast
def test_derived_decreases_and_has_its_inverse(name, x64):
    """Time would not order noise levels, or `reframe` ask the network at a wrong time."""
    schedule = OVER_BASE[name].schedule
    inside = TIMES
    if name == "clamped":
        l = np.asarray(BASE(jnp.asarray(TIMES)))
        inside = TIMES[(l > schedule.logsnr_min) & (l < schedule.logsnr_max)]
    t = jnp.asarray(np.sort(inside))
    l, back = jax.jit(lambda t: (schedule(t), schedule.inverse(schedule(t))))(t)
    assert len(t) > 10 and (np.diff(l) < 0).all()
    np.testing.assert_allclose(back, t, rtol=1e-9, atol=1e-12)


@derived
def test_equal_derived_schedules_do_not_retrace(name):
    """Each new but equal object would compile the program again, or find another's program."""
    schedule, traces = OVER_BASE[name].schedule, []
    twin = type(schedule)(**vars(schedule))

    def logsnr(t, schedule):
        traces.append(schedule)
        return schedule(t)

    run = jax.jit(logsnr, static_argnums=1)
    a, b = run(jnp.asarray(0.5), schedule), run(jnp.asarray(0.5), twin)
    assert twin is not schedule and twin == schedule and hash(twin) == hash(schedule)
    assert len(traces) == 1 and a == b
    assert all(schedule != case.schedule for other, case in OVER_BASE.items() if other != name)


T = jnp.linspace(0.01, 0.99, 99)


@pytest.mark.fast
def test_sd3_shift_is_a_translation():
    """A shift given as SD3's would not be the published one, t' = s t / (1 + (s - 1) t)."""
    s = 3.0
    moved = Logit()(s * T / (1 + (s - 1) * T))
    np.testing.assert_allclose(Shifted(Logit(), -2 * math.log(s))(T), moved, rtol=1e-5, atol=3e-6)


@pytest.mark.fast
def test_resolution_shift_is_a_translation():
    """A shift for 256 pixels would not divide alpha / sigma by 256 / 64 (simple diffusion)."""
    shifted, ratio = Shifted(Cosine(0.0), 2 * math.log(64 / 256)), 1 / np.tan(np.pi / 2 * T)
    np.testing.assert_allclose(np.exp(shifted(T) / 2), ratio * 64 / 256, rtol=1e-5)


@pytest.mark.fast
def test_cogvideox_shift_is_a_translation():
    """A shift given as CogVideoX's would not be a = a / (s + (1 - s) a) of a = alpha^2."""
    s, alpha2 = 3.0, VP(BASE).alpha(T) ** 2
    shifted = VP(Shifted(BASE, -math.log(s))).alpha(T) ** 2
    np.testing.assert_allclose(shifted, alpha2 / (s + (1 - s) * alpha2), rtol=1e-5)


@pytest.mark.fast
@pytest.mark.parametrize(
    "schedule", [BASE, Cosine(), Sigmoid(), Karras(), ddpm_linear()], ids=lambda s: type(s).__name__
)
def test_truncated_ends_where_told(schedule):
    """A frame would be handed an infinite l, or training leave out a part of the range."""
    cut = Truncated(schedule, -7.0, 6.0)
    l = jax.jit(cut)(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(l, [6.0, -7.0], rtol=3e-6)
    with jax.enable_x64(True):
        l = jax.jit(cut)(jnp.array([0.0, 1.0], jnp.float64))
        np.testing.assert_allclose(l, [6.0, -7.0], rtol=1e-12)


@pytest.mark.fast
def test_clamped_stays_within_its_bounds():
    """An infinite l would pass, or l = 6 come back as an end of time."""
    clamped = Clamped(Cosine(), -8.0, 6.0)
    l = jax.jit(clamped)(jnp.linspace(0.0, 1.0, 1001))
    assert l.min() == -8.0 and l.max() == 6.0 and (np.diff(l) <= 0).all()
    beyond = jax.jit(clamped.inverse)(jnp.array([100.0, -100.0]))
    np.testing.assert_allclose(beyond, Cosine().inverse(jnp.array([6.0, -8.0])), rtol=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize(
    "schedule",
    [BASE, ScaledLinear(), Quadratic(), Exponential(), Geometric(), ddpm_linear()],
    ids=lambda s: type(s).__name__,
)
def test_zero_terminal_ends_at_zero_and_keeps_its_start(schedule):
    """Signal would leak into pure noise, or rounding next to t = 1 make l NaN."""
    moved = ZeroTerminal(schedule)
    near = 1 - np.arange(200, -1, -1) * np.finfo(np.float32).epsneg
    l = jax.jit(moved)(jnp.asarray(near, jnp.float32))
    assert l[-1] == -np.inf and not np.isnan(l).any()
    assert VP(moved).alpha(jnp.asarray(1.0)) == 0
    np.testing.assert_allclose(jax.jit(moved.inverse)(l[-1]), 1.0, rtol=1e-6)
    start = jnp.asarray(1e-6)
    np.testing.assert_allclose(VP(moved).alpha(start), VP(schedule).alpha(start), rtol=1e-6)


@pytest.mark.fast
def test_zero_terminal_leaves_what_ends_at_zero():
    """A schedule with alpha(1) = 0 would become NaN."""
    t = jnp.linspace(0.0, 1.0, 50)
    moved = ZeroTerminal(Cosine())
    np.testing.assert_array_equal(jax.jit(moved)(t), jax.jit(Cosine())(t))
    np.testing.assert_allclose(jax.jit(lambda t: moved.inverse(moved(t)))(t), t, atol=1e-6)


@pytest.mark.fast
def test_combinators_nest():
    """A config could not shift a truncated schedule, or truncate a shifted one at the same l."""
    one = Shifted(Truncated(Cosine(), -10.0, 12.0), 1.0)
    other = Truncated(Shifted(Cosine(), 1.0), -9.0, 13.0)
    t = jnp.linspace(0.0, 1.0, 50)
    l = jax.jit(one)(t)
    np.testing.assert_allclose(l[np.array([0, -1])], [13.0, -9.0], rtol=3e-6)
    np.testing.assert_allclose(l, jax.jit(other)(t), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(one.inverse)(l), t, rtol=1e-4, atol=1e-6)
