"""Frames: derived drift and diffusion against closed forms, the prior, and what is refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax.schedules import SCHEDULES, Cosine, Linear
from diffjax.sde import SDES, VE, VP, ends, levels

UNBOUNDED = {("ve", "cosine")}
"""Frames that need t_max < 1 over a schedule: sigma is infinite at t = 1."""
PAIRS = list(itertools.product(SDES, SCHEDULES))
every = pytest.mark.parametrize(("frame", "schedule"), PAIRS)
TIMES = np.geomspace(1e-6, 0.999, 60)


def make(frame, schedule, **ends):
    if (frame, schedule) in UNBOUNDED:
        ends.setdefault("t_max", 0.99)
    return SDES[frame](SCHEDULES[schedule](), **ends)


def beta_of_linear(schedule, t):
    """beta(t), and B, its integral, where alpha^2 = exp(-B) in VP."""
    slope = schedule.beta_max - schedule.beta_min
    return schedule.beta_min + slope * t, schedule.beta_min * t + slope * t**2 / 2


def beta_of_cosine(schedule, t):
    unit = np.pi / 2 / (1 + schedule.s)
    at = lambda t: np.cos(unit * (t + schedule.s))
    return 2 * unit * np.tan(unit * (t + schedule.s)), -2 * np.log(at(t) / at(0))


def beta_of_geometric(schedule, t):
    rate = np.log(schedule.sigma_max / schedule.sigma_min)
    ratio = schedule.sigma_min**2 * np.exp(2 * rate * t)
    return 2 * rate * ratio / (1 + ratio), np.log1p(ratio)


BETA = {"linear": beta_of_linear, "cosine": beta_of_cosine, "geometric": beta_of_geometric}
# f and g^2 of the published processes (arXiv:2011.13456, eq. 9 and 11; VE: sigma^2 = e^B - 1).
CLOSED = {
    "vp": lambda beta, b: (-beta / 2, beta),
    "ve": lambda beta, b: (0 * beta, beta * np.exp(b)),
}


def test_every_frame_and_schedule_has_a_closed_form():
    """A frame or a schedule in its catalogue without an oracle here would go untested."""
    assert set(CLOSED) == set(SDES) and set(BETA) == set(SCHEDULES)


@every
@pytest.mark.fast
def test_derived_drift_and_diffusion_are_the_published_ones(frame, schedule):
    """In float32 near t = 0 a derivative of alpha itself would be 5 to 19 % wrong."""
    sde = make(frame, schedule)
    t = jnp.asarray(TIMES, jnp.float32)
    drift, g = jax.jit(lambda t: (sde.drift(jnp.ones_like(t), t), sde.diffusion(t)))(t)
    f, g2 = CLOSED[frame](*BETA[schedule](sde.schedule, np.asarray(t, np.float64)))
    np.testing.assert_allclose(drift, f, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(g, np.float64) ** 2, g2, rtol=1e-5)


@every
def test_flow_velocity_is_the_ode_of_the_sde(frame, schedule, x64):
    """T9: alpha' x0 + sigma' eps = f x - g^2 s / 2 would fail: rates and marginals disagree."""
    sde = make(frame, schedule)
    x0, eps = np.random.default_rng(0).normal(size=(2, len(TIMES)))

    def both(t):
        tangent = jnp.ones_like(t)
        rates = [jax.jvp(a, (t,), (tangent,))[1] for a in (sde.alpha, sde.sigma)]
        x = sde.perturb(jnp.asarray(x0), jnp.asarray(eps), t)
        score = -eps / sde.sigma(t)
        return rates[0] * x0 + rates[1] * eps, sde.drift(x, t) - sde.diffusion(t) ** 2 / 2 * score

    velocity, ode = jax.jit(both)(jnp.asarray(TIMES))
    np.testing.assert_allclose(ode, velocity, rtol=1e-8, atol=1e-8 * np.abs(velocity).max())


@every
def test_frame_has_the_log_snr_of_its_schedule(frame, schedule, x64):
    """A frame would change the noise level, not only the scale; VP must keep the variance."""
    sde = make(frame, schedule)
    t = jnp.asarray(TIMES)
    log_alpha, log_sigma, l, back = jax.jit(
        lambda t: (sde.log_alpha(t), sde.log_sigma(t), sde.logsnr(t), sde.inverse(sde.logsnr(t)))
    )(t)
    np.testing.assert_allclose(2 * (log_alpha - log_sigma), l, rtol=1e-12)
    np.testing.assert_allclose(l, sde.schedule(t), rtol=1e-12)
    np.testing.assert_allclose(back, TIMES, rtol=1e-9)
    invariant = {"vp": np.exp(2 * log_alpha) + np.exp(2 * log_sigma), "ve": np.exp(log_alpha)}
    np.testing.assert_allclose(invariant[frame], 1, rtol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2, 1)])
def test_perturb_scales_each_sample_by_its_own_time(shape):
    """Training inputs would have the noise level of another sample."""
    sde, t = VP(Linear()), jnp.array([0.1, 0.5, 1.0])
    rng = np.random.default_rng(0)
    x0, eps = rng.normal(size=(2, *shape)).astype(np.float32)
    at = levels(sde, np.asarray(t))
    wide = lambda a: a.reshape(3, *(1,) * (len(shape) - 1))
    x = sde.perturb(jnp.asarray(x0), jnp.asarray(eps), t)
    np.testing.assert_allclose(x, wide(at.alpha) * x0 + wide(at.sigma) * eps, rtol=1e-5, atol=1e-6)


@every
@pytest.mark.fast
def test_prior_is_the_noise_at_t_max(frame, schedule):
    """Samplers would start from the wrong variance (1 instead of sigma(t_max)^2 in VE)."""
    sde = make(frame, schedule)
    sigma = float(ends(sde).sigma[1])
    _, b = BETA[schedule](sde.schedule, sde.t_max)
    exact = {"vp": -np.expm1(-b), "ve": np.expm1(b)}[frame]
    assert sigma**2 == pytest.approx(exact, rel=1e-9)
    x = sde.prior(jax.random.key(0), (16, 50, 5))
    normal = stats.norm(0, sigma)
    assert stats.kstest(np.asarray(x).ravel(), normal.cdf).pvalue > 1e-3
    np.testing.assert_allclose(sde.prior_logp(x), normal.logpdf(x).sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("frame", "schedule"), sorted(UNBOUNDED))
@pytest.mark.fast
def test_infinite_sigma_is_refused_by_name(frame, schedule):
    """Sampling would start from infinite noise and return NaN."""
    make_schedule = SCHEDULES[schedule]
    with pytest.raises(ValueError, match=rf"{make_schedule.__name__}.*sigma is infinite at t_max"):
        SDES[frame](make_schedule())
    assert np.isfinite(ends(SDES[frame](make_schedule(), t_max=0.99)).sigma).all()


@pytest.mark.parametrize("frame", SDES)
@pytest.mark.parametrize(
    "bad",
    [
        {"t_min": 0.0},
        {"t_min": -0.1},
        {"t_min": float("nan")},
        {"t_max": 1.5},
        {"t_min": 0.5, "t_max": 0.5},
        {"t_min": 0.5, "t_max": 0.2},
    ],
)
def test_bad_time_range_is_refused_by_name(frame, bad):
    """A wrong range would train on times outside [0, 1], or on none."""
    with pytest.raises(ValueError, match="0 < t_min < t_max <= 1") as error:
        SDES[frame](Linear(), **bad)
    assert all(f"{k}={v}" in str(error.value) for k, v in bad.items())


def test_levels_know_the_data_end():
    """The last row of every sampler would not reach sigma = 0."""
    at = levels(VE(Linear()), np.array([0.5, 0.0]))
    assert at.alpha.dtype == np.float64
    np.testing.assert_array_equal(at.alpha, [1, 1])
    assert at.sigma[1] == 0 and at.lam[1] == np.inf and np.isfinite(at.lam[0])
    at = levels(VP(Cosine()), np.array([1.0, 0.0]))
    np.testing.assert_array_equal([at.alpha, at.sigma], [[0, 1], [1, 0]])


@every
def test_equal_processes_do_not_retrace(frame, schedule):
    """Each new but equal process would compile the sampler again."""
    traces = []

    def alpha(t, sde):
        traces.append(sde)
        return sde.alpha(t)

    run = jax.jit(alpha, static_argnums=1)
    a, b = (run(jnp.asarray(0.5), make(frame, schedule)) for _ in range(2))
    assert hash(make(frame, schedule)) == hash(make(frame, schedule))
    assert len(traces) == 1 and a == b
