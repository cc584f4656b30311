"""The density by the ODE against closed forms of Gaussians and mixtures, in all frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax.analytic import Mixture, gaussian
from diffjax.denoiser import Denoiser, Model, reframe
from diffjax.likelihood import DEQUANTIZERS, TRACES, Ode, decode, encode, log_weights, logp
from diffjax.likelihood.ode import field, span, traced
from diffjax.nets import Network
from diffjax.parameterization import PARAMETERIZATIONS
from diffjax.schedules import ClassicSubVP, Cosine, Geometric, Linear, Logit
from diffjax.sde import VE, VP, Flow, SubVP, levels

MEAN, VAR = np.array([0.3, -0.2, 0.1]), np.array([0.4, 0.02, 1.5])
FRAMES = {
    "vp": VP(Linear(), t_min=1e-3),
    "vp-zero": VP(Cosine(), t_min=0.01, t_max=1.0),  # alpha is 0 at t_max
    "ve": VE(Geometric()),
    "sub_vp": SubVP(ClassicSubVP(Linear()), t_min=1e-2),
    "flow": Flow(Logit(), t_min=0.01, t_max=1.0),
}
ROWS = Ode(steps=120)
DATA = Mixture(
    jnp.array([0.3, 0.7]),
    jnp.array([[-0.5, 0.3], [0.4, -0.2]]),
    jnp.array([[0.03, 0.05], [0.06, 0.02]]),
)


def keys(n):
    return jax.random.split(jax.random.key(0), n)


def at_end(sde, n):
    """t_min for n samples, and alpha there."""
    return jnp.full(n, sde.t_min), levels(sde, np.array([sde.t_min])).alpha[0]


def closed(sde, x0, mean, var):
    """Latent and log-density of Gaussian data in float64: the flow is linear, and its prior is
    N(0, sigma^2)."""
    ends = levels(sde, np.array([sde.t_min, sde.t_max]))
    std = np.sqrt(var + (ends.sigma[0] / ends.alpha[0]) ** 2)
    last = np.sqrt(ends.alpha[1] ** 2 * var + ends.sigma[1] ** 2)
    latent = ends.alpha[1] * mean + last / std * (x0 - mean)
    each = stats.norm(0, ends.sigma[1]).logpdf(latent) + np.log(last / std)
    return latent, each.reshape(len(x0), -1).sum(1)


@pytest.mark.parametrize(
    ("name", "ode"),
    [
        *(pytest.param(name, ROWS, id=name) for name in ("vp-zero", "ve", "flow")),
        *(pytest.param(n, ROWS, id=n, marks=pytest.mark.thorough) for n in ("vp", "sub_vp")),
        pytest.param(
            "vp-zero", Ode(rtol=1e-7, atol=1e-7), id="vp-zero-adaptive", marks=pytest.mark.thorough
        ),
    ],
)
def test_gaussian_data_have_their_density(name, ode, x64):
    """Bits per dimension would be wrong by more than papers print: 1e-5 nats per dimension.

    The closed form is that of the flow and of its prior.
    """
    sde = FRAMES[name]
    x0 = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)) * VAR**0.5 + MEAN)
    denoise = gaussian(jnp.asarray(MEAN), jnp.asarray(VAR)).denoiser(sde)
    found = jax.jit(lambda x0: logp(denoise, x0, keys(8), ode=ode))(x0)
    latent, expected = closed(sde, np.asarray(x0), MEAN, VAR)
    assert found.arrived.all()
    scale = levels(sde, np.array([sde.t_max])).sigma[0]
    np.testing.assert_allclose(found.latent, latent, rtol=1e-5, atol=1e-5 * scale)
    np.testing.assert_allclose(found.logp / 3, expected / 3, atol=1e-5)


def test_five_digits_in_float32_of_images_and_no_noise_of_the_trace():
    """Bits per dimension would have fewer digits than papers print.

    Where the Jacobian is diagonal, random signs give the exact trace, without noise.
    """
    sde, rng = FRAMES["vp"], np.random.default_rng(0)
    mean, var = rng.uniform(-1, 1, (8, 8, 3)), 10 ** rng.uniform(-4, 0.5, (8, 8, 3))
    x0 = np.float32(mean + var**0.5 * rng.normal(size=(4, 8, 8, 3)))
    denoise = gaussian(jnp.asarray(mean, jnp.float32), jnp.asarray(var, jnp.float32)).denoiser(sde)
    run = jax.jit(lambda x0: logp(denoise, x0, keys(4), ode=ROWS, trace=TRACES["rademacher"]).logp)
    _, expected = closed(sde, x0.astype(np.float64), mean, var)
    np.testing.assert_allclose(run(jnp.asarray(x0)), expected, rtol=1e-5)


def test_a_density_integrates_to_one_and_is_that_of_the_mixture(x64):
    """A 2-D picture of a density would show no density.

    Tolerances are 1e-3 of the integral and 1e-4 of the values. With alpha = 0 at t_max the prior is
    the distribution of x_t; otherwise that gap is seen as well.
    """
    sde = FRAMES["vp-zero"]
    axis = np.linspace(-2.2, 2.2, 56)
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    density = jax.jit(lambda x: logp(DATA.denoiser(sde), x, keys(len(x)), ode=ROWS).logp)
    found = np.asarray(density(jnp.asarray(points)))
    assert abs(np.exp(found).sum() * (axis[1] - axis[0]) ** 2 - 1) < 1e-3
    t, alpha = at_end(sde, len(points))
    exact = DATA.logp(sde, jnp.asarray(points) * alpha, t) + 2 * np.log(alpha)
    near = np.asarray(exact) > -10
    assert near.sum() > 500
    np.testing.assert_allclose(found[near], np.asarray(exact)[near], atol=1e-4)


def toy_denoiser():
    """A nonlinear network of two numbers, without any closed form."""

    def apply(params, x, c_noise, cond, *, key=None):
        return jnp.tanh(x[:, ::-1] * params["a"][None]) + 0.1 * x * jnp.cos(c_noise)[:, None]

    sde = VP(Linear(), t_min=1e-3)
    model = Model(sde, PARAMETERIZATIONS["v"](), Network(lambda *a: {}, apply))
    return Denoiser(model, {"network": {"a": jnp.asarray([0.8, 1.3])}})


@pytest.mark.thorough
@pytest.mark.typed
def test_the_frame_does_not_matter(x64):
    """The likelihood of a network would depend on the process in which it is written (1e-5)."""
    denoise = toy_denoiser()
    sde = denoise.sde
    first, last = 2 * levels(sde, np.array([sde.t_min, sde.t_max])).lam
    other = [VE(Linear(), t_min=1e-3), Flow(Linear(), t_min=1e-3)]
    x0 = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)))
    density = lambda d: logp(d, x0, keys(4), ode=ROWS).logp
    found = jax.jit(lambda d: [density(d), *(density(reframe(d, s)) for s in other)])(denoise)
    assert first > last and np.std(found[0]) > 0.1
    for a in found[1:]:
        np.testing.assert_allclose(a, found[0], rtol=1e-5)


@pytest.mark.parametrize("name", PARAMETERIZATIONS)
def test_the_field_and_its_trace_are_exact_for_every_parameterization(name, x64):
    """The likelihood would depend on the parameterization of the network."""
    sde = VP(Linear(), t_min=1e-3, t_max=0.99)
    data = gaussian(jnp.asarray(MEAN), jnp.asarray(VAR)).denoiser(sde)
    parameterization = PARAMETERIZATIONS[name](c_noise=lambda sde, t: t)

    def apply(params, x, c_noise, cond, *, key=None):
        """The best F: linear in x, with the time as its noise label."""
        x = x / parameterization.c_in(sde, c_noise)[:, None]
        seen = data(x, c_noise)
        a, b = parameterization.target(sde, c_noise)
        return a[:, None] * seen.x0 + b[:, None] * seen.eps

    model = Model(sde, parameterization, Network(lambda *a: {}, apply))
    denoise = Denoiser(model, {"network": {}})
    end, begin = (float(w) for w in span(denoise, jnp.float64)[::-1])

    @jax.jit
    def found(w):
        y = jnp.asarray([0.2, -0.5, 0.9])
        return y, *traced(lambda y: field(denoise, y, w, None), y, jnp.eye(3))

    for w in np.linspace(end, begin, 5)[1:-1]:
        y, slope, trace = found(w)
        alpha, sigma = np.tanh(w), 1 / np.cosh(w)
        rate = sigma**2 * alpha * (VAR - 1) / (alpha**2 * VAR + sigma**2)
        shift = sigma * MEAN * (sigma + alpha**2 / sigma - alpha * (alpha * VAR * (
            sigma + alpha**2 / sigma)) / (alpha**2 * VAR + sigma**2))  # fmt: skip
        np.testing.assert_allclose(slope, rate * y + shift, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(trace, rate.mean(), rtol=1e-6)


@pytest.mark.typed
def test_latents_decode_to_the_data():
    """Interpolations would not begin and end with their two images (float32)."""
    denoise, x0 = toy_denoiser(), jnp.asarray([[0.3, -0.4], [1.0, 0.2]])
    there = jax.jit(lambda x: encode(denoise, x, ode=ROWS))(x0)
    back = jax.jit(lambda x: decode(denoise, x, ode=ROWS))(there)
    assert np.abs(there - x0).min() > 0.01
    np.testing.assert_allclose(back, x0, atol=1e-4)


MATRIX = np.random.default_rng(0).normal(size=(8, 8))


def estimates(name, matrix, **settings):
    draw = lambda key: TRACES[name](key, 8, **settings)
    v = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(1), 8000)), np.float64)
    return np.einsum("nki,ij,nkj->n", v, matrix, v)


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.typed
def test_estimates_of_a_trace_are_unbiased(name):
    """The likelihood would be biased, or its standard error be wrong."""
    found = estimates(name, MATRIX)
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - np.trace(MATRIX)) < 4 * error + 1e-4
    diagonal = estimates(name, np.diag(np.diag(MATRIX)))
    if name in ("exact", "rademacher", "probing"):
        assert diagonal.std() < 1e-5  # no noise where the Jacobian is diagonal


def test_variances_are_those_of_the_docstrings():
    """Users would choose a trace estimator by variances that it does not have."""
    s = (MATRIX + MATRIX.T) / 2
    off = s - np.diag(np.diag(s))
    modulo = np.subtract.outer(np.arange(8), np.arange(8)) % 4 == 0
    near = lambda name, var, **k: np.testing.assert_allclose(
        estimates(name, MATRIX, **k).var(), var, rtol=0.1, atol=1e-8
    )
    near("gaussian", (s**2).sum(), probes=2)
    near("rademacher", (off**2).sum(), probes=2)
    near("probing", 2 * (off**2 * modulo).sum(), probes=4)
    near("probing", 0, probes=8)
    near("orthogonal", 0, probes=8)
    assert estimates("orthogonal", MATRIX, probes=4).var() < 0.9 * (s**2).sum() / 2


@pytest.mark.parametrize("rho", [1e-4, 2e-3, 0.1])
@pytest.mark.parametrize("name", DEQUANTIZERS)
def test_noise_within_a_bin_has_its_stated_density(name, rho):
    """Bits per dimension would be too low: E_q[p / q] would not be the mass of the bin."""
    noise = jax.vmap(lambda key: DEQUANTIZERS[name](key, (1,), jnp.asarray(rho)))
    u, log_q = noise(jax.random.split(jax.random.key(0), 20_000))
    u, log_q = np.asarray(u, np.float64)[:, 0], np.asarray(log_q, np.float64)
    assert (np.abs(u) <= 1 / 255 + 1e-8).all()
    if name == "none":
        assert (u == 0).all() and (log_q == 0).all()
        return
    p = stats.norm(2e-4, max(rho, 1e-3))  # not far from q, so that the mean has an error
    if name == "uniform" or rho >= 1e-3:
        ratio = p.pdf(u) / np.exp(log_q)
        mass = np.diff(p.cdf([-1 / 255, 1 / 255]))[0]
        assert abs(ratio.mean() - mass) < 5 * ratio.std() / len(u) ** 0.5 + 1e-6
    if name == "truncated_normal":
        edge = 1 / 255 / rho
        np.testing.assert_allclose(u.std(), rho * stats.truncnorm(-edge, edge).std(), rtol=0.03)


@pytest.mark.thorough
@pytest.mark.typed
def test_importance_weights_tighten_the_bound_and_depend_on_the_image_alone():
    """A reported number would be no bound, or change with the batch.

    For N(m, v) data the probability of a grey level is an integral in closed form.
    """
    sde = VP(Cosine(), t_min=2e-3, t_max=0.99)
    rho = float((at := levels(sde, np.array([2e-3]))).sigma[0] / at.alpha[0])
    std = 0.004
    denoise = gaussian(jnp.full(1, 0.1), jnp.full(1, std**2)).denoiser(sde)
    x0 = jnp.asarray(np.round((np.array([0.1, 0.104, 0.09]) + 1) * 127.5) / 127.5 - 1)[:, None]

    @jax.jit
    def run(x0, own):
        ode = Ode(steps=60)
        return [
            log_weights(denoise, x0, own, None, ode, TRACES["exact"], DEQUANTIZERS[q], 1000)[0]
            for q in ("uniform", "truncated_normal")
        ]

    found = [np.asarray(a, np.float64) for a in run(x0, keys(3))]
    turned = run(x0[::-1], keys(3)[::-1])
    law = stats.norm(0.1, np.hypot(std, rho))
    edges = np.asarray(x0) + np.array([-1, 1]) / 255
    mass = np.log(np.diff(law.cdf(edges))[:, 0])
    for a, b in zip(found, turned, strict=True):
        np.testing.assert_allclose(a, np.asarray(b)[::-1], rtol=1e-5, atol=1e-5)
        mean, best = a.mean(1), np.log(np.exp(a).mean(1))
        assert (mean < mass + 1e-3).all()
        error = a.std(1) / len(a.T) ** 0.5
        assert (np.abs(best - mass) < 5 * error + 1e-3).all()
        assert (best - mean > 0).all() and (best - mean).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: Ode(solver="euler"), "solver='euler': unknown; known: 'heun'"),
        (lambda: Ode(rtol=0.0), "rtol=0.0: needs 0 < rtol < 1"),
        (lambda: Ode(steps=-1), "steps=-1: needs steps >= 0"),
        (lambda: TRACES["probing"](jax.random.key(0), 8, probes=3), "probes=3: .* power of two"),
        (lambda: TRACES["orthogonal"](jax.random.key(0), 2, probes=3), "probes=3: 2 dimensions"),
        (lambda: TRACES["gaussian"](jax.random.key(0), 2, probes=0), "probes=0"),
    ],
)
def test_bad_settings_are_refused_by_name(make, part):
    with pytest.raises(ValueError, match=part):
        make()
