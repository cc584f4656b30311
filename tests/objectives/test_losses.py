"""The loss against its closed form on Gaussian data, its terms, its batch and its metrics."""

import dataclasses
import functools
import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats
from silent import SDE, Fixed, images, init, run, seed
from tiers import some

from diffjax.analytic import gaussian
from diffjax.arrays import expand
from diffjax.denoiser import Model
from diffjax.draws import DRAWS, Uniform
from diffjax.likelihood import EDGES
from diffjax.nets import Network
from diffjax.objectives import ERRORS, Context, Denoising
from diffjax.objectives.errors import huber, l2
from diffjax.objectives.pairings import independent, optimal_transport
from diffjax.parameterization import PARAMETERIZATIONS, X0, V
from diffjax.schedules import Cosine, Linear, ZeroTerminal
from diffjax.sde import SDES, VE, VP, levels
from diffjax.training.ema import Constant
from diffjax.training.step import TrainState, make_step
from diffjax.weights import WEIGHTS, min_snr, uniform_x0

MEAN, VAR = 0.5, 0.3
ZERO_TERMINAL = VP(ZeroTerminal(Linear()), t_min=0.01)


@dataclass(frozen=True)
class Recording(Uniform):
    """A draw whose state is all times so far, the newest last."""

    def update(self, state, sde, t, loss, score):
        return jnp.concatenate([state, t])[len(t) :]


@dataclass(frozen=True)
class ExactOutput:
    """A network whose denoiser is exact for the data in its parameters."""

    sde: Any
    parameterization: Any

    def __call__(self, params, x, c_noise, cond, *, key=None):
        t = c_noise / 1000
        x = x / expand(self.parameterization.c_in(self.sde, t), x)
        exact = params["data"].denoiser(self.sde)(x, t)
        a, b = self.parameterization.target(self.sde, t)
        return expand(a, x) * exact.x0 + expand(b, x) * exact.eps


def exact(sde, parameterization, var=VAR, d=8):
    model = Model(sde, parameterization, Network(init, ExactOutput(sde, parameterization)))
    return model, {"network": {"data": gaussian(jnp.full(d, MEAN), jnp.full(d, var))}}


# Errors of F in squared errors of x0, from alpha, sigma and the slope of the log-SNR.
FACTOR = {
    "eps": lambda alpha, sigma, slope: (alpha / sigma) ** 2,
    "score": lambda alpha, sigma, slope: (alpha / sigma**2) ** 2,
    "x0": lambda alpha, sigma, slope: np.ones_like(alpha),
    "v": lambda alpha, sigma, slope: ((alpha**2 + sigma**2) / sigma) ** 2,
    "velocity": lambda alpha, sigma, slope: (alpha * slope / 2) ** 2,
    "edm": lambda alpha, sigma, slope: (alpha / sigma) ** 2 + 4,
}


@pytest.mark.parametrize(
    ("frame", "name"),
    [
        ("vp", "eps"),
        ("flow", "v"),
        ("ve", "edm"),
        *(
            pytest.param(*pair, marks=pytest.mark.thorough)
            for pair in (("ve", "score"), ("sub_vp", "x0"), ("vp", "velocity"))
        ),
    ],
)
def test_expected_loss_of_the_perfect_network(frame, name):
    """Target, weight or distribution of t would not be as the loss states.

    The expected loss is the posterior variance of Gaussian data, averaged over t.
    """
    # The error of a score grows like 1 / sigma^2: few t near 0 would make all of the average.
    sde = SDES[frame](Linear(), t_min=0.3 if name == "score" else 0.02)
    model, params = exact(sde, PARAMETERIZATIONS[name]())

    draw = DRAWS["likelihood" if name == "v" else "uniform"](stratified=True, importance=True)

    @jax.jit
    def losses(key):
        x = MEAN + VAR**0.5 * jax.random.normal(jax.random.fold_in(key, 1), (4096, 8))
        context = Context(model, params, {"x": x}, key)
        of = lambda weight: Denoising(WEIGHTS[weight], draw)(context)[0]
        return {weight: of(weight) for weight in ("uniform_output", "uniform_x0", "elbo")}

    found = losses(seed(0))
    at = levels(sde, np.linspace(sde.t_min, sde.t_max, 20_001))
    slope = 2 * np.gradient(at.lam, at.t)
    factors = {
        "uniform_output": FACTOR[name](at.alpha, at.sigma, slope),
        "uniform_x0": 1.0,
        "elbo": -slope / 2 * (sde.t_max - sde.t_min) * (at.alpha / at.sigma) ** 2,
    }
    x0 = VAR * at.sigma**2 / (at.alpha**2 * VAR + at.sigma**2)
    for weight, factor in factors.items():
        expected = np.trapezoid(factor * x0, at.t) / (sde.t_max - sde.t_min)
        np.testing.assert_allclose(found[weight], expected, rtol=0.05, err_msg=weight)


@pytest.mark.thorough
def test_error_factors_make_losses_equal_across_parameterizations(x64):
    """An imperfect denoiser would have another loss as eps, x0 or v."""
    batch = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)))}

    @jax.jit
    def losses(key):
        models = [exact(SDE, p(), var=2.0, d=3) for p in PARAMETERIZATIONS.values()]
        return jnp.stack([Denoising(min_snr)(Context(*model, batch, key))[0] for model in models])

    found = losses(seed(0))
    np.testing.assert_allclose(found, found[0], rtol=1e-9)


PAIRED = Network(init, lambda params, x, c_noise, cond, key=None: 0.1 * x)


def finite(sde, name, weight, draw, error):
    """Return a loss of a network with the output 0.1 x, and its metrics, which must be finite."""
    model, loss = Model(sde, PARAMETERIZATIONS[name](), PAIRED), Denoising(weight, draw(), error)
    loss.check(model)
    batch = {"x": jnp.asarray(images(2, 3))}
    value, metrics, _ = loss(Context(model, {"network": {}}, batch, seed(0), loss.draw.init()))
    return all(np.isfinite(a).all() for a in jax.tree.leaves((value, metrics)))


@pytest.mark.thorough
@pytest.mark.typed
def test_every_entry_trains():
    """A config could name an entry whose loss is NaN. Each entry occurs at least once."""
    catalogues = WEIGHTS, DRAWS, PARAMETERIZATIONS, ERRORS
    for names in zip(range(max(map(len, catalogues))), *map(itertools.cycle, catalogues)):  # noqa: B905
        _, weight, draw, name, error = names
        assert finite(SDE, name, WEIGHTS[weight], DRAWS[draw], ERRORS[error]), names


@pytest.mark.thorough
def test_every_pair_of_entries_trains_together():
    """A config could name entries whose loss together is NaN.

    Every weight meets every draw; the parameterizations alternate, so that each meets all of both.
    """
    names, met = list(PARAMETERIZATIONS), set()
    for (i, weight), (j, draw) in itertools.product(enumerate(WEIGHTS), enumerate(DRAWS)):
        name, error = names[(i + j) % len(names)], list(ERRORS.values())[j % len(ERRORS)]
        assert finite(SDE, name, WEIGHTS[weight], DRAWS[draw], error), (name, weight, draw)
        met |= {(0, weight, draw), (1, name, weight), (2, name, draw)}
    sizes = len(names), len(WEIGHTS), len(DRAWS)
    assert len(met) == sum(a * b for a, b in itertools.combinations(sizes, 2))


ROUND = [*zip(itertools.cycle(PARAMETERIZATIONS), DRAWS, strict=False)]
"""Every draw with one parameterization."""
ENTRIES = some(itertools.product(PARAMETERIZATIONS, DRAWS), ROUND)


@pytest.mark.parametrize(("name", "draw"), ENTRIES)
def test_zero_terminal_snr_trains_or_is_refused_by_name(name, draw):
    """The one sample at t = 1 would make the batch NaN."""
    refused = {"eps", "score"} & {name}
    weight = list(WEIGHTS.values())[(2 * [*DRAWS].index(draw) + len(name)) % len(WEIGHTS)]
    bad = refused or {"likelihood"} & {draw}
    if bad:
        with pytest.raises(ValueError, match=min(bad)):
            finite(ZERO_TERMINAL, name, weight, DRAWS[draw], l2)
    else:
        assert finite(ZERO_TERMINAL, name, weight, DRAWS[draw], l2), (weight, draw)


def test_mask_and_weight_count_as_they_say():
    """Padding would be trained on, or weighted samples all count alike.

    The error of the output 0 is x0^2. Padding must not dilute the mean over an item's own values.
    """
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
    mask = np.random.default_rng(1).integers(0, 2, size=(4, 3, 1)).astype(np.float32)
    weight = np.array([0.0, 1.0, 2.0, 3.0], np.float32)
    plain = run(Denoising(), {"x": x})
    np.testing.assert_allclose(plain.value, (x**2).mean(), rtol=1e-5)
    np.testing.assert_array_equal(plain.metrics["loss"], plain.value)
    assert set(plain.metrics) == {"loss", "loss_at_logsnr"}
    both = run(Denoising(), {"x": x, "mask": mask, "weight": weight})
    each = (x**2 * mask).sum((1, 2)) / np.maximum(2 * mask.sum((1, 2)), 1)
    expected = (each * weight).mean()
    np.testing.assert_allclose(both.value, expected, rtol=1e-5)


def test_network_is_trained_on_scaled_noisy_data():
    """Training inputs would not be c_in x_t with the label of the same t."""
    sde = VE(Linear())
    asked = run(Denoising(), {"x": np.full((20_000, 1), 0.7, np.float32)}, sde, V(sigma_data=0.5))
    at = levels(sde, np.asarray(asked.t, np.float64))
    eps = (np.asarray(asked.x)[:, 0] * np.sqrt(0.25 + at.sigma**2) - 0.7) / at.sigma
    assert stats.kstest(eps, stats.norm.cdf).pvalue > 1e-3
    assert asked.cond == {}


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_condition_dropout_marks_whole_samples_as_missing(rate):
    """Classifier-free guidance would have no reference, or the model lose its labels."""
    n = 20_000
    cond = {"label": np.arange(n, dtype=np.int32) % 10, "size": np.ones((n, 2), np.float32)}
    batch = {"x": np.zeros((n, 1), np.float32), "cond": cond}
    asked = run(Denoising(condition_dropout=rate), batch).cond
    label, size = np.asarray(asked["label"]), np.asarray(asked["size"])
    gone = label == -1
    np.testing.assert_array_equal(np.isnan(size), np.stack([gone, gone], 1))
    np.testing.assert_array_equal(label[~gone], (np.arange(n) % 10)[~gone])
    assert abs(gone.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / n)


def test_condition_dropout_by_name_reaches_the_network():
    """All conditions would be dropped together, or a loss by name trace again each time."""
    n, rates = 20_000, {"size": 0.5, "label": 0.1}
    cond = {"label": np.zeros(n, np.int32), "size": np.ones((n, 2), np.float32)}
    loss = Denoising(condition_dropout=rates)
    assert hash(loss) == hash(Denoising(condition_dropout=dict(reversed(rates.items()))))
    assert loss.condition_dropout == (("label", 0.1), ("size", 0.5))
    assert dataclasses.replace(loss, steps=5).condition_dropout == loss.condition_dropout
    asked = run(loss, {"x": np.zeros((n, 1), np.float32), "cond": cond}).cond
    label, size = np.asarray(asked["label"]) == -1, np.isnan(asked["size"][:, 0])
    for gone, rate in ((label, 0.1), (size, 0.5), (label & size, 0.05)):
        assert abs(gone.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / n)


def test_losses_by_noise_level_are_a_histogram():
    """Reports would blame the wrong noise levels."""
    x0 = images(400, 3)
    sde = VP(Cosine(), t_min=1e-6)
    found = run(Denoising(), {"x": x0}, sde)
    l = np.asarray(sde.logsnr(found.t), np.float64)
    edges = np.array([-np.inf, *EDGES[1:-1], np.inf])
    counts = np.histogram(l, edges)[0]
    sums = np.histogram(l, edges, weights=(x0.astype(np.float64) ** 2).mean(1))[0]
    np.testing.assert_array_equal(found.metrics["loss_at_logsnr"][1], counts)
    np.testing.assert_allclose(found.metrics["loss_at_logsnr"][0], sums, rtol=1e-4)
    ends = run(Denoising(draw=Fixed(at=1.0)), {"x": x0}, ZERO_TERMINAL)
    assert ends.metrics["loss_at_logsnr"][1, 0] == 400  # log-SNR -inf: the outer bins are open


@pytest.mark.typed
def test_parts_of_a_batch_share_strata_state_and_histogram():
    """Each part would have its own strata, or its losses count by the number of parts."""
    n, parts = 16, 4
    network = Network(init, lambda params, x, c_noise, cond, key=None: 0 * x)
    model, loss = Model(SDE, X0(), network), Denoising(draw=Recording(stratified=True))
    optimizer, params = optax.sgd(0.1), {"network": {}}
    state = TrainState(
        jnp.asarray(3), params, {"mean": params}, optimizer.init(params), jnp.zeros(n)
    )
    step = jax.jit(make_step(model, loss, optimizer, {"mean": Constant(0.5)}, 0, accumulate=parts))
    new, metrics = step(state, {"x": jnp.full((n, 2), 0.5)})
    t = np.sort(np.asarray(new.loss))
    np.testing.assert_allclose(np.diff(t), 0.99 / n, rtol=1e-3)
    sums, counts = np.asarray(metrics["loss_at_logsnr"], np.float64)
    assert (counts > 0).sum() > 3 and counts.sum() == n / parts
    np.testing.assert_allclose(sums, 0.25 * counts, rtol=1e-5)


def test_equal_losses_and_models_do_not_retrace():
    """Every evaluation would compile again."""
    traces = []

    def apply(params, x, c_noise, cond, *, key=None):
        traces.append(x)
        return 0 * x

    @functools.partial(jax.jit, static_argnums=(0, 1))
    def value(loss, model, x):
        return loss(Context(model, {"network": {}}, {"x": x}, seed(0)))[0]

    for _ in range(2):
        loss = Denoising(min_snr, DRAWS["log_normal"](mean=0.0), huber, condition_dropout=0.1)
        value(loss, Model(VP(Linear(), t_min=0.01), V(), Network(init, apply)), jnp.ones((2, 3)))
    assert len(traces) == 1
    assert Denoising() != Denoising(uniform_x0) and Denoising() != Denoising(draw=Fixed())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"condition_dropout": -0.1}, "condition_dropout=-0.1: needs a rate from 0 to 1"),
        ({"condition_dropout": float("nan")}, "condition_dropout=nan"),
        (
            {"condition_dropout": {"a": 0.1, "b": 2.0}},
            r"condition_dropout\['b'\]=2.0: needs a rate",
        ),
        ({"hybrid": -1.0}, "hybrid=-1.0: needs hybrid >= 0"),
        ({"hybrid": float("nan")}, "hybrid=nan"),
        ({"steps": 1}, "steps=1: needs steps >= 2"),
    ],
)
def test_bad_settings_are_refused_by_name(settings, message):
    """The model would train without any label, or on a loss that has no minimum."""
    with pytest.raises(ValueError, match=message):
        Denoising(**settings)


pair = jax.jit(lambda x0, eps: optimal_transport(x0, eps, None))


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_the_pairing_is_the_cheapest_one(n):
    """Paths of noise and data would cross; SciPy solves the same assignment problem."""
    rng = np.random.default_rng(n)
    x0, eps = rng.normal(size=(2, n, 3, 2)).astype(np.float32)
    paired = np.asarray(pair(x0, eps))
    rows = lambda a: sorted(map(bytes, a))
    assert rows(paired) == rows(eps)  # a permutation keeps its distribution
    cost = ((x0[:, None] - eps[None]) ** 2).sum((2, 3)).astype(np.float64)
    best = cost[optimize.linear_sum_assignment(cost)].sum()
    assert ((x0 - paired) ** 2).sum() == pytest.approx(best, rel=1e-5)
    assert n < 7 or best < 0.9 * np.trace(cost)


@pytest.mark.typed
def test_the_network_sees_the_paired_noise():
    """Training would silently continue with independent pairs."""
    batch = {"x": np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)}
    x = {
        p: run(Denoising(draw=Fixed(), pairing=p), batch).x
        for p in (independent, optimal_transport)
    }
    alpha, sigma = SDE.alpha(jnp.array(0.5)), SDE.sigma(jnp.array(0.5))
    eps = {p: (x[p] - alpha * batch["x"]) / sigma for p in x}
    wanted = pair(batch["x"], jnp.asarray(eps[independent]))
    np.testing.assert_allclose(eps[optimal_transport], wanted, atol=1e-5)


def test_a_bound_needs_noise_of_its_own():
    """The bound would bound nothing, as paired noise is no Gaussian channel."""
    model = Model(SDE, X0(), Network(init, lambda *a, key=None: 0 * a[1]))
    with pytest.raises(ValueError, match=r"independent noise; allowed: pairing='independent'"):
        Denoising(pairing=optimal_transport, hybrid=1.0).check(model)
    Denoising(pairing=optimal_transport).check(model)


def test_augmentation_labels_are_never_dropped():
    """A rotated image would pass for an upright one, and the augmentation leak into samples."""
    told = {"augment": np.ones((16, 3), np.float32)}
    batch = {"x": np.zeros((16, 2), np.float32), "cond": {"label": np.arange(16)}, "kept": told}
    seen = run(Denoising(condition_dropout=1.0), batch).cond
    np.testing.assert_array_equal(seen["augment"], told["augment"])
    assert (seen["label"] == -1).all()
