"""A denoiser of items larger than those of its training, tile by tile."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax.arrays import Cond, Params, pytree
from diffjax.codecs.tiles import OVERLAP, starts
from diffjax.denoiser import Denoiser
from diffjax.prediction import Prediction, Sample, Time
from diffjax.sde import SDE


def weights(start: int, tile: int, side: int) -> Float[np.ndarray, " tile"]:
    """Return the weights of a tile along a side: 1 inside, and a ramp where its neighbours begin.

    A tile shares a quarter of its side with the next one. The outer quarter of this overlap, a
    `margin` of tile / 16, has the weight 0, so that pixels near a border that is none of the image
    do not count. The weights of two neighbours have the sum 1.

    >>> weights(0, 16, 28).tolist()[10:], weights(12, 16, 28).tolist()[:6]
    ([1.0, 1.0, 1.0, 0.75, 0.25, 0.0], [0.0, 0.25, 0.75, 1.0, 1.0, 1.0])
    """
    shared = max(tile // OVERLAP, 1)
    margin = shared // 4
    ramp = np.clip((np.arange(shared) + 0.5 - margin) / (shared - 2 * margin), 0, 1)
    weight = np.ones(tile, np.float32)
    if start:
        weight[:shared] = ramp
    if start + tile < side:
        weight[-shared:] = np.minimum(weight[-shared:], ramp[::-1])
    return weight


@pytree
@dataclass(frozen=True)
class Tiled:
    """The weighted mean of the predictions of a denoiser for overlapping tiles of each item.

    Every row of a sampler averages anew (MultiDiffusion, arXiv:2302.08113, eq. 5), so tiles agree
    on what they share. Tiles are computed one after the other, each for the whole batch, with the
    memory of one tile. Where the output of the network depends on at most tile / 16 pixels around,
    the result is that of the whole item.

    sides: those of a tile, the sides of the items of training. axes: the axes that are cut, counted
    from the last. maps: names of the conditions that are cut as well. Raises ValueError for items
    smaller than a tile.

        Tiled(trained.denoise, sides=(64, 64), maps=("low",))(x, t, cond)  # x (B, 200, 300, 3)

    >>> from diffjax import nets, parameterization, schedules
    >>> from diffjax.denoiser import Model
    >>> from diffjax.sde import Flow
    >>> network = nets.Network(lambda *shapes: {}, lambda params, x, *_, key=None: 0 * x)
    >>> model = Model(Flow(schedules.Logit()), parameterization.X0(), network)
    >>> tiled = Tiled(Denoiser(model, {"network": {}}), sides=(8, 8))
    >>> tiled(jnp.ones((1, 12, 20, 3)), jnp.full(1, 0.5)).x0.shape
    (1, 12, 20, 3)
    """

    denoise: Denoiser
    sides: tuple[int, ...] = field(metadata={"static": True})
    axes: tuple[int, ...] = field(default=(-3, -2), metadata={"static": True})
    maps: tuple[str, ...] = field(default=(), metadata={"static": True})

    @property
    def sde(self) -> SDE:
        return self.denoise.sde

    @property
    def params(self) -> Params:
        return self.denoise.params

    def check(self, x: Any, cond: Mapping[str, Any] | None) -> None:
        """Raise ValueError for inputs whose tiles the denoiser was not built for."""
        shape = self._shape(x.shape)
        cut = lambda name, a: np.zeros(self._shape(a.shape)) if name in self.maps else a
        tile = jax.ShapeDtypeStruct(shape, jnp.float32)
        self.denoise.check(tile, {name: cut(name, a) for name, a in (cond or {}).items()})

    def _shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of a tile of arrays of this shape (B, ...)."""
        sides = {len(shape) + axis: side for axis, side in zip(self.axes, self.sides, strict=True)}
        if any(shape[axis] < side for axis, side in sides.items()):
            raise ValueError(f"items {shape[1:]}: are smaller than tiles of the sides {self.sides}")
        return tuple(sides.get(axis, n) for axis, n in enumerate(shape))

    def tiles(
        self, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, Float[np.ndarray, "n *w"], Float[np.ndarray, "*d"]]:
        """Return corners (n, axes), weights of each tile and their sum, for items of this shape.

        The weights broadcast against an item.
        """
        lengths = [shape[axis] for axis in self.axes]
        begin = [starts(n, side) for n, side in zip(lengths, self.sides, strict=True)]
        corners = [*itertools.product(*begin)]
        total = np.zeros([n if a in self.axes else 1 for a, n in _axes(shape)], np.float32)
        each = []
        for corner in corners:
            weight = np.ones((1,) * len(shape), np.float32)
            window = [slice(None)] * len(shape)
            for axis, start, side, n in zip(self.axes, corner, self.sides, lengths, strict=True):
                along = weights(start, side, n)
                weight = weight * along.reshape([-1 if a == axis else 1 for a, _ in _axes(shape)])
                window[axis] = slice(start, start + side)
            total[tuple(window)] += weight
            each.append(weight)
        return np.array(corners), np.stack(each), total

    def __call__(
        self,
        x: Sample,
        t: Time,
        cond: Cond | None = None,
        *,
        key: Key[Array, ""] | None = None,
        to: Time | None = None,
    ) -> Prediction:
        cond = cond or {}
        shape = self._shape(x.shape)
        corners, each, total = self.tiles(x.shape[1:])
        leads = {} if to is None else {"to": to}

        def place(corner: Array) -> list[Any]:
            where: list[Any] = [0] * x.ndim
            for axis, start in zip(self.axes, corner, strict=True):
                where[axis] = start
            return where

        def predicted(corner: Array) -> Prediction:
            cut = lambda a: jax.lax.dynamic_slice(a, place(corner), self._shape(a.shape))
            parts = {name: cut(a) if name in self.maps else a for name, a in cond.items()}
            return self.denoise(cut(x), t, parts, key=key, **leads)

        def add(whole: Prediction, tile: tuple[Array, Array]) -> tuple[Prediction, None]:
            corner, weight = tile

            def one(total: Array, part: Array) -> Array:
                part = part * weight[None].astype(part.dtype)
                old = jax.lax.dynamic_slice(total, place(corner), shape)
                return jax.lax.dynamic_update_slice(total, old + part, place(corner))

            return jax.tree.map(one, whole, predicted(corner)), None

        like = jax.eval_shape(predicted, jnp.asarray(corners[0]))
        nothing = jax.tree.map(lambda a: jnp.zeros(x.shape, a.dtype), like)
        tiles = (jnp.asarray(corners), jnp.asarray(each))
        whole, _ = jax.lax.scan(add, nothing, tiles)
        norm = jnp.asarray(total)[None]
        return jax.tree.map(lambda a: a / norm.astype(a.dtype), whole)


def _axes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the axes of an item, counted from the last, with their lengths."""
    return [(i - len(shape), n) for i, n in enumerate(shape)]
