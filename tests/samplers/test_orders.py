"""Convergence orders, without Monte Carlo and without a stored number.

Deterministic samplers (O1) on a mixture, against the exact flow, with exact history; stochastic
ones (O2) by the exact recursion of their law on Gaussian data.
"""

import numpy as np
import pytest
from plain import ALWAYS, VARIANTS, label, of_the_ode

from diffjax.samplers import SAMPLERS
from diffjax.samplers.conformance import (
    LAM,
    VP_LINEAR,
    at_lambda,
    law_errors,
    order_of_law,
    order_on_mixture,
    rough,
    uneven,
)

COUNTS = {1: (64, 128), 2: (64, 128), 3: (64, 128), 4: (128, 256), 5: (64, 128)}
"""Steps by order: fine enough for the leading term, above rounding. Powers of two share shapes."""
MULTISTEP = ("lms", "deis", "ab_logsnr", "ab_angle", "ipndm", "dpmpp_2m", "dpmpp_3m", "unipc")
MULTISTEP += ("sa_solver",)
FIXED = ("ipndm", "pndm")
"""Their weights are those of equal steps."""
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


def even_in_rho(n):
    """Return times of n equal steps in rho."""
    return at_lambda(VP_LINEAR, -np.log(np.linspace(*np.exp(-np.array(LAM)), n + 1)))


def planned(name, settings):
    """Return a function `(sde, times) -> Table`."""
    return lambda sde, times: SAMPLERS[name](sde, times, **settings)


@pytest.mark.parametrize("method", SETTINGS, ids=label)
def test_order_on_a_mixture(method):
    """A method would have a lower order than it declares (O1).

    The flow is not linear, and the steps differ in size.
    """
    name, settings = method
    declared = SAMPLERS[name].order(**settings)
    counts = COUNTS[declared] if name in MULTISTEP else (32, 64)
    grid = uneven if name in FIXED else rough
    order = order_on_mixture(planned(name, settings), counts, grid)
    print(f"{label(method):45s} declared {declared}, measured {order:.2f}")
    assert order == pytest.approx(declared, abs=0.2)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ipndm_has_its_full_order_on_equal_steps_in_rho(order):
    """The fixed weights would not be those of Adams and Bashforth (O3).

    The tolerance is 0.2, since order 4 needs many steps to show.
    """
    counts = (128, 256) if order < 4 else (256, 512)
    made = order_on_mixture(planned("ipndm", {"order": order}), counts, even_in_rho)
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


@pytest.mark.parametrize("method", NOISY, ids=label)
def test_weak_order_on_gaussian_data(method):
    """A stochastic sampler would have a lower weak order than it declares (O2)."""
    name, settings = method
    declared = SAMPLERS[name].order(**settings)
    counts = (256, 512) if name == "dpmpp_3m" else (128, 256)
    var, mean = order_of_law(planned(name, settings), counts)
    print(f"{label(method):45s} declared {declared}, variance {var:.2f}, mean {mean}")
    assert var == pytest.approx(declared, abs=0.15)
    assert mean is None or mean == pytest.approx(declared, abs=0.15)


def test_consistency_steps_do_not_converge():
    """More steps with fresh noise would seem to approach the data; their order is 0."""
    assert SAMPLERS["consistency"].order() == 0
    errors = [law_errors(SAMPLERS["consistency"], n)[0] for n in (64, 128)]
    assert errors[1] > 0.9 * errors[0] > 0.1
