"""Distance of sounds in the logarithms of their spectra, as vocoders are judged."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.data.kinds.storing import to_int16
from diffjax.data.spectra import stft
from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.retrieval import check_asked
from diffjax.evaluation.samples import Real, Samples

WINDOWS = (128, 256, 512)
"""Windows of the transforms, in samples."""
SILENCE = 1e-4
"""The magnitude below which all levels count as equal: 80 dB below a sine of amplitude 1."""


def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the log-spectral distances (N,) of sounds (N, L), in dB.

    It is the mean over frames, and over the windows WINDOWS with hops of a quarter of each, of the
    root mean square over frequencies of the difference of levels. x, y: floats in [-1, 1].
    Independent draws of noise with one spectrum are sqrt(2) 10 / ln(10) pi / sqrt(6) = 7.88 dB from
    each other, so an exact sampler of noise has more than a sound with a smooth spectrum.

    >>> x = np.random.default_rng(0).normal(0, 0.1, (2, 2000))
    >>> distance(x, x).tolist(), distance(x, 10 * x).round().tolist()
    ([0.0, 0.0], [20.0, 20.0])
    """
    apart = []
    for window in WINDOWS:
        levels = [20 * np.log10(np.abs(stft(a, window, window // 4)) + SILENCE) for a in (x, y)]
        apart.append(np.sqrt(((levels[0] - levels[1]) ** 2).mean(-1)).mean(-1))
    return np.mean(apart, 0)


def _asked(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no sounds, and as `check_asked` does."""
    needs(counts, "audio", "sounds", held_out=0)
    check_asked(counts)


@counting(_asked)
def log_spectral(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Measure the log-spectral distance of sounds to those whose conditions they had, in dB.

    See `distance`; with several channels it is the mean over them. Raises ValueError for items that
    are no sounds, and for samples that were not made for held-out items.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> source = lambda split: data.Memory(np.ones((4, 600, 1), np.int16), kind="audio")
    >>> real = Real(source, data.Reading(kind="audio"), 4, Path())
    >>> log_spectral(real, Samples(real.test.x, None, asked=np.arange(4)), resamples=0)
    {'decibels': 0.0}
    """
    if real.test.form.kind != "audio":
        raise ValueError(f"log_spectral: needs sounds; the items are {real.test.form.kind}")
    if samples.asked is None:
        raise ValueError("log_spectral: the samples were not made for held-out sounds")
    sounds = lambda a: np.moveaxis(to_int16(a) / 32768.0, -1, 1).reshape(-1, a.shape[1])
    apart = distance(sounds(samples.x), sounds(real.test.x[samples.asked]))
    each = apart.reshape(len(samples.x), -1).mean(1)
    values = lambda rows: {"decibels": float(each[rows].mean())}
    return with_intervals(values, len(each), resamples, samples.label)
