"""Excitation (L, 1) of a sound: the sound without its envelope, which the condition `mel` states.

The envelope of the levels of mel bands is a filter (`spectra.shaped`), and the excitation is what
the filter turns into the sound. Pictures, files and pages show and hold that sound.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diffjax.data import spectra
from diffjax.data.kinds.audio import AUDIO
from diffjax.data.kinds.kind import Kind, Units


def envelope(levels: np.ndarray, rate: float) -> np.ndarray:
    """Return the envelopes (B, 1 + L // 64, 129) that the condition `mel` (B, L, bands) states."""
    frames = levels[:, :: spectra.HOP]
    more = 1 + levels.shape[1] // spectra.HOP - frames.shape[1]
    frames = np.pad(frames, ((0, 0), (0, more), (0, 0)), mode="edge")
    return spectra.envelope(frames, rate)


def sounding(y: np.ndarray, levels: np.ndarray, rate: float) -> np.ndarray:
    """Return the sounds (B, L, 1) of excitations y under the condition `mel`, cut to [-1, 1]."""
    x = spectra.shaped(y[..., 0], envelope(levels, rate))
    return np.clip(x, -1, 1).astype(np.float32)[..., None]


def exciting(x: np.ndarray, levels: np.ndarray, rate: float) -> np.ndarray:
    """Return the excitations (B, L, 1) of sounds x under the condition `mel`."""
    return spectra.flattened(x[..., 0], envelope(levels, rate)).astype(np.float32)[..., None]


def joined(x: np.ndarray, cond: Mapping[str, np.ndarray], units: Units) -> np.ndarray:
    """Return the sounds (B, L, 1) of excitations, cut to [-1, 1]; without `mel`, x as it is."""
    return sounding(x, cond["mel"], units["rate"]) if "mel" in cond else x


EXCITATION = Kind(
    name="excitation",
    axes="(L, 1)",
    ranks=(2,),
    channels=(1,),
    tiles=AUDIO.tiles,
    files=AUDIO.files,
    joined=joined,
    noun="excitation",
    caption=AUDIO.caption,
)
"""Items that are white noise of deviation 1 where a sound is noise with the envelope alone."""
