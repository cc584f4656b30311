"""Sound (L, channels): floats in [-1, 1], or 16-bit integers, at a `rate` in hertz."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Kind, Units, as_they_are, flat
from diffjax.data.kinds.players import PLAYERS
from diffjax.data.kinds.storing import WAV, to_int16
from diffjax.data.spectra import log_mel

BANDS, DECIBELS = 40, 80
"""Mel bands, and decibels below the largest level, of the pictures that a classifier sees."""


def normalise(x: Shaped[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Convert 16-bit integers to floats in [-1, 1); floats are returned unchanged."""
    return x.astype(jnp.float32) / 32768 if x.dtype == jnp.int16 else x


def _denormalise(x: np.ndarray, dtype: str) -> np.ndarray:
    return to_int16(x) if dtype == "int16" else as_they_are(x, dtype)


def _waves(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / 32768 if x.dtype == np.int16 else x


def _caption(x: np.ndarray, units: Units) -> str:
    """Return the range of the values and, where the rate is known, the longest duration in s."""
    seconds = f"; horizontal: 0 to {x.shape[1] / units['rate']:.3g} s" if "rate" in units else ""
    return drawing.span(_waves(x)) + seconds


def pictures(x: np.ndarray, units: Units) -> np.ndarray:
    """Return the levels of mel bands over time of sounds (N, L, C), uint8 (N, frames, bands, 1).

    They are those of `log_mel` for the mean of the channels: 255 is the level of a sine of
    amplitude 1, and 0 is 80 dB below it or less. The part beyond the end of a shorter sound is
    silent. Raises ValueError for sounds without a rate, and for those too short for a frame.

    >>> x = np.sin(np.arange(2000) / 3)[None, :, None].astype(np.float32)
    >>> seen = pictures(x, {"rate": 8000})
    >>> seen.shape, int(seen[0, 15].argmax())  # 424 Hz
    ((1, 32, 40, 1), 9)
    """
    if "rate" not in units:
        raise ValueError("a classifier of sounds: needs their rate; the form of the data has none")
    levels = log_mel(np.nan_to_num(_waves(x)).mean(-1), units["rate"], BANDS)
    return np.round(255 * np.clip(1 - 100 / DECIBELS * (1 - levels), 0, 1)).astype(np.uint8)[
        ..., None
    ]


AUDIO = Kind(
    name="audio",
    axes="(L, channels)",
    ranks=(2,),
    dtypes=("float32", "int16"),
    bound=1.0,
    normalise=normalise,
    denormalise=_denormalise,
    tiles=lambda x: drawing.lines(_waves(x)),
    files=(WAV, PLAYERS),
    window=(-2,),
    lengths=True,
    seen=pictures,
    values=lambda x: flat(_waves(x)),
    noun="sound",
    caption=_caption,
)
