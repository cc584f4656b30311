"""Spectra of sounds: short-time Fourier transforms, mel bands, and sounds from magnitudes alone.

Sounds are arrays (..., L) of float64, and frames are `hop` samples apart. Frame k is centred at
sample k hop; before the first sample and behind the last one the sound is mirrored.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float
from scipy.fft import dct

from diffjax import checks

Sound = Float[np.ndarray, "*b l"]
Spectrum = Complex[np.ndarray, "*b frames bins"]
Magnitude = Float[np.ndarray, "*b frames bins"]
WINDOW, HOP = 256, 64
"""The samples of a frame, and between frames, where nothing else is asked for."""
FLOOR = 1e-5
"""The smallest magnitude, -100 dB, of logarithms."""
TINY = 1e-30
"""The least positive number of a division, so that silence stays silence."""


def hann(window: int) -> Float[np.ndarray, " n"]:
    """Return the periodic Hann window, whose shifts by half of it sum to 1.

    >>> hann(4).round(9).tolist()
    [0.0, 0.5, 1.0, 0.5]
    """
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)


def _check(window: int, hop: int, length: int) -> None:
    checks.at_least(4, window=window)
    if window % 2:
        raise ValueError(f"window={window}: needs an even number of samples")
    checks.within(1, window // 2, hop=hop)
    if length <= window // 2:
        raise ValueError(f"a sound of {length} samples: needs more than window / 2 = {window // 2}")


def stft(x: Sound, window: int = WINDOW, hop: int = HOP) -> Spectrum:
    """Return the short-time Fourier transform (..., 1 + L // hop, 1 + window // 2) of sounds.

    A sine of amplitude 1 has the magnitude 1 in its bin. window: samples of a frame, even. hop:
    samples between frames, at most half a window. Raises ValueError for settings out of range, and
    for sounds that are shorter than half a window.

    >>> t = np.arange(1024) / 8000
    >>> S = np.abs(stft(np.sin(2 * np.pi * 1000 * t)))
    >>> S.shape, int(S[8].argmax()), round(float(S[8].max()), 3)  # 1000 Hz is bin 32 of 8000 / 256
    ((17, 129), 32, 1.0)
    """
    x = np.asarray(x, np.float64)
    _check(window, hop, x.shape[-1])
    side = window // 2
    wide = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(side, side)], mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(wide, window, -1)[..., ::hop, :]
    weights = hann(window)
    return np.fft.rfft(frames * weights) * (2 / weights.sum())


def istft(spectrum: Spectrum, length: int, window: int = WINDOW, hop: int = HOP) -> Sound:
    """Return the sounds (..., L) whose transform is nearest to a spectrum, in the squared error.

    It is the inverse of `stft` for the transform of a sound, apart from rounding (Griffin and Lim
    1984). length: the number of samples. Raises ValueError as `stft` does.

    >>> x = np.random.default_rng(0).normal(size=(2, 1000))
    >>> bool(np.allclose(istft(stft(x), 1000), x))
    True
    """
    _check(window, hop, length)
    weights, side = hann(window), window // 2
    frames = np.fft.irfft(spectrum * (weights.sum() / 2), window) * weights
    count = frames.shape[-2]
    total = np.zeros((*frames.shape[:-2], window + hop * (count - 1)))
    norm = np.zeros(total.shape[-1])
    for k in range(count):
        at = slice(k * hop, k * hop + window)
        total[..., at] += frames[..., k, :]
        norm[at] += weights**2
    inside = slice(side, side + length)
    return total[..., inside] / np.maximum(norm[inside], FLOOR)


def lapped(x: Sound, bins: int) -> Float[np.ndarray, "*b blocks bins"]:
    """Return the lapped transform (..., L // bins, bins) of sounds, which is orthogonal.

    It is the modified discrete cosine transform with sine windows of two blocks, whose first and
    last block end sharply (Malvar 1990), so that white noise stays white. Bin k is at the frequency
    (k + 1/2) / (2 bins) of the rate. bins: samples of a block, even. Raises ValueError where they
    do not divide the sound.

    >>> x = np.random.default_rng(0).normal(size=(2, 64))
    >>> round(float((lapped(x, 16) ** 2).sum() / (x**2).sum()), 9)
    1.0
    """
    if bins < 2 or bins % 2 or x.shape[-1] % bins:
        raise ValueError(f"bins={bins}: must be even and divide the {x.shape[-1]} samples")
    return _cosines(_turned(x.reshape(*x.shape[:-1], -1, bins), -1))


def unlapped(blocks: Float[np.ndarray, "*b blocks bins"]) -> Sound:
    """Return the sounds (..., L) of lapped transforms: the inverse of `lapped`.

    >>> x = np.random.default_rng(0).normal(size=(2, 64))
    >>> bool(np.allclose(unlapped(lapped(x, 16)), x))
    True
    """
    x = _turned(_cosines(blocks), 1)
    return x.reshape(*x.shape[:-2], -1)


def _cosines(blocks: np.ndarray) -> np.ndarray:
    """Return the orthogonal cosine transform of type 4 of the last axis: its own inverse."""
    return np.asarray(dct(blocks, 4, norm="ortho"))


def _turned(blocks: np.ndarray, sign: int) -> np.ndarray:
    """Rotate each pair of samples at equal distances from a border of blocks (..., n, bins)."""
    half = blocks.shape[-1] // 2
    angle = np.pi / 4 * (1 - (np.arange(half) + 0.5) / half)
    c, s = np.cos(angle), sign * np.sin(angle)
    before, after = blocks[..., :-1, : half - 1 : -1], blocks[..., 1:, :half]
    out = np.array(blocks)
    out[..., :-1, half:] = (c * before + s * after)[..., ::-1]
    out[..., 1:, :half] = c * after - s * before
    return out


def mel(hertz: float | np.ndarray) -> np.ndarray:
    """Return frequencies in mel, 2595 log10(1 + f / 700), which is 1000 mel at 1000 Hz.

    >>> round(float(mel(1000.0)))
    1000
    """
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def filters(bands: int, rate: float, window: int = WINDOW) -> Float[np.ndarray, "bins bands"]:
    """Return triangular filters (1 + window // 2, bands) that are evenly spaced in mel.

    Band k is 1 at its centre and falls to 0 at the centres of its neighbours, linearly in mel; the
    outer ends are 0 and rate / 2. rate: samples per second. Raises ValueError where the window is
    too short for so many bands, so that a band holds no frequency.

    >>> float(filters(10, 8000).sum(1)[10:-30].min().round(9))  # the bands share each frequency
    1.0
    """
    checks.positive(rate=rate)
    checks.at_least(1, bands=bands)
    bins = mel(np.fft.rfftfreq(window, 1 / rate))
    width = mel(rate / 2) / (bands + 1)
    centres = width * np.arange(1, bands + 1)
    bank = np.maximum(0, 1 - np.abs(bins[:, None] - centres) / width)
    if not bank.any(0).all():
        empty = int(np.flatnonzero(~bank.any(0))[0])
        raise ValueError(
            f"bands={bands}: band {empty} holds no frequency of a window of {window} samples; "
            f"allowed: fewer bands, or a longer window"
        )
    return bank


def log_mel(
    x: Sound, rate: float, bands: int = 40, window: int = WINDOW, hop: int = HOP
) -> Float[np.ndarray, "*b frames bands"]:
    """Return the levels of mel bands over time (..., 1 + L // hop, bands), in units of 100 dB.

    They lie in [0, 1]: 0 is the magnitude 1e-5 or less, and 1 is that of a sine of amplitude 1.
    Larger ones are cut. rate: samples per second. Raises ValueError as `stft` and `filters` do.

    >>> log_mel(np.zeros(512), 8000, bands=10).shape, float(log_mel(np.zeros(512), 8000, 10).max())
    ((9, 10), 0.0)
    """
    power = np.abs(stft(x, window, hop)) ** 2 @ filters(bands, rate, window)
    return np.clip(1 + np.log10(np.maximum(power, FLOOR**2)) / 5 / 2, 0, 1)


def magnitude(
    levels: Float[np.ndarray, "*b frames bands"], rate: float, window: int = WINDOW
) -> Magnitude:
    """Return magnitudes (..., frames, 1 + window // 2) that have these levels of mel bands.

    Among them it is that of least squares, without its negative powers. levels: those of `log_mel`.

    >>> flat = log_mel(np.random.default_rng(0).normal(0, 0.1, 4096), 8000, bands=20)
    >>> magnitude(flat, 8000).shape
    (65, 129)
    """
    power = 10.0 ** (10 * (np.asarray(levels, np.float64) - 1))
    inverse = np.linalg.pinv(filters(levels.shape[-1], rate, window))
    return np.sqrt(np.maximum(power @ inverse, FLOOR**2))


def envelope(
    levels: Float[np.ndarray, "*b frames bands"], rate: float, window: int = WINDOW
) -> Magnitude:
    """Return smooth positive magnitudes (..., frames, 1 + window // 2) of levels of mel bands.

    A band has its power per bin at its centre; between centres its logarithm is linear in mel, and
    beyond the outer ones constant. levels: those of `log_mel`.

    >>> x = np.random.default_rng(0).normal(0, 0.1, (64, 4096))
    >>> size = envelope(log_mel(x, 8000), 8000)
    >>> white = 0.1 * np.sqrt((hann(256) ** 2).sum()) * 2 / hann(256).sum()
    >>> bool(abs((size**2).mean() / white**2 - 1) < 0.05)
    True
    """
    power = 10 * np.log(10) * (np.asarray(levels, np.float64) - 1)
    density = power - np.log(filters(levels.shape[-1], rate, window).sum(0))
    hertz = np.fft.rfftfreq(window, 1 / rate)
    return np.maximum(np.exp(between(density, rate, hertz) / 2), FLOOR)


def between(
    values: Float[np.ndarray, "*b bands"], rate: float, hertz: Float[np.ndarray, " bins"]
) -> Float[np.ndarray, "*b bins"]:
    """Return values of bands at frequencies: linear in mel, constant beyond the outer bands.

    >>> between(np.array([1.0, 2.0]), 8000, np.array([0.0, 4000.0])).tolist()
    [1.0, 2.0]
    """
    bands = values.shape[-1]
    place = mel(hertz) / (mel(rate / 2) / (bands + 1)) - 1
    place = np.clip(place, 0, bands - 1)
    before = place.astype(int)
    after, share = np.minimum(before + 1, bands - 1), place - before
    return (1 - share) * values[..., before] + share * values[..., after]


def shaped(y: Sound, size: Magnitude, window: int = WINDOW, hop: int = HOP) -> Sound:
    """Return excitations y (..., L) behind the filter with these magnitudes over time.

    It is the sound M(y) whose transform is nearest to that of y times `size`, in units in which
    white noise of deviation 1 has the mean power 1.
    """
    whole = size * (stft(y, window, hop) / _white(window))
    return istft(whole, y.shape[-1], window, hop)


def flattened(
    x: Sound, size: Magnitude, window: int = WINDOW, hop: int = HOP, iterations: int = 6
) -> Sound:
    """Return the excitations y (..., L) of which `shaped` makes the sounds x: its inverse.

    M is symmetric and positive apart from the ends of a sound, so conjugate gradients apply; the
    filter with the inverse of `size` is their start and their preconditioner.
    """
    inverse = lambda z: shaped(z, _white(window) ** 2 / size, window, hop)
    dot = lambda a, b: (a * b).sum(-1, keepdims=True)
    y = inverse(x)
    rest = x - shaped(y, size, window, hop)
    way = near = inverse(rest)
    slope = dot(rest, near)
    for _ in range(iterations):
        along = shaped(way, size, window, hop)
        step = slope / np.maximum(dot(way, along), TINY)
        y, rest = y + step * way, rest - step * along
        near = inverse(rest)
        before, slope = slope, dot(rest, near)
        way = near + slope / np.maximum(before, TINY) * way
    return y


def levelled(
    x: Sound,
    levels: Float[np.ndarray, "*b frames bands"],
    rate: float,
    *,
    iterations: int = 32,
    window: int = WINDOW,
    hop: int = HOP,
) -> Sound:
    """Return sounds (..., L) near x whose levels of mel bands are nearer to the given ones.

    In each iteration the magnitudes are multiplied by what the levels lack, between the centres of
    bands as in `envelope`, and the nearest sound is taken. A sound that has the levels stays as it
    is. levels: those of `log_mel`, of the first frames; further ones keep their own.

    >>> x = np.random.default_rng(0).normal(0, 0.1, 4096)
    >>> levels = log_mel(x, 8000)
    >>> bool(np.allclose(levelled(x, levels, 8000), x))
    True
    """
    checks.at_least(0, iterations=iterations)
    bank, known = filters(levels.shape[-1], rate, window), levels.shape[-2]
    hertz = np.fft.rfftfreq(window, 1 / rate)
    wanted = np.maximum(10.0 ** (10 * (np.asarray(levels, np.float64) - 1)), FLOOR**2)
    for _ in range(iterations):
        there = stft(x, window, hop)
        power = np.maximum(np.abs(there[..., :known, :]) ** 2 @ bank, FLOOR**2)
        there[..., :known, :] *= np.exp(between(np.log(wanted / power), rate, hertz) / 2)
        x = istft(there, x.shape[-1], window, hop)
    return x


def _white(window: int) -> float:
    """Return the root mean square of magnitudes of white noise of deviation 1."""
    return 2 * float(np.sqrt((hann(window) ** 2).sum()) / hann(window).sum())


def griffin_lim(
    size: Magnitude,
    length: int,
    *,
    iterations: int = 32,
    window: int = WINDOW,
    hop: int = HOP,
    seed: int = 0,
    start: Sound | None = None,
) -> Sound:
    """Return sounds (..., L) whose transforms have about these magnitudes (Griffin and Lim 1984).

    Random phases are replaced, `iterations` times, by those of the nearest sound, which never
    increases the squared distance of the magnitudes. seed: of the phases. start: sounds (..., L)
    whose phases are the first ones, None for random ones.

    >>> x = np.sin(np.arange(512) / 5)
    >>> y = griffin_lim(np.abs(stft(x)), 512)
    >>> bool(np.abs(np.abs(stft(y)) - np.abs(stft(x))).mean() < 0.01)
    True
    """
    checks.at_least(0, iterations=iterations)
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, size.shape)
    spectrum = size * np.exp(1j * angle)
    if start is not None:
        spectrum = _with_phases(size, stft(start, window, hop))
    for _ in range(iterations):
        there = stft(istft(spectrum, length, window, hop), window, hop)
        spectrum = _with_phases(size, there)
    return istft(spectrum, length, window, hop)


def _with_phases(size: Magnitude, spectrum: Spectrum) -> Spectrum:
    """Return a spectrum with these magnitudes and the phases of another one."""
    return size * spectrum / np.maximum(np.abs(spectrum), FLOOR**2)
