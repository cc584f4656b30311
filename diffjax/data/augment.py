"""Augmentation that does not leak: the network is conditioned on the change of each image.

The geometric changes are those of arXiv:2206.00364 (app. F.2, tab. 6; after arXiv:2006.06676),
drawn on the device. The labels of an unchanged image are 0. Sampling passes no labels, so the
network then generates images without the changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax.arrays import catalogue, expand
from diffjax.data.form import Form

WIDTHS = {"flip": 1, "flip_y": 1, "turn": 2, "scale": 1, "rotate": 2, "stretch": 2, "move": 2}
"""The number of labels of each change, in the order of the labels."""


class Amounts(NamedTuple):
    """The changes of each image, in the order in which they apply; 0 is no change.

    flip, flip_y: 1 to mirror left and right, top and bottom. turn: quarter turns,
    counter-clockwise. scale: 5 times the binary logarithm of the enlargement. rotate: the angle in
    radians, counter-clockwise. stretch: 5 times the binary logarithm of the factor along the
    direction `axis`; the factor across that direction is its inverse. axis: the direction of the
    stretch, in radians. move: the shift to the right and down, in eighths of the image.
    """

    flip: Float[Array, " b"]
    flip_y: Float[Array, " b"]
    turn: Float[Array, " b"]
    scale: Float[Array, " b"]
    rotate: Float[Array, " b"]
    stretch: Float[Array, " b"]
    axis: Float[Array, " b"]
    move: Float[Array, "b 2"]


@dataclass(frozen=True)
class Affine:
    """Random geometric changes, each of which applies independently with probability `p`.

    p = 0 is the identity. Two changes have a probability of their own: `flip` applies to half of
    all images, and `flip_y` with probability p / 2. Flips and `turn` are exact; the other changes
    compute pixels by cubic convolution, with the image mirrored at its borders. The defaults are
    those for CIFAR-10 in arXiv:2206.00364.

    p: in [0, 1]. labels: condition the network on the changes; without the labels, the changes leak
    into samples. flip, flip_y, turn, scale, rotate, stretch, move: whether the change may occur.
    Raises ValueError for p out of range.

    >>> Affine(p=0.12).width
    9
    >>> change = Affine(p=0.0)
    >>> x, labels = change(jax.random.key(0), jnp.ones((2, 4, 4, 1)))
    >>> x.shape, jnp.abs(labels).max().item()
    ((2, 4, 4, 1), 0.0)
    """

    p: float = 0.12
    flip: bool = True
    flip_y: bool = True
    turn: bool = False
    scale: bool = True
    rotate: bool = True
    stretch: bool = True
    move: bool = True
    labels: bool = True

    def __post_init__(self):
        if not 0 <= self.p <= 1:
            raise ValueError(f"p={self.p}: needs 0 <= p <= 1")

    @property
    def width(self) -> int:
        """The number of labels of an image."""
        return self.labels * sum(n for name, n in WIDTHS.items() if getattr(self, name))

    def check(self, form: Form) -> None:
        """Raise ValueError for items to which these changes do not apply."""
        if not form.items.augment:
            raise ValueError(
                f"augment: needs images of 1 or 3 channels; the items are {form.kind} {form.shape}"
            )
        if self.turn and form.shape[0] != form.shape[1]:
            shape = form.shape
            raise ValueError(f"augment.turn=True: needs square images; the items are {shape}")
        if on_grid := [s.name for s in form.conditions if s.kind == "map"]:
            raise ValueError(
                f"augment: would change the image but not its condition {on_grid[0]!r}"
            )

    def __call__(
        self, key: Key[Array, ""], x: Float[Array, "b h w c"]
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b n"]]:
        """Return the changed images (B, H, W, C) and the labels of their changes (B, width)."""
        if not self.p:
            return x, jnp.zeros((len(x), self.width))
        amounts = self.draw(key, len(x))
        return change(x, amounts), self.labels_of(amounts)

    def draw(self, key: Key[Array, ""], n: int) -> Amounts:
        """Draw the amounts of n images."""
        key_u, key_z = jax.random.split(key)
        u, z = jax.random.uniform(key_u, (11, n)), jax.random.normal(key_z, (4, n))
        angle, axis = jnp.pi * (2 * u[:2] - 1)
        dice = iter(u[3:])

        def some(on: bool, amount: Array, chance: float = self.p) -> Array:
            there = next(dice) < chance * on
            return jnp.where(expand(there, amount), amount, 0)

        return Amounts(
            flip=some(self.flip, jnp.ones(n), 0.5),
            flip_y=some(self.flip_y, jnp.ones(n), self.p / 2),
            turn=some(self.turn, jnp.floor(4 * u[2])),
            scale=some(self.scale, z[0]),
            rotate=some(self.rotate, angle),
            stretch=some(self.stretch, z[1]),
            axis=some(self.stretch, axis, 0.5),
            move=some(self.move, z[2:].T),
        )

    def labels_of(self, amounts: Amounts) -> Float[Array, "b n"]:
        """Return the labels (B, width); an angle gives cos - 1 and sin, so that 0 is no change."""
        a, angle = amounts, jnp.pi / 2 * amounts.turn
        values = {name: getattr(a, name) for name in WIDTHS} | {
            "turn": _stacked(jnp.cos(angle) - 1, jnp.sin(angle)),
            "rotate": _stacked(jnp.cos(a.rotate) - 1, jnp.sin(a.rotate)),
            "stretch": _stacked(a.stretch * jnp.cos(a.axis), a.stretch * jnp.sin(a.axis)),
        }
        on = [v.reshape(len(v), -1) for k, v in values.items() if getattr(self, k) and self.labels]
        return jnp.concatenate([*on, jnp.zeros((len(a.flip), 0))], 1)


AUGMENTATIONS = catalogue(Affine)


def change(x: Float[Array, "b h w c"], a: Amounts) -> Float[Array, "b h w c"]:
    """Return the changed images; an image whose amounts are 0 stays bit-for-bit identical."""
    if_ = lambda there, new, old: jnp.where(expand(there, old), new, old)
    x = if_(a.flip > 0, x[:, :, ::-1], x)
    x = if_(a.flip_y > 0, x[:, ::-1], x)
    for quarter in (1, 2, 3) if x.shape[1] == x.shape[2] else ():
        x = if_(a.turn == quarter, jnp.rot90(x, quarter, (1, 2)), x)
    moved = (a.scale != 0) | (a.rotate != 0) | (a.stretch != 0) | (a.move != 0).any(1)
    return if_(moved, jax.vmap(_resampled)(x, *_inverse(a, x.shape[1:3])), x)


def _inverse(a: Amounts, size: tuple[int, ...]) -> tuple[Array, Array]:
    """Return (M, t) of the map p -> M (p - t) from a pixel of the result to its origin.

    Pixels are counted from the centre, to the right and down. M: (B, 2, 2). t: (B, 2), in pixels.
    """
    square = lambda *entries: _stacked(*entries).reshape(-1, 2, 2)
    c, s = jnp.cos(a.rotate), jnp.sin(a.rotate)
    # A stretch by e^k along `axis` is cosh k times the identity and sinh k times a reflection.
    k, twice = -math.log(2) / 5 * a.stretch, 2 * a.axis
    both, along, across = jnp.cosh(k), jnp.sinh(k) * jnp.cos(twice), -jnp.sinh(k) * jnp.sin(twice)
    stretch = square(both + along, across, across, both - along)
    matrix = jnp.einsum("bij,bjk->bik", square(c, -s, s, c), stretch, precision="highest")
    matrix = matrix * expand(2 ** (-a.scale / 5), matrix)
    return matrix, a.move / 8 * jnp.array([[size[1], size[0]]], jnp.float32)


def _resampled(
    x: Float[Array, "h w c"], matrix: Float[Array, "2 2"], move: Float[Array, "2"]
) -> Float[Array, "h w c"]:
    """Interpolate one image at the origins of its pixels by cubic convolution (R. Keys, 1981).

    The interpolation is exact on quadratic functions, and at whole pixels.
    """
    h, w, _ = x.shape
    centre = jnp.array([w - 1, h - 1]) / 2
    out = jnp.stack(jnp.meshgrid(jnp.arange(w), jnp.arange(h)), -1) - (centre + move)[None, None]
    at = jnp.einsum("ij,yxj->iyx", matrix, out, precision="highest") + centre[:, None, None]
    taps = jnp.floor(at)[..., None] + jnp.arange(-1.0, 3.0)[None, None, None]
    weight = _cubic(at[..., None] - taps)
    (column, row) = (_mirrored(taps[i].astype(jnp.int32), n) for i, n in enumerate((w, h)))
    near = x[row[..., :, None], column[..., None, :]]
    return jnp.einsum("yxj,yxi,yxjic->yxc", weight[1], weight[0], near, precision="highest")


def _cubic(d: Array) -> Array:
    """Return Keys' kernel at the distances d; it is 0 beyond a distance of 2."""
    d = jnp.abs(d)
    near, far = (1.5 * d - 2.5) * d**2 + 1, ((2.5 - 0.5 * d) * d - 4) * d + 2
    return jnp.where(d < 1, near, jnp.where(d < 2, far, 0))


def _mirrored(i: Array, n: int) -> Array:
    """Return the index in 0, ..., n - 1 of pixel i, mirrored where i lies beyond the borders."""
    period = max(2 * (n - 1), 1)
    return jnp.minimum(i % period, period - i % period) if n > 1 else 0 * i


def _stacked(*parts: Any) -> Array:
    return jnp.stack(parts, -1)
