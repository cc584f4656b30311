"""The excitation of a sound: what the filter that the levels of its mel bands state turns into it.

Sounds span 60 dB over time and 40 dB over frequency, and white noise of one deviation cannot serve
all of it. The levels, the condition `mel`, state the envelope E of the magnitudes over time and
frequency, and with it the filter M(y) = istft(E stft(y)) (`spectra.shaped`). The excitation y of a
sound x is that with M(y) = x. It is about white and of deviation 1, as the source of the voice is
in the model of source and filter. White noise in y is noise with the envelope E in x, which is the
noise of SpecGrad (arXiv:2203.16749; PriorGrad, arXiv:2106.06406, has one deviation per frame).

A network sees the excitation as its lapped transform, blocks of time by frequencies, in which the
harmonics of a voice are lines. The transform is orthogonal, so white noise stays white.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from diffjax.data import spectra

FILTER = "filter"
"""The unit, in the form of excitations, that states the window, the hop and the bands of `Filter`.
"""
MEL = "mel"
"""The condition that states the envelope."""
UNIT, CENTRE = 5.0, 0.5
"""Of the map `mel`: the levels of `spectra.log_mel` are `mel` / UNIT + CENTRE."""
Sounds = Float[np.ndarray, "b l 1"]
Blocks = Float[np.ndarray, "b blocks bins 1"]
Levels = Float[np.ndarray, "b frames bands"]
Map = Float[np.ndarray, "b blocks bins n"]


class Filter(NamedTuple):
    """The filter of sounds of a rate: windows and hops in samples, and the number of mel bands.

    A block has window / 2 samples and as many frequencies, and n = window / 2 / hop frames of the
    levels begin in it.

    >>> of = Filter(8000, 256, 64, 20)
    >>> x = np.random.default_rng(0).normal(0, 0.1, (1, 512, 1))
    >>> levels = spectra.log_mel(x[..., 0], 8000, 20)[:, :-1]
    >>> of.blocks(x, levels).shape, of.on_grid(levels).shape
    ((1, 4, 128, 1), (1, 4, 128, 2))
    >>> again = of.sounds(of.blocks(x, levels), of.on_grid(levels))
    >>> bool(np.abs(again - x).max() < 1e-3)
    True
    """

    rate: float
    window: int
    hop: int
    bands: int

    @property
    def bins(self) -> int:
        return self.window // 2

    @property
    def frames(self) -> int:
        """The number of frames of levels that begin in a block."""
        return self.bins // self.hop

    def check(self, length: int) -> None:
        """Raise ValueError unless frames fill blocks, and blocks a sound of this length."""
        if self.bins % self.hop:
            raise ValueError(f"hop={self.hop}: must divide window / 2 = {self.bins}")
        if length % self.bins or length < self.window:
            raise ValueError(
                f"length={length}: needs a multiple of window / 2 = {self.bins}, at least "
                f"{self.window}"
            )

    @property
    def _weights(self) -> Float[np.ndarray, "bands bins"]:
        """The shares of the levels of bands in the map at each frequency of a block."""
        hertz = (np.arange(self.bins) + 0.5) * self.rate / self.window
        return spectra.between(np.eye(self.bands), self.rate, hertz)

    def on_grid(self, levels: Levels) -> Map:
        """Return levels of the frames that begin in a sound at the frequencies of its blocks."""
        at = UNIT * (np.asarray(levels) - CENTRE) @ self._weights
        parts = at.reshape(len(at), -1, self.frames, self.bins)
        return parts.swapaxes(2, 3).astype(np.float32)

    def read(self, mel: Float[np.ndarray, "b l bands"]) -> Map:
        """Return the map `maps.mel` of sounds as the map on the grid of their excitations."""
        return self.on_grid(mel[:, :: self.hop] / UNIT + CENTRE)

    def levels(self, grid: Map) -> Levels:
        """Return the levels that a map states: the inverse of `on_grid`, in least squares."""
        at = np.asarray(grid, np.float64).swapaxes(2, 3).reshape(len(grid), -1, self.bins)
        return at @ np.linalg.pinv(self._weights) / UNIT + CENTRE

    def envelope(self, levels: Levels) -> Float[np.ndarray, "b frames bins"]:
        """Return the envelope at all frames of a sound; the one at its end repeats the last."""
        size = spectra.envelope(levels, self.rate, self.window)
        return np.pad(size, ((0, 0), (0, 1), (0, 0)), mode="edge")

    def blocks(self, x: Sounds, levels: Levels) -> Blocks:
        """Return the excitations of sounds with these levels, as lapped transforms."""
        sound, size = np.asarray(x[..., 0], np.float64), self.envelope(levels)
        y = spectra.flattened(sound, size, self.window, self.hop)
        return spectra.lapped(y, self.bins).astype(np.float32)[..., None]

    def filtered(self, y: Blocks, grid: Map) -> Sounds:
        """Return the sounds of excitations, behind the filter alone."""
        size = self.envelope(self.levels(grid))
        sound = spectra.unlapped(np.asarray(y[..., 0], np.float64))
        return spectra.shaped(sound, size, self.window, self.hop)[..., None]

    def corrected(self, x: Sounds, grid: Map) -> Sounds:
        """Return sounds with their levels corrected, cut to [-1, 1] (`spectra.levelled`)."""
        settings: dict[str, Any] = {"window": self.window, "hop": self.hop}
        x = spectra.levelled(x[..., 0], self.levels(grid), self.rate, **settings)
        return np.clip(x, -1, 1).astype(np.float32)[..., None]

    def sounds(self, y: Blocks, grid: Map) -> Sounds:
        """Return the sounds of excitations: the inverse of `blocks`, with the levels corrected."""
        return self.corrected(self.filtered(y, grid), grid)
