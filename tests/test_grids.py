"""Time grids: length, order, ends, spacing, refusals."""

import itertools

import numpy as np
import pytest

from diffjax.grids import GRIDS, logsnr_uniform, uniform
from diffjax.schedules import SCHEDULES, Cosine, Linear
from diffjax.sde import SDES, VE, VP, levels

SDES_OF_GRIDS = [
    SDES[frame](SCHEDULES[schedule](), t_min=2e-3, t_max=0.95)
    for frame, schedule in itertools.product(SDES, SCHEDULES)
]
name = lambda sde: f"{type(sde).__name__}-{type(sde.schedule).__name__}"


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sde", SDES_OF_GRIDS, ids=name)
@pytest.mark.parametrize("steps", [1, 3, 9, 27])
def test_grid_runs_from_noise_to_data(grid, sde, steps):
    """A sampler would skip the prior, stop short of the data, or ask outside the trained range."""
    times = GRIDS[grid](sde, steps)
    assert times.dtype == np.float64 and times.shape == (steps + 1,)
    assert (np.diff(times) < 0).all()
    assert times[0] == sde.t_max and times[-1] == 0
    if steps > 1:
        assert times[-2] == pytest.approx(sde.t_min, rel=1e-9)
    assert times[-2] >= sde.t_min


def test_uniform_holds_the_discrete_times_of_ddpm():
    """DDPM's 1000 steps would ask between the times that it was trained at."""
    times = uniform(VP(Linear(), t_min=1e-3), 1000)
    np.testing.assert_allclose(times, np.arange(1000, -1, -1) / 1000, atol=1e-15)


@pytest.mark.parametrize("sde", SDES_OF_GRIDS, ids=name)
def test_logsnr_uniform_has_equal_steps_in_lambda(sde):
    """Solvers in lambda would lose their order, and two frames not see the same noise levels."""
    lam = levels(sde, logsnr_uniform(sde, 27)[:-1]).lam
    np.testing.assert_allclose(np.diff(lam), (lam[-1] - lam[0]) / 26, rtol=1e-7)


@pytest.mark.fast
def test_infinite_log_snr_is_refused_by_name():
    """The grid would be NaN."""
    with pytest.raises(ValueError, match=r"logsnr_uniform with VP.*Cosine.*-inf at t_max=1.0"):
        logsnr_uniform(VP(Cosine()), 5)
    assert np.isfinite(logsnr_uniform(VP(Cosine(), t_max=0.99), 5)).all()
    assert np.isfinite(uniform(VP(Cosine()), 5)).all()


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused_by_name(grid, steps):
    """A sampler would return noise as its result."""
    with pytest.raises(ValueError, match=rf"steps={steps}: a grid needs at least 1 step"):
        GRIDS[grid](VE(Linear()), steps)
