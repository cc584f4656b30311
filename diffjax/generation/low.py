"""Smaller items that samples enlarge, as the conditions of samples by number."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffjax.data.enlarged import Enlarged
from diffjax.data.form import Form
from diffjax.io.trees import fingerprint

NOISE = 1 << 63
"""Streams of the noise of smaller items, to which their sides and the seed are added."""


@dataclass(frozen=True)
class Low:
    """The smaller items that samples enlarge in turn, with the noise levels that they take in turn.

    items: stored items (K, *shape) of `form`, which may be larger than those of training. enlarged:
    how the conditions follow from them. tau: noise levels, of the range of training. The noise of
    sample k is a function of its seed, of k and of the sides of the small items.

    >>> from diffjax.data.form import labelled
    >>> items, form = np.zeros((2, 4, 4, 1), np.uint8), labelled("image", (4, 4, 1))
    >>> low = Low(items, form, Enlarged(), tau=(0.1,))
    >>> {name: value.shape for name, value in low.conditions(*np.zeros((3, 5), int)).items()}
    {'low': (5, 8, 8, 1), 'tau': (5, 1)}
    """

    items: np.ndarray
    form: Form
    enlarged: Enlarged
    tau: tuple[float, ...]

    def __post_init__(self):
        for tau in self.tau:
            self.enlarged.check(tau)

    @property
    def stream(self) -> str:
        """The name of the random stream of the samples, another one for each size in a cascade.

        The noise of a sample would otherwise repeat that of the smaller sample below it.
        """
        return f"sample from {'x'.join(map(str, self.form.shape))}"

    @property
    def facts(self) -> dict[str, Any]:
        """Entries of the protocol."""
        facts = {"items": len(self.items), "fingerprint": fingerprint("", self.items)}
        return {"enlarged": facts | {"shape": [*self.form.shape]}, "tau": [*self.tau]}

    def of(self, items: np.ndarray) -> Low:
        """Return the same settings for other stored items."""
        return replace(self, items=items)

    def conditions(
        self, places: np.ndarray, seeds: np.ndarray, index: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the conditions of samples at these places (B,), with seeds and numbers (B,)."""
        items = self.items[places % len(self.items)]
        tau = np.asarray(self.tau)[places % len(self.tau)]
        small = np.asarray(self.form.items.normalise(items), np.float32)
        noise = np.zeros_like(small)
        first = NOISE | (zlib.crc32(self.stream.encode()) & 0x7FFFFFFF) << 32
        for i in np.flatnonzero(tau):
            # As a list, numbers beyond 2**63 would be rounded to floats.
            key = np.array([first + int(seeds[i]), index[i]], np.uint64)
            rng = np.random.Generator(np.random.Philox(key=key))
            rng.standard_normal(out=noise[i], dtype=np.float32)
        return self.enlarged.conditions(small, self.form.items.window, tau, noise)

    def by_place(self, seed: Any, index: Any, num: int) -> Callable[[np.ndarray], Any]:
        """Return the function from places (B,) among `num` samples to their conditions.

        seed: of all samples, or of each (num,). index: numbers within their runs, None for places.
        """
        seeds = np.broadcast_to(seed, num)
        numbers = np.arange(num) if index is None else np.asarray(index)
        return lambda places: self.conditions(places, seeds[places], numbers[places])
