"""The log-spectral distance of sounds, and their features in mel bands."""

import functools
from pathlib import Path

import numpy as np
import pytest

from diffjax import data
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.beforehand import Counts, enough
from diffjax.evaluation.spectral import distance, log_spectral
from diffjax.features import EXTRACTORS, extract


def spoken(split, count=6):
    rng = np.random.default_rng(len(split))
    x = (3000 * rng.normal(size=(count, 600, 1))).astype(np.int16)
    return data.Memory(x, kind="audio", units=(("rate", 8000),))


@pytest.fixture(scope="module")
def real():
    return Real(spoken, data.Reading(kind="audio"), 6, Path())


def test_the_distance_is_known_for_a_gain_and_blind_to_a_sign():
    """A vocoder would be judged in other units than decibels."""
    x = np.random.default_rng(0).normal(0, 0.1, (2, 3000))
    np.testing.assert_allclose(distance(x, 2 * x), 20 * np.log10(2), atol=0.06)  # of the floor
    np.testing.assert_allclose(distance(x, -x), 0, atol=1e-9)
    assert (distance(x, np.zeros_like(x)) < 80).all()  # silence is a level, not minus infinity


def test_independent_noise_has_the_distance_of_exponential_spectra():
    """An exact sampler of noise would seem to fail, or a smooth spectrum would not win as it does.

    Power spectra of Gaussian noise are exponential; their logarithms are Gumbel variables, whose
    standard deviation is pi / sqrt(6) nepers of power.
    """
    x, y = np.random.default_rng(0).normal(0, 0.1, (2, 20, 8000))
    spread = 10 / np.log(10) * np.pi / np.sqrt(6)
    np.testing.assert_allclose(distance(x, y).mean(), np.sqrt(2) * spread, atol=0.05)


def test_each_sound_is_compared_with_the_one_it_was_asked_for(real):
    """Samples would be compared with other sounds."""
    asked = np.array([3, 0, 1])
    of = lambda x: log_spectral(real, Samples(x, None, asked), resamples=0)["decibels"]
    true = real.test.x[asked]
    assert of(true) == 0 and of(true.astype(np.float32) / 32768) < 0.01
    assert of(true[::-1]) > 5


def test_what_it_cannot_compare_is_refused_beforehand(real):
    with pytest.raises(ValueError, match="no conditions of held-out items"):
        enough(log_spectral, Counts(3, 6, 6))
    points = Real(functools.partial(data.moons, size=20), data.Reading(), 20, Path())
    with pytest.raises(ValueError, match="log_spectral: needs sounds; the items are points"):
        log_spectral(points, Samples(points.test.x, None, np.arange(3)))


def test_features_in_mel_bands_see_levels_and_their_changes(real):
    """Louder sounds, or sounds that change faster, would look alike."""
    mel = EXTRACTORS["mel"](real)
    x = real.train.x
    found, louder = (extract(mel, a)["pool"] for a in (x, (x * 2.0).astype(np.int16)))
    assert found.shape == (6, 160)
    np.testing.assert_allclose(louder[:, :40] - found[:, :40], np.log10(2) / 5, atol=2e-3)
    np.testing.assert_allclose(louder[:, 40:], found[:, 40:], atol=2e-3)
