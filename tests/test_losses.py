"""The loss against its closed form on Gaussian data, its weights, its draws of t, its batch."""

from dataclasses import dataclass
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax.analytic import gaussian
from diffjax.arrays import expand
from diffjax.denoiser import Model
from diffjax.losses import DRAWS, WEIGHTS, denoising, uniform_eps, uniform_x0
from diffjax.nets import Network
from diffjax.parameterization import PARAMETERIZATIONS, V
from diffjax.schedules import Linear
from diffjax.sde import SDES, VE, VP, levels

MEAN, VAR = 0.5, 0.3


def seed(n):
    """A key whose programs compile fast."""
    return jax.random.key(n, impl="unsafe_rbg")


def init(key, x, c_noise, cond):
    return {}


@dataclass(frozen=True)
class ExactOutput:
    """The network whose denoiser is exact for the data in its parameters."""

    sde: Any
    parameterization: Any

    def __call__(self, params, x, c_noise, cond, *, key=None):
        t = c_noise / 1000
        x = x / expand(self.parameterization.c_in(self.sde, t), x)
        exact = params["data"].denoiser(self.sde)(x, t)
        a, b = self.parameterization.target(self.sde, t)
        return expand(a, x) * exact.x0 + expand(b, x) * exact.eps


def exact(sde, parameterization, var=VAR):
    model = Model(sde, parameterization, Network(init, ExactOutput(sde, parameterization)))
    return model, {"network": {"data": gaussian(jnp.full(8, MEAN), jnp.full(8, var))}}


def silent(loss, sde, parameterization, batch):
    """The loss of a model whose network says 0, and what that network was asked (x, c_noise, cond).

    The network must be given a dropout key.
    """
    asked = []

    def apply(params, x, c_noise, cond, *, key=None):
        assert key is not None
        asked.append((x, c_noise, cond))
        return jnp.zeros_like(x)

    @jax.jit
    def run(batch):
        model = Model(sde, parameterization, Network(init, apply))
        value, metrics, _ = loss(model, {"network": {}}, batch, seed(0), None)
        return value, metrics, asked[0]

    return run(batch)


# Weighted error of F at a noise level, given its own and those of the two views.
CLOSED = {
    "uniform_output": lambda target, var_x0, var_eps: target,
    "uniform_x0": lambda target, var_x0, var_eps: var_x0,
    "uniform_eps": lambda target, var_x0, var_eps: var_eps,
}
# Var F given x_t as a multiple of Var x0, the error factors (d eps = -alpha / sigma d x0), from
# alpha, sigma and the slope of the log-SNR.
FACTOR = {
    "eps": lambda alpha, sigma, slope: (alpha / sigma) ** 2,
    "score": lambda alpha, sigma, slope: (alpha / sigma**2) ** 2,
    "x0": lambda alpha, sigma, slope: np.ones_like(alpha),
    "v": lambda alpha, sigma, slope: ((alpha**2 + sigma**2) / sigma) ** 2,
    "velocity": lambda alpha, sigma, slope: (alpha * slope / 2) ** 2,
    "edm": lambda alpha, sigma, slope: (alpha / sigma) ** 2 + 4,
}


def expected(sde, parameterization, weight, n=20_001):
    """The loss of the perfect network: posterior variances of Gaussian data, averaged over t."""
    at = levels(sde, np.linspace(sde.t_min, sde.t_max, n))
    var_x0 = VAR * at.sigma**2 / (at.alpha**2 * VAR + at.sigma**2)
    var_eps = var_x0 * (at.alpha / at.sigma) ** 2
    factor = FACTOR[parameterization](at.alpha, at.sigma, 2 * np.gradient(at.lam, at.t))
    values = CLOSED[weight](factor * var_x0, var_x0, var_eps)
    return np.trapezoid(values, at.t) / (sde.t_max - sde.t_min)


def test_every_weight_and_parameterization_has_a_closed_form():
    """A weight in the catalogue without its closed form here would go untested."""
    assert set(CLOSED) == set(WEIGHTS) and set(FACTOR) == set(PARAMETERIZATIONS)


@pytest.mark.parametrize(
    ("frame", "parameterization"),
    [("vp", p) for p in PARAMETERIZATIONS] + [(f, "v") for f in SDES if f != "vp"],
)
def test_expected_loss_of_the_perfect_network(frame, parameterization):
    """Target, weight or distribution of t would not be what the loss says it is."""
    # The error of a score grows like 1 / sigma^2: few t near 0 would make all of the average.
    sde = SDES[frame](Linear(), t_min=0.1 if parameterization == "score" else 0.01)
    model, params = exact(sde, PARAMETERIZATIONS[parameterization]())

    @jax.jit
    def losses(key):
        x = MEAN + VAR**0.5 * jax.random.normal(key, (256, 8))
        run = lambda w, d: denoising(WEIGHTS[w], DRAWS[d])(model, params, {"x": x}, key, None)[0]
        cases = {(w, "uniform") for w in WEIGHTS} | {("uniform_output", d) for d in DRAWS}
        return {case: run(*case) for case in sorted(cases)}

    values = jax.lax.map(losses, jax.random.split(seed(0), 200))
    for (weight, _draw), v in values.items():
        mean, error = np.mean(v), np.std(v) / len(v) ** 0.5
        assert error < 0.02 * mean
        assert abs(mean - expected(sde, parameterization, weight)) < 5 * error


@pytest.mark.parametrize("frame", SDES)
def test_error_factors_make_losses_equal_across_parameterizations(frame, x64):
    """The same imperfect denoiser would be judged differently as eps, x0 or v."""
    sde = SDES[frame](Linear(), t_min=0.01)
    batch = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(32, 8)))}

    @jax.jit
    def losses(key):
        models = [exact(sde, p(), var=2.0) for p in PARAMETERIZATIONS.values()]
        run = lambda weight, model: denoising(weight)(*model, batch, key, None)[0]
        return [jnp.stack([run(w, m) for m in models]) for w in (uniform_x0, uniform_eps)]

    by_x0, by_eps = losses(seed(0))
    np.testing.assert_allclose(by_x0, by_x0[0], rtol=1e-9)
    np.testing.assert_allclose(by_eps, by_eps[0], rtol=1e-9)
    assert abs(by_eps[0] / by_x0[0] - 1) > 0.1


@pytest.mark.parametrize("draw", DRAWS)
def test_each_t_is_uniform(draw):
    """The loss would weigh noise levels in a way that its weight does not say."""
    sde = VP(Linear(), t_min=0.1, t_max=0.7)
    sample = jax.jit(jax.vmap(lambda key: DRAWS[draw](sde, key, 5, None)[0]))
    t = np.asarray(sample(jax.random.split(jax.random.key(0), 2000)))
    for column in t.T:
        assert stats.kstest(column, stats.uniform(0.1, 0.6).cdf).pvalue > 1e-3
    assert DRAWS[draw](sde, jax.random.key(0), 5, "state")[1] == "state"


def test_stratified_covers_the_range():
    """One t per stratum: the variance of the loss over batches would be that of independent t."""
    sde, n = VP(Linear(), t_min=0.1, t_max=0.7), 16
    keys = jax.random.split(jax.random.key(0), 30)
    many = lambda draw: jax.jit(jax.vmap(lambda key: draw(sde, key, n, None)[0]))(keys)
    t = {name: np.asarray(many(draw)) for name, draw in DRAWS.items()}
    gaps = np.diff(np.sort(t["stratified"], axis=1), axis=1)
    np.testing.assert_allclose(gaps, 0.6 / n, rtol=1e-3)
    assert np.var(t["stratified"].mean(1)) < 0.05 * np.var(t["uniform"].mean(1))


def test_network_is_trained_on_scaled_noisy_data():
    """Training inputs would not be c_in x_t with the label of the same t, or dropout never on."""
    sde, batch = VE(Linear()), {"x": jnp.full((20_000, 1), 0.7)}
    _, _, (x, c_noise, cond) = silent(denoising(), sde, V(sigma_data=0.5), batch)
    at = levels(sde, np.asarray(c_noise, np.float64) / 1000)
    eps = (np.asarray(x)[:, 0] * np.sqrt(0.25 + at.sigma**2) - 0.7) / at.sigma
    assert stats.kstest(eps, stats.norm.cdf).pvalue > 1e-3
    assert cond == {}


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_condition_dropout_marks_whole_samples_as_missing(rate):
    """Classifier-free guidance would have no reference, or the model lose its labels."""
    n = 20_000
    cond = {"label": jnp.arange(n) % 10, "size": jnp.ones((n, 2))}
    batch = {"x": jnp.zeros((n, 1)), "cond": cond}
    asked = silent(denoising(condition_dropout=rate), VP(Linear()), V(), batch)[2][2]
    label, size = np.asarray(asked["label"]), np.asarray(asked["size"])
    gone = label == -1
    np.testing.assert_array_equal(np.isnan(size), np.stack([gone, gone], 1))
    np.testing.assert_array_equal(label[~gone], (np.arange(n) % 10)[~gone])
    assert abs(gone.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / n)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_bad_dropout_rate_is_refused_by_name(rate):
    """The model would train without any label, or with all of them."""
    with pytest.raises(ValueError, match=rf"condition_dropout={rate}"):
        denoising(condition_dropout=rate)


@pytest.mark.fast
def test_mask_and_weight_count_as_they_say():
    """Padding would be trained on, or weighted samples count alike.

    With F = x0 and a network that says 0, the error of each value is its square.
    """
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    mask = np.random.default_rng(1).integers(0, 2, size=(4, 3, 1)).astype(np.float32)
    weight = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    run = lambda **batch: silent(denoising(), VP(Linear()), PARAMETERIZATIONS["x0"](), batch)
    value, metrics, _ = run(x=jnp.asarray(x))
    assert value == pytest.approx((x**2).mean(), rel=1e-5)
    chex.assert_trees_all_equal(metrics, {"loss": value})
    value = run(x=jnp.asarray(x), mask=jnp.asarray(mask), weight=jnp.asarray(weight))[0]
    assert value == pytest.approx(((x**2 * mask).mean((1, 2)) * weight).mean(), rel=1e-5)


def test_state_of_the_draw_goes_round():
    """An importance sampler of t would forget what it has seen."""

    def count(sde, key, n, state):
        return jnp.full(n, 0.5), state + 1

    model, params = exact(VP(Linear()), V())
    run = jax.jit(denoising(draw=count), static_argnums=0)
    assert run(model, params, {"x": jnp.zeros((2, 8))}, seed(0), jnp.asarray(3))[2] == 4
