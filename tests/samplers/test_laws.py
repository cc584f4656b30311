"""Exact distributions: samples of data whose answer is known, in any number of steps."""

import numpy as np
import pytest
from plain import FRAMES, VARIANTS, label

from diffjax.samplers import (
    SAMPLERS,
    Table,
    ancestral,
    ancestral_optimal,
    ancestral_upper,
    ddim,
    euler_angle,
    moments,
)
from diffjax.samplers.conformance import (
    DOWN,
    MEAN,
    TIMES,
    VAR,
    VP_LINEAR,
    end_law,
    marginal,
    point_error,
)
from diffjax.schedules import SCHEDULES, Linear
from diffjax.sde import VP, levels

methods = pytest.mark.parametrize("method", VARIANTS, ids=label)
frames = pytest.mark.parametrize("frame", FRAMES)


def plan(method, sde, times) -> Table:
    name, settings = method
    return SAMPLERS[name](sde, times, **settings)


@methods
@pytest.mark.parametrize("frame", ["vp", "ve"])
def test_one_point_is_sampled_exactly_where_claimed(method, frame):
    """A sampler would have an error although x0_hat is constant, even in one step (T11).

    `straight` must be claimed of those samplers and no others. Euler in t is exact in Flow with the
    schedule `Logit` only, which this test leaves out.
    """
    own = lambda sde, times: plan(method, sde, times)
    errors = [point_error(own, FRAMES[frame], times) for times in (TIMES, TIMES[[0, 3]])]
    if SAMPLERS[method[0]].straight:
        assert max(errors) < 3e-6  # rounding errors of the large weights in pndm's pseudo steps
    else:
        assert min(errors) > 1e-4


@methods
@pytest.mark.typed
def test_one_point_is_reached(method):
    """The last row would leave noise behind, or miss the data."""
    mean, var = moments(plan(method, VP_LINEAR, DOWN), VP_LINEAR, MEAN, 0.0, (0.3, 1.2))
    assert mean == pytest.approx(MEAN, rel=1e-10) and var == pytest.approx(0, abs=1e-14)


@methods
@pytest.mark.parametrize("frame", ["flow"])
def test_one_step_to_the_data_is_the_posterior_mean(method, frame):
    """The step to sigma = 0 would differ from its limit, x0_hat."""
    sde = FRAMES[frame]
    at = levels(sde, DOWN[:1])
    gain = at.alpha[0] * VAR / (at.alpha[0] ** 2 * VAR + at.sigma[0] ** 2)
    exact = MEAN + gain * (0.4 - at.alpha[0] * MEAN), gain**2 * 1.3
    table = plan(method, sde, DOWN[[0, -1]])
    if method[0] == "annealed_langevin":  # before it there are Langevin rows
        table = table[-1:]
    ours = moments(table, sde, MEAN, VAR, (0.4, 1.3))
    np.testing.assert_allclose(ours, exact, rtol=1e-8, atol=1e-12)


@methods
def test_last_step_is_one_row_with_the_prediction(method):
    """Noise, or a further pass, would follow the last prediction."""
    name, settings = method
    settings = {"churn": {"s_min": 0.1}}.get(name, settings)  # `churn` may add noise before it
    table = plan((name, settings), VP_LINEAR, DOWN)
    assert table.t[-1] == DOWN[-2] and not table.noisy[-1]
    several = ("pndm", "restart", "annealed_langevin")
    assert name in several or len(table) == 1 + 6 * SAMPLERS[name].passes


def affine(table, sde):
    """Return slope and offset of the map from x_T to the result of a deterministic sampler."""
    offset, _ = moments(table, sde, MEAN, VAR, (0.0, 0.0))
    return moments(table, sde, MEAN, VAR, (1.0, 0.0))[0] - offset, offset


@frames
@pytest.mark.parametrize("times", [TIMES, DOWN], ids=["above", "to_data"])
def test_ddim_on_gaussian_data_is_a_product(frame, times):
    """The amplification of a step would differ from its closed form (T13)."""
    sde = FRAMES[frame]
    at = levels(sde, times)
    a, s = at.alpha, at.sigma
    factors = (a[1:] * a[:-1] * VAR + s[1:] * s[:-1]) / (a[:-1] ** 2 * VAR + s[:-1] ** 2)
    slope, offset = affine(ddim(sde, times), sde)
    assert slope == pytest.approx(factors.prod(), rel=1e-12)
    assert offset == pytest.approx(MEAN * (a[-1] - a[0] * factors.prod()), rel=1e-12)


def test_euler_in_the_angle_keeps_standard_normal_data():
    """In VP the state of N(0, I) would move, although its v is 0 (T12)."""
    result = moments(euler_angle(VP_LINEAR, TIMES), VP_LINEAR, 0.0, 1.0, (0.3, 1.7))
    np.testing.assert_allclose(result, (0.3, 1.7), rtol=1e-12)


def test_upper_variance_keeps_standard_normal_data():
    """In VP beta would not be the right variance for N(0, I) (T12).

    The posterior's variance is too small.
    """
    result = moments(ancestral_upper(VP_LINEAR, TIMES), VP_LINEAR, 0.0, 1.0, (0.0, 1.0))
    np.testing.assert_allclose(result, (0.0, 1.0), rtol=1e-12, atol=1e-15)
    assert moments(ancestral(VP_LINEAR, TIMES), VP_LINEAR, 0.0, 1.0, (0.0, 1.0))[1] < 0.99


@frames
def test_optimal_variance_keeps_gaussian_marginals(frame):
    """Mean and variance would be off in few steps, in some frame (T14)."""
    sde = FRAMES[frame]
    for times in (TIMES, TIMES[[0, 4]]):
        start, exact = marginal(sde, times[0]), marginal(sde, times[-1])
        table = ancestral_optimal(sde, times, data_var=VAR)
        np.testing.assert_allclose(moments(table, sde, MEAN, VAR, start), exact, rtol=1e-10)
        other = moments(ancestral_optimal(sde, times), sde, MEAN, VAR, start)
        assert abs(other[1] / exact[1] - 1) > 1e-3
    point = ancestral_optimal(sde, TIMES, data_var=0.0)
    np.testing.assert_allclose(point.update, ancestral(sde, TIMES).update, rtol=1e-12)


SLOW = {"euler_logsnr": 0.06, "repaint": 0.05}
"""Steps of equal size in t are large ones in lambda at the ends, and repeats leave fewer steps."""


def reached(name, sde, passes=1):
    """Return whether about 1000 rows take the prior to the data, up to alpha(t_max).

    Methods of higher order take 256 rows.
    """
    rows = 1024 if SAMPLERS[name].order() < 2 else 256
    mean, var = end_law(SAMPLERS[name], sde, rows, passes)
    return abs(mean - MEAN) < 0.03 * VAR**0.5 and abs(var / VAR - 1) < SLOW.get(name, 0.02)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"consistency", "annealed_langevin"}))
def test_every_sampler_takes_the_prior_to_the_data(name):
    """Start, grid or last row would be wrong where users run them, down to sigma = 0."""
    sde = VP(Linear(), t_min=0.01)
    assert reached(name, sde, {3: 4}.get(SAMPLERS[name].passes, SAMPLERS[name].passes))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.typed
def test_every_frame_is_taken_from_its_prior(frame):
    """A frame would start from another variance than its own."""
    sde = type(FRAMES[frame])(Linear(), t_min=0.01)
    assert reached("ddim", sde) and reached("ancestral", sde)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_sampled(schedule):
    """A step of some schedule would not be that of its log-SNR."""
    sde = VP(SCHEDULES[schedule](), t_max=0.98)
    errors = []
    for times in (np.linspace(0.98, 0.02, n + 1) for n in (128, 256)):
        start, exact = marginal(sde, times[0]), marginal(sde, times[-1])
        mean, var = moments(ddim(sde, times), sde, MEAN, VAR, start)
        assert mean == pytest.approx(exact[0], abs=0.05)
        errors.append(abs(var / exact[1] - 1))
    assert errors[1] < 0.05 and 1.7 < errors[0] / errors[1] < 2.3
