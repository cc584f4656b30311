"""The source `excitation:<path>`: sounds of files as the excitation of the filter of their levels.

Sounds span 60 dB over time and 40 dB over frequency, and white noise of one deviation cannot serve
all of it. The levels of mel bands, the condition `mel`, state the envelope E of magnitudes over
time and frequency, and with it the filter M(y) = istft(E stft(y)) (`spectra.shaped`). An item is the
excitation y with M(y) = x, about white and of deviation 1. White noise in y is noise with the
envelope E in x, which is that of SpecGrad (arXiv:2203.16749).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffjax.data.form import Form
from diffjax.data.kinds.excitation import exciting
from diffjax.data.maps import Mapped, mel
from diffjax.data.sounds import sounds


@dataclass(frozen=True)
class Excited:
    """A source of sounds (L, 1) with the condition `mel`, whose items are the excitations."""

    source: Mapped

    @property
    def form(self) -> Form:
        return replace(self.source.form, kind="excitation", dtype="float32")

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._excited(self.source[index])

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the excitations of the items at `index` (B,), as the source draws them."""
        return self._excited(self.source.draw(index, number, seed))

    def _excited(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        form = self.source.form
        x = np.asarray(form.items.normalise(items["x"]), np.float64)
        return {**items, "x": exciting(x, items["mel"], dict(form.units)["rate"])}

    def kept(self) -> Excited:
        """Return the source itself, whose sounds are in memory."""
        return self

    def labels(self) -> np.ndarray:
        return self.source.labels()


def excitation(
    split: str, path: str = "", length: int = 4096, holdout: float = 0.1, classes: bool = False
) -> Excited:
    """Read the WAV files under `path`, of one channel, as excitations with the condition `mel`."""
    source = sounds(split, path, length, holdout, classes)
    return Excited(Mapped(source, {"mel": mel}))
