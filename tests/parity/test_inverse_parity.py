"""Posterior predictions and operators against azula and deepinv where those are right.

`make_inverse.py` wrote the numbers and has the constants; neither torch nor the two are needed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import make_inverse as peers
import numpy as np
import pytest

from diffjax import analytic, grids, schedules
from diffjax.arrays import expand
from diffjax.guidance import Query
from diffjax.inverse import (
    BlockAverage,
    Blur,
    Flat,
    Infinite,
    Mask,
    Matrix,
    Measurement,
    Observation,
    Posterior,
    Prior,
    Rows,
    Scale,
    Tweedie,
    Twisted,
    Unit,
    Zero,
    adjoint,
    steer,
    swarm,
)
from diffjax.inverse.operators.averages import bicubic
from diffjax.prediction import predict
from diffjax.samplers import affine_moments, ancestral, ddim, moments
from diffjax.sde import SDE, VE, VP

pytestmark = pytest.mark.usefixtures("x64")

STORED = dict(np.load(Path(__file__).with_name("inverse.npz")))
COSINE, EXPLODING = VP(schedules.Cosine(), t_max=0.999), VE(schedules.Edm())
IMAGE = jnp.asarray(peers.IMAGE)[..., None]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Network:
    """The network of `make_inverse.py` as a `Denoise`."""

    sde: SDE
    size: ClassVar[int] = peers.D

    def __call__(self, x: Any, t: Any, cond: Any = None, *, key: Any = None) -> Any:
        levels = (expand(level(t), x) for level in (self.sde.alpha, self.sde.sigma))
        return predict(self.sde, x, t, peers.network(x, *levels, jnp, jnp.asarray))


def moves(sde: SDE, levels: Any, covariances: Any) -> list[dict[str, np.ndarray]]:
    """x0' - x0_hat of each covariance, by its name, at each level (alpha, sigma)."""
    x, network = jnp.asarray(peers.X), Network(sde)
    measurement = Measurement(jnp.asarray(peers.MEASURED), Matrix(peers.MATRIX), peers.STD)

    @jax.jit  # one program instead of one for each operation
    def all_of(t):
        query = Query(network, x, t)
        guided = {name: Posterior(measurement, c) for name, c in covariances.items()}
        one = jnp.ones(())
        plain = query.predict().x0
        return {name: g(query, one, g.init(x))[0].x0 - plain for name, g in guided.items()}, plain

    results = []
    for alpha, sigma in levels:
        t = sde.inverse(jnp.full(peers.B, 2 * np.log(alpha / sigma)))
        moved, plain = all_of(t)
        results.append({name: np.asarray(a) for name, a in moved.items()} | {"x0": plain})
    return results


def test_predictions_given_y_are_those_of_azula():
    """A covariance would differ from that of the method it is named after."""
    covariances = {
        "mmps": Tweedie(peers.SEEN),
        "mmps-1": Tweedie(1),
        "tmpd": Rows(),
        "diffpir": Flat(peers.STRENGTH),
        "jfps": Prior(2.0),
        "dps": Zero(),
    }
    for k, results in enumerate(moves(COSINE, peers.LEVELS, covariances)):
        alpha, sigma = peers.LEVELS[k]
        for name in ("mmps", "mmps-1", "tmpd", "diffpir", "jfps"):
            theirs = STORED[f"azula-{name}/{k}"]
            np.testing.assert_allclose(results[name] + results["x0"], theirs, atol=2e-6)
        # DPS of one sample adds the gradient of |y - A x0_hat|.
        residual = np.linalg.norm(peers.MEASURED - results["x0"] @ peers.MATRIX.T, axis=1)
        ours = results["dps"] * (peers.STD**2 * alpha / sigma**2 / residual)[:, None]
        np.testing.assert_allclose(ours, STORED[f"azula-dps-alone/{k}"], atol=1e-6)


def test_gradients_of_the_likelihood_are_those_of_deepinv():
    """A second, independent source would disagree, also about DPS in a batch."""
    covariances = {"moment": Tweedie(peers.SEEN), "pigdm": Unit(), "dps": Zero()}
    levels = [(1.0, sigma) for sigma in peers.SIGMAS]
    for k, results in enumerate(moves(EXPLODING, levels, covariances)):
        residual = np.linalg.norm(peers.MEASURED - results["x0"] @ peers.MATRIX.T, axis=1)
        scale = {"dps": (peers.STD**2 / residual)[:, None]}
        for name in covariances:
            ours = -results[name] / peers.SIGMAS[k] ** 2 * scale.get(name, 1.0)
            theirs = STORED[f"deepinv-{name}/{k}"]
            np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def deepinv_operators():
    """Our forms of deepinv's operators on images of 8 x 8."""
    kernel = np.zeros((8, 8))
    kernel[:3, :3] = peers.KERNEL
    kernel = np.roll(kernel, (-1, -1), (0, 1))[None, :, :, None]
    kept = np.kron(peers.MASK, np.ones((2, 2), bool))[None, ..., None]
    return {"blur": Blur(jnp.asarray(kernel)), "mask": Mask(jnp.asarray(kept))}


def test_operators_are_those_of_deepinv():
    """Samples could not be compared: another grid, border, kernel direction or adjoint."""
    operators = deepinv_operators() | {"average": BlockAverage(2)}
    large = jnp.asarray(peers.LARGE)[..., None]

    @jax.jit  # one program instead of one for each operation
    def both():
        seen = {name: operator(IMAGE) for name, operator in operators.items()}
        back = {k: adjoint(operators[k], IMAGE)(jnp.cos(y)) for k, y in seen.items()}
        return seen, back, bicubic((16, 16, 1), 2)(large)

    seen, back, small = both()
    for name in operators:
        np.testing.assert_allclose(seen[name][..., 0], STORED[f"deepinv-{name}"], atol=2e-6)
        theirs = STORED[f"deepinv-{name}-adjoint"]
        np.testing.assert_allclose(back[name][..., 0], theirs, atol=2e-6)
    # Only the border differs: Pillow cuts its kernel there, MATLAB reflects the image.
    error = np.abs(small[..., 0] - STORED["deepinv-bicubic"])
    assert error[:, 2:-2, 2:-2].max() < 2e-6 and error.max() > 1e-2


@pytest.mark.thorough
def test_proximal_steps_are_those_of_deepinv():
    """DiffPIR's step, and with it the posterior of a flat prior, would be another one."""
    # At alpha = sigma the flat covariance is 1, so the step minimises |y - A x|^2 / 2 std^2 +
    # |x - x0_hat|^2 / 2.
    t = COSINE.inverse(jnp.zeros(peers.B))
    denoise = analytic.gaussian(jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))).denoiser(COSINE)
    x = IMAGE / COSINE.alpha(t)[:, None, None, None]  # whose x0_hat is IMAGE
    for name, operator in deepinv_operators().items():
        query = Query(denoise, x, t)
        measurement = Measurement(jnp.cos(operator(IMAGE)), operator, peers.STD)
        guidance = Posterior(measurement, Flat())
        ours = guidance(query, jnp.ones(()), guidance.init(x))[0].x0[..., 0]
        np.testing.assert_allclose(ours, STORED[f"deepinv-{name}-prox"], atol=5e-6)


def test_azula_couples_the_samples_of_a_batch_in_dps():
    """The parity above is with a batch of one: in a batch azula divides by one norm for all."""
    for k in range(len(peers.LEVELS)):
        together, alone = (STORED[f"azula-{name}/{k}"] for name in ("dps", "dps-alone"))
        ratio = (together / alone).mean(1)
        assert (ratio < 0.8).all()
        np.testing.assert_allclose((ratio**2).sum(), 1, atol=1e-4)


@pytest.mark.thorough
def test_azula_knows_no_noise_in_pigdm():
    """Its samples of N(0, 1) given y are y whatever the noise is; those of `Unit` are exact."""
    mean, var = STORED["azula-pigdm"]
    assert abs(mean - peers.Y) < 1e-3 and var < 1e-6
    ours = gaussian_posterior(Unit(), 0.0, 1.0, peers.NOISE)
    exact = peers.Y / (1 + peers.NOISE**2), peers.NOISE**2 / (1 + peers.NOISE**2)
    np.testing.assert_allclose(ours, exact, rtol=4e-2)


@pytest.mark.thorough
def test_azula_leaves_the_last_weight_of_particles_out():
    """Its law after 10 rows is not the posterior under these rows; that of `steer` is."""

    def errors(mean, var, prior_mean, prior_var):
        gain = prior_var / (prior_var + peers.NOISE**2)
        centre, exact = prior_mean + gain * (peers.Y - prior_mean), gain * peers.NOISE**2
        return (mean - centre) / np.sqrt(exact), var / exact

    shift, ratio = errors(*STORED["azula-tds"], *STORED["azula-ddpm"])
    assert shift > 0.3 and ratio < 0.7
    sde = VP(schedules.Linear())
    denoise = analytic.gaussian(jnp.full(1, peers.MEAN), jnp.full(1, peers.VAR)).denoiser(sde)
    rows = ancestral(sde, grids.logsnr_uniform(sde, peers.STEPS))
    potential = Observation(Measurement(jnp.full((1, 1), peers.Y), Scale(1.0), peers.NOISE))
    x, keys = swarm(sde, jax.random.split(jax.random.key(0), 64), 256, (1,))
    result = steer(denoise, rows, x, keys, potential, proposal=Twisted())
    x, weight = np.asarray(result.x[..., 0]), np.asarray(result.weight) / 64
    mean = (weight * x).sum()
    prior = moments(rows, sde, peers.MEAN, peers.VAR)
    shift, ratio = errors(mean, (weight * (x - mean) ** 2).sum(), *prior)
    assert abs(shift) < 0.05 and abs(ratio - 1) < 0.06


@pytest.mark.thorough
def test_a_point_estimate_passes_the_test_of_posteriors_in_deepinv():
    """Its criterion allows errors of 500 %, here of samples without spread, so it is not ours."""
    mean, var = gaussian_posterior(Infinite(), 0.0, 1.0, 1.0, y=1.0)
    assert abs(mean - 0.5) / 0.5 < 5 and abs(var - 0.5) / 0.5 < 5
    assert (mean - 0.5) / np.sqrt(0.5) > 0.7 and var < 1e-3


def gaussian_posterior(covariance, mean, var, std, y=peers.Y):
    """Mean and variance of DDIM samples of one Gaussian value given y."""
    denoise = analytic.gaussian(jnp.full(1, mean), jnp.full(1, var)).denoiser(COSINE)
    guidance = Posterior(Measurement(jnp.full((1, 1), y), Scale(1.0), std), covariance)
    table = ddim(COSINE, grids.logsnr_uniform(COSINE, 200))
    centre, cov = affine_moments(table, denoise, (1,), guidance=guidance)
    return float(centre[0]), float(cov[0, 0])
