"""Draws of t against their published distributions, and their histories against a plain deque."""

from collections import deque
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from scipy import stats
from scipy.special import logit
from tiers import some

from diffjax.draws import (
    DRAWS,
    LAST,
    Discrete,
    Likelihood,
    LogitNormal,
    LogNormal,
    Mode,
    ScoreNorm,
    SecondMoment,
    Uniform,
)
from diffjax.schedules import Cosine, Linear, Logit, ZeroTerminal
from diffjax.sde import VP, Flow

LOW, HIGH = 0.1, 0.7
SDE = VP(Linear(), t_min=LOW, t_max=HIGH)
N = 9600
"""Of samples: one size, so that few programs are compiled."""
SEEN = np.array([[1.0, 3.0], [4.0, 2.0], [0.5, 0.5]])
"""The history of a tracked draw of three bins."""


def logsnr(t):
    return -np.log(np.expm1(0.1 * t + 19.9 / 2 * t**2))


def truncated(mean, std, of):
    """Return the distribution function of t where `of(t)` is a truncated normal."""
    low, high = ((of(end) - mean) / std for end in (LOW, HIGH))
    return lambda t: stats.truncnorm(low, high, mean, std).cdf(of(t))


def mode(scale):
    v = np.linspace(0, 1, 100_001)
    t = 1 - v - scale * (np.cos(np.pi / 2 * v) ** 2 - 1 + v)
    return lambda x: np.interp((x - LOW) / (HIGH - LOW), t[::-1], 1 - v[::-1])


def steps(share):
    share = 0.8 * share / share.sum() + 0.2 / 3
    edges = np.linspace(LOW, HIGH, 4)
    return lambda t: np.interp(t, edges, np.append(0, np.cumsum(share)))


class Case(NamedTuple):
    draw: Any
    cdf: Any


TRACKED = {"bins": 3, "history": 2, "floor": 0.2}
half = lambda t: -logsnr(t) / 2
CASES = {
    "uniform": Case(Uniform, lambda t: (t - LOW) / (HIGH - LOW)),
    "log_normal": Case(LogNormal, truncated(-1.2, 1.2, half)),
    "log_normal-late": Case(
        lambda **k: LogNormal(mean=0.5, std=0.8, **k), truncated(0.5, 0.8, half)
    ),
    "logit_normal": Case(LogitNormal, truncated(0, 1, logit)),
    "logit_normal-early": Case(
        lambda **k: LogitNormal(mean=-1.0, std=0.9, **k), truncated(-1, 0.9, logit)
    ),
    "mode": Case(Mode, mode(1.29)),
    "mode-ends": Case(lambda **k: Mode(scale=-0.8, **k), mode(-0.8)),
    "likelihood": Case(
        Likelihood, lambda t: (logsnr(LOW) - logsnr(t)) / (logsnr(LOW) - logsnr(HIGH))
    ),
    "second_moment": Case(
        lambda **k: SecondMoment(**TRACKED, **k), steps(np.sqrt((SEEN**2).mean(1)))
    ),
    "score_norm": Case(lambda **k: ScoreNorm(**TRACKED, **k), steps(SEEN.mean(1))),
}


def warm(draw):
    """Return the state of a draw that has seen SEEN."""
    if not isinstance(draw, SecondMoment | ScoreNorm):
        return draw.init()
    return {"seen": jnp.asarray(SEEN), "count": jnp.array([2, 3, 7], jnp.int32)}


def batches(draw, n, count, seed=0):
    """Return the times of `count` batches of n, (count, n)."""
    keys = jax.random.split(jax.random.key(seed), count)
    u = jax.vmap(lambda key: draw.positions(key, n))(keys)
    t, _ = draw(SDE, u.reshape(-1), warm(draw))
    return np.asarray(t, np.float64).reshape(count, n)


def test_every_draw_has_its_law():
    """A draw without its distribution here would go untested."""
    assert {name.split("-")[0] for name in CASES} | {"discrete"} == set(DRAWS)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.typed
def test_each_t_has_its_published_law(name):
    """Noise levels would have other frequencies than the draw states, with strata too."""
    make, cdf = CASES[name]
    every = batches(make(), 5, N // 5)
    assert stats.kstest(every.ravel(), cdf).pvalue > 1e-3
    strata = batches(make(stratified=True), 5, N // 5)
    for column in strata.T:
        assert stats.kstest(column, cdf).pvalue > 1e-3
    for t in (every, strata):
        assert t.min() >= np.float32(LOW) and t.max() <= np.float32(HIGH)


@pytest.mark.parametrize("name", CASES)
def test_strata_cover_the_range(name):
    """Times would vary like independent ones: strata have one t per part of equal probability."""
    make, cdf = CASES[name]
    n = 16
    at = np.sort(cdf(batches(make(stratified=True), n, N // n)), axis=1)
    np.testing.assert_allclose(np.diff(at, axis=1), 1 / n, rtol=2e-3)
    apart = cdf(batches(make(), n, N // n)).mean(1)
    assert np.var(at.mean(1)) < 0.1 * np.var(apart)


@pytest.mark.parametrize("name", CASES)
def test_a_divided_density_leaves_the_expectation_of_uniform_t(name):
    """The objective would change with the draw, or a declared density would be divided out."""
    make, _ = CASES[name]
    u = (jnp.arange(N) + 0.5) / N
    draw, plain = make(importance=True), make(importance=False)
    f = lambda t: np.cos(5 * t) + 2 * t
    t, factor = draw(SDE, u, warm(draw))
    same, one = plain(SDE, u, warm(plain))
    exact = ((np.sin(5 * HIGH) - np.sin(5 * LOW)) / 5 + HIGH**2 - LOW**2) / (HIGH - LOW)
    np.testing.assert_allclose(np.mean(factor * f(np.asarray(t))), exact, rtol=1e-3)
    np.testing.assert_array_equal(one, 1.0)
    np.testing.assert_array_equal(t, same)


@pytest.mark.parametrize("name", CASES)
def test_the_ends_of_u_stay_in_range(name):
    """The network would be called where it is not trained, or a loss be multiplied by NaN."""
    make, _ = CASES[name]
    draw = make(importance=True)
    u = jnp.repeat(jnp.array([0.0, 1e-30, 1e-7, 0.5, 1 - 1e-6, LAST]), N // 6)
    for sde in (
        SDE,
        VP(Cosine(), t_min=1e-5),
        Flow(Logit(), t_max=1.0),
        VP(ZeroTerminal(Linear())),
    ):
        if sde is not SDE and isinstance(draw, Likelihood):
            continue
        t, factor = draw(sde, u, warm(draw))
        t = np.asarray(t)
        assert (t >= np.float32(sde.t_min)).all() and (t <= np.float32(sde.t_max)).all()
        assert np.isfinite(factor).all() and (np.diff(t) >= 0).all()


@pytest.mark.parametrize(("steps", "first", "last"), [(10, 1, 7), (7, 1, 4), (1000, 100, 700)])
def test_discrete_is_every_index_alike(steps, first, last):
    """The index of a discrete process would be no integer, or one of its ends never be drawn."""
    draw, n = Discrete(steps=steps), last - first + 1
    u = (jnp.arange(4 * n) + 0.5) / (4 * n)
    t, factor = draw(SDE, u, draw.init())
    k = np.repeat(np.arange(first, last + 1), 4)
    np.testing.assert_allclose(t, np.clip(k / steps, LOW, HIGH).astype(np.float32), rtol=2e-7)
    np.testing.assert_array_equal(factor, 1.0)
    t, _ = draw(VP(Linear(), t_min=1 / steps), jnp.array([0.0, LAST]), ())
    np.testing.assert_array_equal(t, np.array([1 / steps, 1.0], np.float32))


def variances(draw, state, sde, value, n=N):
    """Return the variances of the single-sample estimate with `draw` and with uniform t."""
    u = jnp.asarray(np.random.default_rng(0).uniform(size=n), jnp.float32)
    noise = np.random.default_rng(1).normal(size=n) ** 2
    t, factor = draw(sde, u, state)
    found = np.asarray(factor, np.float64) * value(np.asarray(t, np.float64)) * noise
    at, _ = Uniform()(sde, u, ())
    plain = value(np.asarray(at, np.float64)) * noise
    assert abs(found.mean() - plain.mean()) < 5 * (found.std() + plain.std()) / n**0.5
    return found.var(), plain.var()


def test_likelihood_draws_reduce_the_variance_of_the_likelihood_loss():
    """The draw would be unbiased and useless: g^2 / sigma^2 is unbounded near the data.

    The loss of the exact denoiser of N(0, 1) in VP is -l' alpha^2, up to its noise.
    """
    sde = VP(Linear(), t_min=1e-5)
    slope = lambda t: (0.1 + 19.9 * t) / -np.expm1(-(0.1 * t + 19.9 / 2 * t**2))
    value = lambda t: slope(t) * np.exp(-(0.1 * t + 19.9 / 2 * t**2))
    t, factor = Likelihood()(sde, (jnp.arange(N) + 0.5) / N, ())
    with_draw = np.asarray(factor, np.float64) * value(np.asarray(t, np.float64))
    at = np.geomspace(1e-5, 1, 20_001)
    plain = np.trapezoid(value(at) ** 2, at) / (1 - 1e-5)
    np.testing.assert_allclose(with_draw.mean(), np.trapezoid(value(at), at), rtol=1e-3)
    assert np.mean(with_draw**2) < 0.01 * plain


@pytest.mark.parametrize("name", some(["second_moment", "score_norm"], ("score_norm",)))
def test_what_was_seen_reduces_the_variance_of_an_uneven_loss(name):
    """The history would be kept but not used, or used in the wrong bins."""
    draw = DRAWS[name](bins=20, history=10)
    value = lambda t: 1e-3 + np.exp(-30 * (t - LOW))
    state, rng = draw.init(), np.random.default_rng(0)
    for _ in range(2):
        t = jnp.linspace(LOW, HIGH, 401)
        seen = jnp.asarray(value(np.asarray(t)) * rng.normal(size=401) ** 2)
        other = jnp.ones_like(t)
        losses, scores = (seen, other) if name == "second_moment" else (other, seen)
        state = draw.update(state, SDE, t, losses, scores)
    found, plain = variances(draw, state, SDE, value)
    assert found < 0.5 * plain


@pytest.mark.parametrize("name", ["second_moment", "score_norm"])
def test_until_all_bins_are_full_t_is_uniform(name):
    """A bin that was seen once would never, or always, be drawn again."""
    draw = DRAWS[name](bins=3, history=2)
    u = jnp.linspace(0, LAST, 50)
    some = {"seen": jnp.asarray(SEEN), "count": jnp.array([2, 1, 5], jnp.int32)}
    for state in (draw.init(), some):
        t, factor = draw(SDE, u, state)
        np.testing.assert_allclose(t, LOW + (HIGH - LOW) * u, rtol=1e-5)
        np.testing.assert_allclose(factor, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["second_moment", "score_norm"])
def test_losses_of_zero_leave_t_uniform(name):
    """Every later t would be NaN, by 0 / 0."""
    draw = DRAWS[name](bins=3, history=2)
    state = {"seen": jnp.zeros((3, 2)), "count": jnp.full(3, 2, jnp.int32)}
    t, factor = draw(SDE, jnp.array([0.0, 0.5]), state)
    np.testing.assert_allclose(t, [LOW, (LOW + HIGH) / 2], rtol=1e-5)
    np.testing.assert_allclose(factor, 1.0, rtol=1e-5)


def pushes(devices, bins=5, history=3, n=48, rounds=4):
    """Return a history of some batches, each spread over several devices, and the batches."""
    where = Mesh(np.array(jax.devices()[:devices]), ("data",))
    split = lambda a: jax.device_put(
        np.asarray(a, np.float32), NamedSharding(where, PartitionSpec("data"))
    )
    draw, rng, given = SecondMoment(bins=bins, history=history), np.random.default_rng(0), []
    state = jax.device_put(draw.init(), NamedSharding(where, PartitionSpec()))
    update = jax.jit(lambda state, t, loss: draw.update(state, SDE, t, loss, loss))
    for i in range(rounds):
        size = n if i % 2 else 8  # many values of a bin in one batch, or few
        t, loss = rng.uniform(LOW, HIGH, size), rng.normal(size=size)
        state = update(state, split(t), split(loss))
        given.append((t, loss))
    return jax.device_get(state), given


@pytest.mark.typed
def test_the_history_is_the_newest_values_of_each_bin_in_order():
    """Losses would be lost, or old ones kept, if a batch has more of a bin than fit in."""
    bins, history = 5, 3
    state, given = pushes(1, bins, history)
    kept, count = [deque(maxlen=history) for _ in range(bins)], np.zeros(bins, int)
    for t, loss in given:
        for k, value in zip(((t - LOW) / (HIGH - LOW) * bins).astype(int), loss, strict=True):
            kept[k].append(value)
            count[k] += 1
    np.testing.assert_array_equal(state["count"], count)
    assert count.min() > history
    for k in range(bins):
        ordered = np.roll(state["seen"][k], -(count[k] % history))
        np.testing.assert_allclose(ordered, kept[k], rtol=1e-6)


def test_the_history_does_not_depend_on_the_devices():
    """Each device would remember its own share, and runs differ between machines."""
    chex.assert_trees_all_equal(pushes(8)[0], pushes(1)[0])


def test_the_history_has_no_gradient():
    """Parameters would be trained to change the draw."""
    draw = SecondMoment(bins=2, history=1)

    def seen(scale):
        t = jnp.array([0.2, 0.6])
        return draw.update(draw.init(), SDE, t, scale * t, t)["seen"].sum()

    assert jax.grad(seen)(2.0) == 0


@pytest.mark.parametrize(
    "sde",
    [Flow(Logit(), t_max=1.0), VP(ZeroTerminal(Linear()))],
    ids=["flow", "zero-terminal"],
)
def test_likelihood_draws_are_refused_without_a_last_log_snr(sde):
    """All t would be t_max, as the range of the log-SNR is infinite."""
    with pytest.raises(ValueError, match=r"likelihood.*-inf at t_max=1\.0; allowed: t_max < 1"):
        Likelihood().check(sde)
    Likelihood().check(SDE)


@pytest.mark.parametrize(
    ("draw", "settings", "message"),
    [
        (Discrete, {"importance": True}, "importance=True: .*allowed: False"),
        (Discrete, {"steps": 0}, "steps=0: needs steps >= 1"),
        (LogNormal, {"std": 0.0}, "std=0.0.*0 < std"),
        (LogNormal, {"mean": float("nan")}, "mean=nan.*finite mean"),
        (LogitNormal, {"std": -1.0}, "std=-1.0.*0 < std"),
        (LogitNormal, {"std": float("inf")}, "std=inf.*std < inf"),
        (Mode, {"scale": -1.1}, "scale=-1.1: needs -1 <= scale"),
        (Mode, {"scale": 1.8}, "scale=1.8: .*<= 2"),
        (Mode, {"scale": float("nan")}, "scale=nan"),
        (SecondMoment, {"bins": 1}, "bins=1.*bins >= 2"),
        (SecondMoment, {"floor": 0.0}, "floor=0.0: needs 0 < floor <= 1"),
        (ScoreNorm, {"history": 0}, "history=0.*history >= 1"),
        (ScoreNorm, {"floor": 1.5}, "floor=1.5"),
        (ScoreNorm, {"floor": float("nan")}, "floor=nan"),
    ],
)
def test_bad_settings_are_refused_by_name(draw, settings, message):
    """Training would start with times that are NaN, or outside the process."""
    with pytest.raises(ValueError, match=message):
        draw(**settings)


def test_a_range_without_any_index_is_refused():
    """t would be clipped to an end in every sample."""
    with pytest.raises(ValueError, match=r"steps=5.*t_min=0\.21, t_max=0\.39.*no k / steps"):
        Discrete(steps=5).check(VP(Linear(), t_min=0.21, t_max=0.39))
