"""Which steps count as bad, in constructed sequences of losses and gradient norms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffjax.training.health import MEMORY, Health, Watch

pytestmark = pytest.mark.typed

N = 600


@functools.cache
def judge(watch):
    """Return verdicts on values (N, 2), and the final memory."""
    return jax.jit(lambda values: jax.lax.scan(lambda h, v: watch(h, *v)[::-1], Health(), values))


def noisy() -> np.ndarray:
    """Return falling losses and gradient norms, both as skewed as those of training."""
    rng = np.random.default_rng(0)
    values = rng.gamma(4, 0.25, (N, 2)) * [1, 30]
    values[:, 0] += 20 * np.exp(-np.arange(N) / 20)
    return values.astype(np.float32)


def test_noise_is_no_spike():
    """Warnings would appear in every run, so that nobody reads them."""
    health, verdict = judge(Watch())(noisy())
    assert not np.any(verdict.skip) and not np.any(verdict.spike)
    assert (int(health.skipped), int(health.row), int(health.seen)) == (0, 0, N)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("which", [0, 1])
def test_a_spike_is_found_and_only_skipped_if_asked_for(skip, which):
    values = noisy()
    values[[50, 300, 301], which] *= 100  # the first step comes before any statistics
    values[[200, 420], 1 - which] = np.nan, np.inf
    health, verdict = judge(Watch(skip=skip))(values)
    assert np.flatnonzero(verdict.spike).tolist() == [300, 301]
    bad = [200, 420]
    assert np.flatnonzero(verdict.skip).tolist() == sorted([*bad, 300, 301] if skip else bad)
    assert (int(health.skipped), int(health.seen)) == (4 if skip else 2, N - 2)
    assert all(np.isfinite(a).all() for a in health)


def test_what_stays_is_a_new_level_and_no_spike():
    """A run whose loss has risen for good would skip all of its remaining steps."""
    values = noisy()
    values[300:] *= 100
    _, verdict = judge(Watch(skip=True))(values)
    found = np.flatnonzero(verdict.spike)
    assert found[0] == 300 and found[-1] < 300 + MEMORY


def test_zero_is_never():
    values = noisy()
    values[300] *= 1000
    _, verdict = judge(Watch(spike=0.0, skip=True))(values)
    assert not np.any(verdict.skip) and not np.any(verdict.spike)


def test_the_means_are_those_of_the_first_steps_and_then_follow():
    """The first loss would count like a hundred later ones, without the growing share."""
    values = jnp.asarray(noisy())
    health = judge(Watch(spike=0.0))(values[:N])[0]
    first, _ = jax.lax.scan(lambda h, v: Watch()(h, *v)[::-1], Health(), values[:50])
    np.testing.assert_allclose(first.mean, values[:50].mean(0), rtol=1e-4)
    np.testing.assert_allclose(health.mean, values[-MEMORY:].mean(0), rtol=0.2)
