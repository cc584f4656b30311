"""Inception-v3 (arXiv:1512.00567) as the Frechet inception distance uses it (arXiv:1706.08500)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Shaped

from diffjax.checks import one_of
from diffjax.nets.kernels.convolution import convolution
from diffjax.nets.network import Features
from diffjax.nets.resize import resized

SIZE, LOGITS, SPATIAL = 299, 1008, 7
RANGES = {"tensorflow1": 128, "pytorch": 127.5}
"""Methods of resizing, and the number by which an image is divided before 1 is subtracted."""
Maps = Float[Array, "b _ _ _"]
Make = Callable[..., Array]
"""`(x, name, features, kernel, ...)`: applies to x the `Unit` of this name and these settings."""


class Unit(nn.Module):
    """Unit relu(convolution of x), whose weights include the fixed batch norm between the two.

    A 1 x 1 kernel is a product of matrices, which is faster on CPU. after: applied before relu.
    """

    features: int
    kernel: tuple[int, int] = (1, 1)
    strides: int = 1
    padding: str = "SAME"
    after: Callable[[Array], Array] = lambda x: x

    @nn.compact
    def __call__(self, x: Maps) -> Maps:
        if self.kernel == (1, 1):
            h = nn.Dense(self.features, name="conv")(x)
        else:
            # On large maps of few channels Winograd's algorithm is slower.
            few = min(x.shape[-1], self.features) < 64 and x.shape[1] > 100
            conv = nn.Conv if few else functools.partial(nn.Conv, conv_general_dilated=convolution)
            strides = (self.strides, self.strides)
            h = conv(self.features, self.kernel, strides, self.padding, name="conv")(x)
        return nn.relu(self.after(h))


def windows(x: Maps, axis: int, strides: int) -> list[Array]:
    """Return the three neighbours along an axis of each place where a window of three fits."""
    last = x.shape[axis] - 2
    return [lax.slice_in_dim(x, i, last + i, strides, axis) for i in range(3)]


def largest(x: Maps, strides: int = 2) -> Maps:
    """Return the maxima of the 3 x 3 windows that fit."""
    for axis in (1, 2):
        x = functools.reduce(jnp.maximum, windows(x, axis, strides))
    return x


def mean(x: Maps) -> Maps:
    """Return the means of 3 x 3 windows over their places within the image, as TensorFlow pools.

    The mean commutes with a 1 x 1 convolution, after which there are fewer channels.
    """
    for axis in (1, 2):
        n = x.shape[axis]
        wide = jnp.pad(x, [(int(i == axis),) * 2 for i in range(4)])
        inside = np.r_[2, np.full(n - 2, 3), 2].astype(np.float32)
        inside = np.expand_dims(inside, [i for i in range(4) if i != axis])
        x = functools.reduce(jnp.add, windows(wide, axis, 1)) / inside
    return x


def join(parts: Iterable[Array]) -> Array:
    """Concatenate the branches of a block along their channels."""
    return jnp.concatenate(list(parts), -1)


def block_35(x: Maps, unit: Make, pooled: int) -> Maps:
    """Apply a block at 35 x 35 places."""
    five = unit(unit(x, "branch5x5_1", 48), "branch5x5_2", 64, (5, 5))
    three = unit(unit(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, (3, 3))
    three = unit(three, "branch3x3dbl_3", 96, (3, 3))
    return join([unit(x, "branch1x1", 64), five, three, unit(x, "branch_pool", pooled, after=mean)])


def to_17(x: Maps, unit: Make) -> Maps:
    """Apply the block from 35 x 35 to 17 x 17 places."""
    half = {"strides": 2, "padding": "VALID"}
    double = unit(unit(x, "branch3x3dbl_1", 64), "branch3x3dbl_2", 96, (3, 3))
    double = unit(double, "branch3x3dbl_3", 96, (3, 3), **half)
    return join([unit(x, "branch3x3", 384, (3, 3), **half), double, largest(x)])


def block_17(x: Maps, unit: Make, width: int) -> Maps:
    """Apply a block at 17 x 17 places, with kernels of 1 x 7 and 7 x 1."""
    seven = unit(unit(x, "branch7x7_1", width), "branch7x7_2", width, (1, 7))
    seven = unit(seven, "branch7x7_3", 192, (7, 1))
    double = unit(unit(x, "branch7x7dbl_1", width), "branch7x7dbl_2", width, (7, 1))
    double = unit(double, "branch7x7dbl_3", width, (1, 7))
    double = unit(unit(double, "branch7x7dbl_4", width, (7, 1)), "branch7x7dbl_5", 192, (1, 7))
    pooled = unit(x, "branch_pool", 192, after=mean)
    return join([unit(x, "branch1x1", 192), seven, double, pooled])


def to_8(x: Maps, unit: Make) -> Maps:
    """Apply the block from 17 x 17 to 8 x 8 places."""
    half = {"strides": 2, "padding": "VALID"}
    three = unit(unit(x, "branch3x3_1", 192), "branch3x3_2", 320, (3, 3), **half)
    seven = unit(unit(x, "branch7x7x3_1", 192), "branch7x7x3_2", 192, (1, 7))
    seven = unit(seven, "branch7x7x3_3", 192, (7, 1))
    return join([three, unit(seven, "branch7x7x3_4", 192, (3, 3), **half), largest(x)])


def block_8(x: Maps, pooled: Maps, unit: Make) -> Maps:
    """Apply a block at 8 x 8 places.

    pooled: the output of its last branch.
    """
    three = unit(x, "branch3x3_1", 384)
    double = unit(unit(x, "branch3x3dbl_1", 448), "branch3x3dbl_2", 384, (3, 3))
    return join(
        [
            unit(x, "branch1x1", 320),
            unit(three, "branch3x3_2a", 384, (1, 3)),
            unit(three, "branch3x3_2b", 384, (3, 1)),
            unit(double, "branch3x3dbl_3a", 384, (1, 3)),
            unit(double, "branch3x3dbl_3b", 384, (3, 1)),
            pooled,
        ]
    )


def highest(x: Maps) -> Maps:
    """Return the maxima of 3 x 3 windows over their places within the image."""
    lowest = jnp.finfo(x.dtype).min
    return largest(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=lowest), 1)


class Inception(nn.Module):
    """Inception-v3, which maps images (B, 299, 299, 3) to the three features that evaluators use.

    The values of images are in about [-1, 1]. pool (B, 2048): the mean over places. spatial
    (B, 2023): the first 7 channels of the 1 x 1 branch of Mixed_6d, TensorFlow's mixed_6/conv, at
    17 x 17 places, for sFID (arXiv:2103.03841). logits (B, 1008): without their bias, as in the
    inception score (arXiv:1606.03498). The average pools leave out places beyond the edge, and the
    last block takes the maximum instead, as in the network of 2015 from which all these numbers
    come.
    """

    @nn.compact
    def __call__(self, x: Maps) -> dict[str, Array]:
        def unit(block, x, name, *settings, **more):
            return Unit(*settings, **more, name=block + name)(x)

        first = functools.partial(unit, "")
        within = lambda block: functools.partial(unit, f"{block}.")
        x = first(x, "Conv2d_1a_3x3", 32, (3, 3), 2, "VALID")
        x = first(x, "Conv2d_2a_3x3", 32, (3, 3), 1, "VALID")
        x = largest(first(x, "Conv2d_2b_3x3", 64, (3, 3)))
        x = first(x, "Conv2d_3b_1x1", 80)
        x = largest(first(x, "Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"))
        for name, width in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = block_35(x, within(name), width)
        x = to_17(x, within("Mixed_6a"))
        for name, width in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160)):
            x = block_17(x, within(name), width)
        spatial = x[..., :SPATIAL].reshape(len(x), -1)
        x = to_8(block_17(x, within("Mixed_6e"), 192), within("Mixed_7a"))
        b, c = within("Mixed_7b"), within("Mixed_7c")
        x = block_8(x, b(x, "branch_pool", 192, after=mean), b)
        pool = block_8(x, c(highest(x), "branch_pool", 192), c).mean((1, 2))
        logits = nn.Dense(LOGITS, use_bias=False, name="fc")(pool)
        return {"pool": pool, "spatial": spatial, "logits": logits}


def prepared(x: Shaped[Array, "b h w c"], way: str) -> Float[Array, "b s s 3"]:
    """Return uint8 images as the network needs them, grey ones as three equal channels.

    way: `tensorflow1`, with values (x - 128) / 128, or `pytorch`, with values x / 127.5 - 1.
    """
    x = jnp.broadcast_to(x.astype(jnp.float32), (*x.shape[:3], 3))
    return resized(x, SIZE, way) / RANGES[way] - 1


def inception(resize: str = "tensorflow1") -> Features:
    """Return `init(key, x)` and `apply(params, x)` of `Inception` for uint8 images of any size.

    resize: the method, see `prepared`. The evaluators of OpenAI and torch-fidelity, and the code of
    arXiv:1706.08500, use `tensorflow1`; pytorch-fid uses `pytorch`. Raises ValueError for another
    method.
    """
    one_of(RANGES, resize=resize)
    module = Inception()
    return Features(
        lambda key, x: module.init(key, prepared(x, resize))["params"],
        lambda params, x: module.apply({"params": params}, prepared(x, resize)),
    )
