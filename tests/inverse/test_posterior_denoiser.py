"""The posterior denoiser: exact cases, the bias of every method, independence and refusals."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from problems import COSINE, Hidden, ask, correlated

from diffjax import analytic, grids, likelihood, schedules
from diffjax.guidance import Cached, Conditional, Guided, GuidedDenoiser, Query, Static, Thresholded
from diffjax.inverse import (
    COVARIANCES,
    OPERATORS,
    Decoded,
    Flat,
    Function,
    Infinite,
    Joint,
    Mask,
    Matrix,
    Measurement,
    Posterior,
    Prior,
    Rows,
    Scale,
    Tweedie,
    Unit,
    Zero,
    correlated_posterior,
    mixture_posterior,
)
from diffjax.inverse.solvers import conjugate_gradients, guarded_gradients
from diffjax.samplers import affine_moments, ddim, moments
from diffjax.samplers.affine import _asked
from diffjax.sde import VP, Flow

pytestmark = pytest.mark.usefixtures("x64")

BIASES = {
    # prior variance, std: exact, unit, prior with variance 1, flat, zero, infinite
    (0.25, 0.1): ((0, 1), (-1.08, 1.82), (0.06, 0.93), (0.07, 0.91), (0.69, 0.0), (0.31, 0)),
    (0.25, 0.5): ((0, 1), (-0.29, 1.13), (0.33, 0.82), (0.51, 0.73), (0.51, 0.73), (1.13, 0)),
    (1.0, 0.5): ((0, 1), (0, 1), (0, 1), (0.14, 0.79), (0.86, 0.09), (0.36, 0)),
    (4.0, 0.1): ((0, 1), (0.34, 0.05), (0.0, 1.04), (0.0, 0.98), (0.04, 0.0), (0.02, 0)),
    (4.0, 0.5): ((0, 1), (0.36, 0.16), (-0.08, 1.36), (0.03, 0.88), (0.23, 0.0), (0.10, 0)),
}
"""(error of the mean in posterior standard deviations, ratio of variances) of each method for prior
mean 0.7 and y = 1.5, from a derivation outside of this code base, with two digits."""
METHODS = (Tweedie(5), Unit(), Prior(1.0), Flat(), Zero(), Infinite())


@pytest.mark.parametrize(
    "k",
    [0, *(pytest.param(k, marks=pytest.mark.thorough) for k in range(1, len(METHODS)))],
    ids=lambda k: type(METHODS[k]).__name__,
)
def test_the_bias_of_every_method_is_the_known_one(k):
    """A method would differ from the one that its name states.

    The cases are the values of one item: y / std, with equal noise, is a measurement of x0 / std.
    """
    var, std = np.array(list(BIASES)).T
    data = analytic.gaussian(jnp.full(5, 0.7), jnp.asarray(var))
    measurement = Measurement(jnp.asarray(1.5 / std)[None], Scale(jnp.asarray(1 / std)[None]), 1.0)
    sde = VP(schedules.Cosine(), t_max=0.9999)
    table = ddim(sde, grids.logsnr_uniform(sde, 2000))
    guidance = Posterior(measurement, METHODS[k])
    mean, cov = affine_moments(table, data.denoiser(sde), (5,), guidance=guidance)
    exact = var * std**2 / (var + std**2)
    centre = (0.7 * std**2 + 1.5 * var) / (var + std**2)
    ours = np.stack([(mean - centre) / np.sqrt(exact), np.diag(cov) / exact], 1)
    np.testing.assert_allclose(ours, [row[k] for row in BIASES.values()], atol=0.0101)


def test_on_gaussians_tweedie_is_the_exact_posterior():
    """The mean given y would be wrong. The operator is linearised as a nonlinear one is."""
    rng = np.random.default_rng(0)
    matrix, data, t = rng.standard_normal((3, 8)), correlated(8), jnp.array([0.02, 0.5, 0.98])
    x, y = jnp.asarray(rng.standard_normal((3, 8))), jnp.array([[0.3, -0.2, 1.0]])
    shifted = Measurement(y - 1, Function(lambda x: x @ matrix.T - 1), 0.4)
    exact = correlated_posterior(data, Measurement(y, Matrix(matrix), 0.4)).flow_map(COSINE)
    guidance, denoise = Posterior(shifted, Tweedie(8)), data.flow_map(COSINE)
    ours, theirs = jax.jit(lambda: (ask(guidance, denoise, x, t), exact(x, t)))()
    np.testing.assert_allclose(ours.x0, theirs.x0, atol=1e-8)
    np.testing.assert_allclose(ours.eps, theirs.eps, atol=1e-8)


@pytest.mark.thorough
def test_measurements_of_decoded_latents():
    """The decoder would be left out of the adjoint, or of the value at which A is linearised.

    A linear decoder, nearest upsampling and a mixture of channels, is a matrix.
    """
    rng, data = np.random.default_rng(0), correlated(8)
    mix = jnp.asarray(rng.standard_normal((2, 3)))

    def decode(mix, z):
        images = jnp.repeat(jnp.repeat(z.reshape(-1, 2, 2, 2), 2, 1), 2, 2)
        return jnp.einsum("bhwc,cd->bhwd", images, mix)

    grey = OPERATORS["grey"]((4, 4, 3))
    latent = Decoded(grey, Partial(decode, mix))
    matrix = np.asarray(latent(jnp.eye(8))).reshape(8, -1).T
    x, t = jnp.asarray(rng.standard_normal((3, 8))), jnp.array([0.1, 0.5, 0.9])
    y = latent(jnp.asarray(rng.standard_normal((1, 8))))
    posed = Measurement(y, latent, 0.4), Measurement(y.reshape(1, -1), Matrix(matrix), 0.4)
    exact = correlated_posterior(data, posed[1]).flow_map(COSINE)
    guides, denoise = [Posterior(m, Tweedie(8)) for m in posed], data.flow_map(COSINE)
    ours, by_matrix = jax.jit(lambda: [ask(g, denoise, x, t).x0 for g in guides])()
    np.testing.assert_allclose(ours, by_matrix, atol=1e-8)
    np.testing.assert_allclose(ours, exact(x, t).x0, atol=1e-5)


def test_a_jacobian_that_is_no_covariance_does_not_move_x0_far():
    """Samples of a network would diverge: its Jacobian has directions of negative or no curvature.

    With a covariance the result is that of the exact solution, however far y is.
    """
    matrices = jnp.array(
        [[[1.0, 0.5], [0.5, 2.0]], [[1.0, 0.0], [0.0, -0.2499]], [[1e-4, 1.0], [-1.0, 1e-4]]]
    )
    noise, y = (
        jnp.array([[0.25], [0.25], [0.0]]),
        jnp.array([[90.0, -70.0], [0.1, 0.9], [0.3, 1.0]]),
    )
    times = lambda v: jnp.einsum("bij,bj->bi", matrices, v)

    @jax.jit
    def moves(iterations=5):
        v = guarded_gradients(times, noise, y, iterations, jnp.full(3, 2.0))
        plain = conjugate_gradients(lambda v: times(v) + noise * v, y, iterations)
        return times(v), times(plain), (y * v).sum(1)

    guarded, plain, size = moves()
    exact = np.asarray(matrices[0]) @ np.linalg.solve(matrices[0] + 0.25 * np.eye(2), y[0])
    np.testing.assert_allclose(guarded[0], exact, rtol=1e-10)
    np.testing.assert_array_equal(guarded[0], plain[0])
    assert (abs(plain[1:]).max(1) > 100).all()
    assert (abs(guarded[1:]).max(1) < 3).all() and (size[1:] < 2.001).all()


@pytest.mark.thorough
def test_sampling_the_posterior_is_sampling_its_gaussian():
    """Mean and variance by the table would differ from those on data with the posterior's law."""
    mean, var, std = np.array([0.7, -1.0]), np.array([0.25, 2.0]), 0.4
    y, keep = np.array([[1.5, 0.0]]), np.array([[True, False]])
    exact = np.where(keep[0], 1 / (1 / var + 1 / std**2), var)
    centre = np.where(keep[0], exact * (mean / var + y[0] / std**2), mean)
    table = ddim(COSINE, grids.uniform(COSINE, 7), eta=0.5)
    wanted = moments(table, COSINE, centre, exact)
    measurement = Measurement(jnp.asarray(y), Mask(jnp.asarray(keep)), std)
    denoise = analytic.gaussian(jnp.asarray(mean), jnp.asarray(var)).denoiser(COSINE)
    for covariance in (Tweedie(2), Rows(), Prior(jnp.asarray(var))):
        guidance = Posterior(measurement, covariance)
        ours = affine_moments(table, denoise, (2,), guidance=guidance)
        np.testing.assert_allclose(ours[0], wanted[0], atol=1e-6)
        np.testing.assert_allclose(ours[1], np.diag(wanted[1]), atol=1e-6)


def test_the_spectrum_and_conjugate_gradients_agree():
    """A spectrum would be wrong, or the iterations not converge, with and without noise.

    `Unit`, `Prior` and `Flat` share one solver; blurs have small singular values.
    """
    rng, t = np.random.default_rng(0), jnp.array([0.1, 0.6])
    shape = (4, 4, 3)
    operators = {
        "pixels": OPERATORS["pixels"](shape, seed=1),
        "blur": OPERATORS["motion_blur"](shape, 3.0, 20.0),
    }
    x = jnp.asarray(rng.standard_normal((2, *shape)))
    denoise = analytic.gaussian(0 * x[0], 0.5 + 0 * x[0]).denoiser(COSINE)

    @jax.jit
    def predicted(operators, std):
        y = {name: f(x[:1]) for name, f in operators.items()}
        posed = {
            name: [Measurement(y[name], g, std) for g in (f, Hidden(f))]
            for name, f in operators.items()
        }
        ask_for = lambda m: ask(Posterior(m, Flat(1.0, 60)), denoise, x, t).x0
        return {name: [ask_for(m) for m in pair] for name, pair in posed.items()}

    for std in (0.3, 0.0):
        for name, pair in predicted(operators, jnp.asarray(std)).items():
            np.testing.assert_allclose(*pair, atol=1e-7, err_msg=f"{name} {std}")


def mixture(shape):
    rng = np.random.default_rng(0)
    mean, var = rng.standard_normal((3, *shape)), rng.uniform(0.1, 0.5, (3, *shape))
    return analytic.Mixture(jnp.array([0.2, 0.3, 0.5]), jnp.asarray(mean), jnp.asarray(var))


def test_samples_do_not_depend_on_their_batch_and_have_their_own_measurements():
    """A norm or step size would run over the batch, or a sample see another measurement."""
    rng, shape = np.random.default_rng(1), (2, 2, 3)
    x, t = jnp.asarray(rng.standard_normal((3, *shape))), jnp.array([0.2, 0.5, 0.9])
    denoise = mixture(shape).denoiser(COSINE)
    keep = jnp.asarray(rng.random((3, 2, 2, 1)) < 0.5)
    std, y = jnp.array([0.1, 0.5, 2.0]), jnp.asarray(rng.standard_normal((3, *shape)))
    kinds = {name: kind() for name, kind in COVARIANCES.items()}

    @jax.jit
    def each(x, t, y, keep, std):
        measurement = Measurement(y, Mask(keep), std)
        guides = {name: Posterior(measurement, kind) for name, kind in kinds.items()}
        hidden = Posterior(replace(measurement, operator=Hidden(Mask(keep))), Unit(6))
        return {k: ask(g, denoise, x, t).x0 for k, g in {**guides, "hidden": hidden}.items()}

    first, second = (x, t, y, keep, std), (x + 1, t[::-1], y - 1, ~keep, 2 * std)
    several = each(*first)
    for b in range(3):  # sample b of the first batch beside the others of the second one
        mixed = each(*(jnp.asarray(q).at[b].set(p[b]) for p, q in zip(first, second, strict=True)))
        for name, x0 in several.items():
            np.testing.assert_allclose(mixed[name][b], x0[b], rtol=1e-9, atol=1e-9, err_msg=name)


def test_denoising_a_mixture_is_exact():
    """The noise level of two noisy copies together would be wrong.

    The exact posterior is a mixture.
    """
    data, rng = mixture((2,)), np.random.default_rng(2)
    x, t = jnp.asarray(rng.standard_normal((4, 2))), jnp.array([0.01, 0.3, 0.7, 0.99])
    sde = Flow(schedules.Logit(), t_max=0.995)
    measurement = Measurement(jnp.array([[0.4, -0.7]]), Scale(0.8), 0.3)
    exact, prior = mixture_posterior(data, measurement).denoiser(sde), data.denoiser(sde)
    both = jax.jit(lambda: (ask(Joint(measurement), prior, x, t), exact(x, t)))
    ours, theirs = both()
    np.testing.assert_allclose(ours.x0, theirs.x0, atol=1e-12)
    np.testing.assert_allclose(ours.eps, theirs.eps, atol=1e-11)


def test_the_posterior_of_a_mixture_is_prior_times_likelihood():
    data = mixture((1,))
    posterior = mixture_posterior(data, Measurement(jnp.array([[0.5]]), Scale(2.0), 0.6))
    points = np.linspace(-6, 6, 4001)[:, None]

    def density(data):
        away = (points[:, None] - np.asarray(data.mean)) ** 2 / np.asarray(data.var)
        parts = np.exp(-0.5 * away[..., 0]) / np.sqrt(np.asarray(data.var))[:, 0]
        return parts @ np.asarray(data.weight)

    product = density(data) * np.exp(-0.5 * ((0.5 - 2 * points[:, 0]) / 0.6) ** 2)
    ours = density(posterior)
    np.testing.assert_allclose(ours / ours.sum(), product / product.sum(), atol=1e-12)


@pytest.mark.thorough
def test_the_likelihood_runs_on_a_posterior():
    """log p(x0 | y) by the ODE on the guided denoiser would differ from that of the Gaussian."""
    measurement = Measurement(jnp.array([[1.5, 0.0]]), Mask(jnp.array([[True, False]])), 0.5)
    denoise = analytic.gaussian(jnp.full(2, 0.7), jnp.ones(2)).denoiser(COSINE)
    guided = GuidedDenoiser(denoise, Posterior(measurement, Prior(1.0)))
    z, keys = jnp.array([[1.0, 0.2], [1.6, 1.0]]), jax.random.split(jax.random.key(0), 2)
    found = jax.jit(lambda z: likelihood.logp(guided, z, keys, ode=likelihood.Ode(steps=60)))(z)
    rho2 = float(jnp.exp(-COSINE.logsnr(jnp.asarray(COSINE.t_min))))
    var = jnp.array([[0.2, 1.0]]) + rho2
    away = z - jnp.array([[1.34, 0.7]])
    exact = -0.5 * (away**2 / var + jnp.log(2 * jnp.pi * var)).sum(1)
    np.testing.assert_allclose(found.logp, exact, atol=4e-3)


@pytest.mark.thorough
def test_guidance_inside_keeps_its_weights_and_passes():
    """The posterior would ignore the weight of a row, or count wrong passes."""
    data = mixture((2,))
    measurement = Measurement(jnp.array([[0.4, -0.7]]), Scale(1.0), 0.3)
    guide = Posterior(measurement, Tweedie(2), Guided())
    x, t = jnp.array([[0.1, 0.2], [1.0, -1.0]]), jnp.array([0.4, 0.6])
    query = Query(data.denoiser(COSINE), x, t, {"label": jnp.array([0, 2])})

    @jax.jit
    def asked(weight):
        plain = Posterior(measurement, Tweedie(2))(query, weight, ())[0].x0
        return guide(query, weight, guide.init(x))[0].x0, plain

    np.testing.assert_allclose(*asked(jnp.array(1.0)), atol=1e-12)
    ours, plain = asked(jnp.array(3.0))
    assert abs(ours - plain).max() > 0.01
    assert guide.weighs and guide.passes(np.array([1.0, 3.0])) == 3
    assert not Posterior(measurement).weighs and Tweedie(3).products == 4


def test_classes_of_equal_settings_do_not_share_a_program():
    """`jit` would sometimes run the program of one covariance for another."""
    kinds = [Unit(50), Infinite(50), Prior(1.0, 50), Flat(1.0, 50), Zero(), Rows()]
    structures = [jax.tree.structure(kind) for kind in kinds]
    assert all(a != b for i, a in enumerate(structures) for b in structures[:i])


def test_another_measurement_does_not_compile_again():
    """Restoring many images would compile once for each of them."""
    denoise = analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(COSINE)
    query = Query(denoise, jnp.ones((1, 2)), jnp.full(1, 0.5))
    before = None
    for y, keep, std in ((1.0, True, 0.1), (2.0, False, 0.3)):
        mask = Mask(jnp.array([[True, keep]]))
        guide = Posterior(Measurement(jnp.full((1, 2), y), mask, std), Flat())
        _asked(guide, query, jnp.ones(1))
        assert before in (None, _asked._cache_size())
        before = _asked._cache_size()


MEASUREMENT = Measurement(np.ones((1, 2)), Scale(1.0), 0.0)
DENOISE = analytic.gaussian(np.zeros(2), np.ones(2)).denoiser(COSINE)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Posterior(MEASUREMENT, Zero()), "std=0 with covariance=Zero: needs std > 0"),
        (lambda: Posterior(MEASUREMENT, Rows()), "std=0 with covariance=Rows: needs std > 0"),
        (
            lambda: Posterior(replace(MEASUREMENT, operator=Function(jnp.exp)), Infinite()),
            "covariance=Infinite: needs a linear operator, and Function is not",
        ),
        (lambda: Posterior(MEASUREMENT, None), "covariance=None: needs an instance of Covariance"),
        (lambda: Tweedie(0), "iterations=0: needs iterations >= 1"),
        (lambda: Prior(0.0), "var=0.0: needs var > 0"),
        (lambda: Flat(-1.0), "strength=-1.0: needs strength > 0"),
        (lambda: Joint(MEASUREMENT), "std=0.0: needs std > 0"),
        (lambda: Joint(replace(MEASUREMENT, operator=Mask(np.ones((1, 2))))), "instance of Scale"),
        (
            lambda: ask(Posterior(MEASUREMENT), DENOISE, jnp.ones((3, 3)), jnp.full(3, 0.5)),
            r"y \(1, 2\): Scale maps samples \(3, 3\) to \(3, 3\)",
        ),
        (
            lambda: ask(
                Posterior(MEASUREMENT),
                analytic.gaussian(jnp.zeros(2), jnp.ones(2)).denoiser(VP(schedules.Cosine(s=0.0))),
                jnp.ones((1, 2)),
                jnp.full(1, 0.5),
            ),
            "alpha is 0 at t_max; allowed: t_max < 1, or the covariances prior, flat, infinite",
        ),
        (
            lambda: ask(
                Posterior(MEASUREMENT), DENOISE, jnp.ones((1, 2)), jnp.ones(1), to=jnp.ones(1)
            ),
            "Posterior with a table for flow maps",
        ),
        (
            lambda: GuidedDenoiser(DENOISE, Guided(Cached()))(jnp.ones((1, 2)), jnp.ones(1)),
            "guidance=Guided carries a memory from row to row",
        ),
        (
            lambda: affine_moments(
                ddim(COSINE, grids.uniform(COSINE, 3)),
                DENOISE,
                (2,),
                guidance=Thresholded(Conditional(), Static(0.1)),
            ),
            "the prediction is not affine in x",
        ),
        (
            lambda: mixture_posterior(
                analytic.gaussian(np.zeros(2), np.ones(2)),
                Measurement(np.ones((1, 1)), Matrix(np.ones((1, 2))), 0.1),
            ),
            "Matrix mixes values of an item",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
