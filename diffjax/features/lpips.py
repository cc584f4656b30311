"""Perceptual distances of images: LPIPS (arXiv:1801.03924), and a substitute without weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Params, catalogue
from diffjax.checks import one_of, same_shape, whole
from diffjax.features import lpips_names as files
from diffjax.io import standard
from diffjax.io.reading import read
from diffjax.io.trees import fingerprint
from diffjax.nets.kernels.convolution import convolution
from diffjax.nets.resample import downsample

Image = Float[Array, "b h w c"]
Maps = Float[Array, "b _ _ _"]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and deviation of each colour of pixels in [-1, 1]."""
EPSILON = 1e-10
"""Added to the norm of features."""


@dataclass(frozen=True)
class Distance:
    """A distance of images.

    apply: `(params, x, y) -> (B,)` of images (B, H, W, C) in [-1, 1], with 1 or 3 channels.
    params: its fixed parameters. fingerprint: 12 hex digits of the files of weights, "" without
    any. about: which weights these are, and their source.

    >>> l1 = Distance("l1", {}, lambda params, x, y: jnp.abs(x - y).mean((1, 2, 3)))
    >>> l1.apply({}, jnp.ones((1, 4, 4, 3)), jnp.zeros((1, 4, 4, 3))).tolist()
    [1.0]
    """

    name: str
    params: Params
    apply: Callable[[Any, Any, Any], Array]
    fingerprint: str = ""
    about: str = ""


@dataclass(frozen=True)
class Layer:
    """A layer of a backbone.

    kind: `conv`, followed by relu, `fire`, or `pool`, the maximum at a distance of 2. features:
    width, of `fire` that of each half. kernel: side of its windows. padding: places beyond each
    edge; of `pool`, beyond the end where the last window needs it. squeezed: width of the first
    part of `fire`. compared: whether LPIPS compares its output.
    """

    kind: str
    features: int = 0
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    squeezed: int = 0
    compared: bool = False

    def size(self, side: int) -> int:
        """Return the side of the output for an input of this side."""
        if self.kind == "pool":
            return (side - self.kernel + self.padding) // 2 + 1
        return (side - self.kernel + 2 * self.padding) // self.stride + 1


def _vgg() -> dict[int, Layer]:
    layers, index = {}, 0
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        if index:
            layers[index] = Layer("pool", kernel=2, padding=0)
            index += 1
        for i in range(depth):
            layers[index] = Layer("conv", width, compared=i == depth - 1)
            index += 2  # relu has a number as well
    return layers


NETS: dict[str, dict[int, Layer]] = {
    "squeeze": {
        0: Layer("conv", 64, stride=2, padding=0, compared=True),
        2: Layer("pool"),
        3: Layer("fire", 64, squeezed=16),
        4: Layer("fire", 64, squeezed=16, compared=True),
        5: Layer("pool"),
        6: Layer("fire", 128, squeezed=32),
        7: Layer("fire", 128, squeezed=32, compared=True),
        8: Layer("pool"),
        9: Layer("fire", 192, squeezed=48, compared=True),
        10: Layer("fire", 192, squeezed=48, compared=True),
        11: Layer("fire", 256, squeezed=64, compared=True),
        12: Layer("fire", 256, squeezed=64, compared=True),
    },
    "alex": {
        0: Layer("conv", 64, kernel=11, stride=4, padding=2, compared=True),
        2: Layer("pool", padding=0),
        3: Layer("conv", 192, kernel=5, padding=2, compared=True),
        5: Layer("pool", padding=0),
        6: Layer("conv", 384, compared=True),
        8: Layer("conv", 256, compared=True),
        10: Layer("conv", 256, compared=True),
    },
    "vgg": _vgg(),
}
"""Layers of SqueezeNet 1.1, AlexNet and VGG-16 by their number in torchvision."""


def pooled(x: Maps, layer: Layer) -> Maps:
    """Return the maxima of the windows of a layer; no value of x is negative."""
    for axis in (1, 2):
        count = layer.size(x.shape[axis])
        beyond = max(0, 2 * (count - 1) + layer.kernel - x.shape[axis])
        wide = jnp.pad(x, [(0, beyond if i == axis else 0) for i in range(4)])
        take = lambda i, wide=wide, axis=axis, last=2 * count - 1: jax.lax.slice_in_dim(
            wide, i, i + last, 2, axis
        )
        x = functools.reduce(jnp.maximum, map(take, range(layer.kernel)))
    return x


class Backbone(nn.Module):
    """Images (B, H, W, 3) to the maps that LPIPS compares. net: an entry of `NETS`."""

    net: str

    @nn.compact
    def __call__(self, x: Maps) -> list[Maps]:
        def conv(x: Maps, name: str, features: int, layer: Layer = Layer("conv")) -> Maps:
            side, stride = (layer.kernel,) * 2, (layer.stride,) * 2
            settings: Any = {"padding": layer.padding, "conv_general_dilated": convolution}
            return nn.relu(nn.Conv(features, side, stride, **settings, name=name)(x))

        maps = []
        for index, layer in NETS[self.net].items():
            name = f"layer_{index}"
            if layer.kind == "pool":
                x = pooled(x, layer)
            elif layer.kind == "conv":
                x = conv(x, name, layer.features, layer)
            else:
                x = conv(x, f"{name}_squeeze", layer.squeezed, Layer("conv", kernel=1, padding=0))
                halves = (("1x1", Layer("conv", kernel=1, padding=0)), ("3x3", Layer("conv")))
                x = jnp.concatenate(
                    [conv(x, f"{name}_{side}", layer.features, part) for side, part in halves], -1
                )
            maps += [x] if layer.compared else []
        return maps


def unit(x: Maps) -> Maps:
    """Divide features by their norm over channels; the gradient is finite at zero as well."""
    square = jnp.sum(x**2, axis=-1, keepdims=True)
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return x / (norm + EPSILON)


@dataclass(frozen=True)
class _Apply:
    net: str

    def __call__(self, params: Any, x: Image, y: Image) -> Float[Array, " b"]:
        same_shape(x.shape, y=y)
        check_side(self.net, x.shape)
        both = jnp.broadcast_to(jnp.concatenate([x, y]), (2 * len(x), *x.shape[1:3], 3))
        both = (both - per_colour(SHIFT, x)) / per_colour(SCALE, x)
        maps: Any = Backbone(self.net).apply({"params": params["net"]}, both)
        total = jnp.zeros(len(x), x.dtype)
        for level, features in enumerate(maps):
            first, second = jnp.split(unit(features), 2)
            weights = params["linear"][str(level)]
            total = total + ((first - second) ** 2 @ weights).mean((1, 2))
        return total


def per_colour(values: tuple[float, ...], x: Image) -> Image:
    """Return one value for each colour as an array with the axes of x."""
    return jnp.array(values, x.dtype).reshape(1, 1, 1, -1)


def check_side(net: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError for images (B, H, W, C) that are too small or have other channels."""

    def fits(side: int) -> bool:
        for layer in NETS[net].values():
            side = layer.size(side) if side > 0 else 0
        return side > 0

    least = next(side for side in range(1, 256) if fits(side))
    if len(shape) != 4 or shape[-1] not in (1, 3) or min(shape[1:3]) < least:
        raise ValueError(
            f"lpips: images of the shape {shape[1:]}; {net} needs 1 or 3 channels and sides of at "
            f"least {least}"
        )


def lpips(net: str = "squeeze", weights: str = "", linear: str = "") -> Distance:
    """Return LPIPS 0.1: weighted squared differences of unit features (arXiv:1801.03924, eq. 1).

    net: the backbone, `squeeze` (5 MB), `alex` (244 MB), with which the metric is mostly reported,
    or `vgg` (553 MB), with which autoencoders are mostly trained. weights: file of the backbone,
    trained on ImageNet, as torchvision publishes it. linear: file of the weights of its channels,
    `NET.pth` in the folder weights/v0.1 of the package `lpips`. Both are by default downloaded
    once. Raises ValueError for another net or file.

    >>> lpips("resnet")
    Traceback (most recent call last):
    ValueError: net='resnet': unknown; known: 'squeeze', 'alex', 'vgg'
    """
    one_of(NETS, net=net)
    backbone = standard.weights(files.BACKBONES[net], weights)
    channels = standard.weights(files.LINEAR[net], linear, setting="linear")
    params = files.convert(NETS[net], read(backbone.path).tensors, read(channels.path).tensors)
    about = f"LPIPS 0.1 with {net}; {backbone.about}; {channels.about}"
    known = fingerprint([backbone.sha256, channels.sha256], {})
    return Distance(f"lpips_{net}", params, _Apply(net), known, about)


@dataclass(frozen=True)
class _Edges:
    scales: int

    def __call__(self, params: Any, x: Image, y: Image) -> Float[Array, " b"]:
        same_shape(x.shape, y=y)
        whole(2**self.scales, height=x.shape[1], width=x.shape[2])
        mean = lambda a: jnp.abs(a).mean((1, 2, 3))
        difference, total = x - y, jnp.zeros(len(x), x.dtype)
        for scale in range(self.scales):
            total += sum(mean(jnp.diff(difference, axis=axis)) for axis in (1, 2))
            if scale + 1 < self.scales:
                even = [size // 2 * 2 for size in difference.shape[1:3]]
                difference = downsample(difference[:, : even[0], : even[1]])
        return total / (2 * self.scales)


def edges(scales: int = 3) -> Distance:
    """Return the mean absolute difference of image gradients over scales, without weights.

    It stands in for LPIPS where no weights are at hand, and is not LPIPS: it compares edges in
    places only, and its numbers compare with no published ones. scales: number of scales, each of
    half the sides of the one before. Raises ValueError for images with sides below 2^scales.

    >>> x = jnp.zeros((1, 8, 8, 1)).at[:, :, 4:].set(1.0)
    >>> round(float(edges(1).apply({}, x, jnp.zeros_like(x))[0]), 3)
    0.071
    """
    whole(1, scales=scales)
    about = f"differences of image gradients over {scales} scales, without weights; not LPIPS"
    return Distance("edges", {}, _Edges(scales), "", about)


DISTANCES = catalogue(lpips, edges)
