"""A source of sounds whose items are the excitations of their filters (`data.excitation`)."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from diffjax.data.excitation import FILTER, MEL, Filter
from diffjax.data.form import Form
from diffjax.data.maps import Mapped
from diffjax.data.source import Drawn, Source, load
from diffjax.data.spectra import HOP, WINDOW


@dataclass(frozen=True)
class Excited:
    """A source of sounds with the map `mel`, as excitations (blocks, bins, 1) of float32.

    The map has the same grid. The form is of latents, and has the unit `filter`, by which samples
    become sounds again (`Form.completed`).

    >>> from diffjax.data.maps import mel
    >>> from diffjax.data.source import Memory
    >>> x = np.random.default_rng(0).normal(0, 3000, (2, 512, 1)).astype(np.int16)
    >>> source = excited(Mapped(Memory(x, units=(("rate", 8000),)), {"mel": mel}))
    >>> y = source[np.arange(2)]["x"]
    >>> y.shape, bool(0.5 < y.std() < 1)
    ((2, 4, 128, 1), True)
    """

    source: Mapped

    @property
    def form(self) -> Form:
        form, of = self.source.form, self.filter
        specs = (replace(s, size=of.frames) if s.name == MEL else s for s in form.conditions)
        return replace(
            form,
            kind="latent",
            shape=(form.shape[0] // of.bins, of.bins, 1),
            conditions=tuple(specs),
            dtype="float32",
            units=(*form.units, (FILTER, (of.window, of.hop, of.bands))),
        )

    @functools.cached_property
    def filter(self) -> Filter:
        """The filter of the levels of the map, with its window and hop."""
        form = self.source.form
        settings = dict(getattr(self.source.maps[MEL], "arguments", ()))
        window, hop = settings.get("window", WINDOW), settings.get("hop", HOP)
        bands = next(spec.size for spec in form.conditions if spec.name == MEL)
        return Filter(dict(form.units)["rate"], window, hop, bands)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._excited(self.source[index])

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the excitations of the items at `index` (B,), as the source draws them."""
        return self._excited(self.source.draw(index, number, seed))

    def _excited(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        x, of = np.asarray(self.source.form.items.normalise(items["x"])), self.filter
        grid = of.read(items[MEL])
        return {**items, "x": of.blocks(x, of.levels(grid)), MEL: grid}

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

    Raises ValueError for a source without the map `mel`, for sounds of several channels, with
    lengths, or of a length that blocks do not fill, and for a hop that does not fill a block.

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
    found = Excited(source)
    found.filter.check(form.shape[0])
    return found
