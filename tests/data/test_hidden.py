"""Imputation: what is hidden, and samples of the exact denoiser against Kalman and Schur."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax import builder, grids, samplers
from diffjax.analytic import LaneDenoiser
from diffjax.arrays import pytree
from diffjax.config import ConfigError
from diffjax.data import Batches, Memory, Reading, lorenz96
from diffjax.data.hidden import KNOWN, WAYS, Concealed, Hidden
from diffjax.nets.conditions import Map
from diffjax.schedules import Cosine
from diffjax.sde import VP

STEPS, CHANNELS = 5, 2
A = np.array([[0.9, 0.2], [-0.1, 0.7]])
Q = np.array([[0.3, 0.1], [0.1, 0.5]])
"""The VAR(1) x' = A x + e, e ~ N(0, Q)."""


@pytest.mark.parametrize("way", WAYS)
def test_a_share_of_the_parts_is_hidden_and_all_else_is_known(way):
    """A network would be told what it has to impute, or values would be lost."""
    x = np.random.default_rng(0).normal(size=(40, 8, 4)).astype(np.float32)
    source = Concealed(Memory(x, kind="sequence"), Hidden((0.25, 0.75), way))
    items = source.draw(np.arange(40), np.arange(40), seed=0)
    gone = np.isnan(items[KNOWN])
    np.testing.assert_array_equal(items[KNOWN][~gone], x[~gone])
    np.testing.assert_array_equal(items["x"], x)
    share = gone.mean((1, 2))
    assert 0.2 <= share.min() < 0.4 < 0.6 < share.max() <= 0.8
    if way in ("positions", "end"):
        assert (gone.all(-1) | ~gone.any(-1)).all()
    if way == "channels":
        assert (gone.all(1) | ~gone.any(1)).all()
    if way == "end":
        assert (np.diff(gone[..., 0].astype(int), axis=1) >= 0).all()
    beside = np.asarray(Map(4).beside(jnp.asarray(items[KNOWN]), jnp.float32))
    np.testing.assert_array_equal(beside[..., 4:], ~gone)
    np.testing.assert_array_equal(beside[..., :4], np.nan_to_num(items[KNOWN]))


def test_each_epoch_hides_other_parts_and_held_out_items_always_the_same():
    """A network would learn to impute one pattern, or held-out losses could not be compared."""
    source = Concealed(lorenz96("train", size=20), Hidden())
    reading = Reading(hidden=Hidden())
    first, again, later = (Batches(source, 20, 0, reading)[k] for k in (0, 0, 1))
    np.testing.assert_array_equal(first[KNOWN], again[KNOWN])
    order = [Batches(source, 20, 0, reading).items(k) for k in (0, 1)]
    place = [np.isnan(b[KNOWN])[np.argsort(o)] for b, o in zip((first, later), order, strict=True)]
    assert (place[0] != place[1]).any(1).all()
    index = np.arange(20)
    np.testing.assert_array_equal(source[index][KNOWN], source.kept()[index][KNOWN])
    assert reading.form(source).names == [KNOWN]


def test_a_config_hides_and_refuses_by_name():
    spec = {"name": "lorenz96", "size": 40, "hidden": "way=end,share=(0.5,0.5)"}
    source, reading = builder.construct_data(spec, "config.data")
    assert reading.hidden == Hidden((0.5, 0.5), "end")
    assert np.isnan(source("test")[np.arange(2)][KNOWN][:, 20:]).all()
    for bad, part in [
        ({"hidden": "way=rows"}, "data.hidden: way='rows'"),
        ({"hidden": "share=(0.5,2)"}, r"data.hidden: share=\(0.5, 2"),
        ({"name": "digits", "hidden": {}}, "data.hidden: the images are uint8; needs float32"),
    ]:
        settings = {k: v for k, v in (spec | bad).items() if k != "size"}
        with pytest.raises(ConfigError, match=part):
            builder.construct_data(settings, "config.data")[0]("train")


def stationary():
    """The covariance of a state."""
    return np.linalg.solve(np.eye(4) - np.kron(A, A), Q.ravel()).reshape(2, 2)


def covariance():
    """The covariance (D, D) of all values of a series, of which D = STEPS * CHANNELS."""
    blocks, state = np.zeros((STEPS, STEPS, 2, 2)), stationary()
    for i in range(STEPS):
        for j in range(STEPS):
            power = np.linalg.matrix_power(A, abs(i - j))
            blocks[i, j] = power @ state if i >= j else state @ power.T
    return blocks.transpose(0, 2, 1, 3).reshape(STEPS * 2, STEPS * 2)


def schur(cov, there, x):
    """The mean (D,) and covariance (D, D) of all values given those that are there."""
    gain = np.linalg.solve(cov[np.ix_(there, there)], cov[there]).T
    return gain @ x[there], cov - gain @ cov[there]


def smoothed(there, x):
    """The means and covariances of the states by Kalman's filter, and Rauch, Tung and Striebel."""
    there, x = there.reshape(STEPS, 2), x.reshape(STEPS, 2)
    filtered, predicted = [], []
    mean, cov = np.zeros(2), stationary()
    for k in range(STEPS):
        if k:
            mean, cov = A @ mean, A @ cov @ A.T + Q
        predicted.append((mean, cov))
        seen = np.eye(2)[there[k]]
        if len(seen):
            gain = cov @ seen.T @ np.linalg.inv(seen @ cov @ seen.T)
            mean, cov = mean + gain @ (x[k][there[k]] - seen @ mean), cov - gain @ seen @ cov
        filtered.append((mean, cov))
    states = [filtered[-1]]
    for k in reversed(range(STEPS - 1)):
        (m, p), (ahead, spread), (later, wide) = filtered[k], predicted[k + 1], states[0]
        gain = p @ A.T @ np.linalg.inv(spread)
        states.insert(0, (m + gain @ (later - ahead), p + gain @ (wide - spread) @ gain.T))
    return states


@pytree
@dataclass(frozen=True)
class Imputing:
    """The exact denoiser given `known`: known values have the time 0, hidden ones are noised."""

    inner: LaneDenoiser

    @property
    def sde(self):
        return self.inner.sde

    def check(self, x, cond):
        pass

    def __call__(self, x, t, cond=None, *, key=None):
        assert cond is not None
        known = cond[KNOWN].reshape(x.shape)
        there = ~jnp.isnan(known)
        return self.inner(jnp.where(there, known, x), jnp.where(there, 0.0, t[:, None]))


def test_series_with_holes_are_imputed_as_kalman_does():
    """Imputed values would have another law than that of the data given the known ones.

    The sampler is affine in its initial state, so that its exact mean and covariance follow from
    the images of zero and of unit vectors.
    """
    rng, cov, size = np.random.default_rng(3), covariance(), STEPS * CHANNELS
    x = np.linalg.cholesky(cov) @ rng.normal(size=size)
    hidden = Hidden((0.5, 0.5)).mask(rng, (STEPS, CHANNELS)).ravel()
    mean, var = schur(cov, ~hidden, x)
    states = smoothed(~hidden, x)
    np.testing.assert_allclose(np.concatenate([m for m, _ in states]), mean, atol=1e-9)
    for k, (_, state) in enumerate(states):
        np.testing.assert_allclose(state, var[2 * k : 2 * k + 2, 2 * k : 2 * k + 2], atol=1e-9)
    vp = VP(Cosine())
    table = samplers.dpmpp_2m(vp, grids.cosine(vp, 60))
    denoise = Imputing(LaneDenoiser(vp, jnp.zeros(size), jnp.asarray(cov, jnp.float32)))
    start = jnp.concatenate([jnp.zeros((1, size)), jnp.eye(size)])
    known = np.where(hidden, np.nan, x).reshape(STEPS, CHANNELS).astype(np.float32)
    cond = {KNOWN: jnp.broadcast_to(jnp.asarray(known), (size + 1, STEPS, CHANNELS))}
    keys = jax.random.split(jax.random.key(0), size + 1)
    found = np.asarray(samplers.sample(denoise, table, start, keys, cond=cond), np.float64)
    images = found[1:] - found[0]
    np.testing.assert_allclose(found[0], mean, atol=5e-3)
    np.testing.assert_allclose(images.T @ images, var, atol=5e-3)
    np.testing.assert_allclose(found[:, ~hidden] - x[~hidden], 0, atol=1e-4)
