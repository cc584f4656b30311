"""The excitation of a sound: what the filter that the levels of its mel bands state turns into it.

Sounds span 60 dB over time and 40 dB over frequency, and white noise of one deviation cannot serve
all of it. The levels, the condition `mel`, state the envelope E of the magnitudes over time and
frequency, and with it the filter M(y) = istft(E stft(y)) (`spectra.shaped`). The excitation y of a
sound x is that with M(y) = x. It is about white and of deviation 1, as the source of the voice is
in the model of source and filter. White noise in y is noise with the envelope E in x, which is the
noise of SpecGrad (arXiv:2203.16749; PriorGrad, arXiv:2106.06406, has one deviation per frame).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from diffjax.data import spectra

FILTER = "filter"
"""The unit, in the form of excitations, that states window and hop of the filter, in samples."""
MEL = "mel"
"""The condition that states the envelope."""
UNIT, CENTRE = 5.0, 0.5
"""Of the map `mel`: the levels of `spectra.log_mel` are `mel` / UNIT + CENTRE."""
Units = Mapping[str, Any]
Sounds = Float[np.ndarray, "b l 1"]
Mel = Float[np.ndarray, "b l bands"]


def levels_of(mel: Mel, hop: int) -> Float[np.ndarray, "b frames bands"]:
    """Return the levels at the frames of a sound that begin before its end, by the map `mel`.

    >>> levels_of(np.arange(4.0).reshape(1, 4, 1), hop=2)[0, :, 0].tolist()
    [0.5, 0.9]
    """
    return np.asarray(mel[:, ::hop], np.float64) / UNIT + CENTRE


def envelope(mel: Mel, units: Units) -> Float[np.ndarray, "b frames bins"]:
    """Return the envelope at all frames of a sound, 1 + L // hop; the last one repeats."""
    window, hop = units[FILTER]
    size = spectra.envelope(levels_of(mel, hop), units["rate"], window)
    more = 1 + mel.shape[1] // hop - size.shape[1]
    return np.pad(size, ((0, 0), (0, more), (0, 0)), mode="edge")


def excitations(x: Sounds, mel: Mel, units: Units) -> Sounds:
    """Return the excitations of sounds x (B, L, 1); `sounds` is the inverse.

    mel: the map of the sounds. units: those of their form, `rate` and FILTER among them.

    >>> from diffjax.data import maps
    >>> units = {"rate": 8000, FILTER: (256, 64)}
    >>> x = np.random.default_rng(0).normal(0, 0.1, (1, 512, 1))
    >>> mel = maps.mel(x, 8000, bands=20)
    >>> bool(np.abs(sounds(excitations(x, mel, units), mel, units) - x).max() < 5e-3)
    True
    """
    window, hop = units[FILTER]
    y = spectra.flattened(np.asarray(x[..., 0], np.float64), envelope(mel, units), window, hop)
    return y.astype(np.float32)[..., None]


def sounds(y: Sounds, mel: Mel, units: Units) -> Sounds:
    """Return the sounds (B, L, 1) of excitations y, cut to [-1, 1].

    mel: the map that the sounds should have, whose levels they receive (`spectra.levelled`). units:
    those of their form, `rate` and FILTER among them.
    """
    window, hop = units[FILTER]
    x = spectra.shaped(np.asarray(y[..., 0], np.float64), envelope(mel, units), window, hop)
    x = spectra.levelled(x, levels_of(mel, hop), units["rate"], window=window, hop=hop)
    return np.clip(x, -1, 1).astype(np.float32)[..., None]
