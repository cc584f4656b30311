"""A source of sounds whose items are the excitations of their filters (`data.excitation`)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffjax.data import spectra
from diffjax.data.excitation import FILTER, MEL, excitations
from diffjax.data.form import Form
from diffjax.data.maps import Mapped
from diffjax.data.source import Drawn, Source, load


@dataclass(frozen=True)
class Excited:
    """A source of sounds of one channel with the map `mel`, as excitations (L, 1) of float32.

    The form has the unit `filter`, by which samples become sounds again (`Form.completed`).

    >>> from diffjax.data.maps import mel
    >>> from diffjax.data.source import Memory
    >>> x = np.random.default_rng(0).normal(0, 3000, (2, 512, 1)).astype(np.int16)
    >>> source = excited(Mapped(Memory(x, units=(("rate", 8000),)), {"mel": mel}))
    >>> y = source[np.arange(2)]["x"]
    >>> y.dtype, bool(0.5 < y.std() < 1)
    (dtype('float32'), True)
    """

    source: Mapped

    @property
    def form(self) -> Form:
        return replace(self.source.form, dtype="float32", units=tuple(self._units.items()))

    @property
    def _units(self) -> dict[str, Any]:
        """The units of the sounds, and window and hop of the filter: those of the map."""
        settings = dict(getattr(self.source.maps[MEL], "arguments", ()))
        of_map = settings.get("window", spectra.WINDOW), settings.get("hop", spectra.HOP)
        return dict(self.source.form.units) | {FILTER: of_map}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._excited(self.source[index])

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the excitations of the items at `index` (B,), as the source draws them."""
        return self._excited(self.source.draw(index, number, seed))

    def _excited(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = self.source.form.items.normalise(items["x"])
        return {**items, "x": excitations(np.asarray(x), items[MEL], self._units)}

    def kept(self) -> Excited:
        """Return the source with its sounds in memory."""
        inner = self.source.source
        here = inner.kept() if isinstance(inner, Drawn) else load(inner)
        return replace(self, source=replace(self.source, source=here))

    def labels(self) -> np.ndarray:
        return self.source.labels()

    def captions(self, index: np.ndarray) -> list[list[str]]:
        return self.source.captions(index)


def excited(source: Source) -> Excited:
    """Return the excitations of a source of sounds.

    Raises ValueError for a source without the map `mel`, for sounds of several channels, and for
    sounds with lengths.

    >>> from diffjax import data
    >>> excited(data.moons("train", size=10))
    Traceback (most recent call last):
    ValueError: excitation=True: needs maps=('mel',); the points items (2,) have no such map
    """
    form = source.form
    if not isinstance(source, Mapped) or MEL not in source.maps:
        raise ValueError(
            f"excitation=True: needs maps=({MEL!r},); the {form.kind} items {form.shape} have no "
            f"such map"
        )
    if form.shape[-1] != 1:
        raise ValueError(f"excitation=True: the sounds have {form.shape[-1]} channels; needs 1")
    form.refuse_lengths("excitation=True")
    return Excited(source)
