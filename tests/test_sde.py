"""Frames: derived drift and diffusion against closed forms, the prior, refusals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax.arrays import float64
from diffjax.schedules import SCHEDULES, ClassicSubVP, Cosine, Linear, Logit
from diffjax.sde import SDES, VE, VP, Flow, SubVP, ends, levels

INFINITE = ("cosine", "sigmoid", "polynomial", "laplace", "logit")
"""Schedules whose log-SNR is -inf at t = 1."""
UNBOUNDED = {("ve", schedule) for schedule in INFINITE}
"""Frames that need t_max < 1 over a schedule: sigma is infinite at t = 1."""
CHOSEN = {*zip(itertools.cycle(SDES), SCHEDULES, strict=False), *((f, "linear") for f in SDES)}
"""Every schedule in one frame, and one schedule in every frame."""
PAIRS = [
    pytest.param(*pair, marks=[] if pair in CHOSEN else [pytest.mark.thorough])
    for pair in itertools.product(SDES, SCHEDULES)
]
every = pytest.mark.parametrize(("frame", "schedule"), PAIRS)
TIMES = np.geomspace(1e-6, 0.999, 1024)
"""As many as `float64` fills its arrays up to: operations are compiled once for both."""
FEW = TIMES[:: len(TIMES) // 60]
ROUNDED = dict.fromkeys(("ddpm_linear", "ddpm_scaled_linear", "ddpm_cosine"), 2e-4)
"""Relative error in float32 of the slope of a table: it is a difference of rounded log-SNRs."""


def make(frame, schedule, **ends):
    if (frame, schedule) in UNBOUNDED:
        ends.setdefault("t_max", 0.99)
    return SDES[frame](SCHEDULES[schedule](), **ends)


def beta_of(schedule, t):
    """Return beta(t) and its integral B in float64, where alpha^2 = exp(-B) in VP."""
    l, slope = float64(lambda t: jax.jvp(schedule, (t,), (jnp.ones_like(t),)))(np.float64(t))
    return -slope / (1 + np.exp(l)), np.logaddexp(0, -l)


def beta_of_linear(schedule, t):
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


def sub_vp(beta, b):
    """Return the rates of sub-VP in closed form.

    From y (1 + y) = SNR, where y = alpha^2 / (1 - alpha^2): f = -l' / 2 / (1 + 2 y).
    """
    snr, slope = 1 / np.expm1(b), beta / np.expm1(-b)
    root = np.sqrt(1 + 4 * snr)
    return slope / 2 / root, -slope * (2 / (1 + root)) ** 2


def flow(beta, b):
    """Return the rates of the flow in closed form.

    From alpha = 1 - sigma: alpha' = -sigma', g^2 = 2 sigma sigma' - 2 f sigma^2.
    """
    rho, slope = np.sqrt(np.expm1(b)), beta / np.expm1(-b)
    sigma, alpha = rho / (1 + rho), 1 / (1 + rho)
    dsigma = -rho * slope / 2 * alpha**2
    f = -dsigma / alpha
    return f, 2 * sigma * dsigma - 2 * f * sigma**2


# f and g^2 of the published processes (arXiv:2011.13456, eq. 9 and 11; VE: sigma^2 = e^B - 1).
CLOSED = {
    "vp": lambda beta, b: (-beta / 2, beta),
    "ve": lambda beta, b: (0 * beta, beta * np.exp(b)),
    "sub_vp": sub_vp,
    "flow": flow,
}
# The quantity that a frame keeps at 1 at all times.
KEPT = {
    "vp": lambda alpha, sigma: alpha**2 + sigma**2,
    "ve": lambda alpha, sigma: alpha,
    "sub_vp": lambda alpha, sigma: alpha**2 + sigma,
    "flow": lambda alpha, sigma: alpha + sigma,
}
# sigma^2, from B.
VARIANCE = {
    "vp": lambda b: -np.expm1(-b),
    "ve": np.expm1,
    "sub_vp": lambda b: 4 / (1 + np.sqrt(1 + 4 / np.expm1(b))) ** 2,
    "flow": lambda b: 1 / (1 + np.sqrt(1 / np.expm1(b))) ** 2,
}


def test_every_frame_has_a_closed_form():
    """A frame in its catalogue without an oracle here would go untested."""
    assert set(CLOSED) == set(KEPT) == set(VARIANCE) == set(SDES)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_bounded_at_the_end_are_known(schedule):
    """A frame would refuse a schedule that it can use, or start from infinite noise."""
    assert np.isinf(levels(VP(SCHEDULES[schedule]()), np.ones(1)).lam[0]) == (schedule in INFINITE)


@pytest.mark.parametrize("schedule", BETA)
def test_beta_by_derivative_is_beta_by_hand(schedule):
    """The oracle below would share an error of the schedule, from which it takes l.

    These three betas are independent of it.
    """
    made = SCHEDULES[schedule]()
    np.testing.assert_allclose(beta_of(made, TIMES), BETA[schedule](made, TIMES), rtol=1e-8)


@every
def test_derived_drift_and_diffusion_are_the_published_ones(frame, schedule):
    """Drift and diffusion would be 5 to 19 % wrong near t = 0 in float32.

    So they are where alpha itself is differentiated.
    """
    sde = make(frame, schedule)
    t = jnp.asarray(FEW, jnp.float32)
    drift, g = sde.drift(jnp.ones_like(t), t), sde.diffusion(t)
    exact = BETA.get(schedule, beta_of)(sde.schedule, np.asarray(t, np.float64))
    f, g2 = CLOSED[frame](*exact)
    rtol = ROUNDED.get(schedule, 1e-5)
    np.testing.assert_allclose(drift, f, rtol=rtol)
    np.testing.assert_allclose(np.asarray(g, np.float64) ** 2, g2, rtol=rtol)


@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "quadratic", "exponential"])
def test_classic_sub_vp_is_the_published_process(schedule, x64):
    """The betas would be those of another process than arXiv:2011.13456, eq. 28 and 29."""
    inner, t = SCHEDULES[schedule](), jnp.asarray(TIMES)
    sde = SubVP(ClassicSubVP(inner))
    beta, b = beta_of(inner, TIMES)
    ours = sde.rates(t)[0], sde.diffusion(t) ** 2, sde.alpha(t), sde.sigma(t)
    exact = -beta / 2, beta * -np.expm1(-2 * b), np.exp(-b / 2), -np.expm1(-b)
    for a, e in zip(ours, exact, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9)


def derivatives(sde, t):
    """Return alpha' and sigma' without logarithms."""
    return [jax.jvp(a, (t,), (jnp.ones_like(t),))[1] for a in (sde.alpha, sde.sigma)]


@every
@pytest.mark.typed
def test_flow_velocity_is_the_ode_of_the_sde(frame, schedule, x64):
    """Rates and marginals would contradict each other (T9).

    alpha' x0 + sigma' eps = f x - g^2 s / 2.
    """
    sde, t = make(frame, schedule), jnp.asarray(TIMES)
    x0, eps = jnp.asarray(np.random.default_rng(0).normal(size=(2, len(TIMES))))
    dalpha, dsigma = derivatives(sde, t)
    velocity = dalpha * x0 + dsigma * eps
    ode = sde.reverse_drift(sde.perturb(x0, eps, t), t, -eps / sde.sigma(t), chi=0.0)
    np.testing.assert_allclose(ode, velocity, rtol=1e-8, atol=1e-8 * np.abs(velocity).max())
    for slope, exact in zip(sde.slopes(t), (dalpha, dsigma), strict=True):
        np.testing.assert_allclose(slope, exact, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slopes_have_their_limits_where_the_log_snr_is_infinite(dtype, x64):
    """Velocity targets, and the first row from pure noise, would be 0 times infinity."""
    t = jnp.asarray([0.0, 0.5, 1.0], dtype)
    flow = np.stack(Flow(Logit()).slopes(t))
    assert flow.dtype == dtype
    np.testing.assert_allclose(flow, [[-1, -1, -1], [1, 1, 1]], rtol=1e-5)
    unit = np.pi / 2 / 1.008
    cosine = np.ravel(VP(Cosine()).slopes(t[2:]))
    np.testing.assert_allclose(cosine, [-unit / np.cos(unit * 0.008), 0], rtol=1e-5, atol=1e-5)


@every
def test_wronskian_is_its_definition_and_the_slope_of_the_log_snr(frame, schedule, x64):
    """Weights for the velocity, the bound and the likelihood would multiply another error."""
    sde, t = make(frame, schedule), jnp.asarray(TIMES)
    dalpha, dsigma = derivatives(sde, t)
    exact = sde.alpha(t) * dsigma - dalpha * sde.sigma(t)
    slope = jax.jvp(sde.logsnr, (t,), (jnp.ones_like(t),))[1]
    ours = sde.wronskian(t)
    assert (ours > 0).all()
    np.testing.assert_allclose(ours, exact, rtol=1e-8)
    np.testing.assert_allclose(ours, -sde.alpha(t) * sde.sigma(t) * slope / 2, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wronskian_is_finite_where_the_slopes_are(dtype, x64):
    """A loss at the noise end would be 0 times infinity, where l has an infinite slope.

    At t = 1 it is -alpha'; in Flow with its own schedule it is 1 at all times.
    """
    t = jnp.asarray([0.0, 0.5, 1.0], dtype)
    np.testing.assert_allclose(Flow(Logit()).wronskian(t), np.ones(3), rtol=1e-5)
    unit = np.pi / 2 / 1.008
    ours = VP(Cosine()).wronskian(t[2:])
    np.testing.assert_allclose(ours, [unit / np.cos(unit * 0.008)], rtol=1e-5)
    assert ours.dtype == dtype


@every
def test_frame_has_the_log_snr_of_its_schedule(frame, schedule, x64):
    """A frame would change the noise level in addition to the scale."""
    sde, t = make(frame, schedule), jnp.asarray(TIMES)
    l, log_alpha, log_sigma = sde.logsnr(t), sde.log_alpha(t), sde.log_sigma(t)
    np.testing.assert_allclose(2 * (log_alpha - log_sigma), l, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(l, sde.schedule(t))
    np.testing.assert_allclose(sde.inverse(l), TIMES, rtol=1e-9)
    np.testing.assert_allclose(KEPT[frame](sde.alpha(t), sde.sigma(t)), 1, rtol=1e-12)


def triples(sde):
    """Return times r < s < t between the ends, each (N,)."""
    r, s, t = np.sort(np.random.default_rng(0).uniform(size=(3, len(TIMES))), axis=0)
    wide = lambda u: jnp.asarray(sde.t_min + (min(sde.t_max, 0.99) - sde.t_min) * u)
    return wide(r), wide(s), wide(t)


@every
def test_transitions_compose_and_keep_the_marginals(frame, schedule, x64):
    """Noise added in two steps would differ from that of one, or x_t | x_s contradict x_t | x0."""
    sde = make(frame, schedule)
    r, s, t = triples(sde)
    (a_rs, b_rs), (a_st, b_st), (a, b) = (sde.transition(*i) for i in ((r, s), (s, t), (r, t)))
    np.testing.assert_allclose(a_st * a_rs, a, rtol=1e-10)
    np.testing.assert_allclose(a_st**2 * b_rs**2 + b_st**2, b**2, rtol=1e-10)
    np.testing.assert_allclose(a_st * sde.alpha(s), sde.alpha(t), rtol=1e-10)
    variance = a_st**2 * sde.sigma(s) ** 2 + b_st**2
    np.testing.assert_allclose(variance, sde.sigma(t) ** 2, rtol=1e-10)


@every
def test_posterior_is_bayes_rule(frame, schedule, x64):
    """x_s given x_t and x0 would contradict transition and marginal.

    A prior N(alpha_s x0, sigma_s^2) seen through x_t = k x_s + b z: precisions add.
    """
    sde = make(frame, schedule)
    _, s, t = triples(sde)
    a, b, c = sde.posterior(s, t)
    k, noise = sde.transition(s, t)
    variance = 1 / (1 / sde.sigma(s) ** 2 + k**2 / noise**2)
    np.testing.assert_allclose(c**2, variance, rtol=1e-10)
    np.testing.assert_allclose(a, variance * k / noise**2, rtol=1e-10)
    np.testing.assert_allclose(b, variance * sde.alpha(s) / sde.sigma(s) ** 2, rtol=1e-10)
    np.testing.assert_allclose(a * sde.alpha(t) + b, sde.alpha(s), rtol=1e-10)
    np.testing.assert_allclose(a**2 * sde.sigma(t) ** 2 + c**2, sde.sigma(s) ** 2, rtol=1e-10)


@every
def test_reverse_processes_have_the_marginals_of_the_forward_one(frame, schedule, x64):
    """A sampler of the reverse SDE or of the flow would miss the distribution of the data.

    On N(m, S) data the score is linear, and so is the drift u. With noise chi g run backward, mean'
    = u(mean) and var' = 2 u' var - chi^2 g^2, time derivatives of the forward marginal.
    """
    sde, (m, var0) = make(frame, schedule), (0.7, 0.3)
    t = jnp.asarray(np.linspace(0.01, 0.985, len(TIMES)))
    mean, var = sde.alpha(t) * m, sde.alpha(t) ** 2 * var0 + sde.sigma(t) ** 2
    dalpha, dsigma = derivatives(sde, t)
    exact = 2 * sde.alpha(t) * dalpha * var0 + 2 * sde.sigma(t) * dsigma
    for chi in (0.5, 1.0):  # the flow has a test of its own
        at = sde.reverse_drift(mean, t, 0 * var, chi=chi)
        above = sde.reverse_drift(mean + var**0.5, t, -(var**-0.5), chi=chi)
        np.testing.assert_allclose(at, m * dalpha, rtol=1e-8, atol=1e-10)
        ours = 2 * (above - at) * var**0.5 - chi**2 * sde.diffusion(t) ** 2
        np.testing.assert_allclose(ours, exact, rtol=1e-8, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("frame", SDES)
def test_euler_maruyama_of_the_forward_sde_reaches_the_marginal(frame, x64):
    """Drift and diffusion would not give the marginals. The distribution of each step is exact."""
    sde, times = SDES[frame](Linear()), np.linspace(1e-3, 1.0, 1025)
    at, t, dt = levels(sde, times), jnp.asarray(times[:-1]), times[1] - times[0]
    mean, var = 0.7 * at.alpha, 0.3 * at.alpha**2 + at.sigma**2
    grow = 1 + np.asarray(sde.drift(jnp.ones_like(t), t)) * dt
    added = np.asarray(sde.diffusion(t)) ** 2 * dt
    now = mean[0], var[0]
    for k, noise in zip(grow, added, strict=True):
        now = k * now[0], k**2 * now[1] + noise
    assert now[1] == pytest.approx(var[-1], rel=0.01)
    assert abs(now[0] - mean[-1]) < 0.01 * np.sqrt(var[-1])


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2, 1)])
@pytest.mark.typed
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
@pytest.mark.typed
def test_prior_is_the_noise_at_t_max(frame, schedule):
    """Samplers would start from the wrong variance (1 instead of sigma(t_max)^2 in VE)."""
    sde = make(frame, schedule)
    sigma = float(ends(sde).sigma[1])
    b = np.logaddexp(0, -2 * ends(sde).lam[1])
    if schedule in BETA and np.isfinite(b):
        b = BETA[schedule](sde.schedule, sde.t_max)[1]
    assert sigma**2 == pytest.approx(VARIANCE[frame](b), rel=1e-9)
    x = sde.prior(jax.random.key(0), (16, 50, 5))
    normal = stats.norm(0, sigma)
    assert stats.kstest(np.asarray(x).ravel(), normal.cdf).pvalue > 1e-3
    np.testing.assert_allclose(sde.prior_logp(x), normal.logpdf(x).sum((1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("frame", "schedule"), sorted(UNBOUNDED))
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


@pytest.mark.parametrize(
    ("schedule", "frame"), [*zip(SCHEDULES, itertools.cycle(SDES), strict=False)]
)
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
