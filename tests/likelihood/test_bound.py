"""The variational bound against closed forms: Gaussian data, conditional Gaussians, SciPy."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax.analytic import Mixture, gaussian
from diffjax.denoiser import Denoiser, Model
from diffjax.draws import Discrete, Likelihood, Uniform
from diffjax.grids import GRIDS
from diffjax.likelihood import bound as bound_module
from diffjax.likelihood import decoder_nll, diffusion_term, prior_kl, step_nll, vlb
from diffjax.nets import Network
from diffjax.parameterization import V
from diffjax.prediction import Prediction, predict
from diffjax.schedules import ClassicSubVP, Cosine, Geometric, Linear, Logit, ZeroTerminal
from diffjax.sde import VE, VP, Flow, SubVP, levels

pytestmark = pytest.mark.typed

MEAN, VAR = 0.3, 0.4
SDES = {
    "vp-linear": VP(Linear(), t_min=1e-3),
    "vp-cosine": VP(Cosine(), t_min=0.01, t_max=0.99),
    "ve-geometric": VE(Geometric()),
    "ve-linear": VE(Linear(), t_min=1e-3),
    "sub_vp-classic": SubVP(ClassicSubVP(Linear()), t_min=1e-2),
    "flow-logit": Flow(Logit(), t_min=0.01, t_max=0.99),
}
FRAMES = ["vp-linear", "ve-geometric", "sub_vp-classic", "flow-logit"]
LEVELS = np.arange(256) / 127.5 - 1


def nodes(count):
    """Return x0, eps (9 count, 1) and weights (9,).

    With them the means of squares over data and noise are exact.
    """
    z, w = np.polynomial.hermite_e.hermegauss(3)
    w = w / w.sum()
    x0, eps = (a.ravel() for a in np.meshgrid(MEAN + VAR**0.5 * z, z, indexing="ij"))
    tiled = lambda a: jnp.asarray(np.tile(a, count)[:, None])
    return tiled(x0), tiled(eps), np.outer(w, w).ravel()


def seen(sde, count, t):
    """x0, eps, x_t, t and the exact prediction at each of `count` times, for all nodes."""
    x0, eps, w = nodes(count)
    t = jnp.repeat(t, 9)
    x = sde.perturb(x0, eps, t)
    data = gaussian(jnp.full(1, MEAN), jnp.full(1, VAR))
    return x0, eps, x, t, data.denoiser(sde)(x, t), w


def closed(sde, first=None, last=None):
    """The diffusion term in nats per dimension, from log-SNR `first` to `last` (T17)."""
    ends = 2 * levels(sde, np.array([sde.t_min, sde.t_max])).lam
    snr = np.exp(ends if first is None else np.array([first, last]))
    return 0.5 * np.log((1 + snr[0] * VAR) / (1 + snr[1] * VAR))


@pytest.mark.parametrize("name", SDES)
def test_the_diffusion_term_of_gaussian_data_has_its_closed_form(name, x64):
    """The bound would depend on more of the process than its two ends (T17)."""
    sde, n = SDES[name], 120
    last, first = 2 * levels(sde, np.array([sde.t_max, sde.t_min])).lam
    y, w = np.polynomial.legendre.leggauss(n)

    @jax.jit
    def terms(l):
        t = sde.inverse(l)
        slope = jax.jvp(sde.logsnr, (t,), (jnp.ones_like(t),))[1]
        x0, eps, _, at, prediction, inner = seen(sde, n, t)
        term = diffusion_term(sde, x0, eps, at, prediction).reshape(n, 9)
        return term @ jnp.asarray(inner) / -slope

    term = terms(jnp.asarray((first + last) / 2 + (first - last) / 2 * y))
    found = (w * (first - last) / 2 * term).sum()
    np.testing.assert_allclose(found, closed(sde), rtol=1e-6)


def test_finer_steps_approach_the_bound_from_above(x64):
    """More steps would not tighten the bound, or the discrete bound be no bound.

    On Gaussian data the order is 1.
    """
    sde, found = SDES["vp-linear"], []
    for steps in (64, 128):
        l = jnp.linspace(8.0, -6.0, steps + 1)

        @jax.jit
        def nats(l):
            t = sde.inverse(l)
            x0, _, x, at, prediction, inner = seen(sde, len(l) - 1, t[1:])
            terms = step_nll(sde, x0, x, jnp.repeat(t[:-1], 9), at, prediction)
            return (terms.reshape(-1, 9) @ jnp.asarray(inner)).sum()

        found.append(nats(l))
        snr = np.exp(np.asarray(l))
        expected = 0.5 * ((snr[:-1] - snr[1:]) * VAR / (1 + VAR * snr[1:])).sum()
        np.testing.assert_allclose(found[-1], expected, rtol=1e-8)
    gaps = np.array(found) - closed(sde, 8.0, -6.0)
    assert (gaps > 0).all()
    np.testing.assert_allclose(gaps[0] / gaps[1], 2, rtol=0.05)


@pytest.mark.parametrize("name", FRAMES)
def test_a_step_is_the_kl_of_two_gaussians(name, x64):
    """The discrete bound would bound nothing (T18). log_var runs from posterior to forward."""
    sde, rng = SDES[name], np.random.default_rng(0)
    s, t = np.array([0.1, 0.3, 0.31, 0.6]), np.array([0.2, 0.9, 0.32, 0.95])
    x0, guess, x = rng.normal(size=(3, 4, 2))
    at_s, at_t = levels(sde, s), levels(sde, t)
    (a_s, v_s), (a_t, v_t) = ((at.alpha[:, None], at.sigma[:, None] ** 2) for at in (at_s, at_t))
    ratio = a_t / a_s
    forward = v_t - ratio**2 * v_s  # variance of x_t given x_s
    var = 1 / (1 / v_s + ratio**2 / forward)
    mean = lambda x0: var * (a_s * x0 / v_s + ratio * x / forward)
    gap = (mean(x0) - mean(guess)) ** 2

    @jax.jit
    def step(x0, guess, x, s, t, log_var):
        return step_nll(sde, x0, x, s, t, predict(sde, x, t, guess)._replace(log_var=log_var))

    for log_var in (None, -1.0, 0.4, 1.7):
        share = 0 if log_var is None else (log_var + 1) / 2
        var_p = np.exp((1 - share) * np.log(var) + share * np.log(forward))
        kl = 0.5 * (np.log(var_p / var) + (var + gap) / var_p - 1).sum(1)
        second = None if log_var is None else np.full_like(x, log_var)
        found = step(x0, guess, x, s, t, second)
        np.testing.assert_allclose(found, kl, rtol=1e-8, err_msg=str(log_var))


@pytest.mark.parametrize("log_var", [None, -1.0, 1.0])
def test_the_step_to_the_data_is_the_decoder(log_var, x64):
    """The last step would be a density, although images are discrete."""
    sde, t = SDES["vp-linear"], jnp.array([0.01, 0.02])
    x0, guess = jnp.asarray(LEVELS[[[3, 200], [255, 0]]]), jnp.array([[-0.9, 0.6], [0.9, -0.95]])
    second = None if log_var is None else jnp.full_like(x0, log_var)
    prediction = Prediction(guess, guess, guess, second)
    at, twice = levels(sde, np.asarray(t)), levels(sde, 2 * np.asarray(t))
    given = twice.sigma**2 - (twice.alpha / at.alpha * at.sigma) ** 2
    scale = {
        None: at.sigma / at.alpha,
        -1.0: np.sqrt(at.sigma**2 * given / twice.sigma**2),  # DDPM: of the step before
        1.0: at.sigma,
    }[log_var]
    expected = jax.jit(decoder_nll)(x0, guess, jnp.asarray(scale)[:, None])
    found = jax.jit(lambda: step_nll(sde, x0, x0, jnp.zeros(2), t, prediction))()
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_steps_from_zero_signal_are_finite():
    """One step of a schedule with zero terminal SNR would turn the bound into NaN."""
    sde, x = VP(ZeroTerminal(Linear())), jnp.full((1, 2), 0.5)

    @jax.jit
    @jax.value_and_grad
    def nats(g):
        with_variance = step_nll(
            sde, x, x, jnp.full(1, 0.9), jnp.ones(1), Prediction(g, g, g, 0.3 + 0 * x)
        )
        return (
            step_nll(sde, x, x, jnp.full(1, 0.9), jnp.ones(1), Prediction(g, g, g)) + with_variance
        ).sum()

    value, slope = nats(0.1 * x)
    assert np.isfinite(value) and np.isfinite(slope).all()
    term = diffusion_term(sde, x, x, jnp.ones(1), Prediction(x, 0.1 * x, 0.1 * x))
    assert np.isfinite(term).all()


@pytest.mark.parametrize("name", FRAMES)
def test_prior_is_the_kl_to_pure_noise(name, x64):
    """The bound would ignore the information on the data that is left in the last x_t."""
    sde, x0 = SDES[name], np.random.default_rng(0).normal(size=(3, 2))
    end = levels(sde, np.array([sde.t_max]))
    z, w = np.polynomial.hermite_e.hermegauss(5)
    q, p = stats.norm(end.alpha * x0[..., None], end.sigma), stats.norm(0, end.sigma)
    at = end.alpha * x0[..., None] + end.sigma * z
    expected = ((q.logpdf(at) - p.logpdf(at)) @ w / w.sum()).sum(1)
    np.testing.assert_allclose(prior_kl(sde, jnp.asarray(x0)), expected, rtol=1e-6, atol=1e-14)


CASES = [(m, s) for m in (-1.5, -1.0, 0.1, 0.999, 7.0) for s in (1e-4, 0.004, 0.3, 20.0)]


def test_decoder_is_a_distribution_over_levels(x64):
    """Probabilities would not sum to one, and bits per dimension be too low."""
    x0 = np.tile(LEVELS, len(CASES))[:, None]
    mean, scale = (np.repeat(a, 256)[:, None] for a in zip(*CASES, strict=True))
    nll = np.asarray(jax.jit(decoder_nll)(*(jnp.asarray(a) for a in (x0, mean, scale))))
    np.testing.assert_allclose(np.exp(-nll).reshape(-1, 256).sum(1), 1, rtol=1e-9)
    high, low = (x0 + 1 / 255 - mean) / scale, (x0 - 1 / 255 - mean) / scale
    high, low = np.where(x0 > 0.999, np.inf, high), np.where(x0 < -0.999, -np.inf, low)
    p = np.where(low > 0, stats.norm.sf(low) - stats.norm.sf(high), np.diff(
        stats.norm.cdf([low, high]), axis=0)[0])[:, 0]  # fmt: skip
    assert (p > 1e-280).sum() > 1000
    np.testing.assert_allclose(nll[p > 1e-280], -np.log(p[p > 1e-280]), rtol=1e-8, atol=1e-12)


def test_decoder_is_finite_with_gradient_far_out():
    """One outlier, or a black and white image, would stop training on the bound."""
    x0 = jnp.asarray(np.tile(LEVELS[[0, 1, 128, 254, 255]], 24)[:, None], jnp.float32)
    mean = jnp.asarray(np.repeat([-100.0, -1.0, 0.0, 3.0], 30)[:, None], jnp.float32)
    scale = jnp.asarray(np.tile(np.repeat([1e-5, 1e-3, 0.1, 1.0, 80.0, 1e3], 5), 4)[:, None])
    total = lambda mean, scale: decoder_nll(x0, mean, scale).sum()
    gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))
    value, slopes = gradient(mean, scale.astype(jnp.float32))
    assert np.isfinite(value)
    for slope in slopes:
        assert np.isfinite(slope).all()


DATA = Mixture(jnp.array([0.3, 0.7]), jnp.array([[-0.5], [0.4]]), jnp.array([[0.01], [0.05]]))


@pytest.mark.parametrize("draw", [Uniform(stratified=True), Likelihood()], ids=["uniform", "snr"])
def test_the_estimate_of_the_bound_is_unbiased(draw):
    """Reported bits per dimension would depend on how times are drawn."""
    sde, n = VP(Linear(), t_min=1e-2), 4096
    data = gaussian(jnp.full(1, MEAN), jnp.full(1, VAR))
    x0, _ = data.sample(jax.random.key(0), n)
    keys = jax.random.split(jax.random.key(1), n)
    bound = jax.jit(lambda x0, keys: vlb(data.denoiser(sde), x0, keys, samples=4, draw=draw))
    found = bound(x0, keys)
    mean, error = np.mean(found.diffusion), np.std(found.diffusion) / n**0.5
    assert error < 0.05 * mean
    assert abs(mean - closed(sde) / np.log(2)) < 4 * error
    np.testing.assert_allclose(found.prior, prior_kl(sde, x0) / np.log(2), rtol=1e-5)


def test_the_discrete_bound_is_the_sum_of_its_steps():
    """A step of the grid would be left out, or counted twice."""
    sde, n = VP(Linear(), t_min=1e-2), 4096
    times = np.array([1.0, 0.7, 0.4, 0.2, 0.1, 0.05, 0.0])
    data = gaussian(jnp.full(1, MEAN), jnp.full(1, VAR))
    x0, _ = data.sample(jax.random.key(0), n)
    keys = jax.random.split(jax.random.key(1), n)
    found = jax.jit(lambda x0, keys: vlb(data.denoiser(sde), x0, keys, times=times))(x0, keys)
    snr = np.exp(2 * levels(sde, times[:-1]).lam)
    expected = 0.5 * ((snr[1:] - snr[:-1]) * VAR / (1 + VAR * snr[:-1])).sum() / np.log(2)
    error = np.std(found.diffusion) / n**0.5
    assert error < 0.05 * expected
    assert abs(np.mean(found.diffusion) - expected) < 4 * error
    assert (np.asarray(found.total) == np.asarray(sum(found[:3]))).all()
    np.testing.assert_allclose(found.at_logsnr.sum(1), found.diffusion, rtol=1e-5)


def image_model():
    """A model of images of 2 x 2 x 1, with a network of one number."""

    def apply(params, x, c_noise, cond, *, key=None):
        return params["c"] * x

    model = Model(VP(Cosine(), t_min=1e-3, t_max=0.99), V(), Network(lambda *a: {}, apply))
    return Denoiser(model, {"network": {"c": jnp.asarray(0.2)}})


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
def test_the_estimate_of_an_image_depends_on_its_own_key_only(discrete):
    """The likelihood of a test set would depend on how it is divided into batches."""
    denoise, rng = image_model(), np.random.default_rng(0)
    x0 = jnp.asarray(LEVELS[rng.integers(0, 256, (4, 2, 2, 1))], jnp.float32)
    keys = jax.random.split(jax.random.key(0), 4)
    times = GRIDS["uniform"](denoise.sde, 5) if discrete else None
    bound = jax.jit(lambda x0, keys: vlb(denoise, x0, keys, times=times, samples=3))
    found, turned = bound(x0, keys), bound(x0[::-1], keys[::-1])
    other = bound(x0.at[1:].set(0.0), jnp.concatenate([keys[:1], keys[:3]]))
    for a, b, c in zip(found, turned, other, strict=True):
        assert len(a) == 4 and np.isfinite(a).all() and (np.asarray(a) >= 0).all()
        np.testing.assert_allclose(a, b[::-1], rtol=1e-6)
        np.testing.assert_allclose(a[0], c[0], rtol=1e-6)
    assert len(set(np.asarray(found.total).tolist())) == 4


@pytest.mark.parametrize(
    "times", [[0.99, 0.5, 0.1], [0.9, 0.5, 0.0], [0.0, 0.5, 0.99], [0.99, 0.5, 0.5, 0.0], [0.99]]
)
def test_bad_times_are_refused_by_name(times):
    """A bound over times outside of the process would be reported as its own."""
    x0, keys = jnp.zeros((1, 2, 2, 1)), jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match=r"times=.*needs to decrease from t_max=0\.99 to 0"):
        vlb(image_model(), x0, keys, times=np.array(times))


def test_a_draw_without_a_density_is_refused_by_name():
    """A draw whose density cannot be divided out would bias the bound."""
    keys = jax.random.split(jax.random.key(0), 1)
    with pytest.raises(ValueError, match="discrete t has no density"):
        vlb(image_model(), jnp.zeros((1, 2, 2, 1)), keys, draw=Discrete())


@dataclass(frozen=True)
class Same(Uniform):
    """Equal positions in float32 and float64."""

    def positions(self, key, n):
        return jax.random.uniform(key, (n,), jnp.float32)


@pytest.mark.thorough
def test_float32_is_enough(monkeypatch):
    """Bits per dimension would have fewer digits than papers print."""
    noise = lambda keys, shape: jax.vmap(lambda k: jax.random.normal(k, shape, jnp.float32))(keys)
    monkeypatch.setattr(bound_module, "normal", noise)
    sde, draw = VP(Linear(), t_min=1e-3), Same()
    x0 = np.round((np.asarray(DATA.sample(jax.random.key(0), 32)[0]) + 1) * 127.5) / 127.5 - 1

    def bound(dtype):
        data = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), dtype), DATA)
        keys = jax.random.split(jax.random.key(1), len(x0))
        run = jax.jit(lambda x, keys: vlb(data.denoiser(sde), x, keys, samples=8, draw=draw))
        return jax.device_get(run(jnp.asarray(x0, dtype), keys))

    single = bound(jnp.float32)
    with jax.enable_x64(True):
        double = bound(jnp.float64)
    assert double.diffusion.dtype == np.float64
    for a, b in zip(single, double, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
