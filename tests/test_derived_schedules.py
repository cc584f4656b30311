"""Schedules built on other schedules against 50-digit arithmetic, and published shifts."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decimals import TIMES, Marginal, between, linear, logsnr, of_logsnr, table

from diffjax.schedules import (
    DERIVED,
    Clamped,
    ClassicSubVP,
    Cosine,
    Exponential,
    Geometric,
    Karras,
    Learned,
    Linear,
    Logit,
    Quadratic,
    ScaledLinear,
    Schedule,
    Shifted,
    Sigmoid,
    Truncated,
    ZeroTerminal,
    ddpm_linear,
    ddpm_scaled_linear,
    from_betas,
)
from diffjax.sde import SDE, VP, SubVP

BASE = Linear()
BETAS = (0.001, 0.01, 0.1, 0.05, 0.3)


def base(t: Decimal) -> Decimal:
    """Return the log-SNR of BASE."""
    return logsnr(linear(BASE, t))


def base_time(l: Decimal) -> Decimal:
    """Return the time at which BASE is at l: B = log(1 + exp(-l)) is quadratic in t."""
    low, high = Decimal(BASE.beta_min), Decimal(BASE.beta_max)
    b = (1 + (-l).exp()).ln()
    return ((low**2 + 2 * (high - low) * b).sqrt() - low) / (high - low)


def roots(marginal: Marginal) -> Marginal:
    """Return alpha and sigma in VP."""
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
    """A schedule of the catalogue DERIVED, with alpha and sigma of its definition in a frame."""

    schedule: Schedule
    oracle: Callable[[Decimal], Marginal]
    frame: type[SDE] = VP
    rtol: float = 2e-6


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
    "zero_terminal": Derived(ZeroTerminal(BASE), zero_terminal),
    "classic_sub_vp": Derived(
        ClassicSubVP(BASE), lambda t: (linear(BASE, t)[0].sqrt(), linear(BASE, t)[1]), SubVP
    ),
}
derived = pytest.mark.parametrize("name", DERIVED)


def test_every_derived_schedule_has_an_oracle():
    """A schedule on another one without its 50-digit definition here would go untested."""
    assert set(OVER_BASE) == set(DERIVED)
    assert all(isinstance(OVER_BASE[name].schedule, DERIVED[name]) for name in DERIVED)


@derived
def test_derived_in_float32(name):
    """Float32 training and sampling would see wrong noise levels near the ends."""
    case = OVER_BASE[name]
    sde = case.frame(case.schedule)
    t = jnp.asarray(np.append(TIMES, 1.0), jnp.float32)
    exact = [case.oracle(Decimal(float(a))) for a in t]
    alpha, sigma = jax.jit(lambda t: (sde.alpha(t), sde.sigma(t)))(t)
    np.testing.assert_allclose(alpha, [float(a) for a, _ in exact], rtol=case.rtol)
    np.testing.assert_allclose(sigma, [float(s) for _, s in exact], rtol=case.rtol)


@derived
def test_derived_in_float64(name, x64):
    """Sampler tables, which are computed in float64, would use a wrong schedule."""
    schedule, oracle = OVER_BASE[name][:2]
    l = [float(2 * (alpha / sigma).ln()) for alpha, sigma in map(oracle, map(Decimal, TIMES))]
    np.testing.assert_allclose(jax.jit(schedule)(jnp.asarray(TIMES)), l, rtol=1e-11, atol=1e-12)


@derived
def test_derived_decreases_and_has_its_inverse(name, x64):
    """Time would not order noise levels, or `reframe` call the network at a wrong time."""
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
    """Each new but equal object would compile the program again, or use another's program."""
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


def test_sd3_shift_is_a_translation():
    """The shift would not be the published one, t' = s t / (1 + (s - 1) t)."""
    s = 3.0
    moved = Logit()(s * T / (1 + (s - 1) * T))
    np.testing.assert_allclose(Shifted(Logit(), -2 * math.log(s))(T), moved, rtol=1e-5, atol=3e-6)


def test_resolution_shift_is_a_translation():
    """A shift for 256 pixels would not divide alpha / sigma by 256 / 64 (simple diffusion)."""
    shifted, ratio = Shifted(Cosine(0.0), 2 * math.log(64 / 256)), 1 / np.tan(np.pi / 2 * T)
    np.testing.assert_allclose(np.exp(shifted(T) / 2), ratio * 64 / 256, rtol=1e-5)


def test_cogvideox_shift_is_a_translation():
    """A shift given as CogVideoX's would not be a / (s + (1 - s) a) of a = alpha^2."""
    s, alpha2 = 3.0, VP(BASE).alpha(T) ** 2
    shifted = VP(Shifted(BASE, -math.log(s))).alpha(T) ** 2
    np.testing.assert_allclose(shifted, alpha2 / (s + (1 - s) * alpha2), rtol=1e-5)


@pytest.mark.parametrize(
    "schedule", [BASE, Cosine(), Sigmoid(), Karras(), ddpm_linear()], ids=lambda s: type(s).__name__
)
def test_truncated_ends_at_its_settings(schedule):
    """A frame would receive an infinite l, or training omit a part of the range."""
    cut = Truncated(schedule, -7.0, 6.0)
    l = jax.jit(cut)(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(l, [6.0, -7.0], rtol=3e-6)
    with jax.enable_x64(True):
        l = jax.jit(cut)(jnp.array([0.0, 1.0], jnp.float64))
        np.testing.assert_allclose(l, [6.0, -7.0], rtol=1e-12)


def test_clamped_stays_within_its_bounds():
    """An infinite l would pass, or l = 6 come back as an end of time."""
    clamped = Clamped(Cosine(), -8.0, 6.0)
    l = jax.jit(clamped)(jnp.linspace(0.0, 1.0, 1001))
    assert l.min() == -8.0 and l.max() == 6.0 and (np.diff(l) <= 0).all()
    beyond = jax.jit(clamped.inverse)(jnp.array([100.0, -100.0]))
    np.testing.assert_allclose(beyond, Cosine().inverse(jnp.array([6.0, -8.0])), rtol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        BASE,
        ddpm_linear(),
        *(
            pytest.param(schedule, marks=pytest.mark.thorough)
            for schedule in (ScaledLinear(), Quadratic(), Exponential(), Geometric())
        ),
    ],
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


def published_rescaling(betas):
    """alpha^2 of a table by `rescale_zero_terminal_snr` (arXiv:2305.08891, Alg. 1), in float64."""
    root = np.sqrt(np.cumprod(1 - np.asarray(betas, np.float64)))
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


TABLES = {
    "linear": np.linspace(1e-4, 0.02, 1000),
    "scaled_linear": np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2,
    "steep": np.linspace(0.3, 0.6, 5),
}


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("scaled_linear", "zero_terminal"),
        ("steep", "from_betas"),
        *(
            pytest.param(*pair, marks=pytest.mark.thorough)
            for pair in (
                ("linear", "zero_terminal"),
                ("linear", "from_betas"),
                ("scaled_linear", "from_betas"),
                ("steep", "zero_terminal"),
            )
        ),
    ],
)
def test_zero_terminal_of_a_table_is_the_published_algorithm(name, by, x64):
    """alpha^2 would not be rescaled as published, or the last beta of 1 be refused.

    In the published algorithm index 0 is kept, not t = 0: otherwise sigma^2 is off by 3.7 % for
    scaled_linear.
    """
    alpha2 = published_rescaling(TABLES[name])
    rescaled = np.append(1 - alpha2[0], 1 - alpha2[1:] / alpha2[:-1])
    table = {
        "zero_terminal": lambda: ZeroTerminal(from_betas(TABLES[name])),
        "from_betas": lambda: from_betas(rescaled),
    }
    steps, sde = len(alpha2), VP(table[by](), t_min=1 / len(alpha2))
    t = jnp.arange(1, steps + 1) / steps
    alpha, sigma = jax.jit(lambda t: (sde.alpha(t), sde.sigma(t)))(t)
    np.testing.assert_allclose(alpha**2, alpha2, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(sigma**2, 1 - alpha2, rtol=1e-9)
    near = jnp.linspace(0.1 / steps, 1.0, 203)
    l, back = jax.jit(lambda t: (sde.logsnr(t), sde.inverse(sde.logsnr(t))))(near)
    assert (np.diff(l) < 0).all() and l[-1] == -np.inf and np.isfinite(l[:-1]).all()
    np.testing.assert_allclose(back, near, rtol=1e-7, atol=1e-9)
    rates = jax.jit(lambda t: jnp.stack(sde.rates(t)))(near[:-1])
    assert np.isfinite(rates).all()


@pytest.mark.parametrize(
    "schedule",
    [
        ddpm_scaled_linear(),
        ZeroTerminal(ddpm_scaled_linear()),
        ZeroTerminal(BASE),
        *(
            pytest.param(schedule, marks=pytest.mark.thorough)
            for schedule in (
                ddpm_linear(),
                ZeroTerminal(Geometric()),
                ZeroTerminal(Shifted(ddpm_linear(), 0.5)),
            )
        ),
    ],
    ids=lambda s: f"{type(s).__name__}-{type(getattr(s, 'schedule', s)).__name__}",
)
def test_rates_keep_their_digits_in_float32(schedule):
    """Drift, diffusion and velocity would be off by 1e-4 in float32.

    Differences of neighbours in a table, and of alpha next to t = 1, have three digits only; alpha
    and its rate would be off by percents there.
    """
    sde, inside = VP(schedule), np.linspace(0.0, 0.94, 101) + 0.00031  # between the nodes
    times = np.concatenate([inside, 1 - np.geomspace(1.3e-6, 0.057, 40)]).astype(np.float32)
    values = jax.jit(lambda t: (*sde.rates(t), sde.alpha(t), sde.sigma(t)))
    with jax.enable_x64(True):
        exact = values(jnp.asarray(times, jnp.float64))
    for ours, wanted in zip(values(jnp.asarray(times)), exact, strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-5)


def test_the_inverse_of_a_table_has_the_slope_of_its_cells():
    """A draw that divides its density out would be off by 1e-4, as by differences of neighbours."""
    table = ddpm_linear()
    l = table(jnp.linspace(0.0105, 0.9905, 99))
    slope = jax.jit(lambda l: jax.jvp(table.inverse, (l,), (jnp.ones_like(l),))[1])
    with jax.enable_x64(True):
        exact = slope(jnp.asarray(l, jnp.float64))
    np.testing.assert_allclose(slope(l), exact, rtol=1e-6)
    beyond = table.inverse(jnp.array([50.0, -50.0]))
    np.testing.assert_array_equal(beyond, [0.0, 1.0])


def test_zero_terminal_over_a_table_is_exact_next_to_its_end():
    """alpha would have no correct digit in float32 near t = 1, a difference of equal numbers."""
    nodes = table([Decimal(b) for b in BETAS])
    alpha = lambda t: roots(between(nodes, t))[0]
    first, last = alpha(Decimal(1) / len(BETAS)), alpha(Decimal(1))  # index 0 is kept
    t = jnp.asarray(1 - np.geomspace(1e-6, 0.15, 12), jnp.float32)
    exact = [(alpha(Decimal(float(a))) - last) * first / (first - last) for a in t]
    made = VP(ZeroTerminal(from_betas(BETAS))).alpha(t)
    np.testing.assert_allclose(made, [float(a) for a in exact], rtol=2e-6)


def test_zero_terminal_leaves_what_ends_at_zero():
    """A schedule with alpha(1) = 0 would become NaN."""
    t = jnp.linspace(0.0, 1.0, 50)
    moved = ZeroTerminal(Cosine())
    np.testing.assert_array_equal(jax.jit(moved)(t), jax.jit(Cosine())(t))
    np.testing.assert_allclose(jax.jit(lambda t: moved.inverse(moved(t)))(t), t, atol=1e-6)


def test_combinators_nest():
    """A config could not shift a truncated schedule, or truncate a shifted one at the same l."""
    one = Shifted(Truncated(Cosine(), -10.0, 12.0), 1.0)
    other = Truncated(Shifted(Cosine(), 1.0), -9.0, 13.0)
    t = jnp.linspace(0.0, 1.0, 50)
    l = jax.jit(one)(t)
    np.testing.assert_allclose(l[np.array([0, -1])], [13.0, -9.0], rtol=3e-6)
    np.testing.assert_allclose(l, jax.jit(other)(t), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.jit(one.inverse)(l), t, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(DERIVED) - {"discrete"}))
def test_a_learned_schedule_is_refused_by_what_is_made_of_another(name):
    """The schedule would never be trained: its parameters cannot be found inside another one."""
    with pytest.raises(ValueError, match=r"Learned.*cannot be part of another schedule"):
        DERIVED[name](Learned())


def test_steps_are_those_of_the_table_inside():
    """The label `index` would count in other steps than those of the table."""
    inner = from_betas(BETAS)
    for schedule in (inner, Shifted(inner, 1.0), Truncated(Shifted(inner, 1.0), 2.0, 9.0)):
        assert schedule.steps == len(BETAS)
    for schedule in (Linear(), Shifted(Linear(), 1.0), ZeroTerminal(Linear()), Learned()):
        assert schedule.steps == 1000
