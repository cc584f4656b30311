"""Correctors: rows at a fixed noise level, inserted before the steps of a sampler.

A corrector preserves the marginal of its level up to the error of its finite step, and moves a
state that deviates from it back towards it; predictor and corrector alternate (arXiv:2011.13456,
Alg. 1). Correctors are written in terms of the score of x_t = alpha x0 + sigma eps, so they are
valid in every frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import numpy as np

from diffjax.arrays import catalogue
from diffjax.checks import at_least, within
from diffjax.samplers.program import Combination, Program, X, Z, sampler
from diffjax.samplers.table import Table, eps
from diffjax.sde import SDE, Levels, levels

Corrector = Callable[[SDE, Table], Table]
"""`(sde, table) -> table` with the corrector's rows before each step."""


def langevin(sde: SDE, table: Table, snr: float = 0.16, repeats: int = 1) -> Table:
    """Insert Langevin steps x + e score + sqrt(2 e) z (arXiv:2011.13456, Alg. 4, 5).

    snr: > 0, the signal-to-noise ratio that sets e = 2 (snr |z| / |score|)^2. repeats: steps per
    level, >= 1. Norms are those of each sample, so samples do not depend on their batch; sampling
    raises ValueError for points of fewer than 16 values, whose norms scatter. The published factor
    1 - beta of VP, within 2 % of 1, is left out, so that x / alpha is the same in all frames.

    >>> from diffjax import samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> langevin(flow, samplers.ddim(flow, np.array([0.5, 0.25, 0.0]))).t.tolist()
    [0.5, 0.5, 0.25, 0.25]
    """
    within(0, np.inf, "()", snr=snr)
    at_least(1, repeats=repeats)
    step = lambda p, y, at: p.langevin(_score(p, y, at), snr)
    return _between(sde, table, repeats, step)


def refresh(sde: SDE, table: Table, share: float = 0.1, repeats: int = 1) -> Table:
    """Insert rows that redraw a part of the noise.

    x becomes alpha x0 + sqrt(1 - share) (x - alpha x0) + sqrt(share) sigma z, 0 < share <= 1: the
    kernel of `first_order.py` with kappa = share and s = t. repeats: rows per level, >= 1.

    >>> from diffjax import samplers, schedules, sde
    >>> flow = sde.Flow(schedules.Logit())
    >>> print(refresh(flow, samplers.ddim(flow, np.array([0.5, 0.25])), share=0.19))
    2 rows, y = x0
       0  t = 0.500000   u = +1 x   x = +0.9 x +0.05 y0 +0.217945 z0
       1  t = 0.500000   u = +1 x   x = +0.5 x +0.5 y1
    """
    within(0, 1, "(]", share=share)
    at_least(1, repeats=repeats)

    def step(p: Program, y: Combination, at: Levels) -> None:
        away = at.sigma[0] ** 2 * _score(p, y, at)  # alpha x0 - x
        p.step(X + (1 - np.sqrt(1 - share)) * away + np.sqrt(share) * at.sigma[0] * Z)

    return _between(sde, table, repeats, step)


@sampler(order=0, straight=False)
def annealed_langevin(sde: SDE, times: np.ndarray, repeats: int = 1, step: float = 0.1) -> Table:
    """Annealed Langevin dynamics (arXiv:1907.05600, Alg. 1).

    At each noise level `repeats` Langevin steps x + e score + sqrt(2 e) z with e = step sigma^2,
    step > 0, are taken; x / alpha is then the initial state of the next level. The last pass
    returns x0 at the last level. With few repeats the distribution lags behind the levels. Raises
    ValueError from alpha = 0.

    >>> from diffjax import schedules, sde
    >>> ve = sde.VE(schedules.Edm(sigma_max=1.0))
    >>> print(annealed_langevin(ve, np.array([0.5, 0.25]), repeats=2, step=0.02))
    2 rows, y = eps
       0  t = 0.500000   u = +1 x   x = +1 x -0.01 y0 +0.1 z0
       1  t = 0.500000   u = +1 x   x = +1 x -0.01 y1 +0.1 z1
    """
    within(0, np.inf, "()", step=step)
    at_least(1, repeats=repeats)
    at, p = levels(sde, times), Program(eps)
    if not at.alpha[0] > 0:
        raise ValueError(
            f"annealed_langevin starts at t={times[0]:g} of {sde}, where alpha is 0; allowed: "
            f"t_max < 1"
        )
    for t in range(len(times) - 1):
        scale, sigma = at.alpha[t + 1] / at.alpha[t], at.sigma[t]
        scale = scale if at.sigma[t + 1] > 0 else 1.0
        for k in range(repeats):
            y = p.network(at.t[t])
            moved = X - (step * sigma) * y + (np.sqrt(2 * step) * sigma) * Z
            p.step(moved if k < repeats - 1 else scale * moved)
        if at.sigma[t + 1] == 0:
            y = p.network(at.t[t])
            p.step((at.alpha[t + 1] / at.alpha[t]) * (X - sigma * y))
    return p.table()


def _score(p: Program, y: Combination, at: Levels) -> Combination:
    """Return the score -eps / sigma as a combination of state and output."""
    if p.read is eps:
        return (-1 / at.sigma[0]) * y
    return (at.alpha[0] * y - X) / at.sigma[0] ** 2


def _between(
    sde: SDE, table: Table, repeats: int, step: Callable[[Program, Combination, Levels], None]
) -> Table:
    """Insert `repeats` rows written by `step` before each row that begins with a sample."""
    begins = np.flatnonzero(table.begins)
    if not len(begins):
        raise ValueError(
            "a corrector needs a sampler in which every step begins with the state; allowed: all "
            "samplers but churn, unipc and sa_solver"
        )
    p, at = Program(table.read), levels(sde, table.t[begins])
    for i in range(len(begins)):
        here = Levels(*(a[i : i + 1] for a in (at.t, at.alpha, at.sigma, at.lam)))
        for _ in range(repeats):
            step(p, p.network(here.t[0]), here)
    new = replace(p.table(), learned=table.learned, padded=table.padded)
    new = replace(new, leads=table.leads)
    new = replace(new, begins=np.zeros(len(new), bool))
    old = replace(_independent(table), langevin=new.langevin or table.langevin)
    new = replace(new, langevin=old.langevin)
    where = np.repeat(begins, repeats)
    return _independent(jax.tree.map(lambda old, new: np.insert(old, where, new, 0), old, new))


def _independent(table: Table) -> Table:
    """Give each row an independent noise: inserted rows have moved the numbers of the others."""
    rows = len(table)
    return replace(table, nodes=np.arange(rows)[:, None], shares=np.ones((rows, 1)))


CORRECTORS = catalogue(langevin, refresh)
