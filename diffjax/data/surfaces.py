"""Clouds of points that each epoch draws anew from surfaces of triangles."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from diffjax.data.form import Form
from diffjax.data.kinds.solid import turned
from diffjax.specs import Spec

DRAWS = 1 << 58
"""Stream of the points of an item, to which the seed is added."""
STORED = DRAWS - 1
"""Stream of the points of stored items."""
SEEN = 0.25
"""The share of the points of a cloud that are seen."""


def moments(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean (3,) and covariance (3, 3) of a point that is uniform on triangles (F, 3, 3).

    Of a triangle with corners a, b, c the mean of x x^T is (a a^T + b b^T + c c^T + s s^T) / 12
    with s = a + b + c.

    >>> square = np.array([[[0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 1, 0], [0, 1, 0]]])
    >>> mean, covariance = moments(square)
    >>> mean.tolist(), (12 * covariance).round(12).tolist()
    ([0.5, 0.5, 0.0], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    """
    share = areas(corners) / areas(corners).sum()
    mean = share @ corners.mean(1)
    around = corners - mean
    total = around.sum(1)
    squares = np.einsum("fki,fkj->fij", around, around) + np.einsum("fi,fj->fij", total, total)
    return mean, np.einsum("f,fij->ij", share, squares) / 12


def areas(corners: np.ndarray) -> np.ndarray:
    """Return the areas (F,) of triangles (F, 3, 3).

    >>> areas(np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]])).tolist()
    [0.5]
    """
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.linalg.norm(np.cross(first, second), axis=-1) / 2


def standardised(corners: np.ndarray) -> np.ndarray:
    """Return triangles (F, 3, 3) around their mean, with a mean square of 1 per coordinate.

    >>> corners = standardised(np.array([[[0.0, 0, 0], [5, 0, 0], [0, 5, 0]]]))
    >>> bool(np.isclose(np.trace(moments(corners)[1]), 3.0))
    True
    """
    mean, covariance = moments(corners)
    return (corners - mean) / np.sqrt(np.trace(covariance) / 3)


def nearest(x: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` points of clouds (B, n, 3) that are nearest to the viewer, nearest first.

    The viewer is far away along the last axis, where coordinates are largest.

    >>> nearest(np.array([[[0.0, 0, 1], [1, 0, 3], [2, 0, 2]]]), 2)[0, :, 0].tolist()
    [1.0, 2.0]
    """
    order = np.argsort(-x[..., 2], axis=1, kind="stable")[:, :count]
    return np.take_along_axis(x, order[..., None], 1)


@dataclass(frozen=True)
class Surfaces:
    """Clouds (points, 3) of points that are independent and uniform on the surface of an item.

    corners: the triangles of all items one after the other, (F, 3, 3). begins: the first triangle
    of each item, and F. points: points of a cloud. turn: turn each cloud by a random angle about
    the axis y, the vertical of most files. label: of each item, in [0, classes), None without any.
    seen: the share of the points of a cloud that are seen. A cloud has the mean 0. Stored clouds
    are a function of the index; `draw` draws others.

    Two conditions describe the shape of a cloud, in its coordinates: `extents`, the ranges (3,) of
    its coordinates, and `seen`, tokens (n, 3): the n = seen * points points that are nearest to a
    viewer who looks along the last axis from far away, nearest first.

    >>> square = np.array([[[0, 0, 0], [1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 1, 0], [0, 1, 0]]])
    >>> source = Surfaces(square.astype(float), np.array([0, 2]), points=5)
    >>> len(source), source[np.array([0])]["x"].shape
    (1, (1, 5, 3))
    """

    corners: np.ndarray
    begins: np.ndarray
    points: int
    turn: bool = True
    label: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    seen: float = SEEN

    @property
    def form(self) -> Form:
        classes = len(self.class_names)
        label = (Spec("label", "label", classes),) if classes else ()
        shape = (Spec("extents", "vector", 3), Spec("seen", "tokens", 3))
        return Form("cloud", (self.points, 3), (*label, *shape), class_names=self.class_names)

    @functools.cached_property
    def _covered(self) -> np.ndarray:
        """The area of all triangles before each of them, and of all, (F + 1,)."""
        return np.concatenate([[0.0], np.cumsum(areas(self.corners))])

    def __len__(self) -> int:
        return len(self.begins) - 1

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return self._items(index, [[STORED, int(i)] for i in index])

    def draw(self, index: np.ndarray, number: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return new clouds of the surfaces at `index` (B,).

        The points and the angle are a function of the seed and of the number (B,), the place of an
        item in the sequence of all epochs.
        """
        return self._items(index, [[DRAWS + seed, int(k)] for k in number])

    def kept(self) -> Surfaces:
        """Return the source itself, which is in memory."""
        return self

    def _items(self, index: np.ndarray, keys: list[list[int]]) -> dict[str, np.ndarray]:
        x = np.empty((len(index), self.points, 3), np.float32)
        for cloud, i, key in zip(x, np.asarray(index).tolist(), keys, strict=True):
            rng = np.random.Generator(np.random.Philox(key=key))
            drawn = self._drawn(i, rng)
            if self.turn:
                drawn = turned(drawn, rng.uniform(0, 2 * np.pi))
            cloud[:] = drawn - drawn.mean(0)
        label = {} if self.label is None else {"label": self.label[index]}
        return {"x": x, **label, "extents": np.ptp(x, axis=1), "seen": self._near(x)}

    def _near(self, x: np.ndarray) -> np.ndarray:
        return nearest(x, max(1, round(self.seen * self.points)))

    def _drawn(self, i: int, rng: np.random.Generator) -> np.ndarray:
        """Draw points (points, 3) of the surface of item i."""
        first, last = self.begins[i], self.begins[i + 1]
        at = rng.uniform(self._covered[first], self._covered[last], self.points)
        face = np.searchsorted(self._covered[first + 1 : last], at, side="right") + first
        # The square root makes the density along the way from the first corner that of the area.
        far, across = np.sqrt(rng.random(self.points)), rng.random(self.points)
        weight = np.stack([1 - far, far * (1 - across), far * across], 1)
        return np.einsum("pk,pki->pi", weight, self.corners[face])

    def labels(self) -> np.ndarray:
        return np.zeros(len(self), np.int32) if self.label is None else self.label
