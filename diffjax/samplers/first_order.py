"""First-order samplers: the one-step kernel of DDIM and DDPM."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from diffjax.samplers.table import Row, Table, sampler, table
from diffjax.sde import SDE, levels


@sampler(order=1)
def ddim(sde: SDE, times: np.ndarray, eta: float = 0.0) -> Table:
    """x_s = alpha_s x0 + sigma_s (sqrt(1 - kappa) eps + sqrt(kappa) z) (arXiv:2010.02502, eq. 12).

    kappa = eta^2 (1 - exp(-2h)), h = lambda_s - lambda_t: the paper's meaning of eta. eta = 0 is
    the probability-flow ODE, eta = 1 is `ancestral`. The sum is written in x and x0, so a step
    from alpha = 0 and the step to sigma = 0 are rows like any other.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta={eta}: needs 0 <= eta <= 1")
    at, rows = levels(sde, times), []
    for t, s in pairwise(range(len(times))):
        kappa = -(eta**2) * np.expm1(-2 * (at.lam[s] - at.lam[t]))
        keep = at.sigma[s] * np.sqrt(1 - kappa) / at.sigma[t]
        update = {
            "x": keep,
            "y": at.alpha[s] - keep * at.alpha[t],
            "z": at.sigma[s] * np.sqrt(kappa),
        }
        rows.append(Row(at.t[t], {"x": 1.0}, update))
    return table(rows)


@sampler(order=1)
def ancestral(sde: SDE, times: np.ndarray) -> Table:
    """x_s from the posterior q(x_s | x_t, x0) at the predicted x0 (arXiv:2006.11239, eq. 6, 7).

    With a = alpha_t / alpha_s and v = sigma_t^2 - a^2 sigma_s^2: mean (a sigma_s^2 x +
    alpha_s v x0) / sigma_t^2, variance v sigma_s^2 / sigma_t^2. Any frame; DDPM's sampler in VP.
    """
    at, rows = levels(sde, times), []
    for t, s in pairwise(range(len(times))):
        a = at.alpha[t] / at.alpha[s]
        v = at.sigma[t] ** 2 - a**2 * at.sigma[s] ** 2
        update = {
            "x": a * at.sigma[s] ** 2 / at.sigma[t] ** 2,
            "y": at.alpha[s] * v / at.sigma[t] ** 2,
            "z": np.sqrt(v) * at.sigma[s] / at.sigma[t],
        }
        rows.append(Row(at.t[t], {"x": 1.0}, update))
    return table(rows)
