"""Time grids: length, order, ends, published formulas, refusals."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate

from diffjax.grids import (
    GRIDS,
    beta,
    cosine,
    explicit,
    exponential,
    karras,
    leading,
    linspace,
    logsnr_uniform,
    quadratic,
    shifted,
    trailing,
    uniform,
)
from diffjax.schedules import SCHEDULES, Cosine, Edm, Linear, Logit
from diffjax.sde import SDES, VE, VP, Flow, levels

pytestmark = pytest.mark.typed

FREE = sorted(set(GRIDS) - {"explicit", "nested", "linspace", "leading", "trailing"})
DISCRETE = {"linspace": linspace, "leading": leading, "trailing": trailing}
DDPM = VP(Linear(), t_min=1e-3)
COUNTS = (1, 2, 3, 9, 27)


def rho(sde, times):
    return np.exp(-levels(sde, times).lam)


@pytest.mark.parametrize("grid", FREE)
@pytest.mark.parametrize("frame", ["vp", "ve"])
@pytest.mark.parametrize("schedule", [Linear, Cosine, Edm], ids=lambda s: s.__name__)
def test_grid_runs_from_noise_to_data(grid, frame, schedule):
    """A sampler would skip the prior, miss the data, or leave the trained range."""
    sde = SDES[frame](schedule(), t_min=2e-3, t_max=0.95)
    for steps in COUNTS:
        times = GRIDS[grid](sde, steps)
        assert times.dtype == np.float64 and times.shape == (steps + 1,)
        assert np.isfinite(times).all() and (np.diff(times) < 0).all()
        assert sde.t_max * (1 - 1e-12) <= times[0] <= sde.t_max and times[-1] == 0
        last = sde.t_min if steps > 1 else sde.t_max
        assert times[-2] == pytest.approx(last, rel=1e-12) and times[-2] >= sde.t_min


@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - {"learned"}))
def test_grids_in_noise_levels_invert_every_schedule(schedule):
    """A grid would skip, repeat or leave the range where a schedule is inverted by search."""
    sde = VP(SCHEDULES[schedule](), t_min=2e-3, t_max=0.95)
    times = logsnr_uniform(sde, 27)
    assert (times[0], times[-2], times[-1]) == (sde.t_max, sde.t_min, 0)
    lam = levels(sde, times[:-1]).lam
    np.testing.assert_allclose(np.diff(lam), (lam[-1] - lam[0]) / 26, rtol=1e-6)


def test_uniform_holds_the_discrete_times_of_ddpm():
    """DDPM's 1000 steps would fall between the times of its training."""
    np.testing.assert_allclose(uniform(DDPM, 1000), np.arange(1000, -1, -1) / 1000, atol=1e-15)


@pytest.mark.parametrize("power", [1.0, 3.0, 7.0])
def test_karras_is_edms_formula(power):
    """The grid would not be that of arXiv:2206.00364, eq. 5.

    sigma_i = (max^(1/r) + i/(N-1) (min^(1/r) - max^(1/r)))^r
    """
    sde, n = VE(Edm(), t_min=1e-3), 18
    high, low = rho(sde, np.array([sde.t_max, sde.t_min]))
    i = np.arange(n)
    exact = (high ** (1 / power) + i / (n - 1) * (low ** (1 / power) - high ** (1 / power))) ** (
        power
    )
    np.testing.assert_allclose(rho(sde, karras(sde, n, rho=power)[:-1]), exact, rtol=1e-9)


@pytest.mark.parametrize("grid", [karras, exponential], ids=["karras", "exponential"])
def test_grid_of_a_range_begins_and_ends_there(grid):
    """The noise levels of a recipe would be changed."""
    sde = VE(Edm(), t_min=1e-5)
    times = grid(sde, 9, sigma_min=0.01, sigma_max=50.0)
    made = rho(sde, times[:-1])
    np.testing.assert_allclose(made[[0, -1]], (50.0, 0.01), rtol=1e-9)
    assert times[-1] == 0 and (np.diff(times) < 0).all()
    for bad, message in (
        ({"sigma_min": 1e-9}, r"sigma_min=1e-09: needs at least .* as at t_min"),
        ({"sigma_max": 1e9}, r"sigma_max=1000000000.0: needs at most .* as at t_max"),
        ({"sigma_min": 2.0, "sigma_max": 1.0}, r"sigma_min=2: needs sigma_min < sigma_max=1"),
    ):
        with pytest.raises(ValueError, match=message):
            grid(sde, 9, **bad)


def test_formulas_of_the_other_grids():
    """A grid would be spaced by another rule than its name says."""
    n, share = 9, np.linspace(0, 1, 9)
    low, high = DDPM.t_min, DDPM.t_max
    root = np.sqrt(high) + share * (np.sqrt(low) - np.sqrt(high))
    np.testing.assert_allclose(quadratic(DDPM, n)[:-1], root**2, rtol=1e-12)
    wave = high - (high - low) * (1 - np.cos(np.pi * share)) / 2
    np.testing.assert_allclose(cosine(DDPM, n)[:-1], wave, rtol=1e-12)
    sigma = rho(DDPM, exponential(DDPM, n)[:-1])
    np.testing.assert_allclose(sigma[1:] / sigma[:-1], (sigma[-1] / sigma[0]) ** (1 / 8), rtol=1e-6)
    np.testing.assert_allclose(exponential(DDPM, n), logsnr_uniform(DDPM, n), rtol=1e-9)


@pytest.mark.parametrize(("a", "b"), [(0.6, 0.6), (0.5, 1.5), (2.0, 1.0)])
def test_beta_has_equal_shares_of_its_density(a, b):
    """Quantiles would be those of 1 - t, or of another distribution.

    The integral of the density over the steps is computed by quadrature.
    """
    times = (beta(DDPM, 6, alpha=a, beta=b)[:-1] - DDPM.t_min) / (DDPM.t_max - DDPM.t_min)
    density = lambda t: t ** (a - 1) * (1 - t) ** (b - 1)
    mass = [integrate.quad(density, low, high)[0] for high, low in pairwise(times)]
    np.testing.assert_allclose(mass, np.mean(mass), rtol=1e-6)
    for bad in ({"alpha": 0.0}, {"beta": -1.0}, {"alpha": np.inf}):
        with pytest.raises(ValueError, match="needs 0 < "):
            beta(DDPM, 6, **bad)


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 27, 999, 1000])
def test_discrete_spacings_are_the_index_formulas_of_diffusers(steps):
    """A pretrained model would be called at other times than in diffusers."""
    total = 1000
    index = {
        "linspace": np.linspace(0, total - 1, steps).round()[::-1],
        "leading": (np.arange(0, steps) * (total // steps)).round()[::-1],
        "trailing": np.round(np.arange(total, 0, -total / steps))[:steps] - 1,
    }
    index["linspace"] = np.array([999.0]) if steps == 1 else index["linspace"]
    for name, grid in DISCRETE.items():
        times = grid(DDPM, steps)
        np.testing.assert_allclose(times[:-1], (index[name] + 1) / total, atol=1e-12)
        assert times[-1] == 0 and (np.diff(times) < 0).all() and len(times) == steps + 1
    if steps < 1000:
        later = leading(DDPM, steps, offset=1)[:-1] - leading(DDPM, steps)[:-1]
        np.testing.assert_allclose(later, 1 / total)


@pytest.mark.parametrize("steps", [1, 2, 10, 20, 499])
def test_spacings_without_their_lowest_index(steps):
    """DPM-Solver's schedulers, which leave out index 0 or end at its noise level, would differ."""
    total = 1000
    index = {
        linspace: np.linspace(0, total - 1, steps + 1).round()[::-1][:-1],
        leading: (np.arange(steps + 1) * (total // (steps + 1)))[::-1][:-1],
    }
    for grid, exact in index.items():
        times = grid(DDPM, steps, inner=True)
        np.testing.assert_allclose(times, np.append((exact + 1) / total, 0), atol=1e-12)
        ends = grid(DDPM, steps, inner=True, to_data=False)
        np.testing.assert_array_equal(ends, [*times[:-1], 1 / total])
        with pytest.raises(ValueError, match="needs an offset, or inner=True"):
            grid(DDPM, max(steps, 2), to_data=False)
    assert trailing(DDPM, steps, to_data=False)[-1] == 1 / total
    with pytest.raises(ValueError, match="with distinct indices"):
        leading(DDPM, 1000, inner=True)


@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_shifted_is_the_formula_of_sd3(shift):
    """A flow would be sampled at other times than published (arXiv:2403.03206)."""
    sde, n = Flow(Logit(), t_min=0.01), 9
    move = lambda u: shift * u / (1 + (shift - 1) * u)
    low = 0.01 / (shift - (shift - 1) * 0.01)
    np.testing.assert_allclose(shifted(sde, n, shift)[:-1], move(np.linspace(1, low, n)))
    fewer = shifted(sde, n, shift, inner=True)[:-1]
    np.testing.assert_allclose(fewer, move(np.linspace(1, low, n + 1))[:-1])
    with pytest.raises(ValueError, match=r"shift=0\.0: needs 0 < shift"):
        shifted(sde, n, 0.0)


def test_discrete_spacings_outside_the_trained_times_are_refused():
    """The network would be called where it was not trained, or a time be repeated."""
    for grid in DISCRETE.values():
        with pytest.raises(ValueError, match=r"steps=101: needs at most total=100"):
            grid(DDPM, 101, total=100)
        with pytest.raises(ValueError, match=r"outside t_min=0.1"):
            grid(VP(Linear(), t_min=0.1, t_max=0.9), 10, total=1000)
    with pytest.raises(ValueError, match=r"outside t_min"):
        leading(DDPM, 1000, offset=1)


def test_explicit_times_are_taken_as_they_are():
    """Times of a recipe would be moved. 0 is added where the grid does not end there."""
    times = (1.0, 0.5, 0.2)
    np.testing.assert_array_equal(explicit(DDPM, 3, times), [1.0, 0.5, 0.2, 0.0])
    np.testing.assert_array_equal(explicit(DDPM, 2, times), times)
    for steps in (1, 4):
        with pytest.raises(ValueError, match=rf"needs {steps} or {steps + 1} times"):
            explicit(DDPM, steps, times)


@pytest.mark.parametrize("grid", ["logsnr_uniform", "exponential", "karras"])
def test_infinite_log_snr_is_refused_by_name(grid):
    """The grid would be NaN."""
    with pytest.raises(ValueError, match=rf"{grid} with VP.*Cosine.*-inf at t_max=1.0"):
        GRIDS[grid](VP(Cosine()), 5)
    assert np.isfinite(GRIDS[grid](VP(Cosine(), t_max=0.99), 5)).all()


def test_sigma_max_makes_a_grid_where_log_snr_is_infinite():
    """A range within the schedule would be refused because of the schedule's infinite end."""
    sde = VP(Cosine())
    for grid in (karras, exponential):
        times = grid(sde, 5, sigma_max=50.0)
        np.testing.assert_allclose(rho(sde, times[:1]), 50.0, rtol=1e-9)


@pytest.mark.parametrize("grid", sorted(set(GRIDS) - {"explicit"}))
@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused_by_name(grid, steps):
    """A sampler would return noise as its result."""
    with pytest.raises(ValueError, match=rf"steps={steps}: needs steps >= 1"):
        GRIDS[grid](VE(Linear()), steps)


def test_explicit_grid_without_steps_is_refused():
    """The table would be empty."""
    with pytest.raises(ValueError, match=r"steps=0|needs at least"):
        explicit(VE(Linear()), 0, ())
