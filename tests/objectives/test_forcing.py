"""Diffusion forcing: times of lanes, known ones, and the loss against its closed form."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from diffjax import draws, nets
from diffjax.analytic import correlated
from diffjax.arrays import expand
from diffjax.data.form import labelled
from diffjax.denoiser import Model
from diffjax.nets import Network
from diffjax.objectives import Context, Denoising, Forcing, Task
from diffjax.parameterization import X0, V, t
from diffjax.schedules import Cosine
from diffjax.sde import VP
from diffjax.weights import uniform_x0

SDE = VP(Cosine())
SIZE, MANY = 6, 4096
COV = 0.9 ** abs(np.subtract.outer(np.arange(SIZE), np.arange(SIZE)))
DATA = correlated(jnp.zeros(SIZE), jnp.asarray(COV))


@dataclass(frozen=True)
class Exact:
    """The exact denoiser of `DATA` as a network that predicts x0, with labels t."""

    def __call__(self, params, x, c_noise, cond, *, key=None):
        return params["scale"] * DATA.denoiser(SDE)(x, c_noise).x0


@dataclass(frozen=True)
class Seen:
    """A network whose output is its input, so that the error shows what it was given."""

    def __call__(self, params, x, c_noise, cond, *, key=None):
        return params["x"] * x + params["t"] * expand(c_noise, x)


def model(apply: Any, target: Any = None):
    network = Network(lambda *shapes: {}, apply, lane=lambda shape: 1)
    return Model(SDE, target or X0(c_noise=t, scale_input=False), network)


@functools.cache
def evaluated(loss, key=0, size=MANY):
    """Return the loss of the exact denoiser of items of `DATA`, with its metrics."""
    x = DATA.sample(jax.random.key(1), size)
    context = Context(model(Exact()), {"network": {"scale": 1.0}}, {"x": x}, jax.random.key(key))
    value, metrics, _ = jax.jit(lambda x: loss(context._replace(batch={"x": x})))(x)
    return value, metrics


def drawn(loss, size=MANY, count=SIZE):
    key = jax.random.key(0)
    batch = loss.before_split({"x": jnp.zeros((size, count))}, key)
    return jax.jit(lambda b: loss._times(model(Exact()), b, key, (), count))(batch)


def test_the_loss_of_the_exact_denoiser_is_its_posterior_variance():
    """Lanes would be weighted by, or noised at, the times of other lanes."""
    loss = Forcing(known=0.2, shared=0.2, past=0.3, sizes=(2,))
    value, metrics = evaluated(loss)
    key = jax.random.split(jax.random.key(0), 4)[0]
    times, _, known = loss._times(model(Exact()), {"x": jnp.zeros((MANY, SIZE))}, key, (), 3)
    known = np.asarray(known)
    told = np.repeat(np.where(known, SDE.t_min, times), 2, 1)
    alpha, sigma = np.asarray(SDE.alpha(told), float), np.asarray(SDE.sigma(told), float)
    seen = alpha[:, :, None] * COV * alpha[:, None]
    inverse = np.linalg.inv(seen + np.eye(SIZE) * (sigma**2)[:, None])
    gain = (COV * alpha[:, None]) @ inverse
    left = np.diagonal(COV - gain @ (alpha[:, :, None] * COV), axis1=1, axis2=2)
    free = 1 - np.repeat(known, 2, 1)
    expected = ((left * free).sum(1) / np.maximum(free.sum(1), 1)).mean()
    assert float(value) == pytest.approx(expected, rel=0.03)
    sums, counts = metrics["loss_at_logsnr"]
    assert float(counts.sum()) == free.sum()
    assert float(sums.sum()) == pytest.approx((left * free).sum(), rel=0.03)


def test_lanes_have_the_times_of_the_draw_each_of_its_own():
    """Training would see other noise levels than the config says, or equal ones only."""
    loss = Forcing(shared=0.0, past=0.0, draw=draws.Uniform(stratified=True))
    times, factor, known = drawn(loss)
    scaled = (np.asarray(times) - SDE.t_min) / (SDE.t_max - SDE.t_min)
    assert not known.any() and (np.asarray(factor) == 1).all()
    assert all(stats.kstest(scaled[:, k], "uniform").pvalue > 1e-3 for k in range(SIZE))
    assert np.abs(np.corrcoef(scaled.T) - np.eye(SIZE)).max() < 0.06
    assert np.ptp(np.asarray(drawn(replace(loss, shared=1.0))[0]), axis=1).max() < 1e-6
    half = np.asarray(drawn(replace(loss, shared=0.5))[0])
    assert np.mean(np.ptp(half, axis=1) < 1e-6) == pytest.approx(0.5, abs=0.04)


def test_known_lanes_are_drawn_with_their_probabilities():
    """A network would not be trained for forecasts, or for nothing else."""
    known = np.asarray(drawn(Forcing(known=0.25, past=0.0))[2])
    np.testing.assert_allclose(known.mean(0), 0.25, atol=0.03)
    two = np.asarray(drawn(Forcing(known=0.5, past=0.0), count=2)[2])
    assert not two.all(1).any()  # an item without noise would train nothing
    np.testing.assert_allclose(two.mean(0), 0.25, atol=0.03)
    past = np.asarray(drawn(Forcing(past=1.0))[2])
    assert (np.diff(past.astype(int), axis=1) <= 0).all()
    np.testing.assert_allclose(np.bincount(past.sum(1), minlength=7)[1:6] / MANY, 0.2, atol=0.03)
    between = np.asarray(drawn(Forcing(between=0.7, past=0.3))[2])
    ends = between[:, 0] & between[:, -1] & ~between[:, 1:-1].any(1)
    assert ends.mean() == pytest.approx(0.7, abs=0.04)
    assert (np.diff(between[~ends].astype(int), axis=1) <= 0).all()


def test_known_lanes_are_clean_and_told_t_min():
    """The network would see noise in what samplers give it without any."""
    x, key = DATA.sample(jax.random.key(1), 64), jax.random.key(0)
    loss, params = Forcing(past=1.0), {"network": {"x": 1.0, "t": 0.0}}
    context = Context(model(Seen()), params, {"x": x}, key)
    seen: list[Any] = []

    class Noted(Seen):
        def __call__(self, params, x, c_noise, cond, *, key=None):
            seen.append((x, c_noise))
            return super().__call__(params, x, c_noise, cond, key=key)

    loss(context._replace(model=model(Noted())))
    (given, told), known = seen[0], loss._times(context.model, {"x": x}, *_keys(key), SIZE)[2]
    assert known.any() and (told[known] == jnp.float32(SDE.t_min)).all()
    np.testing.assert_array_equal(given[known], x[known])
    assert (told[~known] > SDE.t_min).all() and not np.isclose(given[~known], x[~known]).all()


def _keys(key):
    return jax.random.split(key, 4)[0], ()


def test_padding_and_known_lanes_do_not_count():
    """Short series, and items with a long past, would be trained less."""
    x = jnp.full((256, SIZE, 2), 3.0)
    params = {"network": {"x": 0.0, "t": 0.0}}
    context = Context(model(Seen()), params, {"x": x}, jax.random.key(0))
    assert float(Forcing(known=0.3, past=0.0)(context)[0]) == pytest.approx(9.0, rel=1e-3)
    mask = jnp.ones((256, SIZE, 1)).at[:, 3:].set(0)
    spoiled = context._replace(batch={"x": x.at[:, 3:].set(100.0), "mask": mask})
    value, metrics, _ = Forcing(past=0.0)(spoiled)
    assert float(value) == pytest.approx(9.0, rel=1e-4)
    assert float(metrics["loss_at_logsnr"][1].sum()) == 256 * 3


def test_lanes_of_one_time_have_the_ordinary_loss():
    """The loss would be on another scale than that of `denoising`, and its weight another one."""
    x = DATA.sample(jax.random.key(1), MANY)
    for weight in (Denoising().weight, uniform_x0):
        context = Context(
            model(Exact(), V(c_noise=t, scale_input=False)),
            {"network": {"scale": 1.0}},
            {"x": x},
            jax.random.key(0),
        )
        loss = Forcing(weight=weight, shared=1.0, past=0.0)
        one = jax.jit(lambda c=context, loss=loss: loss(c)[0])()
        ordinary = jax.jit(lambda c=context, w=weight: Denoising(weight=w)(c)[0])()
        assert float(one) == pytest.approx(float(ordinary), rel=0.05)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"known": 1.0}, "known=1: no lane has noise"),
        ({"shared": 1.5}, "shared=1.5: needs 0 <= shared <= 1"),
        ({"past": -0.1}, "past=-0.1: needs 0 <= past <= 1"),
        ({"sizes": ()}, r"sizes=\(\): needs sizes of at least 1"),
        ({"sizes": (2, 0)}, r"sizes=\(2, 0\): needs sizes of at least 1"),
        ({"weight": "elbo"}, "weight='elbo': needs a function"),
        ({"draw": "uniform"}, "draw='uniform': needs an instance of Draw"),
    ],
)
def test_bad_settings_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Forcing(**settings)


@pytest.mark.parametrize(
    ("settings", "network", "task", "says"),
    [
        ({"draw": draws.SecondMoment()}, nets.dit(patch=1), Task(), "draw: SecondMoment learns"),
        ({}, nets.mlp(), Task(), r"Network\(MLP\): takes one time per sample; allowed: dit"),
        ({}, nets.dit(patch=2), Task(), "gives 2 consecutive positions one time; needs multiples"),
        ({"sizes": (4,)}, nets.dit(patch=1), Task(), "whose sum divides 6"),
        ({}, nets.dit(patch=1), Task(second_output=True), "learn_variance=True: is not trained"),
        (
            {"condition_dropout": {"size": 0.1}},
            nets.dit(patch=1),
            Task(conditions=("label",)),
            "condition_dropout.size",
        ),
    ],
)
def test_what_cannot_have_lanes_is_refused_by_name(settings, network, task, says):
    """A run would train something else, or fail when it is compiled."""
    asked = task._replace(form=labelled("sequence", (6, 1)))
    with pytest.raises(ValueError, match=says):
        Forcing(**settings).check(Model(SDE, V(), network), asked)
