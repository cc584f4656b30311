"""User-defined samplers are judged: a wrong one must not pass, and a right one must."""

from itertools import pairwise

import numpy as np
import pytest

from diffjax.samplers import SAMPLERS, Program, ddim, difference, dpm_solver_1, judge, sampler
from diffjax.samplers.conformance import TIMES, VP_LINEAR, memory
from diffjax.samplers.program import X, Z
from diffjax.sde import levels


def first_order(slope=lambda at, t, s: at.sigma[s] / at.sigma[t], noise=0.0, order=1):
    """DDIM with a mistake: another factor on x, noise in every row, or another order."""

    def plan(sde, times):
        at, p = levels(sde, times), Program()
        for t, s in pairwise(range(len(times))):
            y, keep = p.network(at.t[t]), slope(at, t, s)
            p.step(keep * X + (at.alpha[s] - keep * at.alpha[t]) * y + (noise * Z if noise else {}))
        return p.table()

    return sampler(order=order)(plan)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("dpmpp_2m", {}), ("heun", {}), ("lms", {"order": 3}), ("ddim", {"eta": 1.0})],
)
def test_listed_samplers_pass(name, settings):
    """A correct method would be reported as wrong."""
    found = judge(SAMPLERS[name], **settings)
    assert found.holds, found
    assert ("Gaussian" if settings.get("eta") else "mixture") in found[0].asked


MISTAKES = {
    "order": first_order(order=2),
    "path": first_order(lambda at, t, s: (at.sigma[s] / at.sigma[t]) ** 1.02),
    "noise": first_order(noise=0.05),
    "weights": SAMPLERS["ipndm"],  # right for equal steps
}


@pytest.mark.parametrize(
    ("mistake", "found"),
    [("order", "order"), ("path", "single point"), ("noise", "last row"), ("weights", "order")],
)
def test_a_mistake_is_found(mistake, found):
    """A method of another order, off the path, or noisy at the end would pass."""
    judged = judge(MISTAKES[mistake])
    failed = [finding.asked for finding in judged if not finding.holds]
    assert any(found in asked for asked in failed), judged
    assert f"FAIL  {failed[0]}" in str(judged)


def test_a_difference_is_that_of_the_unrolled_maps():
    """Two ways to write one method would seem to differ, or two methods to be one."""
    plan = lambda method: method(VP_LINEAR, TIMES)
    assert difference(plan(ddim), plan(dpm_solver_1), VP_LINEAR) < 1e-12
    assert difference(plan(ddim), plan(MISTAKES["path"]), VP_LINEAR) > 1e-3


@pytest.mark.parametrize(("name", "rows"), [("ddim", 0), ("dpmpp_2m", 1), ("lms", 3)])
def test_memory_is_how_far_back_a_method_looks(name, rows):
    """A multistep method would start without its history, and have order 1."""
    assert memory(SAMPLERS[name](VP_LINEAR, np.linspace(0.9, 0.1, 8))) == rows
