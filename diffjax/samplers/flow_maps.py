"""Samplers for flow maps, networks with a second time: each row maps to the time of the next."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from diffjax.arrays import float64
from diffjax.checks import within
from diffjax.samplers.program import Program, X, Z, sampler
from diffjax.samplers.table import Table
from diffjax.sde import SDE, levels


@sampler(order=0, leads=True)
def flow_map(sde: SDE, times: np.ndarray, gamma: float = 0.0) -> Table:
    """Sampling by the flow map X_{t->s}, row by row, with a network that has the condition `to`.

    It is exact in one row if the map is. gamma: in [0, 1], the share of the noise at s that is
    redrawn. The row maps to s' with rho_s' = sqrt(1 - gamma^2) rho_s, rho = sigma / alpha, and
    noise brings it back to s: 0 is the ODE, 1 the multistep sampling of consistency models
    (arXiv:2303.01469, alg. 1), and values between are gamma-sampling (arXiv:2310.02279).

    >>> from diffjax import schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> print(flow_map(flow, np.array([0.5, 0.25, 0.0])))
    2 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.5 x +0.5 y0   to = 0.250000
       1  t = 0.250000   u = +1 x   x = +1 y1   to = 0.000000
    """
    within(0, 1, gamma=gamma)
    at, p = levels(sde, times), Program()
    for t, s in pairwise(range(len(times))):
        to, alpha, sigma = at.t[s], at.alpha[s], at.sigma[s]
        if gamma and sigma:
            to, alpha, sigma = _nearer(sde, at.lam[s], gamma)
        y = p.network(at.t[t], to=to)
        keep, scale = sigma / at.sigma[t], at.alpha[s] / alpha
        noise = gamma * at.sigma[s]
        lead = keep * X + (alpha - keep * at.alpha[t]) * y
        p.step(scale * lead + (noise * Z if noise else {}))
    return p.table()


def _nearer(sde: SDE, lam: float, gamma: float) -> tuple[float, float, float]:
    """Return (t, alpha, sigma) where sigma / alpha is sqrt(1 - gamma^2) times that at `lam`."""
    if gamma == 1:
        return 0.0, 1.0, 0.0
    logsnr = np.array([2 * lam - np.log1p(-(gamma**2))])
    at = levels(sde, float64(sde.inverse)(logsnr))
    return float(at.t[0]), float(at.alpha[0]), float(at.sigma[0])
