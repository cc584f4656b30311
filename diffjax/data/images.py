"""Pixels to numbers and back, and pictures of any size and kind to arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped, UInt8

if TYPE_CHECKING:
    from PIL import Image


def to_float(x: Shaped[Array, "b *d"]) -> Float[Array, "b *d"]:
    """uint8 images to float32 in [-1, 1]; float data as they are. Runs on the device."""
    return x.astype(jnp.float32) / 127.5 - 1 if x.dtype == jnp.uint8 else x


def dequantized(x: UInt8[Array, "b *d"], key: Key[Array, ""]) -> Float[Array, "b *d"]:
    """As `to_float`, and uniform noise of one grey level: in [-256/255, 256/255].

    A density p over such values bounds the probability of a grey level, P >= p (2 / 255) per
    dimension in the mean of logarithms (arXiv:1511.01844, sec. 3.1). `to_uint8` gives x back.
    """
    return to_float(x) + jax.random.uniform(key, x.shape, minval=-1.0) / 255


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Float images, [-1, 1] and beyond, to the nearest uint8."""
    return np.clip(np.round((np.asarray(x) + 1) * 127.5), 0, 255).astype(np.uint8)


def pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """uint8 (H, W, channels): upright, on white where transparent, resized and centre-cropped.

    size: height and width of the result, or 0 to leave them. channels: 1 (grey) or 3 (RGB).
    """
    from PIL import Image, ImageOps

    if size:
        image.draft(None, (2 * size, 2 * size))  # a large JPEG need not be decoded whole
    if "exif" in image.info or image.format == "TIFF":
        image = ImageOps.exif_transpose(image)
    image = _eight_bit(image, "L" if channels == 1 else "RGB")
    if size and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, channels)


def _eight_bit(image: Image.Image, mode: str) -> Image.Image:
    from PIL import Image

    if image.mode == mode:
        return image
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}): needs 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert(mode)
