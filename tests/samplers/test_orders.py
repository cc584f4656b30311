"""Convergence orders, without Monte Carlo and without a stored number.

Deterministic samplers (O1) on a mixture, against the exact flow, with exact history; stochastic
ones (O2) by the exact recursion of their law on Gaussian data.
"""

import numpy as np
import pytest
from plain import (
    ALWAYS,
    MEAN,
    VAR,
    VARIANTS,
    VP_LINEAR,
    at_lambda,
    label,
    marginal,
    mixture_output,
    ode,
    of_the_ode,
    posterior_mean,
    simulate,
)

from diffjax.samplers import SAMPLERS, moments
from diffjax.samplers.table import x0
from diffjax.sde import levels

START = np.linspace(-1.5, 1.5, 7)
LAM = -1.0, 1.5
COUNTS = {1: (64, 128), 2: (64, 128), 3: (64, 128), 4: (128, 256), 5: (64, 128)}
"""Steps by order: fine enough for the leading term, above rounding. Powers of two share shapes."""
MULTISTEP = ("lms", "deis", "ab_logsnr", "ab_angle", "ipndm", "dpmpp_2m", "dpmpp_3m", "unipc")
MULTISTEP += ("sa_solver",)
SETTINGS = [m for m in VARIANTS if of_the_ode(m[0], **m[1]) and m[0] not in MULTISTEP[:5]]
SETTINGS = [m for m in SETTINGS if m[0] != "unipc"]  # a lower last step has a lower order
SETTINGS += [(n, {"order": k}) for n in MULTISTEP[:5] for k in (2, 3, 4)]
SETTINGS += [
    ("unipc", {"order": k, "corrector": c, "lower_final": False})
    for k in (1, 2, 3, 4)
    for c in (False, True)
]
SETTINGS += [("unipc", {"order": k, "bh1": True, "lower_final": False}) for k in (1, 2)]
PAIRS = (1, 3), (2, 1), (2, 2), (2, 3), (3, 0), (3, 4)
SETTINGS += [("sa_solver", {"tau": 0.0, "predictor": p, "corrector": c}) for p, c in PAIRS]


def uneven(n):
    """n steps that shrink smoothly, equal in none of t, lambda, rho; to t_min > 0."""
    share = np.linspace(0, 1, n + 1)
    share += 0.15 * np.sin(np.pi * share)
    return at_lambda(VP_LINEAR, LAM[0] + (LAM[1] - LAM[0]) * share)


def even_in_rho(n):
    """n equal steps in rho."""
    return at_lambda(VP_LINEAR, -np.log(np.linspace(*np.exp(-np.array(LAM)), n + 1)))


def history(name, settings, table, times):
    """Exact outputs and states for the first rows of a multistep method, and the exact end."""
    at, here = levels(VP_LINEAR, times), levels(VP_LINEAR, table.t)
    count = settings.get("order", {"dpmpp_2m": 2, "unipc": 3, "dpmpp_3m": 3}.get(name, 4))
    if name == "sa_solver":
        count = max(settings["predictor"], settings["corrector"])
    late = name in ("unipc", "sa_solver")  # their state after row i is that at times[i]
    rows = count - 1 + late if name in MULTISTEP else 0
    lam = np.append(at.lam[: rows + 1], at.lam[-1])
    hat = ode(START / at.alpha[0], lam)
    made = []
    for i in range(rows):
        mean = posterior_mean(hat[i], np.exp(-at.lam[i]))
        y = mean if table.read is x0 else (hat[i] - mean) * here.alpha[i] / here.sigma[i]
        j = i if late else i + 1
        made.append((y, at.alpha[j] * hat[j]))
    return made, hat[-1]


def measured(name, settings, grid, counts):
    """The order in the largest step: slope of the error at the end, of x / alpha."""
    errors = []
    for n in counts:
        times = grid(n)
        table = SAMPLERS[name](VP_LINEAR, times, **settings)
        exact, end = history(name, settings, table, times)
        x = simulate(table, mixture_output(table, VP_LINEAR), START, exact=exact)
        errors.append(np.abs(x / levels(VP_LINEAR, times[-1:]).alpha - end).max())
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


@pytest.mark.parametrize("method", SETTINGS, ids=label)
def test_order_on_a_mixture(method):
    """O1: a method would be of lower order than it declares where the flow is not linear."""
    name, settings = method
    declared = SAMPLERS[name].order(**settings)
    order = measured(name, settings, uneven, COUNTS[declared] if name in MULTISTEP else (32, 64))
    print(f"{label(method):45s} declared {declared}, measured {order:.2f}")
    assert order == pytest.approx(declared, abs=0.15)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_has_its_full_order_on_equal_steps_in_rho(order):
    """O3: the fixed weights would not be Adams and Bashforth's. Within 0.2: order 4 comes late."""
    made = measured("ipndm", {"order": order}, even_in_rho, (128, 256) if order < 4 else (256, 512))
    assert made == pytest.approx(order, abs=0.2)


NOISY = [m for m in VARIANTS if not of_the_ode(m[0], **m[1]) and SAMPLERS[m[0]].order(**m[1])]
NOISY += [
    ("churn", {"s_churn": 5.0}),
    ("restart", {"low": 0.25, "high": 1.0, "repeats": 1}),
    ("dpmpp_sde", {"r": 1.0}),
    ("dpmpp_sde", {"eta": 0.5}),
    ("seeds_2", {"eta": 0.5}),
    *(
        ("sa_solver", {"predictor": p, "corrector": c, **ALWAYS})
        for p, c in ((2, 2), (2, 0), (1, 2), (3, 3), (2, 1))
    ),
]


def weak_error(name, settings, n):
    """Relative error of the variance, and bias of the mean in standard deviations."""
    times = uneven(n)
    table = SAMPLERS[name](VP_LINEAR, times, **settings)
    mean, var = moments(table, VP_LINEAR, MEAN, VAR, marginal(VP_LINEAR, table.t[0]))
    exact = marginal(VP_LINEAR, times[-1])
    return abs(var / exact[1] - 1), abs(mean - exact[0]) / np.sqrt(exact[1])


@pytest.mark.parametrize("method", NOISY, ids=label)
def test_weak_order_on_gaussian_data(method):
    """O2: the law of a stochastic sampler would be of lower order than declared."""
    name, settings = method
    declared = SAMPLERS[name].order(**settings)
    counts = (256, 512) if name == "dpmpp_3m" else (128, 256)
    errors = np.array([weak_error(name, settings, n) for n in counts])
    var, mean = (-np.polyfit(np.log(counts), np.log(e), 1)[0] for e in errors.T + 1e-300)
    print(f"{label(method):45s} declared {declared}, variance {var:.2f}, mean {mean:.2f}")
    assert var == pytest.approx(declared, abs=0.15)
    if errors[:, 1].max() > 1e-9:  # posteriors keep the mean
        assert mean == pytest.approx(declared, abs=0.15)


def test_consistency_steps_do_not_converge():
    """Order 0: more steps with fresh noise would seem to approach the law of the data."""
    assert SAMPLERS["consistency"].order() == 0
    errors = [weak_error("consistency", {}, n)[0] for n in (64, 128)]
    assert errors[1] > 0.9 * errors[0] > 0.1
