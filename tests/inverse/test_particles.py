"""Particles: unbiased evidence, posteriors, weights that are kept, refusals."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import analytic
from diffjax.arrays import expand, pytree
from diffjax.denoiser import Denoiser, Model
from diffjax.grids import uniform
from diffjax.guidance import APG, Guided, Null, Query
from diffjax.inverse import BlockAverage, Measurement, Posterior, Scale, Unit
from diffjax.inverse.particles import particle_keys, steer, swarm
from diffjax.inverse.potentials import Observation, Reward, Tilted
from diffjax.inverse.proposals import AsGuided, Plain, Twisted
from diffjax.inverse.weighting import largest, systematic, total
from diffjax.nets import dit
from diffjax.nets.conditions import Label
from diffjax.parameterization import V
from diffjax.prediction import predict
from diffjax.samplers import (
    SAMPLERS,
    ancestral,
    ancestral_learned,
    ddim,
    dpmpp_2m,
    heun,
    moments,
    sample,
)
from diffjax.schedules import Linear
from diffjax.sde import VP, levels

SDE = VP(Linear(), t_min=0.02)
MEAN, VAR, Y, STD = 0.7, 0.25, 3.2, 1.0
"""Data N(0.7, 0.25) and a measurement: the posterior is N(1.2, 0.2)."""
SIZE = 10_000
TABLE = ancestral(SDE, uniform(SDE, 8))
NOISY = ancestral(SDE, uniform(SDE, 9))[:-1]
"""The last row has noise as well."""


def observed(y, data_var: float, std: float = STD) -> Observation:
    return Observation(Measurement(y, Scale(1.0), std), data_var)


YS = jnp.full((SIZE, 1), Y, jnp.float32)
EXACT, WRONG = observed(YS, VAR), observed(YS, 2.0)
"""The second is the same measurement; on the way its potential belongs to other data."""
PULL = Tilted(Reward(lambda x0: x0[:, 0], 0.5))


@jax.tree_util.register_static
@dataclass(frozen=True)
class Exact:
    """The denoiser of the data."""

    sde = SDE
    log_var: bool = False

    def __call__(self, x, t, cond=None, *, key=None):
        alpha, sigma = expand(SDE.alpha(t), x), expand(SDE.sigma(t), x)
        gain = alpha * VAR / (alpha**2 * VAR + sigma**2)
        prediction = predict(SDE, x, t, MEAN + gain * (x - alpha * MEAN))
        return prediction._replace(log_var=-jnp.ones_like(x)) if self.log_var else prediction


def clouds(size: int, particles: int, seed: int = 0):
    """Return initial states and keys, drawn on the host so that nothing is compiled."""
    rng = np.random.default_rng(seed)
    scale = levels(SDE, TABLE.t[:1]).sigma[0]
    x = np.float32(scale * rng.normal(size=(size, particles, 1)))
    return jnp.asarray(x), jax.random.split(jax.random.key(seed), size)


thorough = pytest.mark.thorough
OTHER = ddim(SDE, uniform(SDE, 8), eta=0.6)
CASES = [
    pytest.param(1, WRONG, AsGuided(PULL), NOISY, {"threshold": 0.0}, marks=thorough),
    (2, WRONG, Twisted(), TABLE, {"threshold": 1.0}),
    (8, EXACT, Plain(), TABLE, {}),
    pytest.param(8, WRONG, Plain(), TABLE, {"rule": total, "every": 3}, marks=thorough),
    pytest.param(2, EXACT, Plain(), TABLE, {"rule": largest}, marks=thorough),
    pytest.param(2, WRONG, Twisted(), OTHER, {}, marks=thorough),
]


@pytest.mark.typed
@pytest.mark.parametrize(("particles", "potential", "proposal", "table", "settings"), CASES)
def test_evidence_and_posterior(particles, potential, proposal, table, settings):
    """A weight would be lost, counted twice, or lack log p - log q.

    Public code loses the last weight, or those of rows without resampling. E[Z_hat] = p(y) for
    every number of particles, and E[Z_hat sum w f] = E[f p(y | x0)]. The Monte Carlo error of
    10,000 replicates is that of their scatter, below 2 % of p(y).
    """
    x, keys = clouds(SIZE, particles)
    result = steer(Exact(), table, x, keys, potential, proposal=proposal, **settings)
    mean, var = moments(table, SDE, MEAN, VAR)  # evidence of the chain in closed form
    both = var + STD**2
    evidence = np.exp(-0.5 * (Y - mean) ** 2 / both) / np.sqrt(2 * np.pi * both)
    exact = mean + var / both * (Y - mean), var * STD**2 / both
    z = np.exp(np.asarray(result.log_z, np.float64))
    error = z.std() / np.sqrt(SIZE)
    assert error < 0.02 * evidence
    assert abs(z.mean() - evidence) < 4 * error
    away = np.asarray(result.x[..., 0], np.float64) - exact[0]
    weight = z[:, None] * np.asarray(result.weight, np.float64)
    for power, moment in ((1, 0.0), (2, exact[1])):
        off = (weight * (away**power - moment)).sum(1)
        assert abs(off.mean()) < 4 * off.std() / np.sqrt(SIZE)
        assert off.std() / np.sqrt(SIZE) < 0.02 * evidence
    np.testing.assert_allclose(result.weight.sum(1), 1, rtol=1e-5)
    if particles == 8 and not settings:  # rows with unequal weights that do not resample
        share = np.asarray(result.ess) / particles
        assert ((share[1:-1] < 0.95) & (share[1:-1] > 0.5)).any(1).sum() > 2


@pytree
@dataclass(frozen=True)
class Chain:
    """The exact potential of Gaussian data: psi(x0_hat) = N(y; gain x0_hat + shift, var)."""

    rho: Any
    gain: Any
    shift: Any
    var: Any

    def __call__(self, x0, rho):
        row = jnp.argmin(jnp.abs(self.rho[None] - rho[:, None]), axis=1)
        gain, shift, var = (a[row][:, None] for a in (self.gain, self.shift, self.var))
        away = Y - gain * x0 - shift
        return -0.5 * (away**2 / var + jnp.log(2 * jnp.pi * var)).sum(1)


@pytree
@dataclass(frozen=True)
class Optimal:
    """The proposal p(x_s | x_t, y), where p(y | x_s) = N(y; gain x_s + shift, var)."""

    gain: Any
    shift: Any
    var: Any
    sloped = False

    def init(self, x):
        return ()

    def __call__(self, step, memory):
        gain, shift, var = (a[step.row + 1] for a in (self.gain, self.shift, self.var))
        precision = 1 + gain**2 * step.std**2 / var
        away = (Y - gain * step.mean - shift) / var
        return (gain * step.std * away / precision, precision**-0.5), memory


@thorough
def test_the_optimal_proposal_has_no_variance(x64):
    """The weights would hold a term that does not belong to them, however small."""
    at = levels(SDE, TABLE.t)
    slope = at.alpha * VAR / (at.alpha**2 * VAR + at.sigma**2)  # x0_hat = slope x + offset
    offset = MEAN - slope * at.alpha * MEAN
    state, output, noise = TABLE.update[:, 0], TABLE.update[:, 1], TABLE.update[:, 7]
    gain, shift, var = [np.ones(1), np.zeros(1), np.full(1, STD**2)]
    for i in reversed(range(len(TABLE))):
        step, constant = state[i] + output[i] * slope[i], output[i] * offset[i]
        gain, shift = (
            np.insert(gain, 0, gain[0] * step),
            np.insert(shift, 0, shift[0] + gain[0] * constant),
        )
        var = np.insert(var, 0, var[0] + gain[1] ** 2 * noise[i] ** 2)
    of_x0 = np.append(gain[:-1] / slope, 1.0)
    rho = np.append(at.sigma / at.alpha, 0.0)
    potential = Chain(*map(jnp.asarray, (rho, of_x0, shift - of_x0 * np.append(offset, 0), var)))
    proposal = Optimal(*map(jnp.asarray, (gain, shift, var)))
    keys = jax.random.split(jax.random.key(0), 20)
    x = jnp.full((20, 3, 1), 0.4)
    result = steer(Exact(), TABLE, x, keys, potential, proposal=proposal, threshold=0.0)
    away = Y - gain[0] * 0.4 - shift[0]
    exact = -0.5 * (away**2 / var[0] + np.log(2 * np.pi * var[0]))
    assert np.asarray(result.x).std() > 0.1  # the samples differ, their evidence does not
    np.testing.assert_allclose(result.log_z, exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.ess, 3, rtol=1e-12)


@thorough
def test_the_posterior_of_a_mixture_by_a_twist():
    """Two modes would get each other's mass: the potential on the way is that of a Gaussian.

    With 256 particles of 32 samples and 60 rows, the Monte Carlo error and that of the rows are
    below 0.03.
    """
    data = analytic.Mixture(
        jnp.array([0.3, 0.7]), jnp.array([[-1.0], [0.8]]), jnp.array([[0.09], [0.04]])
    )
    y, std = -0.2, 0.5
    grid = np.linspace(-4, 4, 8001)
    prior = 0.3 * np.exp(-((grid + 1) ** 2) / 0.18) / 0.3
    prior += 0.7 * np.exp(-((grid - 0.8) ** 2) / 0.08) / 0.2
    weight = prior * np.exp(-0.5 * (y - grid) ** 2 / std**2)
    mean = (weight * grid).sum() / weight.sum()
    var = (weight * (grid - mean) ** 2).sum() / weight.sum()
    table = ancestral(SDE, uniform(SDE, 60))
    x, keys = clouds(32, 256)
    potential = observed(jnp.full((1, 1), y), 1.0, std)
    result = steer(data.denoiser(SDE), table, x, keys, potential, proposal=Twisted())
    values, weights = np.asarray(result.x[..., 0]), np.asarray(result.weight) / 32
    assert abs((weights * values).sum() - mean) < 0.03
    assert abs((weights * (values - mean) ** 2).sum() - var) < 0.03
    picked = np.asarray(result.one(keys))
    assert picked.shape == (32, 1)
    assert abs(picked.mean() - mean) < 4 * np.sqrt(var / 32)


@thorough
def test_one_particle_is_plain_guidance():
    """The rows, or their noise, would differ from those of `sample`."""
    x, keys = clouds(SIZE, 1)
    ours = steer(Exact(), NOISY, x, keys, WRONG, proposal=AsGuided(PULL), threshold=0.0)
    plain = sample(Exact(), NOISY, x[:, 0], particle_keys(keys, 1)[:, 0], guidance=PULL)
    np.testing.assert_allclose(ours.x[:, 0], plain, rtol=1e-5, atol=2e-6)


def test_a_sample_does_not_depend_on_the_others():
    """Particles of a sample would be resampled among those of another, or by their weights."""
    x, keys = clouds(SIZE, 2)
    others, of_others = clouds(SIZE, 2, seed=1)
    mine = jnp.arange(SIZE) == 7
    y = jnp.where(mine[:, None], Y, -jnp.linspace(0, 3, SIZE)[:, None])
    mixed = jnp.where(mine[:, None, None], x, others)
    run = lambda x, keys, potential: steer(Exact(), TABLE, x, keys, potential, proposal=Twisted())
    alone = run(x, keys, WRONG)
    beside = run(mixed, of_others.at[7].set(keys[7]), observed(y, 2.0))
    for a, b in zip(alone[:3], beside[:3], strict=True):
        np.testing.assert_array_equal(a[7], b[7])
        assert (np.asarray(a) != np.asarray(b)).any()


def test_an_exact_measurement_is_refused():
    """Its density would be infinite at the end of the run."""
    with pytest.raises(ValueError, match=r"std=0\.0: an exact measurement has no density"):
        observed(YS, 1.0, 0.0)
    with pytest.raises(ValueError, match="data_var=0"):
        observed(YS, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_potentials_that_are_not_finite_are_refused(value):
    """All weights of a sample would be NaN, at the end of the run."""
    x, keys = clouds(SIZE, 2)
    broken = observed(YS.at[3].set(value), 2.0)
    with pytest.raises(FloatingPointError, match="potential is not finite at row 0 of 8"):
        steer(Exact(), TABLE, x, keys, broken, proposal=Twisted())


def test_tilted_by_the_exact_variance_is_the_posterior_mean():
    """The guidance would have another sign or scale."""
    x, t = jnp.linspace(-2, 2, 5)[:, None], jnp.linspace(0.1, 0.9, 5)
    guidance = Tilted(observed(YS[:5], VAR))
    ours, _ = jax.jit(lambda query: guidance(query, jnp.ones(()), ()))(Query(Exact(), x, t))
    at = levels(SDE, np.asarray(t))
    alpha, sigma = at.alpha[:, None], at.sigma[:, None]
    precision = 1 / VAR + alpha**2 / sigma**2 + 1 / STD**2
    exact = (MEAN / VAR + alpha * np.asarray(x) / sigma**2 + Y / STD**2) / precision
    np.testing.assert_allclose(ours.x0, exact, rtol=2e-5)
    np.testing.assert_allclose(alpha * ours.x0 + sigma * np.asarray(ours.eps), x, atol=2e-5)


@thorough
def test_tilted_by_a_measurement_is_the_posterior_with_the_covariance_unit():
    """The variances of the values of y would be those of another operator."""
    x, t = jax.random.normal(jax.random.key(0), (2, 4, 4, 1)), jnp.array([0.3, 0.8])
    measurement = Measurement(jnp.ones((1, 2, 2, 1)), BlockAverage(2), 0.3)
    both = Posterior(measurement, Unit()), Tilted(Observation(measurement))
    query = Query(Exact(), x, t)
    ours, theirs = jax.jit(lambda q: [g(q, jnp.ones(()), ())[0] for g in both])(query)
    np.testing.assert_allclose(ours.x0, theirs.x0, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.eps, theirs.eps, rtol=1e-4, atol=1e-5)


@thorough
def test_particles_of_a_network_are_its_samples():
    """Guidance or the network would mix particles, or lose the conditions of a sample."""
    network = dit(width=12, depth=1, heads=2, conditions=(Label(3),))
    rng = np.random.default_rng(0)
    cond = {"label": jnp.array([2, 0])}
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 4, 1)), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x[:, 0], jnp.zeros(2), cond)
    weights = jax.tree.map(lambda a: jnp.asarray(0.2 * rng.normal(size=a.shape), a.dtype), shapes)
    denoise = Denoiser(Model(SDE, V(), network), {"network": weights})
    keys = jax.random.split(jax.random.key(0), 2)
    guidance = Guided(Null(), APG(momentum=-0.5))
    table = replace(TABLE, weight=np.full(len(TABLE), 2.0))
    reward = lambda x0, rho: x0.mean((1, 2, 3))
    model = {"cond": cond, "guidance": guidance}
    ours = steer(denoise, table, x, keys, reward, proposal=AsGuided(guidance), threshold=0, **model)
    for k in range(3):
        each = particle_keys(keys, 3)[:, k]
        plain = sample(denoise, table, x[:, k], each, **model)
        np.testing.assert_allclose(ours.x[:, k], plain, rtol=2e-3, atol=2e-3)
    last = np.asarray(ours.x).mean((2, 3, 4))
    weight = np.exp(last) / np.exp(last).sum(1, keepdims=True)
    np.testing.assert_allclose(ours.weight, weight, rtol=1e-3)


@thorough
def test_a_twist_through_guidance_has_a_gradient():
    """APG without clipping would have a gradient of NaN."""
    x, t, label = jnp.ones((2, 3)), jnp.full(2, 0.5), {"label": jnp.zeros(2, int)}
    pair = lambda x: Query(Exact(), x, t, label).pair(Exact()(x, t), Exact()(0.5 * x, t))
    value = lambda x: APG()(pair(x), jnp.full(2, 2.0), jnp.zeros_like(x))[0].x0.sum()
    assert np.isfinite(jax.jit(jax.grad(value))(x)).all()


@thorough
def test_the_learned_variance_is_used():
    """Weights and states would have the variance of another sampler."""
    x, keys = clouds(3, 4)
    potential = observed(YS[:3], 2.0)
    learned = ancestral_learned(SDE, uniform(SDE, 8))
    ours = steer(Exact(log_var=True), learned, x, keys, potential, proposal=Twisted())
    plain = steer(Exact(), TABLE, x, keys, potential, proposal=Twisted())
    np.testing.assert_allclose(ours.x, plain.x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.log_z, plain.log_z, rtol=1e-4)


def test_proposals_do_not_share_a_program():
    """`jit` could run the program of one proposal for another."""
    structures = [jax.tree.structure(proposal()) for proposal in (Plain, Twisted)]
    assert structures[0] != structures[1]


@thorough
def test_systematic_resampling_has_the_weights_on_average():
    """Counts would be off by one or more, or a particle without weight would be taken."""
    weight = jnp.array([0.0, 0.37, 0.0, 0.13, 0.5, 0.0])
    index = jax.vmap(systematic, (0, None))(jax.random.split(jax.random.key(0), 2000), weight)
    counts = (np.asarray(index)[..., None] == np.arange(6)).sum(1)
    expected = 6 * np.asarray(weight)
    assert (np.abs(counts - expected) < 1).all()
    np.testing.assert_allclose(counts.mean(0), expected, atol=0.05)


REFUSED = [
    ({"table": ddim(SDE, uniform(SDE, 4))}, "adds no noise"),
    ({"table": heun(SDE, uniform(SDE, 4))}, r"earlier rows|adds no noise"),
    ({"table": dpmpp_2m(SDE, uniform(SDE, 4), eta=1.0)}, "row 1 uses outputs or noises of earlier"),
    ({"table": SAMPLERS["seeds_2"](SDE, uniform(SDE, 4))}, "another input than the state"),
    ({"table": TABLE.pad(20)}, "idle rows"),
    ({"x": jnp.zeros((2, 0, 1))}, r"K >= 1 particles"),
    ({"threshold": 1.5}, "threshold=1.5: needs 0 <= threshold <= 1"),
    ({"every": 0}, "every=0"),
    ({"potential": 3}, "potential|function"),
    ({"potential": lambda x0, rho: x0}, r"returns the shape .*needs one number per sample, \(2,\)"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_work_is_refused(changes, message):
    """Sampling would run, and return something else."""
    x, keys = clouds(2, 3)
    arguments = {"table": TABLE, "x": x, "potential": observed(YS[:2], VAR), **changes}
    settings = {k: arguments.pop(k) for k in ("threshold", "every") if k in arguments}
    with pytest.raises(ValueError, match=message):
        steer(Exact(), keys=keys, **arguments, **settings)


@thorough
def test_particles_are_drawn_from_the_prior():
    """Particles of a sample would be equal, or depend on their number."""
    keys = jax.random.split(jax.random.key(0), 500)
    draw = lambda particles: jax.jit(lambda keys: swarm(SDE, keys, particles, (1,)))(keys)
    x, later = draw(3)
    assert x.shape == (500, 3, 1)
    assert abs(np.corrcoef(np.asarray(x[..., 0]).T)[0, 1]) < 4 / np.sqrt(500)
    assert np.asarray(x).std() == pytest.approx(1, abs=0.08)
    assert later.shape == (500,)
    np.testing.assert_array_equal(draw(2)[0], x[:, :2])
    with pytest.raises(ValueError, match="particles=0"):
        swarm(SDE, keys, 0, (1,))
