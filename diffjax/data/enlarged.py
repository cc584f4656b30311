"""Items at a smaller size, and items with a smaller version of themselves as a condition.

A cascade generates a small item and enlarges it, once or several times (arXiv:2106.15282). Its
first network learns items that are `Reduced`, the others items under the condition of a smaller
version of them, which is `Enlarged` to the grid of the item.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from diffjax.checks import one_of, within
from diffjax.data.form import Form
from diffjax.data.source import Captioned, Drawn, Source, load
from diffjax.resampling import KERNELS, resampled
from diffjax.specs import Spec

LOW, TAU = "low", "tau"
"""Names of the conditions: the smaller item on the grid of the item, and its noise level."""
DRAWS, FIXED = 1 << 59, 1 << 58
"""Streams of noise and levels in training, to which the seed is added, and of other readings."""


def scaled(form: Form, factor: int, place: str) -> Form:
    """Return the form of items whose sides are divided by `factor`, along the axes of windows.

    Raises ValueError for items without such axes, with lengths, and with sides that the factor does
    not divide.

    >>> from diffjax.data.form import labelled
    >>> scaled(labelled("image", (8, 12, 3)), 4, "enlarged").shape
    (2, 3, 3)
    """
    kind, shape = form.items, [*form.shape]
    if factor < 2:
        raise ValueError(f"{place}.factor={factor}: needs factor >= 2")
    if not kind.window or form.ends:
        raise ValueError(f"{place}: {kind.noun}s {form.shape} have no sides that could be smaller")
    for axis in kind.window:
        if shape[axis] % factor:
            raise ValueError(f"{place}.factor={factor}: does not divide the sides of {form.shape}")
        shape[axis] //= factor
    return replace(form, shape=tuple(shape))


@dataclass(frozen=True)
class Reduced:
    """Items of 1 / factor the size: the data of the first network of a cascade.

    kernel: an entry of `resampling.KERNELS`. Raises ValueError for another kernel.

    >>> from diffjax import data
    >>> Resized(data.digits("test"), Reduced(factor=2)).form.shape
    (4, 4, 1)
    """

    factor: int = 2
    kernel: str = "area"

    def __post_init__(self):
        one_of(KERNELS, kernel=self.kernel)

    def form(self, form: Form) -> Form:
        """Return the form of the items, from that of whole items; see `scaled`."""
        return scaled(form, self.factor, "reduced")

    def __call__(self, items: Mapping[str, np.ndarray], form: Form) -> dict[str, np.ndarray]:
        """Return items of this form with a smaller x, and with maps on its grid."""
        kind = form.items
        x = smaller(np.asarray(kind.normalise(items["x"])), form, self.factor, self.kernel)
        maps = [spec.name for spec in form.conditions if spec.kind == "map"]
        on_grid = {name: smaller(items[name], form, self.factor, self.kernel) for name in maps}
        return {**items, "x": kind.denormalise(x, form.dtype), **on_grid}


def smaller(x: np.ndarray, form: Form, factor: int, kernel: str) -> np.ndarray:
    """Return floats (B, ...) on the grid of a form with sides divided by `factor`."""
    sides = {x.ndim + axis: x.shape[axis] // factor for axis in form.items.window}
    return resampled(x, sides, kernel)


@dataclass(frozen=True)
class Enlarged:
    """The condition of super-resolution: a smaller version of the item, noised and enlarged again.

    Let D reduce the sides by `factor` and U enlarge them. The network receives the map

        low = U (sqrt(1 - tau^2) D x + tau n),    n ~ N(0, I) on the small grid,

    on the grid of x, and the noise level tau as a vector: conditioning augmentation
    (arXiv:2106.15282, sec. 3.2). tau is the deviation of the noise on small items, in a mixture
    that preserves variance, whatever the process of the network: 0 is the small item, 1 is noise
    alone. Noise on the small grid has the distribution of a base sampler that stops early, and
    takes factor^2 fewer numbers than noise on the grid of x.

    factor: ratio of the sides. levels: the least and the largest tau, of which training draws
    uniformly; with equal levels the network does not receive it. kernel, enlarge: entries of
    `resampling.KERNELS` for D and U. ADM's upsamplers have levels (0, 0) and enlarge by "bilinear"
    (arXiv:2105.05233), SR3 by "bicubic" (arXiv:2104.07636). Raises ValueError for levels outside
    of [0, 1] or in the wrong order, and for other kernels.

    >>> one = Enlarged(factor=2)
    >>> small = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    >>> one.conditions(small, (-3, -2), np.zeros(1), np.zeros_like(small))["low"].shape
    (1, 4, 4, 1)
    """

    factor: int = 2
    levels: tuple[float, float] = (0.0, 0.5)
    kernel: str = "area"
    enlarge: str = "bicubic"

    def __post_init__(self):
        one_of(KERNELS, kernel=self.kernel)
        one_of(KERNELS, enlarge=self.enlarge)
        if len(self.levels) != 2 or not 0 <= self.levels[0] <= self.levels[1] <= 1:
            raise ValueError(f"levels={self.levels}: needs 0 <= least <= largest <= 1")

    @property
    def varies(self) -> bool:
        """Whether the noise level varies, so that the network receives it."""
        return self.levels[0] < self.levels[1]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the conditions."""
        return (LOW, TAU) if self.varies else (LOW,)

    def small(self, form: Form) -> Form:
        """Return the form of the smaller items, without conditions; see `scaled`."""
        bare = replace(form, conditions=(), texts=(), class_names=())
        return scaled(bare, self.factor, "enlarged")

    def form(self, form: Form) -> Form:
        """Return the form with the conditions added; see `scaled`."""
        self.small(form)
        if taken := [name for name in self.names if name in form.names]:
            raise ValueError(f"enlarged: the data have a condition {taken[0]!r} already")
        level = (Spec(TAU, "vector", 1),) if self.varies else ()
        specs = (*form.conditions, Spec(LOW, "map", form.shape[-1]), *level)
        return replace(form, conditions=specs)

    def check(self, tau: float) -> None:
        """Raise ValueError for a noise level that the network was not trained on.

        >>> Enlarged(levels=(0.0, 0.5)).check(0.6)
        Traceback (most recent call last):
        ValueError: tau=0.6: needs 0 <= tau <= 0.5
        """
        within(*self.levels, "[]", tau=tau)

    def reduce(self, x: Float[np.ndarray, "b *d"], form: Form) -> Float[np.ndarray, "b *e"]:
        """Return D x of items in the range of the network, without noise."""
        return smaller(np.asarray(x, np.float32), form, self.factor, self.kernel)

    def conditions(
        self,
        small: Float[np.ndarray, "b *e"],
        axes: tuple[int, ...],
        tau: Float[np.ndarray, " b"],
        noise: Float[np.ndarray, "b *e"],
    ) -> dict[str, np.ndarray]:
        """Return the conditions of items: `low` (B, ...), and `tau` (B, 1) if the level varies.

        small: D x, in the range of the network. axes: those along which it is enlarged, counted
        from the last. tau: noise levels. noise: standard normal numbers.
        """
        level = tau.reshape(-1, *(1,) * (small.ndim - 1)).astype(small.dtype)
        noised = np.sqrt(1 - level**2) * small + level * noise
        sides = {small.ndim + axis: small.shape[axis] * self.factor for axis in axes}
        low = {LOW: resampled(noised, sides, self.enlarge)}
        return low | ({TAU: tau[:, None].astype(np.float32)} if self.varies else {})

    def drawn(
        self, x: np.ndarray, form: Form, number: np.ndarray, stream: int
    ) -> dict[str, np.ndarray]:
        """Return the conditions of stored items x (B, ...), with random numbers of a stream.

        number: (B,); level and noise of an item are a function of its number in the stream.
        """
        small = self.reduce(np.asarray(form.items.normalise(x)), form)
        tau, noise = levels_and_noise(stream, number, small.shape[1:], self.levels)
        return self.conditions(small, form.items.window, tau, noise)


def levels_and_noise(
    stream: int, number: np.ndarray, shape: tuple[int, ...], levels: tuple[float, float]
) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "b *e"]]:
    """Return levels (B,), uniform in an interval, and standard normal noise (B, *shape).

    Both are functions of the stream and the number. Noise that only the level 0 would use is 0.

    >>> tau, noise = levels_and_noise(FIXED, np.array([5, 17]), (2, 2, 1), (0.0, 0.5))
    >>> tau.shape, noise.shape
    ((2,), (2, 2, 2, 1))
    """
    tau, noise = np.zeros(len(number)), np.zeros((len(number), *shape), np.float32)
    if levels[1]:
        for i, k in enumerate(np.asarray(number).tolist()):
            rng = np.random.Generator(np.random.Philox(key=[stream, k]))
            tau[i] = rng.uniform(*levels)
            rng.standard_normal(out=noise[i], dtype=np.float32)
    return tau, noise


@dataclass(frozen=True)
class Resized:
    """A source whose items are `Reduced`, then have the conditions of `Enlarged`, or one of them.

    Indexing draws noise and level by the index alone; `draw` draws them anew in each epoch.

    >>> from diffjax import data
    >>> source = Resized(data.digits("test"), enlarged=Enlarged(factor=2))
    >>> {name: value.shape for name, value in source[np.arange(3)].items()}
    {'x': (3, 8, 8, 1), 'label': (3,), 'low': (3, 8, 8, 1), 'tau': (3, 1)}
    """

    source: Source
    reduced: Reduced | None = None
    enlarged: Enlarged | None = None

    @property
    def form(self) -> Form:
        form = self._smaller
        return self.enlarged.form(form) if self.enlarged else form

    @property
    def _smaller(self) -> Form:
        """The form of the items before they have conditions."""
        form = self.source.form
        return self.reduced.form(form) if self.reduced else form

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._resized(self.source[index], np.asarray(index), FIXED)

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return the items at `index` (B,), with the noise of these numbers (B,) of the seed.

        In training, the number is the place of an item in the sequence of all epochs.
        """
        inner = self.source
        items = inner.draw(index, number, seed) if isinstance(inner, Drawn) else inner[index]
        return self._resized(items, number, DRAWS + seed)

    def _resized(
        self, items: Mapping[str, np.ndarray], number: np.ndarray, stream: int
    ) -> dict[str, np.ndarray]:
        if self.reduced:
            items = self.reduced(items, self.source.form)
        if not self.enlarged:
            return dict(items)
        return {**items, **self.enlarged.drawn(items["x"], self._smaller, number, stream)}

    def kept(self) -> Resized:
        """Return the source with its items in memory, reduced already where nothing is drawn."""
        if isinstance(self.source, Drawn):
            return replace(self, source=self.source.kept())
        return Resized(load(Resized(self.source, self.reduced)), enlarged=self.enlarged)

    def labels(self) -> np.ndarray:
        return self.source.labels()

    def captions(self, index: np.ndarray) -> list[list[str]]:
        """Return the captions of the items at `index` (B,), [] for items without any."""
        if isinstance(self.source, Captioned):
            return self.source.captions(index)
        return [[] for _ in index]
