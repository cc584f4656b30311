"""Targets, input scale, noise labels, and refusals of parameterizations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.parameterization import (
    NOISE_LABELS,
    PARAMETERIZATIONS,
    X0,
    Edm,
    Eps,
    Score,
    V,
    Velocity,
    angle,
    index,
    time,
)
from diffjax.schedules import (
    SCHEDULES,
    Cosine,
    Laplace,
    Linear,
    Logit,
    Shifted,
    Truncated,
    ddpm_cosine,
    ddpm_linear,
)
from diffjax.sde import SDES, VE, VP, Flow, levels


def slopes(sde, t):
    """Return alpha' and sigma' in float64, from l' by central differences."""
    h = 1e-4 * np.minimum(t, 1 - t) + 1e-7
    up, down = levels(sde, np.minimum(t + h, 1.0)), levels(sde, t - h)
    return [(getattr(up, k) - getattr(down, k)) / (up.t - down.t) for k in ("alpha", "sigma")]


def edm(x0, eps, alpha, sigma, sigma_data=0.5):
    """arXiv:2206.00364, tab. 1: x0 = c_skip y + c_out F at y = x0 + s eps, s = sigma / alpha."""
    s = sigma / alpha
    c_skip = sigma_data**2 / (s**2 + sigma_data**2)
    c_out = s * sigma_data / np.sqrt(s**2 + sigma_data**2)
    return (x0 - c_skip * (x0 + s * eps)) / c_out


# F as a function of x0 and eps, from the papers: (x0, eps, alpha, sigma) -> F.
CLOSED = {
    "eps": lambda x0, eps, alpha, sigma: eps,
    "score": lambda x0, eps, alpha, sigma: -eps / sigma,
    "x0": lambda x0, eps, alpha, sigma: x0,
    "v": lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
    "edm": edm,
}
REFUSED_AT_ALPHA_0 = ("eps", "score")
"""Where alpha is 0, x0 does not follow from these."""
every = pytest.mark.parametrize("name", PARAMETERIZATIONS)
frames = pytest.mark.parametrize("frame", SDES)
T = jnp.array([1e-5, 1e-3, 0.1, 0.5, 0.9, 1.0])


def test_every_parameterization_has_a_closed_form():
    """A parameterization in the catalogue without its formula here would go untested."""
    assert {*CLOSED, "velocity"} == set(PARAMETERIZATIONS)


@every
@frames
@pytest.mark.typed
def test_target_is_the_published_one(name, frame):
    """A network would be trained on another target than the one named."""
    sde = SDES[frame](Linear())
    x0, eps = np.random.default_rng(0).normal(size=(2, len(T)))
    a, b = jax.jit(lambda t: PARAMETERIZATIONS[name]().target(sde, t))(T)
    at = levels(sde, np.asarray(T))
    if name == "velocity":
        dalpha, dsigma = slopes(sde, at.t)
        exact = dalpha * x0 + dsigma * eps
        np.testing.assert_allclose(a * x0 + b * eps, exact, rtol=1e-4, atol=1e-3)
        return
    exact = CLOSED[name](x0, eps, at.alpha, at.sigma)
    np.testing.assert_allclose(a * x0 + b * eps, exact, rtol=2e-5, atol=1e-6)


def process(frame, schedule, **mark):
    """Return a case of the tests below: a frame over a schedule."""
    sde = SDES[frame](SCHEDULES[schedule](), t_min=1e-5, t_max=0.99 if frame == "ve" else 1.0)
    return pytest.param(sde, id=f"{frame}-{schedule}", **mark)


ONCE = [*zip(SDES, ("linear", "cosine", "logit", "edm"), strict=True), ("vp", "cosine")]
"""Every frame and every schedule, and a process whose alpha is 0 at the end."""
processes = pytest.mark.parametrize(
    "sde",
    [
        process(*pair, marks=[] if pair in ONCE else [pytest.mark.thorough])
        for pair in itertools.product(SDES, ("linear", "cosine", "logit", "edm"))
    ],
)


def refused(name, sde):
    return name in REFUSED_AT_ALPHA_0 and levels(sde, np.array([sde.t_max])).alpha[0] == 0


@processes
def test_views_follow_from_the_target_at_every_noise_level(sde):
    """x0 or eps would not follow from F somewhere in the range, or lose digits there.

    In float32, with x = alpha x0 + sigma eps. What rounding of F and x costs is the sum of
    |coefficient * operand|; for v, velocity and edm it stays within 1e-5 in the frames where alpha
    and sigma are at most 1.
    """
    t = jnp.asarray(np.append(np.geomspace(sde.t_min, sde.t_max, 31), sde.t_max), jnp.float32)
    x0, eps = np.random.default_rng(0).normal(size=(2, len(t))).astype(np.float32)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    x = alpha * x0 + sigma * eps
    for name, make in PARAMETERIZATIONS.items():
        if refused(name, sde):
            continue
        a, b = make().target(sde, t)
        output, det = a * x0 + b * eps, a * sigma - b * alpha
        views = (sigma * output - b * x) / det, (a * x - alpha * output) / det
        costs = (
            (jnp.abs(sigma * output) + jnp.abs(b * x)) / jnp.abs(det),
            (jnp.abs(a * x) + jnp.abs(alpha * output)) / jnp.abs(det),
        )
        for view, cost, exact in zip(views, costs, (x0, eps), strict=True):
            error = np.abs(view - exact)
            assert np.isfinite(error).all(), name
            assert (error <= 1e-6 * (1 + cost)).all(), name
            if name in ("v", "velocity", "edm") and not isinstance(sde, VE):
                assert error.max() < 1e-5, name


@processes
def test_error_of_x0_by_that_of_the_output(sde, x64):
    """Weights of the loss would multiply another error than they state (T10)."""
    t = jnp.asarray(np.geomspace(1e-4, 0.98, 20))
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    rho2 = (sigma / alpha) ** 2
    dl = jax.jvp(sde.logsnr, (t,), (jnp.ones_like(t),))[1]
    factor = {
        "eps": rho2,
        "score": rho2 * sigma**2,
        "x0": jnp.ones_like(t),
        "v": (sigma / (alpha**2 + sigma**2)) ** 2,
        "velocity": 4 / (alpha * dl) ** 2,
        "edm": 0.25 * rho2 / (rho2 + 0.25),
    }
    assert set(factor) == set(PARAMETERIZATIONS)
    for name, exact in factor.items():
        a, b = PARAMETERIZATIONS[name]().target(sde, t)
        np.testing.assert_allclose((sigma / (a * sigma - b * alpha)) ** 2, exact, rtol=1e-9)


@processes
@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 2.0])
def test_edm_is_the_preconditioning_of_its_paper(sde, sigma_data, x64):
    """x0 = c_skip x / alpha + c_out F and c_in x would not be the paper's, in some frame (T24)."""
    t = jnp.asarray(np.geomspace(1e-4, 0.98, 20))
    parameterization = Edm(sigma_data=sigma_data)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    a, b = parameterization.target(sde, t)
    det, s = a * sigma - b * alpha, sigma / alpha
    root = np.sqrt(s**2 + sigma_data**2)
    np.testing.assert_allclose(-b / det * alpha, sigma_data**2 / root**2, rtol=1e-9)
    np.testing.assert_allclose(sigma / det, s * sigma_data / root, rtol=1e-9)
    np.testing.assert_allclose(parameterization.c_in(sde, t) * alpha, 1 / root, rtol=1e-9)
    np.testing.assert_allclose(a**2 * sigma_data**2 + b**2, 1, rtol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_edm_with_unit_data_is_minus_v_in_vp(schedule):
    """The same network would not serve both parameterizations (T24)."""
    sde = VP(SCHEDULES[schedule]())
    ours, v = Edm(sigma_data=1.0).target(sde, T), V().target(sde, T)
    np.testing.assert_allclose(ours, -np.stack(v), rtol=1e-6, atol=1e-7)


def test_velocity_of_the_straight_path_is_noise_less_data():
    """F would not be eps - x0, for some t (arXiv:2210.02747)."""
    a, b = Velocity().target(Flow(Logit()), jnp.linspace(0.0, 1.0, 11))
    np.testing.assert_allclose([a, b], [np.full(11, -1), np.full(11, 1)], rtol=1e-5)


@every
@frames
@pytest.mark.parametrize("sigma_data", [0.5, 1.0, 2.0])
def test_c_in_gives_the_network_unit_variance(name, frame, sigma_data):
    """Networks would see inputs of a different size at each noise level (150 in VE)."""
    sde = SDES[frame](Linear())
    x0, eps = np.random.default_rng(0).normal(size=(2, 20_000, 1))
    at = levels(sde, np.asarray(T))
    x = at.alpha * sigma_data * x0 + at.sigma * eps
    parameterization = PARAMETERIZATIONS[name](sigma_data=sigma_data)
    np.testing.assert_allclose((np.asarray(parameterization.c_in(sde, T)) * x).std(0), 1, rtol=0.03)
    raw = PARAMETERIZATIONS[name](sigma_data=sigma_data, scale_input=False)
    np.testing.assert_array_equal(raw.c_in(sde, T), np.ones(len(T)))


@pytest.mark.typed
def test_noise_labels():
    """Trained networks would receive labels on another scale."""
    known = {"time", "time_999", "time_999_reversed", "index", "rescaled_index", "angle", "t"}
    known |= {"one_minus_t", "half_logsnr", "log_sigma", "log_half_sigma", "quarter_log_sigma"}
    assert set(NOISE_LABELS) == known
    for sde in (VP(Cosine(0.0)), VE(Linear())):
        np.testing.assert_allclose(time(sde, T), 1000 * np.asarray(T), rtol=1e-6)
        labels = angle(sde, jnp.linspace(0.0, 1.0, 50))
        assert (np.diff(labels) > 0).all()
        assert labels[0] == pytest.approx(0, abs=1e-3) and labels[-1] <= 1000
    np.testing.assert_allclose(angle(VP(Cosine(0.0)), T), 1000 * np.asarray(T), rtol=1e-5)
    np.testing.assert_allclose(angle(VP(Linear()), T), angle(VE(Linear()), T), rtol=1e-6)
    for frame in SDES.values():
        sde = frame(Linear())
        rho = levels(sde, np.asarray(T)).sigma / levels(sde, np.asarray(T)).alpha
        np.testing.assert_array_equal(NOISE_LABELS["t"](sde, T), T)
        np.testing.assert_array_equal(NOISE_LABELS["one_minus_t"](sde, T), 1 - T)
        half, quarter = NOISE_LABELS["half_logsnr"], NOISE_LABELS["quarter_log_sigma"]
        np.testing.assert_array_equal(NOISE_LABELS["log_sigma"](sde, T), -half(sde, T))
        np.testing.assert_allclose(half(sde, T), -np.log(rho), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(quarter(sde, T), np.log(rho) / 4, rtol=1e-5, atol=1e-5)
        halved = NOISE_LABELS["log_half_sigma"](sde, T)
        np.testing.assert_allclose(halved, np.log(rho / 2), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(NOISE_LABELS["time_999"](sde, T), 999 * np.asarray(T))
        reverse = NOISE_LABELS["time_999_reversed"](sde, T)
        np.testing.assert_allclose(reverse, 999 - 999 * np.asarray(T), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("steps", [50, 1000, 4000])
@pytest.mark.parametrize("make", [ddpm_linear, ddpm_cosine])
def test_index_counts_the_entries_of_a_table(make, steps):
    """Networks of discrete-time DDPM would receive the neighbour of the intended noise level."""
    k = np.arange(steps)
    t = jnp.asarray((k + 1) / steps, jnp.float32)
    for schedule in (make(steps), Shifted(make(steps), -1.0)):
        np.testing.assert_allclose(index(VP(schedule), t), k, atol=1e-3)


def test_index_of_continuous_time_counts_a_thousand_steps():
    """A process without a table would have labels on another scale than DDPM's."""
    for schedule in (Linear(), Truncated(Cosine(), -5.0, 5.0)):
        np.testing.assert_allclose(index(VP(schedule), T), 1000 * np.asarray(T) - 1, rtol=1e-6)


@every
@pytest.mark.typed
def test_alpha_0_is_refused_where_x0_does_not_follow(name):
    """x0 would be 0 / 0 in the first row of a sampler, or a valid model be refused."""
    parameterization = PARAMETERIZATIONS[name]()
    for sde in (VP(Cosine()), SDES["sub_vp"](Cosine()), Flow(Logit())):
        assert levels(sde, np.array([1.0])).alpha == 0
        if name in REFUSED_AT_ALPHA_0:
            label = rf"{name} with {type(sde).__name__}.*alpha is 0 at t_max=1.0"
            with pytest.raises(ValueError, match=label):
                parameterization.check(sde)
        else:
            parameterization.check(sde)
    for fine in (VP(Cosine(), t_max=0.99), VP(Linear()), VE(Linear()), Flow(Linear())):
        parameterization.check(fine)


@pytest.mark.parametrize("frame", ["vp", "sub_vp", "flow"])
def test_velocity_is_refused_where_a_slope_is_infinite(frame):
    """The target at t_max would be infinite: alpha falls like the square root of 1 - t."""
    with pytest.raises(ValueError, match=r"velocity with .*Laplace.*infinite at t_max=1.0"):
        Velocity().check(SDES[frame](Laplace()))
    Velocity().check(SDES[frame](Laplace(), t_max=0.99))
    for other in (V(), X0(), Edm()):
        other.check(SDES[frame](Laplace()))


def test_score_is_that_of_the_noise_given_the_data():
    """Eps and score would differ by another factor than -1 / sigma."""
    sde = VE(Linear())
    a, b = Score().target(sde, T)
    np.testing.assert_array_equal(a, np.zeros(len(T)))
    np.testing.assert_allclose(b * sde.sigma(T), np.full(len(T), -1.0), rtol=1e-6)


@every
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_bad_sigma_data_is_refused_by_name(name, bad):
    """c_in would be NaN or infinite at the clean end."""
    with pytest.raises(ValueError, match=rf"sigma_data={bad}: needs sigma_data > 0"):
        PARAMETERIZATIONS[name](sigma_data=bad)


@every
@pytest.mark.parametrize("label", NOISE_LABELS)
def test_equal_parameterizations_are_equal(name, label):
    """Each new but equal model would compile the train step again."""
    make = lambda: PARAMETERIZATIONS[name](c_noise=NOISE_LABELS[label])
    assert make() == make() and hash(make()) == hash(make())
    assert make() != Eps(sigma_data=3.0)
