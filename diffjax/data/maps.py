"""Maps on the grid of items that are computed from the items: conditions of controls, vocoders.

    config.data.maps=edges            # one condition `edges`
    config.data.maps="(edges,small:factor=4)"

A map is a pure function of images x (B, H, W, C) in [-1, 1], float32, to (B, H, W, k), mostly in
[0, 1]; an entry of `MAPS`. The entries of `SOUNDS` map sounds x (B, L, channels) in [-1, 1], and
`rate`, their samples per second, to (B, L, k).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffjax import checks
from diffjax.arrays import catalogue
from diffjax.data.excitation import CENTRE, UNIT
from diffjax.data.form import Form
from diffjax.data.source import Captioned, Drawn, Source, load
from diffjax.data.spectra import HOP, WINDOW, log_mel
from diffjax.specs import Spec

Images = np.ndarray
"""Images (B, H, W, C) in [-1, 1], or maps (B, H, W, k)."""


def brightness(x: Images) -> Images:
    """Return the mean over channels as (B, H, W, 1) in [0, 1].

    >>> brightness(np.array([[[[-1.0, 1.0]]]])).tolist()
    [[[[0.5]]]]
    """
    return ((x.mean(-1, keepdims=True) + 1) / 2).astype(np.float32)


def slopes(x: Images) -> Images:
    """Return the size of the gradient of the brightness, (B, H, W, 1), per pixel.

    Differences are central; beyond the border the brightness stays as it is there.
    """
    wide = np.pad(brightness(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    down = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]) / 2
    right = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]) / 2
    return np.sqrt(down**2 + right**2)


def edges(x: Images, threshold: float = 0.0) -> Images:
    """Edges (B, H, W, 1): the size of the gradient of the brightness, at most 1.

    It is 1 where the brightness changes by 1 or more within two pixels. threshold: in (0, 1), makes
    the map 1 at slopes above it and 0 elsewhere; 0 keeps the slopes.

    >>> step = np.where(np.arange(4) < 2, -1.0, 1.0).reshape(1, 1, 4, 1)
    >>> edges(step).ravel().tolist()
    [0.0, 1.0, 1.0, 0.0]
    """
    checks.within(0, 1, "[)", threshold=threshold)
    size = np.minimum(2 * slopes(x), 1)
    return (size > threshold).astype(np.float32) if threshold else size


def thickness(x: Images) -> Images:
    """Mean thickness of bright strokes, one number on the whole grid (B, H, W, 1), in pixels / 4.

    A stroke of length L and width w has the area A = L w, and the sum of slopes along its two sides
    is P = 2 L, so w = 2 A / P. An image without slopes has the thickness 0.

    >>> bar = np.full((1, 16, 16, 1), -1.0)
    >>> bar[:, :, 6:10] = 1
    >>> float(4 * thickness(bar)[0, 0, 0, 0])
    4.0
    """
    area = brightness(x).sum((1, 2, 3), keepdims=True)
    sides = slopes(x).sum((1, 2, 3), keepdims=True)
    width = 2 * area / np.where(sides > 0, sides, np.inf)
    return np.broadcast_to(width / 4, (*x.shape[:3], 1)).astype(np.float32)


def small(x: Images, factor: int = 2) -> Images:
    """The image at 1 / factor of its sides, enlarged again by repetition, (B, H, W, C) in [0, 1].

    Raises ValueError where the factor does not divide the sides.

    >>> small(np.array([[[[-1.0], [1.0]], [[1.0], [1.0]]]])).ravel().tolist()
    [0.75, 0.75, 0.75, 0.75]
    """
    checks.at_least(1, factor=factor)
    b, h, w, c = x.shape
    if h % factor or w % factor:
        raise ValueError(f"factor={factor}: must divide the sides of images {x.shape[1:]}")
    mean = x.reshape(b, h // factor, factor, w // factor, factor, c).mean((2, 4))
    large = mean.repeat(factor, 1).repeat(factor, 2)
    return ((large + 1) / 2).astype(np.float32)


def blur(x: Images, width: float = 1.0) -> Images:
    """The brightness after a Gaussian filter of this standard deviation, (B, H, W, 1) in [0, 1].

    It shows where things are and not their outlines, as a map of depth does. Beyond the border the
    brightness stays as it is there.

    >>> blur(np.ones((1, 4, 4, 1))).min().round(4)
    np.float32(1.0)
    """
    checks.positive(width=width)
    reach = int(np.ceil(3 * width))
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    grey = brightness(x)
    for axis in (1, 2):
        pads = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        wide, n = np.pad(grey, pads, mode="edge"), grey.shape[axis]
        parts = [np.take(wide, range(k, k + n), axis) for k in range(2 * reach + 1)]
        grey = np.tensordot(weight / weight.sum(), np.stack(parts), 1)
    return grey.astype(np.float32)


def mel(
    x: np.ndarray, rate: float, bands: int = 40, window: int = WINDOW, hop: int = HOP
) -> np.ndarray:
    """The levels of mel bands over time, (B, L, bands): what a vocoder reads.

    They are those of `spectra.log_mel` for the mean over channels, between frames linear in time,
    in units of 20 dB from the level of -50 dB, so that they lie in [-2.5, 2.5].
    A network with this condition makes sounds of mel spectrograms (arXiv:2009.09761).

    >>> mel(np.zeros((2, 512, 1)), rate=8000, bands=10).shape
    (2, 512, 10)
    """
    levels = log_mel(x.mean(-1), rate, bands, window, hop)
    place = np.arange(x.shape[1]) / hop
    before = np.minimum(place.astype(int), levels.shape[1] - 1)
    after = np.minimum(before + 1, levels.shape[1] - 1)
    share = (place - before)[:, None]
    mixed = (1 - share) * levels[:, before] + share * levels[:, after]
    return (UNIT * (mixed - CENTRE)).astype(np.float32)


SOUNDS: dict[str, Callable[..., Any]] = catalogue(mel)
MAPS: dict[str, Callable[..., Any]] = {**catalogue(edges, thickness, small, blur), **SOUNDS}


def computed(
    maps: Mapping[str, Callable[..., Images]], x: np.ndarray, form: Form
) -> dict[str, np.ndarray]:
    """Return maps by name, each (B, *grid, k), of stored items x (B, *shape) of a form.

    >>> image = Form("image", (4, 4, 1), (), "uint8")
    >>> computed({"edges": edges}, np.zeros((2, 4, 4, 1), np.uint8), image)["edges"].shape
    (2, 4, 4, 1)
    """
    items, rate = np.asarray(form.items.normalise(x), np.float32), dict(form.units).get("rate")
    return {
        name: np.asarray(make(items, rate) if name in SOUNDS else make(items))
        for name, make in maps.items()
    }


@dataclass(frozen=True)
class Mapped:
    """A source of images or sounds with maps of each as conditions, by name.

    Raises ValueError for items of another kind than the maps, for a name that another condition
    has, and for a map that does not apply to these items.

    >>> from diffjax.data import digits
    >>> Mapped(digits("test"), {"edges": edges})[np.arange(2)]["edges"].shape
    (2, 8, 8, 1)
    """

    source: Source
    maps: Mapping[str, Callable[..., Images]]

    def __post_init__(self):
        form = self.source.form
        images = form.items.augment and form.dtype == "uint8"
        sounds = form.kind == "audio" and "rate" in dict(form.units)
        for name in self.maps:
            if not (sounds if name in SOUNDS else images):
                needs = "sounds with a rate" if name in SOUNDS else "images of uint8"
                raise ValueError(
                    f"{name}: needs {needs}; the items are {form.kind} {form.shape} of {form.dtype}"
                )
        self.form  # noqa: B018  # refuses names that exist, and maps that do not apply

    @property
    def form(self) -> Form:
        form = self.source.form
        blank = self.of(np.zeros((1, *form.shape), form.dtype))
        specs = (Spec(name, "map", value.shape[-1]) for name, value in blank.items())
        return replace(form, conditions=(*form.conditions, *specs))

    def of(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Return the maps of stored items (B, *shape), by name."""
        return computed(self.maps, x, self.source.form)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self.whole(self.source[index])

    def whole(self, items: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return items with their maps."""
        return {**items, **self.of(items["x"])}

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,) as the source draws them, with their maps."""
        inner = self.source
        return self.whole(
            inner.draw(index, number, seed) if isinstance(inner, Drawn) else inner[index]
        )

    def kept(self) -> Source:
        """Return the source with its items in memory, and their maps unless they are drawn."""
        inner = self.source
        return replace(self, source=inner.kept()) if isinstance(inner, Drawn) else load(self)

    def labels(self) -> np.ndarray:
        return self.source.labels()

    def captions(self, index: np.ndarray) -> list[list[str]]:
        inner = self.source
        return inner.captions(index) if isinstance(inner, Captioned) else [[] for _ in index]
