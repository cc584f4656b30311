"""Runge-Kutta methods for the probability-flow ODE in rho = sigma / alpha."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from diffjax.samplers.table import Row, Table, sampler, table
from diffjax.sde import SDE, levels


@sampler(order=2)
def heun(sde: SDE, times: np.ndarray) -> Table:
    """Heun's method on d(x / alpha) / d rho = (x / alpha - x0) / rho (arXiv:2206.00364, Alg. 1).

    Two rows per step; one, Euler's, for the step to sigma = 0. In any frame; refuses alpha = 0,
    where rho is infinite.
    """
    at, rows = levels(sde, times), []
    if not at.alpha[0] > 0:
        raise ValueError(
            f"heun from t={times[0]:g} of {sde}: alpha is 0 there, and rho = sigma / alpha is "
            f"infinite; allowed: t_max < 1 in the sde, or the samplers ddim, ancestral"
        )
    for t, s in pairwise(range(len(times))):
        rho_t, rho_s = at.sigma[t] / at.alpha[t], at.sigma[s] / at.alpha[s]
        ratio, scale = rho_s / rho_t, at.alpha[s] / at.alpha[t]
        euler = {"x": scale * ratio, "y": at.alpha[s] * (1 - ratio)}
        if at.sigma[s] == 0:
            rows.append(Row(at.t[t], {"x": 1.0}, euler))
            continue
        rows.append(Row(at.t[t], {"x": 1.0}, {"x": 1.0}))
        # d = (x/alpha_t - m1) / rho_t and d' = (u/alpha_s - y) / rho_s, averaged.
        half = (rho_s - rho_t) / 2
        mean = {
            "x": scale * (1 + half / rho_t) + half / rho_s * euler["x"],
            "m1": -at.alpha[s] * half / rho_t + half / rho_s * euler["y"],
            "y": -at.alpha[s] * half / rho_s,
        }
        rows.append(Row(at.t[s], {"x": euler["x"], "m1": euler["y"]}, mean, push=False))
    return table(rows)
