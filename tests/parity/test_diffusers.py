"""diffjax's samplers against diffusers' schedulers, where those are right; orders where not.

`make_diffusers.py` made the numbers; neither torch nor diffusers is needed here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import simulate

from diffjax.analytic import Mixture
from diffjax.arrays import float64
from diffjax.grids import GRIDS
from diffjax.samplers import SAMPLERS, Program, dpmpp_2m, dpmpp_3m, sample
from diffjax.samplers.program import X, Z
from diffjax.samplers.table import x0
from diffjax.schedules import Edm, Logit, ZeroTerminal, ddpm_linear, from_betas
from diffjax.sde import SDE, VE, VP, Flow, levels

STORED = dict(np.load(Path(__file__).with_name("diffusers.npz")))
B = 4
LIMIT = 1e-5
"""Of the largest |x| of a row. Schedulers that round to float32 reach 1e-6, others 1e-9."""
WEIGHT, MEAN, VAR = np.array([0.6, 0.4]), np.array([[-1.0], [0.8]]), np.array([[0.04], [0.09]])
TABLE = VP(ddpm_linear())
SCALED = VP(from_betas(np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2))
ZERO = VP(ZeroTerminal(ddpm_linear()))
SIGMA, EDM, FLOW = VE(ddpm_linear()), VE(Edm(), t_min=0.002 / 80), Flow(Logit())
"""SIGMA: schedulers that hold x / alpha of a table."""


@dataclass(frozen=True)
class Case:
    """A sampler that is a scheduler of diffusers. rows: of a step; first: of the first three ones.

    grid: the name and settings of the grid that is its `set_timesteps`, where one is.
    """

    name: str
    sampler: str
    sde: SDE
    settings: Mapping[str, Any] = field(default_factory=dict)
    rows: int = 1
    first: int = 0
    grid: tuple[str, Mapping[str, Any]] | None = None

    def times(self) -> np.ndarray:
        """Return the times at diffusers' noise levels; 0 for sigma = 0."""
        alpha, sigma = STORED[self.name][self.steps(), :2].T
        with np.errstate(divide="ignore"):
            l = 2 * (np.log(alpha) - np.log(sigma))
        t = np.array(float64(self.sde.inverse)(l))
        t[np.isclose(t, self.sde.t_max, rtol=1e-12)] = self.sde.t_max
        return np.where(sigma == 0, 0.0, t)

    def steps(self) -> list[int]:
        """Return the rows at which a step begins, and the result."""
        calls = len(STORED[self.name]) - 1
        first = [*range(0, 3 * self.first, self.first)] if self.first else []
        return [*first, *range(3 * self.first, calls, self.rows), calls]

    def plan(self):
        return SAMPLERS[self.sampler](self.sde, self.times(), **self.settings)


def same(sampler: str, sde: SDE, *names: str, grid: Any = None, rows: int = 1, **settings: Any):
    return [Case(name, sampler, sde, settings, rows, grid=grid) for name in names]


LEADING = ("leading", {})
CASES = [
    *same("ddim", TABLE, "ddim-leading", "ddim-v", grid=LEADING),
    *same("ddim", TABLE, "ddim-trailing", grid=("trailing", {})),
    *same("ddim", SCALED, "ddim-scaled-linear", grid=LEADING),
    *same("ddim", ZERO, "ddim-zero-snr", grid=("trailing", {})),
    *same("ddim", TABLE, "ddim-inverse"),
    *same("ddim", TABLE, "ddim-eta0.5", grid=LEADING, eta=0.5),
    *same("ddim", TABLE, "ddim-eta1", grid=LEADING, eta=1.0),
    *same("ancestral", TABLE, "ddim-eta1", "ddpm-fixed_small", grid=LEADING),
    *same("ancestral_upper", TABLE, "ddpm-fixed_large", grid=LEADING),
    *same("ancestral_learned", TABLE, "ddpm-learned_range", grid=LEADING),
    *same("consistency", TABLE, "lcm"),
    Case("pndm", "pndm", TABLE, first=4),
    *same("ddim", SIGMA, "euler-karras", grid=("karras", {})),
    *same("ddim", SIGMA, "euler-exponential", grid=("exponential", {})),
    # Its beta grid is in sigma and the one here in t.
    *same("ddim", SIGMA, "euler-beta", "euler-linspace", "euler-v"),
    *same("ancestral", SIGMA, "euler-ancestral"),
    *same("heun", SIGMA, "heun-karras", rows=2, grid=("karras", {})),
    *same("heun", SIGMA, "heun", rows=2),
    *same("dpm_solver_2", SIGMA, "kdpm2", "kdpm2-karras", rows=2),
    *(case for k in (1, 2, 3, 4) for case in same("lms", SIGMA, f"lms{k}", order=k)),
    *same("ipndm", TABLE, "ipndm"),
    *(
        case
        for k in (1, 2, 3)
        for case in same("ab_logsnr", TABLE, f"deis{k}", order=k, lower_final=True)
    ),
    *same("dpmpp_2m", TABLE, "dpmsolver++2m-midpoint", "dpmsolver++2m-sample", "dpmsolver++2m-v"),
    *same("dpmpp_2m", TABLE, "dpmsolver++2m-heun", exact=True),
    *same("dpmpp_2m", TABLE, "dpmsolver++2m-lower-final", lower_final=True),
    # From 15 steps on, diffusers does not lower the order of the last step.
    *same("dpmpp_2m", TABLE, "dpmsolver++2m-20-steps", "dpmsolver++2m-karras"),
    *same("dpmpp_2m", TABLE, "dpmsolver++2m-inverse", lower_final=True),
    *same("dpmpp_2m", TABLE, "sde-dpmsolver++2m-midpoint", eta=1.0),
    *same("dpmpp_2m", TABLE, "sde-dpmsolver++2m-heun", eta=1.0, exact=True),
    *same("ddim_sde", TABLE, "sde-dpmsolver++1", eta=1.0),
    *same("ab_logsnr", TABLE, "dpmsolver2m-heun", order=2, lower_final=True),
    *same("dpm_solver_1", TABLE, "dpmsolver1"),
    *same("dpmpp_2s", TABLE, "dpmsolver++-2s", rows=2),
    *same("dpm_solver_2", TABLE, "dpmsolver-2s", rows=2),
    *same("dpm_solver_3", TABLE, "dpmsolver-3s", rows=3),
    *(
        case
        for k in (1, 2, 3, 4)
        for bh1 in (False, True)
        for case in same("unipc", TABLE, f"unipc{k}-bh{2 - bh1}", order=k, bh1=bh1)
    ),
    *same("unipc", TABLE, "unip3", order=3, corrector=False),
    *same("unipc", TABLE, "unipc3-full-final", order=3, lower_final=False),
    *same("unipc", TABLE, "unipc3-karras", order=3),
    *same("dpmpp_2m", EDM, "edm-2m-midpoint", grid=("karras", {})),
    *same("dpmpp_2m", EDM, "edm-2m-heun", exact=True),
    *same("dpmpp_2m", EDM, "edm-2m-exponential", grid=("exponential", {})),
    *same("dpmpp_2m", EDM, "edm-sde-2m-midpoint", "cosine-dpm", eta=1.0),
    *same("dpmpp_2m", EDM, "edm-sde-2m-heun", eta=1.0, exact=True),
    *same("ddim", EDM, "edm-euler"),
    *same("ddim", FLOW, "flow-euler", "flow-euler-shift3"),
    *same("euler_t", FLOW, "flow-euler"),
    *same("consistency", FLOW, "flow-euler-stochastic"),
    *same("heun_t", FLOW, "flow-heun", "flow-heun-shift3", rows=2),
    *same("dpmpp_2m", FLOW, "flow-dpmsolver++2m"),
    *same("dpmpp_2m", FLOW, "flow-sde-dpmsolver++2m", eta=1.0),
    *same("unipc", FLOW, "flow-unipc3", order=3),
]
WRONG = ("dpmsolver++3m", "sde-dpmsolver++3m")


def mixture(x, alpha, sigma):
    """Return E[x0 | x] for the data of `make_diffusers.py`, and a second output."""
    var = alpha**2 * VAR + sigma**2
    away = x - alpha * MEAN
    density = WEIGHT[:, None] / np.sqrt(var) * np.exp(-(away**2) / (2 * var))
    return (density * (MEAN + alpha * VAR * away / var)).sum(0) / density.sum(0), np.sin(x)


def assert_agree(table, sde, stored):
    """Assert equal noise levels, network inputs in every call, and results."""
    alpha, sigma, x = stored[:, 0], stored[:, 1], stored[:, 2 : 2 + B]
    noise = stored[:, 2 + B :] if stored.shape[1] > 2 + B else np.zeros_like(x)
    assert len(table) == len(x) - 1
    assert bool(table.noisy.any()) == (stored.shape[1] > 2 + B)
    at = levels(sde, table.t)
    np.testing.assert_allclose(at.alpha, alpha[:-1], rtol=LIMIT, atol=LIMIT)
    np.testing.assert_allclose(at.sigma, sigma[:-1], rtol=LIMIT, atol=LIMIT)
    ours = simulate(table, at, mixture, x[0], noise)
    error = np.abs(ours - x).max(1) / np.abs(x).max(1)
    assert error.max() < LIMIT
    return error.max()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.sampler}")
def test_sampler_is_that_of_diffusers(case):
    """A user who comes from diffusers would get other samples from the same network."""
    assert_agree(case.plan(), case.sde, STORED[case.name])


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.grid], ids=lambda case: f"{case.name}-{case.sampler}"
)
def test_grid_is_that_of_diffusers(case):
    """The same sampler would run on other noise levels: index k of T is t = (k + 1) / T."""
    times, (name, settings) = case.times(), case.grid
    np.testing.assert_allclose(
        GRIDS[name](case.sde, len(times) - 1, **settings), times, rtol=1e-4, atol=1e-7
    )


def test_all_that_is_stored_is_compared():
    """A combination would silently lose its test."""
    assert {case.name for case in CASES} | {*WRONG} == STORED.keys()


@pytest.mark.parametrize("name", ["unipc3-bh2", "pndm"])
def test_the_loop_is_that_of_diffusers(name, x64):
    """`sample` would differ from the definition of the rows, or `analytic` be inexact."""
    case = next(case for case in CASES if case.name == name)
    x = STORED[name][:, 2 : 2 + B, None]
    model = Mixture(jnp.asarray(WEIGHT), jnp.asarray(MEAN), jnp.asarray(VAR)).denoiser(case.sde)
    made = sample(model, case.plan(), jnp.asarray(x[0]), jax.random.split(jax.random.key(0), B))
    np.testing.assert_allclose(made, x[-1], atol=LIMIT)


# Methods that are wrong in diffusers.


def published_3m(sde, times, eta=0.0, lower_final=False):
    """Third order as diffusers has it: half of the second difference; with noise its coefficient
    has -1/2 in place of 1/2, so that it does not vanish with the step."""
    at, p, ys = levels(sde, times), Program(x0), []
    steps = len(times) - 1
    for i in range(steps):
        ys.insert(0, p.network(at.t[i]))
        h, rate = at.lam[i + 1] - at.lam[i], 1 + eta
        scale = at.alpha[i + 1]
        state = at.sigma[i + 1] / at.sigma[i] * (np.exp(-eta * h) if eta else 1.0) * X
        made = state - scale * np.expm1(-rate * h) * ys[0]
        order = 1 if at.sigma[i + 1] == 0 else min(i + 1, 3)
        if order > 1:
            r0 = (at.lam[i] - at.lam[i - 1]) / h
            d0 = (ys[0] - ys[1]) / r0
        if order == 2:
            made = made - 0.5 * scale * np.expm1(-rate * h) * d0
        if order == 3:
            r1 = (at.lam[i - 1] - at.lam[i - 2]) / h
            d1 = (ys[1] - ys[2]) / r1
            second = (d0 - d1) / (r0 + r1)
            first, k = d0 + r0 * second, rate * h
            made = made + scale * (np.expm1(-k) / k + 1) * first
            half = -0.5 if eta else 0.5
            made = made + scale * ((-np.expm1(-k) - k) / k**2 + half) * second
        noise = at.sigma[i + 1] * np.sqrt(-np.expm1(-2 * eta * h)) if eta else 0.0
        p.step(made + noise * Z if noise else made)
    return p.table()


@pytest.mark.parametrize("name", WRONG)
def test_transcription_is_diffusers_3m(name):
    """The order measured below would be that of another method."""
    case = Case(name, "", TABLE)
    assert_agree(published_3m(TABLE, case.times(), float(name in WRONG[1:])), TABLE, STORED[name])


UNIT = VE(Edm())
S = 0.25
"""Variance of the Gaussian data on which orders are measured."""


def gaussian(x, alpha, sigma):
    return alpha * S / (alpha**2 * S + sigma**2) * x, 0 * x


def exact_history(plan, steps, stochastic):
    """Relative error of the variance at the end of [20, 0.1] in sigma, equal steps in lambda, with
    the first three states exact.

    A state is a vector over independent normal variables: three that make the first states, then
    the noises.
    """
    rho = np.exp(np.linspace(np.log(20.0), np.log(0.1), steps + 1))
    times = np.array(float64(UNIT.inverse)(-2 * np.log(rho)))
    table = plan(UNIT, times)
    first = rho[:3]
    if stochastic:  # covariance of the reverse process: Cov(x_a, x_b) = S + min(rho_a, rho_b)^2
        start = np.linalg.cholesky(S + np.minimum.outer(first, first) ** 2)
        start, noise = np.pad(start, ((0, 0), (0, steps))), np.eye(steps, 3 + steps, 3)
    else:
        start, noise = np.sqrt(S + first**2)[:, None], np.zeros((steps, 1))
    end = simulate(table, levels(UNIT, table.t), gaussian, start[0], noise, start[1:])[-1]
    return abs((end**2).sum() / (S + rho[-1] ** 2) - 1)


def order(plan, stochastic, counts=(80, 160)):
    errors = [exact_history(plan, n, stochastic) for n in counts]
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


def test_third_order_needs_the_whole_second_difference():
    """The factor 2 that diffusers lacks would be lost: order 2 at the cost of order 3."""
    assert order(dpmpp_3m, False) == pytest.approx(3, abs=0.2)
    assert order(published_3m, False) == pytest.approx(2, abs=0.2)
    assert order(dpmpp_2m, False) == pytest.approx(2, abs=0.2)


def test_weak_order_of_the_stochastic_3m():
    """The sampler would have diffusers' sign, with which third order is worse than second."""
    ours = lambda sde, times: dpmpp_3m(sde, times, eta=1.0)
    theirs = lambda sde, times: published_3m(sde, times, eta=1.0)
    second = lambda sde, times: dpmpp_2m(sde, times, eta=1.0)
    assert order(ours, True) == pytest.approx(2, abs=0.2)
    assert order(second, True) == pytest.approx(2, abs=0.2)
    assert order(theirs, True) == pytest.approx(0.91, abs=0.2)
