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


@pytest.mark.parametrize(("length", "bins"), [(512, 64), (90, 10), (64, 64)])
def test_the_lapped_transform_is_orthogonal_and_finds_tones(length, bins):
    """White noise would be coloured, and harmonics be spread over frequencies."""
    m = spectra.lapped(np.eye(length), bins).reshape(length, -1)
    np.testing.assert_allclose(m @ m.T, np.eye(length), atol=1e-12)
    x = np.random.default_rng(0).normal(size=(2, length))
    np.testing.assert_allclose(spectra.unlapped(spectra.lapped(x, bins)), x, atol=1e-12)
    tone = np.sin(np.pi * (bins // 2 + 0.5) / bins * np.arange(length))
    power = spectra.lapped(tone, bins)[1:-1] ** 2
    near = power[:, bins // 2 - 1 : bins // 2 + 2].sum()
    assert near >= 0.98 * power.sum()


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


def test_phases_begin_with_those_of_a_sound():
    """A sound would be drawn, and only its magnitudes kept."""
    x = np.random.default_rng(0).normal(size=(2, 1024))
    size = np.abs(spectra.stft(x))
    again = spectra.griffin_lim(size, 1024, iterations=2, start=x)
    np.testing.assert_allclose(again, x, atol=1e-9)
    np.testing.assert_allclose(spectra.griffin_lim(size, 1024, iterations=0, start=3 * x), x)


def envelopes(frames: int, over_frequency: float = 40, over_time: float = 30) -> np.ndarray:
    """Return an envelope that falls by these decibels, over time down and up again."""
    at, when = np.linspace(0, 1, 129), np.linspace(0, 1, frames)[:, None]
    return 10 ** (-(over_frequency * at + over_time * np.sin(np.pi * when) ** 2) / 20)


def test_the_filter_with_a_constant_envelope_is_a_scaling():
    """Excitations would not have the deviation 1, for which the noise levels are chosen."""
    y = np.random.default_rng(0).normal(size=(2, 2048))
    once = spectra.shaped(y, np.ones((33, 129)))
    gain = (once / y).mean()
    np.testing.assert_allclose(once, gain * y, atol=1e-12)
    np.testing.assert_allclose(spectra.shaped(y, np.full((33, 129), 0.1)), 0.1 * once, atol=1e-12)
    power = (np.abs(spectra.stft(once)[:, 2:-2]) ** 2).mean()
    assert power == pytest.approx(1, rel=0.05)


def test_white_noise_behind_the_filter_is_noise_with_the_envelope():
    """Diffusion of excitations would not be that of sounds with noise of the shape of the envelope.

    The filter is linear: row k of `m` is M applied to the unit vector k, and M z has the covariance
    M M' for white z. M is symmetric and positive away from the ends, as conjugate gradients need.
    """
    size = envelopes(9, over_frequency=20, over_time=2)
    m = spectra.shaped(np.eye(512), np.broadcast_to(size, (512, 9, 129)))
    inside = m[128:-128, 128:-128]
    assert np.abs(inside - inside.T).max() < 1e-12
    assert np.linalg.eigvalsh(inside).min() > 0
    covariance = (m.T @ m)[128:-128, 128:-128]  # of the frame at the centre
    waves = np.exp(-2j * np.pi * np.outer(np.arange(129), np.arange(256)) / 256)
    read = waves * spectra.hann(256) * (2 / spectra.hann(256).sum())
    power = np.einsum("kl,lm,km->k", read, covariance, read.conj()).real
    np.testing.assert_allclose(power[8:-8], size[4, 8:-8] ** 2, rtol=0.06)


def test_the_inverse_of_the_filter_needs_few_steps():
    """A sound would come back with an error that is louder than what a network learns."""
    x = np.random.default_rng(0).normal(size=(2, 4096))
    size = envelopes(65)
    apart = []
    for n in (0, 3, 6, 12):
        y = spectra.flattened(x, size, iterations=n)
        apart.append(np.abs(spectra.shaped(y, size) - x).max())
    assert apart == sorted(apart, reverse=True) and apart[2] < 2e-3 and apart[3] < 1e-5
    y = np.random.default_rng(1).normal(size=(2, 4096))
    np.testing.assert_allclose(
        spectra.flattened(spectra.shaped(y, size), size, iterations=24), y, atol=1e-3
    )
    assert (spectra.flattened(np.zeros((1, 4096)), size) == 0).all()


def test_envelopes_are_smooth_and_have_the_power_of_their_levels():
    """Excitations of noise would not be white."""
    noise = np.random.default_rng(0).normal(0, 0.1, (100, 2048))
    size = spectra.envelope(spectra.log_mel(noise, RATE), RATE)
    white = 0.1 * 2 * np.sqrt((spectra.hann(256) ** 2).sum()) / spectra.hann(256).sum()
    np.testing.assert_allclose((size[:, 2:-2] ** 2).mean((0, 1))[4:-4], white**2, rtol=0.1)
    steps = np.abs(np.diff(np.log(spectra.envelope(np.eye(12) / 10, RATE)), axis=1))
    assert steps.max() < 1.0  # 10 dB in a band, of 2 bins and more
    silence = spectra.envelope(np.zeros((3, 10)), RATE)
    assert (silence >= spectra.FLOOR).all()


def test_levels_are_corrected_and_right_ones_are_kept():
    """A true sound would be changed, or the levels of a drawn one be left as they are."""
    x, y = np.random.default_rng(0).normal(0, 0.1, (2, 3, 2048))
    levels = spectra.log_mel(x, RATE)
    np.testing.assert_allclose(spectra.levelled(x, levels, RATE), x, atol=1e-12)
    wrong = [
        np.abs(spectra.log_mel(spectra.levelled(y, levels, RATE, iterations=n), RATE) - levels)
        for n in (0, 4, 32)
    ]
    means = [100 * a.mean() for a in wrong]  # in dB
    assert means[0] > 3 and means[1] < 0.6 * means[0] and means[2] < 0.5 * means[1]
    some = spectra.levelled(y, levels[:, :10], RATE)
    np.testing.assert_allclose(some[:, 13 * 64 :], y[:, 13 * 64 :], atol=1e-12)
    assert np.abs(some[:, : 8 * 64] - y[:, : 8 * 64]).max() > 0.05


def test_maps_of_sounds_are_levels_on_their_grid():
    """A network would read levels of other moments than those of its samples."""
    x = np.random.default_rng(0).normal(0, 0.1, (2, 512, 2)).astype(np.float32)
    found = mel(x, rate=RATE, bands=12)
    levels = spectra.log_mel(x.mean(-1), RATE, 12)
    found = found / 5 + 0.5
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


@pytest.mark.parametrize("bins", [7, 0, 48])
def test_blocks_that_do_not_fill_a_sound_are_refused(bins):
    with pytest.raises(ValueError, match=f"bins={bins}: must be even and divide the 512 samples"):
        spectra.lapped(np.zeros(512), bins)
