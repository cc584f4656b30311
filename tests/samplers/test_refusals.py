"""Every sampler in every frame from pure noise: finite coefficients, or a refusal that says why."""

import numpy as np
import pytest

from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS
from diffjax.schedules import Cosine, Linear
from diffjax.sde import SDES, VP

THOROUGH = [pytest.mark.thorough]
NEEDS_ALPHA = {
    "ab_angle",
    "ab_logsnr",
    "annealed_langevin",
    "churn",
    "deis",
    "dpm_solver_1",
    "dpm_solver_2",
    "dpm_solver_3",
    "dpmpp_2s",
    "dpmpp_sde",
    "euler_logsnr",
    "euler_maruyama",
    "heun",
    "ipndm",
    "lms",
    "midpoint",
    "pndm",
    "restart",
    "reverse_diffusion",
    "rk4",
    "seeds_2",
}
"""Samplers that cannot start where alpha is 0: no finite eps view, step of lambda, or drift."""
PROCESSES = [
    (frame, schedule)
    for frame in SDES
    for schedule in (Cosine, Linear)
    if (frame, schedule) != ("ve", Cosine)  # sigma is infinite there: the process itself refuses
]


ONCE = [("vp", Cosine), ("flow", Cosine), ("ve", Linear)]
"""Two processes where alpha is 0 at the start, and one where it is not."""


@pytest.mark.parametrize(
    ("frame", "schedule"),
    [
        pytest.param(f, s, id=f"{f}-{s.__name__}", marks=[] if (f, s) in ONCE else THOROUGH)
        for f, s in PROCESSES
    ],
)
@pytest.mark.parametrize("name", SAMPLERS)
def test_start_from_noise_is_finite_or_refused(name, frame, schedule):
    """The first row would be NaN, or a sampler be refused that can start from noise.

    The critical values are log(0), 0 / 0 and inf - inf.
    """
    sde = SDES[frame](schedule())
    for steps in (1, 7):
        times = uniform(sde, steps)
        if schedule is Cosine and name in NEEDS_ALPHA:
            if steps > 1:
                with pytest.raises(ValueError, match=r"at t=1 of .*where alpha is 0"):
                    SAMPLERS[name](sde, times)
            continue
        table = SAMPLERS[name](sde, times)
        assert all(np.isfinite(a).all() for a in (table.t, table.input, table.update, table.spread))


@pytest.mark.parametrize("name", sorted(NEEDS_ALPHA - {"dpmpp_2s"}))
def test_one_step_from_pure_noise_is_refused_too(name):
    """One row would return infinity, as eps does not determine x0 at alpha = 0."""
    sde = VP(Cosine())
    with pytest.raises(ValueError, match=r"at t=1 of .*where alpha is 0"):
        SAMPLERS[name](sde, uniform(sde, 1))


@pytest.mark.parametrize("name", sorted(NEEDS_ALPHA))
def test_what_is_refused_can_start_below(name):
    """The refusal would suggest a smaller t_max that does not help."""
    sde = VP(Cosine(), t_max=0.99)
    table = SAMPLERS[name](sde, uniform(sde, 7))
    assert np.isfinite(table.update).all() and np.isfinite(table.input).all()


BAD = [
    ("ddim", "eta", (-1.0, 1.5, np.nan)),
    ("ddim_variance", "eta", (-1.0, 1.5, np.nan)),
    ("ddim_sde", "eta", (-1.0, np.inf, np.nan)),
    ("dpmpp_2m", "eta", (-1.0, np.inf, np.nan)),
    ("dpmpp_3m", "eta", (-1.0, np.inf, np.nan)),
    ("euler_maruyama", "chi", (-1.0, np.inf, np.nan)),
    ("ancestral_optimal", "data_var", (-1.0, np.inf, np.nan)),
    *((name, "order", (0, 5)) for name in ("lms", "deis", "ab_logsnr", "ab_angle", "ipndm")),
    ("unipc", "order", (0, 5)),
    *(("churn", name, (-1.0, np.inf, np.nan)) for name in ("s_churn", "s_min", "s_noise")),
    ("churn", "s_max", (-1.0, np.nan)),
    ("restart", "low", (0.0, 0.5, np.nan)),
    ("restart", "repeats", (-1,)),
    ("restart", "steps", (-1,)),
    *((name, "eta", (-1.0, np.inf, np.nan)) for name in ("dpmpp_sde", "seeds_2")),
    *((name, "r", (0.0, 1.5, np.nan)) for name in ("dpmpp_sde", "seeds_2")),
    ("sa_solver", "tau", (-1.0, np.inf, np.nan)),
    ("sa_solver", "low", (-1.0, 2.0, np.nan)),
    ("sa_solver", "predictor", (0, 5)),
    ("sa_solver", "corrector", (-1, 5)),
]


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [(name, setting, value) for name, setting, values in BAD for value in values],
)
def test_bad_settings_are_refused_by_name(name, setting, value):
    """Noise of negative variance, or weights that do not exist, would give NaN or an IndexError."""
    sde = VP(Linear())
    with pytest.raises(ValueError, match=rf"{setting}={value}: needs "):
        SAMPLERS[name](sde, uniform(sde, 7), **{setting: value})


def test_restarts_stay_below_the_noise_that_the_network_knows():
    """The network would be evaluated at a noise level beyond t_max."""
    sde = VP(Linear(), t_max=0.3)
    with pytest.raises(ValueError, match=r"high=1\.5: exceeds the noise level at t_max=0\.3 of VP"):
        SAMPLERS["restart"](sde, uniform(sde, 7), high=1.5)
    for high in (0.3, 1.2):
        assert SAMPLERS["restart"](sde, uniform(sde, 7), high=high).t.max() <= 0.3
