"""RePaint: ancestral sampling that returns to a higher noise level and repeats its steps."""

from __future__ import annotations

import numpy as np

from diffjax.checks import whole
from diffjax.samplers.program import Program, X, Z, sampler
from diffjax.samplers.table import Table
from diffjax.sde import SDE, Levels, levels


@sampler(order=1, passes=2)
def repaint(sde: SDE, times: np.ndarray, repeats: int = 2, jump: int = 1) -> Table:
    """Ancestral steps in blocks of `jump`, each block `repeats` times (arXiv:2201.09865, Alg. 1).

    After all but the last run through a block, noise leads back to its beginning. The last step,
    to sigma = 0, is taken once. With the guidance `diffjax.inverse.Replacement` the repeats let the
    measured and the other values adapt to each other; without it they change nothing but the cost.
    repeats, jump: >= 1; the paper has 10 and 10. Rows: repeats (N - 1) + 1 for N steps.

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit(), t_max=0.9)
    >>> repaint(flow, np.array([0.8, 0.5, 0.2, 0.0]), repeats=3)
    Table(7 rows, y = x0)
    """
    whole(1, repeats=repeats, jump=jump)
    at, p = levels(sde, times), Program()
    last = len(times) - 2 if at.sigma[-1] == 0 else len(times) - 1
    for first in range(0, last, jump):
        stop = min(first + jump, last)
        for turn in range(repeats):
            for t in range(first, stop):
                back = first if t == stop - 1 and turn < repeats - 1 else t + 1
                _step(p, at, t, back)
    if last < len(times) - 1:
        y = p.network(at.t[last])
        p.step(at.alpha[-1] * y)
    return p.table()


def _step(p: Program, at: Levels, t: int, end: int) -> None:
    """Draw x at level t + 1 from the posterior at x0, and add noise up to level `end` <= t + 1."""
    s = t + 1
    share = -np.expm1(-2 * (at.lam[s] - at.lam[t]))  # 1 - SNR_t / SNR_s
    keep = at.alpha[t] / at.alpha[s] * (at.sigma[s] / at.sigma[t]) ** 2
    var = at.sigma[s] ** 2 * share
    scale = at.alpha[end] / at.alpha[s]
    added = at.sigma[end] ** 2 - (scale * at.sigma[s]) ** 2
    y = p.network(at.t[t])
    noise = np.sqrt(scale**2 * var + (added if end < s else 0.0))
    p.step(scale * (keep * X + at.alpha[s] * share * y) + noise * Z)
