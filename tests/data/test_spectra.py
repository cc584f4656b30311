"""Spectra of sounds: exact inverses, known spectra, and what a vocoder reads."""

import numpy as np
import pytest

from diffjax.data import spectra
from diffjax.data.maps import mel

RATE = 8000


@pytest.mark.parametrize(
    ("length", "window", "hop"), [(1001, 256, 64), (512, 128, 64), (90, 16, 5)]
)
def test_a_transform_is_inverted_exactly(length, window, hop):
    """A sound would change by being read as a spectrum."""
    x = np.random.default_rng(0).normal(size=(2, length))
    back = spectra.istft(spectra.stft(x, window, hop), length, window, hop)
    np.testing.assert_allclose(back, x, atol=1e-12)


def test_frames_keep_the_energy_of_a_sound():
    """Parseval: levels would not be those of the sound."""
    x = np.random.default_rng(0).normal(size=4096)
    window, hop = 256, 64
    power = np.abs(spectra.stft(x, window, hop)) ** 2 * (spectra.hann(window).sum() / 2) ** 2
    power[..., 1:-1] *= 2  # both signs of the frequency
    inside = slice(window // hop, -window // hop)
    energy = power[inside].sum() / window * hop / (spectra.hann(window) ** 2).sum()
    first, last = window, window + hop * (power[inside].shape[0])
    assert energy == pytest.approx((x[first:last] ** 2).sum(), rel=0.02)


def test_the_spectrum_of_autoregressive_noise_is_the_closed_form():
    """Bands would stand at other frequencies, or levels be off by a factor."""
    rng, a = np.random.default_rng(0), 0.7
    noise, x = rng.normal(size=(400, 1024)), np.zeros((400, 1024))
    for k in range(1, 1024):
        x[:, k] = a * x[:, k - 1] + noise[:, k]
    window, weights = 256, spectra.hann(256)
    found = (np.abs(spectra.stft(x, window, 128)[:, 2:-2]) ** 2).mean((0, 1))
    at = 2 * np.pi * np.arange(1 + window // 2) / window
    exact = (
        1 / np.abs(1 - a * np.exp(-1j * at)) ** 2 * (weights**2).sum() * (2 / weights.sum()) ** 2
    )
    np.testing.assert_allclose(found[4:-4], exact[4:-4], rtol=0.08)


def test_bands_share_each_frequency_and_stand_in_mel():
    """A tone between two bands would be louder or softer than one in a band."""
    bank = spectra.filters(20, RATE)
    at, width = np.fft.rfftfreq(256, 1 / RATE), spectra.mel(RATE / 2) / 21
    inside = (spectra.mel(at) >= width) & (spectra.mel(at) <= 20 * width)
    np.testing.assert_allclose(bank.sum(1)[inside], 1)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(2048) / RATE)
    levels = spectra.log_mel(tone, RATE, 20)[8:-8]
    assert abs(width * (levels.mean(0).argmax() + 1) - 1000) < width / 2 + 30
    softer = spectra.log_mel(0.1 * tone, RATE, 20)[8:-8]
    np.testing.assert_allclose(softer, np.maximum(levels - 0.2, 0), atol=1e-6)


def test_magnitudes_have_the_levels_that_they_are_made_of():
    """Griffin-Lim would start from another spectrum than that of the mel bands."""
    flat = np.random.default_rng(0).normal(0, 0.1, (2, 2048))
    levels = spectra.log_mel(flat, RATE, 20)
    power = spectra.magnitude(levels, RATE) ** 2 @ spectra.filters(20, RATE)
    apart = np.abs(1 + np.log10(power) / 10 - levels)  # negative powers are cut
    assert np.quantile(apart, 0.95) < 1e-3 and apart.max() < 0.05


def test_griffin_lim_never_increases_the_distance_and_keeps_a_consistent_sound():
    """More iterations would make a sound worse."""
    x = np.sin(np.arange(1024) / 4) * np.hanning(1024)
    size = np.abs(spectra.stft(x))
    apart = [
        ((np.abs(spectra.stft(spectra.griffin_lim(size, 1024, iterations=n))) - size) ** 2).sum()
        for n in range(12)
    ]
    assert apart == sorted(apart, reverse=True) and apart[-1] < 0.3 * apart[0]


def test_maps_of_sounds_are_levels_on_their_grid():
    """A network would read levels of other moments than those of its samples."""
    x = np.random.default_rng(0).normal(0, 0.1, (2, 512, 2)).astype(np.float32)
    found = mel(x, rate=RATE, bands=12)
    levels = spectra.log_mel(x.mean(-1), RATE, 12)
    np.testing.assert_allclose(found[:, ::64], levels[:, :-1], atol=1e-6)
    np.testing.assert_allclose(found[:, 32], (levels[:, 0] + levels[:, 1]) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 255}, "window=255: needs an even number"),
        ({"hop": 0}, "hop=0"),
        ({"hop": 200}, "hop=200"),
        ({"bands": 200}, "bands=200: band 0 holds no frequency"),
        ({"window": 4096}, "a sound of 512 samples"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        mel(np.zeros((1, 512, 1), np.float32), rate=RATE, **settings)
