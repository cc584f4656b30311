"""Every sampler on every process: exact laws, convergence orders, and what is the same method."""

import itertools
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.analytic import Mixture, gaussian
from diffjax.arrays import float64
from diffjax.grids import GRIDS, uniform
from diffjax.samplers import (
    SAMPLERS,
    Row,
    ancestral,
    ddim,
    moments,
    sample,
    table,
    unroll,
)
from diffjax.samplers.table import READ, WRITE
from diffjax.schedules import SCHEDULES, Cosine, Linear
from diffjax.sde import SDES, VE, VP, Flow, SubVP, levels

MEAN, VAR = 0.7, 0.3
MAIN = ("linear", "cosine")
"""Schedules under every sampler in every frame: l finite at t = 1, and not."""
INFINITE = ("cosine", "sigmoid", "polynomial", "laplace", "logit")
"""Schedules whose log-SNR is -inf at t = 1."""
UNBOUNDED = {("ve", "cosine")}
"""Frames that need t_max < 1 over a schedule."""
REFUSED = {("heun", frame, "cosine") for frame in ("vp", "sub_vp", "flow")}
"""Samplers that need t_max < 1 in a process: alpha is 0 at t = 1."""


class Case(NamedTuple):
    """A sampler with settings on a process."""

    sampler: str
    settings: dict
    frame: str
    schedule: str

    def sde(self, **ends):
        if (self.frame, self.schedule) in UNBOUNDED or self.named in REFUSED:
            ends.setdefault("t_max", 0.98)
        return SDES[self.frame](SCHEDULES[self.schedule](), **ends)

    @property
    def named(self):
        return self.sampler, self.frame, self.schedule

    @property
    def order(self):
        return SAMPLERS[self.sampler].order

    def plan(self, sde, times):
        return SAMPLERS[self.sampler](sde, times, **self.settings)

    def __str__(self):
        return "-".join([*self.named, *(f"{k}{v}" for k, v in self.settings.items())])


METHODS = [(name, {}) for name in SAMPLERS] + [("ddim", {"eta": 0.5}), ("ddim", {"eta": 1.0})]
CASES = [
    Case(name, settings, frame, schedule)
    for (name, settings), frame, schedule in itertools.product(METHODS, SDES, MAIN)
]
PROCESSES = [
    SDES[f](SCHEDULES[s](), t_max=0.98 if (f, s) in UNBOUNDED else 1.0)
    for f, s in itertools.product(SDES, MAIN)
]
every = pytest.mark.parametrize("case", CASES, ids=str)
processes = pytest.mark.parametrize(
    "sde", PROCESSES, ids=lambda sde: f"{type(sde).__name__}-{type(sde.schedule).__name__}"
)


def seed(n):
    """A key whose programs compile fast."""
    return jax.random.key(n, impl="unsafe_rbg")


def marginal(sde, t):
    """Mean and variance of x_t for N(MEAN, VAR) data."""
    at = levels(sde, np.array([t]))
    return float(at.alpha[0] * MEAN), float(at.alpha[0] ** 2 * VAR + at.sigma[0] ** 2)


def flow(sde, t, s, law):
    """The law after the probability-flow ODE from t to s, started from `law`."""
    (mean_t, var_t), (mean_s, var_s) = marginal(sde, t), marginal(sde, s)
    return mean_s + np.sqrt(var_s / var_t) * (law[0] - mean_t), var_s / var_t * law[1]


def deterministic(rows):
    return not rows.noisy.any()


def errors(case, sde, n):
    """Bias of mean and variance after n steps, in units of the exact law, at t_min > 0."""
    times = uniform(sde, n + 1)[:-1]
    rows = case.plan(sde, times)
    start = marginal(sde, times[0])
    exact = marginal(sde, times[-1])
    if deterministic(rows):  # an ODE transports any start: mean and variance are tested apart
        start = start[0] + 1.0, 0.5 * start[1]
        exact = flow(sde, times[0], times[-1], start)
    mean, var = moments(rows, sde, MEAN, VAR, start)
    return abs(mean - exact[0]) / np.sqrt(exact[1]), abs(var / exact[1] - 1)


BOUNDS = {1: {50: 0.2, 1000: 0.012}, 2: {50: 8e-3, 1000: 1.8e-5}}
"""Relative error by order and number of steps, on any process, from t_max to t_min = 0.02."""


@every
def test_law_on_gaussian_data_converges_at_the_declared_order(case):
    """The sampler would have a bias that more rows do not take away, or a lower order.

    Exact laws by recursion, no Monte Carlo; from the exact start law to t_min > 0.
    """
    sde, counts = case.sde(t_min=0.02), (100, 200, 1000)
    mean, var = np.array([errors(case, sde, n) for n in counts]).T
    slope = lambda e: -np.polyfit(np.log(counts), np.log(e), 1)[0]
    assert slope(var) == pytest.approx(case.order, abs=0.15)
    if mean.max() > 1e-9:  # stochastic ones keep the mean exactly
        assert slope(mean) == pytest.approx(case.order, abs=0.15)
    for n, bound in BOUNDS[case.order].items():
        assert max(errors(case, sde, n)) < bound


@pytest.mark.parametrize("frame", ["vp", "flow"])
@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - set(MAIN)))
def test_other_schedules_are_sampled_at_order_1(frame, schedule):
    """A schedule would have steps that its log-SNR does not: wrong law, or another order.

    The sampler sees a process by alpha and sigma only, so one sampler in two frames is enough.
    """
    case = Case("ddim", {}, frame, schedule)
    sde = case.sde(t_min=0.02, t_max=0.98 if schedule in INFINITE else 1.0)
    counts = (200, 400, 1000)
    mean, var = np.array([errors(case, sde, n) for n in counts]).T
    for error in (mean, var):
        assert -np.polyfit(np.log(counts), np.log(error), 1)[0] == pytest.approx(1, abs=0.2)
        assert error[-1] < 0.02


@every
def test_law_of_the_data_is_reached_from_the_prior(case):
    """Start, grid or last row would be wrong: what users run, to sigma = 0, in 1000 steps.

    The rest is the prior's: alpha(t_max) is not 0, so its mean is off by up to 2 % of a deviation.
    """
    sde = case.sde(t_min=0.01)
    mean, var = moments(case.plan(sde, uniform(sde, 1000)), sde, MEAN, VAR)
    assert abs(mean - MEAN) < 0.03 * VAR**0.5
    assert var == pytest.approx(VAR, rel=0.02)


def short(case, sde):
    """A plan of 9 rows down to sigma = 0, so that samplers of a process share a program."""
    per_step = len(case.plan(sde, uniform(sde, 9)[:-1])) // 8
    return case.plan(sde, uniform(sde, 1 + 8 // per_step))


def padded(rows, n):
    """The same method with rows that do nothing, so that tables of all lengths share a program."""
    still = [Row(rows.t[-1], {"x": 1.0}, {"x": 1.0}, push=False)] * (n - len(rows))
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), rows, table(still, rows.read))


def affine(rows, sde):
    """Slope and offset of the map from x_T to the result of a deterministic sampler."""
    offset, _ = moments(rows, sde, MEAN, VAR, (0.0, 0.0))
    return moments(rows, sde, MEAN, VAR, (1.0, 0.0))[0] - offset, offset


def data(n):
    return gaussian(jnp.full(n, MEAN), jnp.full(n, VAR))


@every
def test_samples_have_the_exact_law(case, x64):
    """The loop would not run what the table, its unrolled map and its moments say."""
    sde, shape = case.sde(), (512, 16)
    rows = short(case, sde)
    assert len(rows) == 9
    x = levels(sde, np.array([sde.t_max])).sigma * np.random.default_rng(0).normal(size=shape)
    keys = jax.random.split(jax.random.key(1), shape[0])
    result = np.asarray(sample(data(16).denoiser(sde), rows, jnp.asarray(x), keys))
    mean, var = moments(rows, sde, MEAN, VAR)
    assert abs(result.mean() - mean) < 5 * np.sqrt(var / result.size)
    assert abs(result.var() / var - 1) < 5 * np.sqrt(2 / result.size)
    assert deterministic(rows) == (case.sampler != "ancestral" and not case.settings.get("eta"))
    if deterministic(rows):
        slope, offset = affine(rows, sde)
        np.testing.assert_allclose(result, slope * x + offset, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
def test_float32_sampling_keeps_its_digits(name):
    """Coefficients made in float32, or x0 from eps near t = 0, would cost 3 to 5 digits.

    Stochastic samplers are run without their noise: the exact recursion of the same rows.
    """
    sde = VP(Linear())
    rows = SAMPLERS[name](sde, uniform(sde, 50))
    quiet = table(
        [
            Row(t, named(u, rows, "input"), named(x, rows, "update"), bool(push))
            for t, u, x, push in zip(rows.t, rows.input, rows.update, rows.push, strict=True)
        ],
        rows.read,
    )
    slope, offset = affine(quiet, sde)
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    keys = jax.random.split(seed(0), 64)
    result = sample(data(2).denoiser(sde), padded(quiet, 100), jnp.asarray(x), keys)
    np.testing.assert_allclose(result, slope * x + offset, atol=1e-5)


def named(coefficients, rows, kind):
    """Register names and coefficients, noise left out."""
    names = {"input": READ, "update": WRITE}[kind]
    assert len(names) == len(coefficients)
    return {n: c for n, c in zip(names, coefficients, strict=True) if c and n[0] != "z"}


def of_the_flow(name, settings):
    """Whether a sampler is deterministic."""
    return deterministic(SAMPLERS[name](VP(Linear()), np.array([0.9, 0.5, 0.1]), **settings))


@pytest.mark.parametrize("method", [m for m in METHODS if of_the_flow(*m)], ids=str)
def test_order_on_a_mixture(method, x64):
    """O1: a deterministic sampler would be of lower order where the flow is not linear."""
    name, settings = method
    sde = VP(Linear(), t_min=0.05)
    modes = Mixture(jnp.array([0.6, 0.4]), jnp.array([[-1.0], [0.8]]), jnp.array([[0.1], [0.2]]))
    x, keys = jnp.linspace(-2.0, 2.0, 9)[:, None], jax.random.split(seed(0), 9)

    def run(name, steps, **settings):
        rows = SAMPLERS[name](sde, uniform(sde, steps + 1)[:-1], **settings)
        return np.asarray(sample(modes.denoiser(sde), padded(rows, 2001), x, keys))

    exact, counts = run("heun", 1000), (50, 100, 200)
    error = [np.abs(run(name, n, **settings) - exact).max() for n in counts]
    order = -np.polyfit(np.log(counts), np.log(error), 1)[0]
    assert order == pytest.approx(SAMPLERS[name].order, abs=0.15)


# The same method, written in another way.


def assert_same_map(ours, theirs):
    """Equal as linear functions of x_T, all outputs and all noises."""
    a, b = unroll(ours), unroll(theirs)
    for x, y in ((a.inputs, b.inputs), (a.result, b.result)):
        np.testing.assert_allclose(x, y, rtol=1e-12, atol=1e-12 * np.abs(y).max())


@processes
@pytest.mark.fast
def test_ddim_with_eta_1_is_ancestral_sampling(sde):
    """T3: eta would not be the paper's."""
    times = uniform(sde, 9)
    assert_same_map(ddim(sde, times, eta=1.0), ancestral(sde, times))
    cut = times[:-1]
    assert_same_map(ddim(sde, cut, eta=1.0), ancestral(sde, cut))
    with pytest.raises(AssertionError):
        assert_same_map(ddim(sde, times, eta=0.9), ancestral(sde, times))


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.fast
def test_eta_is_that_of_the_paper(eta):
    """MATH 5: eta would be its square, or that of another library; they agree at 0 and 1 only.

    arXiv:2010.02502, eq. 16: the noise of a step in VP is eta sqrt((1 - A_s) / (1 - A_t))
    sqrt(1 - A_t / A_s), with A = alpha^2, and eq. 12 the rest.
    """
    sde = VP(Linear())
    at = levels(sde, np.array([0.6, 0.4]))
    (a_t, a_s), result = at.alpha**2, unroll(ddim(sde, at.t, eta=eta)).result
    noise = eta * np.sqrt((1 - a_s) / (1 - a_t)) * np.sqrt(1 - a_t / a_s)
    x = np.sqrt(1 - a_s - noise**2) / np.sqrt(1 - a_t)
    exact = x, np.sqrt(a_s) - x * np.sqrt(a_t), noise
    np.testing.assert_allclose(result, exact, rtol=1e-10, atol=1e-14)


def euler(sde, times):
    """Euler's method on d(x / alpha) / d rho = (x / alpha - x0) / rho, and nothing else."""
    at, rows = levels(sde, times), []
    for t, s in itertools.pairwise(range(len(times))):
        rho_t, rho_s = at.sigma[t] / at.alpha[t], at.sigma[s] / at.alpha[s]
        # x_s / alpha_s = x / alpha_t + (rho_s - rho_t) (x / alpha_t - y) / rho_t
        relative = (rho_s - rho_t) / rho_t
        update = {"x": at.alpha[s] / at.alpha[t] * (1 + relative), "y": -at.alpha[s] * relative}
        rows.append(Row(at.t[t], {"x": 1.0}, update))
    return table(rows)


@processes
@pytest.mark.fast
def test_ddim_is_eulers_method_in_rho(sde):
    """T1: the deterministic limit would be another solver."""
    times = uniform(sde, 9)
    times = times[levels(sde, times).alpha > 0]
    assert_same_map(ddim(sde, times), euler(sde, times))


def in_units_of_alpha(sde, times, rows):
    """The unrolled map of x / alpha."""
    at, end = levels(sde, rows.t), levels(sde, times).alpha
    scale = np.ones(1 + 2 * len(rows))
    scale[0] = end[0]
    maps = unroll(rows)
    return maps.inputs * scale / at.alpha[:, None], maps.result * scale / end[-1]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_frames_and_schedules_differ_by_scale_only(method):
    """T8: sampling would depend on the frame, at equal noise levels."""
    name, settings = method
    sde = VP(Linear(), t_min=0.01, t_max=0.9)
    times = uniform(sde, 9)
    l = 2 * levels(sde, times[:-1]).lam
    other = VP(Cosine())
    both = [
        (VE(Linear()), times),
        (SubVP(Linear()), times),
        (Flow(Linear()), times),
        (other, np.append(float64(other.inverse)(l), 0.0)),
    ]
    ours = in_units_of_alpha(sde, times, SAMPLERS[name](sde, times, **settings))
    for process, at in both:
        theirs = in_units_of_alpha(process, at, SAMPLERS[name](process, at, **settings))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@every
@pytest.mark.parametrize("steps", [1, 8])
def test_one_point_is_sampled_exactly(case, steps):
    """T11: with a constant x0_hat every sampler is exact in any number of steps."""
    sde = case.sde(t_min=0.05)
    at = levels(sde, np.array([sde.t_max, sde.t_min]))
    cut = np.linspace(sde.t_max, sde.t_min, steps + 1)
    rows = case.plan(sde, cut)
    start = at.alpha[0] * MEAN, at.sigma[0] ** 2
    exact = at.alpha[1] * MEAN, at.sigma[1] ** 2
    if deterministic(rows):  # any start: the flow is a line through the point
        start = start[0] + 2.0, 0.3 * start[1]
        exact = exact[0] + 2.0 * at.sigma[1] / at.sigma[0], 0.3 * exact[1]
    np.testing.assert_allclose(moments(rows, sde, MEAN, 0.0, start), exact, rtol=1e-10)
    ended = moments(case.plan(sde, uniform(sde, steps)), sde, MEAN, 0.0)
    np.testing.assert_allclose(ended, (MEAN, 0.0), rtol=1e-12, atol=1e-12)


@processes
def test_ddim_on_gaussian_data_is_a_product(sde):
    """T13: the amplification of each step has a closed form."""
    times = uniform(sde, 9)
    at = levels(sde, times)
    a, s = at.alpha, at.sigma
    factors = (a[1:] * a[:-1] * VAR + s[1:] * s[:-1]) / (a[:-1] ** 2 * VAR + s[:-1] ** 2)
    slope, offset = affine(ddim(sde, times), sde)
    assert slope == pytest.approx(factors.prod(), rel=1e-12, abs=1e-15)
    assert offset == pytest.approx(MEAN * (1 - a[0] * factors.prod()), rel=1e-12)


@every
def test_one_step_gives_the_posterior_mean(case):
    """The step to sigma = 0 would not be its limit, x0_hat."""
    sde = case.sde()
    rows = case.plan(sde, uniform(sde, 1))
    at = levels(sde, np.array([sde.t_max]))
    gain = at.alpha * VAR / (at.alpha**2 * VAR + at.sigma**2)
    exact = MEAN + gain * (0.4 - at.alpha * MEAN), gain**2 * 1.3
    np.testing.assert_allclose(
        moments(rows, sde, MEAN, VAR, (0.4, 1.3)), np.ravel(exact), rtol=1e-10, atol=1e-15
    )


@every
@pytest.mark.parametrize("grid", GRIDS)
def test_coefficients_are_finite_down_to_the_data(case, grid):
    """log(0), 0 / 0 or a root of a negative number in the first or the last row."""
    sde = case.sde()
    if grid == "logsnr_uniform" and sde.t_max == 1 and case.schedule == "cosine":
        sde = case.sde(t_max=0.98)
    for steps in (1, 9):
        rows = case.plan(sde, GRIDS[grid](sde, steps))
        chex.assert_tree_all_finite((rows.t, rows.input, rows.update))


# What cannot work is refused by name.


@pytest.mark.parametrize(("name", "frame", "schedule"), sorted(REFUSED))
def test_infinite_rho_is_refused_by_name(name, frame, schedule):
    """The first step would be NaN."""
    sde = SDES[frame](SCHEDULES[schedule]())
    with pytest.raises(ValueError, match=rf"{name} from t=1 of .*alpha is 0 there"):
        SAMPLERS[name](sde, uniform(sde, 5))
    assert len(SAMPLERS[name](sde, uniform(sde, 5)[1:])) > 0


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_eta_outside_its_range_is_refused_by_name(eta):
    """The noise would have negative variance: NaN samples."""
    with pytest.raises(ValueError, match=rf"eta={eta}: needs 0 <= eta <= 1"):
        ddim(VP(Linear()), np.array([1.0, 0.0]), eta=eta)
