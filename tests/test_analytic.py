"""The oracle of the other tests, against calculus: Tweedie, quadrature, an ODE solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from diffjax.analytic import LaneDenoiser, Mixture, correlated, gaussian, gaussian_flow
from diffjax.schedules import Cosine, Linear
from diffjax.sde import SDES, VP, levels

pytestmark = pytest.mark.typed

frames = pytest.mark.parametrize("frame", SDES)


def mixture(shape=(2,)):
    rng = np.random.default_rng(0)
    mean, var = rng.normal(size=(3, *shape)), rng.uniform(0.05, 0.5, size=(3, *shape))
    return Mixture(jnp.array([0.5, 0.3, 0.2]), jnp.asarray(mean), jnp.asarray(var))


@frames
@pytest.mark.parametrize(("shape", "label"), [((2,), 0), ((2, 3, 1), None)])
def test_denoiser_is_tweedies_formula(frame, shape, label, x64):
    """No sampler test could be trusted: x0 = (x + sigma^2 grad log p) / alpha would fail."""
    data, sde = mixture(shape), SDES[frame](Linear())
    t = jnp.array([0.01, 0.2, 0.5, 0.9])
    x = jnp.asarray(np.random.default_rng(1).normal(size=(4, *shape)))
    cond = None if label is None else {"label": jnp.full(4, label)}

    @jax.jit
    def both(x):
        score = jax.grad(lambda x: data.logp(sde, x, t, cond).sum())(x)
        return data.denoiser(sde)(x, t, cond), score

    p, score = both(x)
    at = levels(sde, np.asarray(t))
    wide = lambda a: a.reshape(4, *(1,) * len(shape))
    x0 = (x + wide(at.sigma) ** 2 * score) / wide(at.alpha)
    np.testing.assert_allclose(p.x0, x0, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(p.eps, -wide(at.sigma) * score, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(p.output, p.x0)


@frames
@pytest.mark.parametrize("label", [None, 2])
def test_density_integrates_to_one(frame, label, x64):
    """Likelihood tests would compare with a function that is no density."""
    data, sde = mixture((1,)), SDES[frame](Linear())
    for time in (0.01, 0.5, 1.0):
        sigma = levels(sde, np.array([time])).sigma[0]
        x = np.linspace(-6 - 9 * sigma, 6 + 9 * sigma, 20_001)
        cond = None if label is None else {"label": jnp.full(x.size, label)}
        logp = jax.jit(data.logp, static_argnums=0)(
            sde, jnp.asarray(x)[:, None], jnp.full(x.size, time), cond
        )
        assert np.trapezoid(np.exp(logp), x) == pytest.approx(1, abs=1e-9)


@frames
def test_density_is_that_of_noisy_samples(frame):
    """The marginal at t would not be the distribution of alpha x0 + sigma eps."""
    data, sde, n, time = mixture((1,)), SDES[frame](Linear()), 4000, 0.3

    @jax.jit
    def draw(key):
        x0, _ = data.sample(key, n)
        x = sde.perturb(x0, jax.random.normal(jax.random.key(1), x0.shape), jnp.full(n, time))
        return x, data.logp(sde, x, jnp.full(n, time))

    x, logp = draw(jax.random.key(0))
    at = levels(sde, np.array([time]))
    std = np.sqrt(at.alpha**2 * np.asarray(data.var)[:, 0] + at.sigma**2)
    weight, mean = np.asarray(data.weight), at.alpha * np.asarray(data.mean)[:, 0]
    cdf = lambda x: stats.norm.cdf(x[..., None], mean, std) @ weight
    assert stats.kstest(np.asarray(x)[:, 0], cdf).pvalue > 1e-3
    pdf = stats.norm.pdf(np.asarray(x), mean, std) @ weight
    np.testing.assert_allclose(logp, np.log(pdf), rtol=1e-4, atol=1e-4)


def test_labels_select_components(x64):
    """Guidance tests would condition on nothing."""
    data, sde, t = mixture(), VP(Linear()), jnp.array([0.1, 0.3, 0.6, 0.9])
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 2)))

    @jax.jit
    def means(label):
        alone = [
            gaussian(m, v).denoiser(sde)(x, t).x0 for m, v in zip(data.mean, data.var, strict=True)
        ]
        both = data.denoiser(sde)(x, t, {"label": label}).x0, data.denoiser(sde)(x, t).x0
        return *both, alone

    labelled, whole, alone = means(jnp.array([0, 1, 2, -1]))
    for k in range(3):
        np.testing.assert_allclose(labelled[k], alone[k][k], rtol=1e-12)
    np.testing.assert_allclose(labelled[3], whole[3], rtol=1e-12)
    assert np.abs(labelled - whole)[:3].max() > 0.01


def test_samples_come_from_the_component_of_their_label():
    """Toy data would train a conditional network on wrong labels."""
    data, n = mixture(), 6000
    x, label = jax.jit(data.sample, static_argnums=1)(jax.random.key(0), n)
    for k in range(3):
        own = np.asarray(x)[np.asarray(label) == k]
        share = float(data.weight[k])
        assert abs(len(own) / n - share) < 5 * np.sqrt(share * (1 - share) / n)
        for d in range(2):
            law = stats.norm(data.mean[k, d], np.sqrt(data.var[k, d]))
            assert stats.kstest(own[:, d], law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("sde", [f(Linear()) for f in SDES.values()] + [VP(Cosine())])
def test_gaussian_flow_is_the_solution_of_the_ode(sde, x64):
    """The main oracle of the samplers would not follow the probability-flow ODE."""
    mean, var = np.array([0.7, -0.3]), np.array([0.2, 1.5])
    x = np.array([[0.4, -2.0]])
    start, end = 0.9, 0.05

    @jax.jit
    def velocity(x, t):
        t = t[None]
        score = (sde.alpha(t) * mean - x) / (sde.alpha(t) ** 2 * var + sde.sigma(t) ** 2)
        return sde.drift(x[None], t)[0] - sde.diffusion(t) ** 2 / 2 * score

    field = lambda t, x: np.asarray(velocity(jnp.asarray(x), jnp.asarray(t)))
    ends, near = (start, end), {"rtol": 1e-9, "atol": 1e-11}
    solved = integrate.solve_ivp(field, ends, x[0], method="DOP853", **near).y[:, -1]
    t, s = jnp.array([start]), jnp.array([end])
    flow = jax.jit(gaussian_flow, static_argnums=0)(
        sde, jnp.asarray(mean), jnp.asarray(var), jnp.asarray(x), t, s
    )
    np.testing.assert_allclose(flow[0], solved, rtol=1e-6)


def autoregression():
    """Return the mean and the covariance of six values of an AR(1) series with rho = 0.9."""
    place = np.arange(6)
    return jnp.asarray(np.sin(place)), jnp.asarray(0.9 ** abs(place[:, None] - place))


def test_lanes_with_one_time_are_the_ordinary_denoiser(x64):
    """A time per value would change the process of data whose values share one."""
    mean, cov = autoregression()
    sde = VP(Cosine())
    x, t = jnp.asarray(np.random.default_rng(2).normal(size=(3, 6))), jnp.array([0.1, 0.5, 0.9])
    lanes = LaneDenoiser(sde, mean, cov)
    expected = correlated(mean, cov).flow_map(sde)(x, t)
    for times in (t, jnp.repeat(t[:, None], 6, 1)):
        found = lanes(x, times)
        np.testing.assert_allclose(found.x0, expected.x0, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.eps, expected.eps, rtol=1e-9, atol=1e-12)


def test_lanes_at_time_0_give_the_schur_complement(x64):
    """Forecasts would not be the conditional mean of what is unknown given what is known."""
    mean, cov = autoregression()
    sde = VP(Cosine())
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, 6)))
    t = jnp.array([[0.0] * 3 + [0.7] * 3, [0.0] * 3 + [0.2, 0.5, 0.9]])
    found = LaneDenoiser(sde, mean, cov)(x, t)
    gain = cov[3:, :3] @ jnp.linalg.inv(cov[:3, :3])
    given = mean[None, 3:] + (x[:, :3] - mean[None, :3]) @ gain.T
    rest = cov[3:, 3:] - gain @ cov[:3, 3:]
    for row in range(2):
        alpha, sigma = sde.alpha(t[row, 3:]), sde.sigma(t[row, 3:])
        var = jnp.outer(alpha, alpha) * rest + jnp.diag(sigma**2)
        score = jnp.linalg.inv(var) @ (x[row, 3:] - alpha * given[row])
        np.testing.assert_allclose(found.x0[row, :3], x[row, :3], atol=1e-3)
        np.testing.assert_allclose(
            found.x0[row, 3:], given[row] + rest @ (alpha * score), atol=1e-3
        )


def test_lanes_refuse_times_of_another_shape():
    """A time per sample and one per value would be broadcast into each other in silence."""
    mean, cov = autoregression()
    needs = r"one number per sample, \(2,\), or per position, \(2, 6\)"
    with pytest.raises(ValueError, match=rf"t has the shape \(2, 5\); needs {needs}"):
        LaneDenoiser(VP(Cosine()), mean, cov)(jnp.zeros((2, 6)), jnp.zeros((2, 5)))


def test_lanes_of_items_with_channels_share_the_time_of_their_position(x64):
    """Series of several channels would be denoised with the noise levels of other values."""
    mean, cov = autoregression()
    rng = np.random.default_rng(4)
    x, t = jnp.asarray(rng.normal(size=(2, 3, 2))), jnp.asarray(rng.uniform(0.1, 0.9, (2, 3)))
    found = LaneDenoiser(VP(Cosine()), mean.reshape(3, 2), cov)(x, t)
    flat = correlated(mean, cov).denoiser(VP(Cosine()))(x.reshape(2, 6), jnp.repeat(t, 2, 1))
    np.testing.assert_allclose(found.x0.reshape(2, 6), flat.x0, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.eps.reshape(2, 6), flat.eps, rtol=1e-9, atol=1e-12)
