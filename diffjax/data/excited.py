"""A source of sounds whose items are the excitations of their filters (`data.excitation`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffjax.data import spectra
from diffjax.data.excitation import FILTER, MEL, excitations
from diffjax.data.form import Form
from diffjax.data.maps import Mapped
from diffjax.data.source import Drawn, Source


@dataclass(frozen=True)
class Excited:
    """A source of sounds with the map `mel`, as excitations (L, 1) of float32.

    The form has the unit `filter`, by which samples become sounds again (`Form.completed`). Raises
    ValueError for sounds of several channels, and for a source without the map.

    >>> from diffjax.data.maps import mel
    >>> from diffjax.data.source import Memory
    >>> x = np.random.default_rng(0).normal(0, 3000, (2, 512, 1)).astype(np.int16)
    >>> source = Excited(Mapped(Memory(x, units=(("rate", 8000),)), {"mel": mel}))
    >>> y = source[np.arange(2)]["x"]
    >>> y.dtype, bool(0.5 < y.std() < 1)
    (dtype('float32'), True)
    """

    source: Source

    def __post_init__(self):
        form = self.source.form
        if not isinstance(self.source, Mapped) or MEL not in self.source.maps:
            raise ValueError(
                f"excitation=True: the {form.items.noun}s {form.shape} have no map {MEL}; needs "
                f"maps=({MEL!r},)"
            )
        if form.shape[-1] != 1:
            raise ValueError(
                f"excitation=True: the sounds have {form.shape[-1]} channels; needs 1"
            )

    @property
    def form(self) -> Form:
        form = self.source.form
        return replace(form, dtype="float32", units=(*form.units, (FILTER, self.filter)))

    @property
    def filter(self) -> tuple[int, int]:
        """Window and hop of the filter, in samples: those of the map."""
        assert isinstance(self.source, Mapped)
        settings: dict[str, Any] = dict(getattr(self.source.maps[MEL], "arguments", ()))
        return settings.get("window", spectra.WINDOW), settings.get("hop", spectra.HOP)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._excited(self.source[index])

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the excitations of the items at `index` (B,), as the source draws them."""
        assert isinstance(self.source, Mapped)
        return self._excited(self.source.draw(index, number, seed))

    def _excited(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        form = self.source.form
        units = dict(form.units) | {FILTER: self.filter}
        return {**items, "x": excitations(form.items.normalise(items["x"]), items[MEL], units)}

    def kept(self) -> Excited:
        """Return the source with its sounds in memory."""
        inner = self.source
        return replace(self, source=inner.kept()) if isinstance(inner, Drawn) else self

    def labels(self) -> np.ndarray:
        return self.source.labels()
