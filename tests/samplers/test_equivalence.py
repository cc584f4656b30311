"""Samplers that are one method written in two ways have equal unrolled maps."""

from itertools import pairwise

import numpy as np
import pytest
from plain import FRAMES, VARIANTS, assert_same, label, of_the_ode

from diffjax.samplers import (
    SAMPLERS,
    Program,
    ancestral,
    ddim,
    ddim_sde,
    ddim_variance,
    dpm_solver_1,
    dpmpp_2m,
    dpmpp_3m,
    euler_t,
    lms,
    unipc,
    unroll,
)
from diffjax.samplers.conformance import DOWN, TIMES, VP_LINEAR, as_x0, at_lambda
from diffjax.samplers.program import X
from diffjax.schedules import Cosine, Logit
from diffjax.sde import VP, Flow, levels

pytestmark = pytest.mark.typed

frames = pytest.mark.parametrize("frame", FRAMES)
grids = pytest.mark.parametrize("times", [TIMES, DOWN], ids=["above", "to_data"])


def euler_in_rho(sde, times):
    """Euler's method on d(x / alpha) / d rho = (x / alpha - x0) / rho, and nothing else."""
    at, p = levels(sde, times), Program()
    rho = at.sigma / at.alpha
    for t, s in pairwise(range(len(times))):
        y = p.network(at.t[t])
        x = X / at.alpha[t]
        p.step(at.alpha[s] * (x + (rho[s] - rho[t]) / rho[t] * (x - y)))
    return p.table()


@frames
@grids
def test_deterministic_first_order_samplers_are_one(frame, times):
    """ddim, DPM-Solver-1, Euler in rho and first steps of other methods would differ (T1)."""
    sde = FRAMES[frame]
    ours = as_x0(ddim(sde, times), sde)
    for other in (dpm_solver_1(sde, times), euler_in_rho(sde, times), lms(sde, times, order=1)):
        assert_same(as_x0(other, sde), ours)
    first = as_x0(ddim(sde, times[:2]), sde)
    for other in (dpmpp_2m, dpmpp_3m, unipc, lms):
        assert_same(as_x0(other(sde, times[:2]), sde), first)


def test_ddim_in_vp_is_a_rotation():
    """x_s would not be cos(d) x - sin(d) v with d the angle of the step (T2)."""
    at = levels(VP_LINEAR, TIMES)
    phi = np.arctan2(at.sigma, at.alpha)
    for i, (t, s) in enumerate(pairwise(phi)):
        ours = unroll(ddim(VP_LINEAR, TIMES[i : i + 2])).result
        v = np.array([np.cos(t), -1]) / np.sin(t)  # v = (alpha x - x0) / sigma
        exact = np.cos(s - t) * np.array([1, 0]) + np.sin(s - t) * v
        np.testing.assert_allclose(ours[:2], exact, rtol=1e-12)


@frames
@grids
def test_eta_1_is_ancestral_sampling(frame, times):
    """The four names of the posterior at the predicted x0 would differ in their maps (T3)."""
    sde = FRAMES[frame]
    ours = unroll(ancestral(sde, times))
    for other in (ddim, ddim_sde, ddim_variance):
        assert_same(unroll(other(sde, times, eta=1.0)), ours)
        assert_same(unroll(other(sde, times, eta=0.0)), unroll(ddim(sde, times)))
    for other in (ddim, ddim_sde, ddim_variance):
        with pytest.raises(AssertionError):
            assert_same(unroll(other(sde, times, eta=0.9)), ours)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
def test_each_eta_is_the_one_of_its_source(eta):
    """A sampler would have the eta of another definition (T4, MATH 5).

    The noise of a step from t to s is compared with the formulas: arXiv:2010.02502, eq. 16, in VP,
    for ddim; kappa = 1 - exp(-2 eta h) for ddim_sde.
    """
    at = levels(VP_LINEAR, TIMES[:2])
    (a_t, a_s), h = at.alpha**2, at.lam[1] - at.lam[0]
    paper = eta * np.sqrt((1 - a_s) / (1 - a_t)) * np.sqrt(1 - a_t / a_s)
    kappas = (paper / at.sigma[1]) ** 2, eta * -np.expm1(-2 * h), -np.expm1(-2 * eta * h)
    for method, kappa in zip((ddim, ddim_variance, ddim_sde), kappas, strict=True):
        x = at.sigma[1] * np.sqrt(1 - kappa) / at.sigma[0]
        exact = x, at.alpha[1] - x * at.alpha[0], at.sigma[1] * np.sqrt(kappa)
        ours = unroll(method(VP_LINEAR, TIMES[:2], eta=eta)).result
        np.testing.assert_allclose(ours, exact, rtol=1e-10, atol=1e-14)


@frames
def test_only_ddim_sde_is_a_semigroup(frame):
    """The noise of ddim_sde would depend on how a step is divided, for a fixed x0 (T21)."""
    sde, times = FRAMES[frame], np.array([0.6, 0.5, 0.4])

    def law(table):
        """Return weights of x and of x0, and the variance of the noise, with equal outputs."""
        x, *rest = unroll(table).result
        y, z = np.split(np.array(rest), 2)
        return np.array([x, y.sum(), z @ z])

    for method in (ddim_sde, ddim, ddim_variance):
        one, two = (law(method(sde, t, eta=0.5)) for t in (times[::2], times))
        if method is ddim_sde:
            np.testing.assert_allclose(one, two, rtol=1e-12)
        else:
            assert np.abs(one / two - 1).max() > 1e-2


@frames
@grids
@pytest.mark.parametrize("lower_final", [False, True])
def test_dpmpp_multistep_is_unipc_without_corrector(frame, times, lower_final):
    """2M in its midpoint form would not be UniP-2, or 3M with its factor 2 not UniP-3 (T5, T6)."""
    sde = FRAMES[frame]
    two = dpmpp_2m(sde, times, lower_final=lower_final)
    three = dpmpp_3m(sde, times, lower_final=lower_final)
    predict = lambda order: unroll(
        unipc(sde, times, order=order, corrector=False, lower_final=lower_final)
    )
    assert_same(unroll(two), predict(2))
    ours, theirs = unroll(three), predict(3)
    # The second step is a line: its exact integral here, 1/2 B(h) in UniPC.
    assert_same((ours.result[:1], ours.inputs[:2]), (theirs.result[:1], theirs.inputs[:2]))
    exact = unroll(dpmpp_2m(sde, times, exact=True)).inputs[2]
    np.testing.assert_allclose(ours.inputs[2], exact, rtol=1e-12, atol=1e-14)
    tail = lambda maps: maps.inputs[3] - maps.inputs[2] * step(sde, times, 2)
    np.testing.assert_allclose(tail(ours), tail(theirs), rtol=1e-10, atol=1e-13)


def step(sde, times, i):
    """Return sigma_s / sigma_t of step i, the factor of an x0 method on the state."""
    at = levels(sde, times)
    return at.sigma[i + 1] / at.sigma[i]


# T8: methods in lambda or rho depend neither on the frame nor on the schedule.

SEES_THE_FRAME = {
    "ancestral_learned",
    "ancestral_upper",
    "euler_maruyama",
    "euler_t",
    "heun_t",
    "midpoint_t",
    "reverse_diffusion",
    "rk4_t",
}
"""A derivative in t of alpha or sigma alone, or the variance of the forward step."""
SEES_THE_SCHEDULE = {"deis", "pndm"} | SEES_THE_FRAME - {"ancestral_learned", "ancestral_upper"}
"""Interpolation, middle or derivative in t, which at equal noise levels is another variable."""
SEES_THE_SCHEDULE -= {"reverse_diffusion"}


def in_units_of_alpha(sde, times, name, settings):
    """Return the unrolled map of x / alpha, in outputs x0."""
    table = SAMPLERS[name](sde, times, **settings)
    maps, at, end = as_x0(table, sde), levels(sde, table.t), levels(sde, times).alpha
    scale = np.ones(1 + 2 * len(table))
    scale[0] = end[0]
    return maps.inputs * scale / at.alpha[:, None], maps.result * scale / end[-1]


def agree(pairs):
    """Return whether all maps are equal."""
    first, *others = pairs
    close = lambda a, b: np.allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())
    return all(close(a, b) for other in others for a, b in zip(other, first, strict=True))


@pytest.mark.parametrize("method", VARIANTS, ids=label)
def test_frames_differ_by_scale_only_where_they_should(method):
    """A method would depend on the frame although it is not listed, or be listed wrongly (T8)."""
    name, settings = method
    maps = [in_units_of_alpha(sde, DOWN, name, settings) for sde in FRAMES.values()]
    assert agree(maps) == (name not in SEES_THE_FRAME)


@pytest.mark.parametrize("method", VARIANTS, ids=label)
def test_schedules_differ_in_time_only_where_they_should(method):
    """A method would depend on the clock at equal noise levels, or be listed wrongly (T8)."""
    name, settings = method
    other = VP(Cosine(), t_min=0.002)
    lam = levels(VP_LINEAR, TIMES).lam
    maps = [
        in_units_of_alpha(VP_LINEAR, DOWN, name, settings),
        in_units_of_alpha(other, np.append(at_lambda(other, lam), 0.0), name, settings),
    ]
    assert agree(maps) == (name not in SEES_THE_SCHEDULE)


@grids
def test_euler_in_t_of_rectified_flow_is_ddim(times):
    """A straight path in t would be sampled as if it were a curve."""
    sde = Flow(Logit())
    assert_same(unroll(euler_t(sde, times)), unroll(ddim(sde, times)), 1e-9)


@pytest.mark.parametrize("method", VARIANTS, ids=label)
def test_samplers_are_listed_as_noisy_or_not(method):
    """A stochastic sampler would be tested as an ODE method, or the reverse."""
    name, settings = method
    table = SAMPLERS[name](VP_LINEAR, TIMES, **settings)
    assert table.noisy.any() == (not of_the_ode(name, **settings))
