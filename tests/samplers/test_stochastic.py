"""Samplers that add noise on the way: how much noise, and the method without it."""

import numpy as np
import pytest
from plain import ALWAYS, FRAMES, assert_same, label

from diffjax.samplers import SAMPLERS, moments, unroll
from diffjax.samplers.conformance import DOWN, MEAN, TIMES, VAR, VP_LINEAR, at_lambda, marginal
from diffjax.sde import levels

frames = pytest.mark.parametrize("frame", FRAMES)
grids = pytest.mark.parametrize("times", [TIMES, DOWN], ids=["above", "to_data"])
SAME = [
    (("churn", {"s_churn": 0.0}), ("heun", {})),
    (("churn", {"s_min": 200.0, "s_max": np.inf}), ("heun", {})),
    (("restart", {"repeats": 0}), ("heun", {})),
    (("dpmpp_sde", {"eta": 0.0}), ("dpmpp_2s", {})),
    (("sa_solver", {"tau": 0.0, "corrector": 0}), ("dpmpp_2m", {"exact": True})),
    (("sa_solver", {"tau": 0.0, "corrector": 0, "predictor": 3}), ("dpmpp_3m", {})),
    *(
        (("sa_solver", {"tau": 0.7, "corrector": 0, "predictor": k, **ALWAYS}), (name, settings))
        for k, name, settings in (
            (1, "ddim_sde", {"eta": 0.49}),
            (2, "dpmpp_2m", {"eta": 0.49, "exact": True}),
            (3, "dpmpp_3m", {"eta": 0.49}),
        )
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), SAME, ids=lambda m: label(m))
@frames
@grids
def test_without_noise_or_corrector_it_is_the_known_method(frame, times, ours, theirs):
    """The deterministic part would not be the known method."""
    tables = [SAMPLERS[name](FRAMES[frame], times, **kw) for name, kw in (ours, theirs)]
    assert tables[0].noisy.any() == tables[1].noisy.any()
    assert_same(*(unroll(table) for table in tables))


# T15: noise on the way up keeps the marginals.


@frames
@pytest.mark.parametrize("i", [3, 4, 5])
def test_churn_keeps_the_marginal(frame, i):
    """The network would receive a noise level that is not that of its input."""
    sde, gamma = FRAMES[frame], 0.25
    table = SAMPLERS["churn"](sde, TIMES[i : i + 2], s_churn=gamma, s_max=2.0)
    at = levels(sde, np.array([TIMES[i], table.t[0]]))
    rho = at.sigma / at.alpha
    assert rho[1] == pytest.approx((1 + gamma) * rho[0], rel=1e-12)
    x, *_, noise, _ = unroll(table).inputs[0]
    mean, var = marginal(sde, TIMES[i])
    seen = x * mean, x**2 * var + noise**2
    np.testing.assert_allclose(seen, marginal(sde, table.t[0]), rtol=1e-12)


def test_churn_stays_below_the_noise_that_the_network_knows():
    """The network would be evaluated at a noise level beyond t_max."""
    stirred = lambda times: SAMPLERS["churn"](VP_LINEAR, times, s_max=np.inf).noisy[0]
    assert stirred(np.array([0.95, 0.5])) and not stirred(np.array([0.99, 0.5]))


@frames
@pytest.mark.parametrize("settings", [{}, {"low": 0.5, "high": 2.0, "repeats": 3, "steps": 2}])
def test_restart_keeps_the_marginal(frame, settings):
    """Noise on the way up would not bridge the two noise levels."""
    sde = FRAMES[frame]
    table = SAMPLERS["restart"](sde, DOWN, **settings)
    low, high = settings.get("low", 0.06), settings.get("high", 0.3)
    rho = np.append(levels(sde, TIMES).sigma / levels(sde, TIMES).alpha, 0)
    j = int(np.flatnonzero(rho >= low)[-1])
    rows, top = np.flatnonzero(table.noisy), float(at_lambda(sde, -np.log(high)))
    assert len(rows) == settings.get("repeats", 2)
    np.testing.assert_allclose(table.t[rows + 1], top, rtol=1e-12)
    down = unroll(SAMPLERS["heun"](sde, TIMES[: j + 1])).result[: 2 * j + 1]
    maps = unroll(table[: rows[0] + 1]).result
    scale = (levels(sde, np.array([top])).alpha / levels(sde, TIMES[j : j + 1]).alpha)[0]
    np.testing.assert_allclose(maps[: 2 * j + 1], scale * down, rtol=1e-11)
    mean, var = marginal(sde, TIMES[j])
    for row in rows:
        noise = unroll(table[: row + 1]).result[-1]
        raised = scale * mean, scale**2 * var + noise**2
        np.testing.assert_allclose(raised, marginal(sde, top), rtol=1e-11)


def test_there_is_no_restart_before_the_first_step():
    """The first leg would start from a noise level that the state does not have."""
    short = np.array([TIMES[-1], 0.002, 0.0])
    assert_same(*(unroll(SAMPLERS[name](VP_LINEAR, short)) for name in ("restart", "heun")))


@pytest.mark.parametrize("name", ["churn", "restart"])
def test_noise_forgets_a_wrong_start(name):
    """Noise would not halve an error of the variance that Heun's method keeps."""
    settings = {"s_max": 5.0} if name == "churn" else {"low": 0.2, "high": 5.0}
    times = at_lambda(VP_LINEAR, np.linspace(-1.5, 1.5, 81))
    mean, var = marginal(VP_LINEAR, times[0])
    made = [
        moments(SAMPLERS[n](VP_LINEAR, times, **kw), VP_LINEAR, MEAN, VAR, (mean, 1.5 * var))[1]
        for n, kw in ((name, settings), ("heun", {}))
    ]
    noisy, plain = np.abs(np.array(made) / marginal(VP_LINEAR, times[-1])[1] - 1)
    assert noisy < 0.5 * plain


# T21: the noise of a step that is divided in two.


@frames
@pytest.mark.parametrize("name", ["dpmpp_sde", "seeds_2"])
@pytest.mark.parametrize(("r", "eta"), [(0.5, 1.0), (1.0, 1.0), (0.3, 0.5)])
def test_two_stages_have_the_noise_of_one_exact_step(frame, name, r, eta):
    """Stage and step would follow two paths, or two half steps have other noise than one step."""
    sde, times = FRAMES[frame], TIMES[2:4]
    at = levels(sde, times)
    h = at.lam[1] - at.lam[0]
    maps = unroll(SAMPLERS[name](sde, times, r=r, eta=eta))
    x, y0, y1, z0, z1 = maps.result
    full = at.sigma[1] ** 2 * (1 - np.exp(-2 * eta * h))
    np.testing.assert_allclose(z0**2 + z1**2, full, rtol=1e-10)
    exact = unroll(SAMPLERS["ddim_sde"](sde, times, eta=eta)).result
    np.testing.assert_allclose((x, y0 + y1), exact[:2], rtol=1e-10)
    middle = at_lambda(sde, at.lam[:1] + r * h)
    stage = unroll(SAMPLERS["ddim_sde"](sde, np.array([times[0], middle[0]]), eta=eta)).result
    np.testing.assert_allclose(maps.inputs[1][[0, 1, 3]], stage, rtol=1e-9)
    # Covariance of both: what the rest of the step leaves of the stage's noise.
    sigma = levels(sde, middle).sigma[0]
    left = at.sigma[1] / sigma * np.exp(-eta * (1 - r) * h)
    var = sigma**2 * (1 - np.exp(-2 * eta * r * h))
    np.testing.assert_allclose(maps.inputs[1][3] * z0, left * var, rtol=1e-9)


@frames
@pytest.mark.parametrize("name", ["dpmpp_sde", "seeds_2"])
def test_noise_of_all_steps_is_that_of_one(frame, name):
    """The distribution would depend on the number of steps, for one x0_hat (T21)."""
    sde = FRAMES[frame]

    def law(table):
        x, *rest = unroll(table).result
        y, z = np.split(np.array(rest), 2)
        return x, y.sum(), z @ z

    one = law(SAMPLERS["ddim_sde"](sde, TIMES[[0, -1]], eta=0.6))
    np.testing.assert_allclose(law(SAMPLERS[name](sde, TIMES, eta=0.6)), one, rtol=1e-9)


def test_sa_solver_has_noise_in_its_interval_only():
    """Noise at high noise levels, which costs accuracy, would be added outside of the interval."""
    at = levels(VP_LINEAR, TIMES)
    rho = (at.sigma / at.alpha)[:-1]
    for low, high in ((0.05, 1.0), (0.3, 2.0), (0.0, 0.01)):
        table = SAMPLERS["sa_solver"](VP_LINEAR, TIMES, low=low, high=high)
        np.testing.assert_array_equal(table.noisy, (low <= rho) & (rho <= high))


def test_predictor_and_corrector_share_their_noise():
    """The corrected state would have noise of its own, with twice the variance or none."""
    made = [
        unroll(SAMPLERS["sa_solver"](VP_LINEAR, TIMES[:4], corrector=c, **ALWAYS)) for c in (0, 2)
    ]
    noises = [maps.inputs[1][4:] for maps in made]
    np.testing.assert_array_equal(*noises)
    # One path: the direct influence on the last input, with fixed outputs, is equal too.
    np.testing.assert_allclose(made[1].result[4:], made[0].result[4:], rtol=1e-12)
