"""Power spectra of fields over the wave number, beside those of real fields."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffjax.evaluation.beforehand import Counts, counting, needs
from diffjax.evaluation.resampling import with_intervals
from diffjax.evaluation.samples import Real, Samples


def radial(x: np.ndarray) -> np.ndarray:
    """Return the power of fields (N, *grid, C) at each wave number, (N, side // 2).

    Each channel has its mean removed and is multiplied by a periodic Hann window along every axis,
    scaled to the mean square 1, as a field that does not repeat would have the power of its jump at
    the border. The power |Fourier transform|^2 / values is then averaged over the channels and over
    the waves whose length of the wave vector, in waves per shortest side, rounds to 1, 2, ...,
    side // 2. Independent values of variance 1 have about the power 1 at all of them.

    >>> wave = np.cos(2 * np.pi * 4 * np.arange(16) / 16)[None, :, None] + np.zeros((1, 16, 16))
    >>> power = radial(wave[..., None])
    >>> power.shape, int(power[0].argmax()) + 1
    ((1, 8), 4)
    """
    grid = x.shape[1:-1]
    axes, side = tuple(range(1, x.ndim - 1)), min(grid)
    x = np.asarray(x, np.float64)
    x = x - x.mean(axes, keepdims=True)
    for axis, n in zip(axes, grid, strict=True):
        window = np.sqrt(8 / 3) * 0.5 * (1 - np.cos(2 * np.pi * np.arange(n) / n))
        x = x * np.expand_dims(window, [k for k in range(x.ndim) if k != axis])
    power = (np.abs(np.fft.fftn(x, axes=axes)) ** 2).mean(-1) / np.prod(grid)
    waves = np.meshgrid(*(np.fft.fftfreq(n) * side for n in grid), indexing="ij")
    number = np.rint(np.sqrt(sum(k**2 for k in waves))).astype(int).ravel()
    flat = power.reshape(len(x), -1)
    return np.stack([flat[:, number == k].mean(1) for k in range(1, side // 2 + 1)], 1)


def _fields(counts: Counts, **_: Any) -> None:
    """Raise ValueError for items that are no fields, and for nothing held out."""
    needs(counts, "field", "fields")


@counting(_fields)
def spectrum(real: Real, samples: Samples, resamples: int = 20) -> dict[str, Any]:
    """Compare the power spectrum of fields with that of training items, at all wave numbers.

    `mean` and `worst` are the mean and the largest |ratio - 1| of the mean powers over the wave
    numbers, see `radial`, and `floor` and `floor_worst` those of held-out items. `ratios` and
    `floor_ratios` are the ratios at the wave numbers 1, 2, ..., and `decades` the decades of power
    that the training items span. Raises ValueError for items that are no fields, and without
    held-out items.

    >>> from pathlib import Path
    >>> from diffjax import data
    >>> noise = lambda split: np.random.default_rng(split == "test").normal(size=(200, 8, 8, 1))
    >>> source = lambda split: data.Memory(noise(split).astype(np.float32), kind="field")
    >>> real = Real(source, data.Reading(kind="field"), 200, Path())
    >>> found = spectrum(real, Samples(1.1 * real.train.x, None), resamples=0)
    >>> round(found["mean"], 3), found["floor"] < 0.1
    (0.21, True)
    """
    form = real.train.form
    form.refuse_gaps("spectrum")
    if form.kind != "field" or len(form.shape) < 2:
        raise ValueError(f"spectrum: needs fields; the items are {form.kind}")
    train = radial(real.train.x).mean(0)
    held, ours = radial(real.test.x), radial(samples.x)

    def values(power: np.ndarray) -> dict[str, float]:
        away = np.abs(power.mean(0) / train - 1)
        return {"mean": float(away.mean()), "worst": float(away.max())}

    found = with_intervals(lambda rows: values(ours[rows]), len(ours), resamples, samples.label)
    floor = values(held)
    return found | {
        "floor": floor["mean"],
        "floor_worst": floor["worst"],
        "decades": float(np.log10(train.max() / train.min())),
        "ratios": (ours.mean(0) / train).tolist(),
        "floor_ratios": (held.mean(0) / train).tolist(),
    }
