"""Conversion between grey levels and floats, and decoding of image files to arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped, UInt8

if TYPE_CHECKING:
    from PIL import Image


def to_float(x: Shaped[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Convert uint8 images to float32 in [-1, 1], on the device; floats are returned unchanged.

    >>> to_float(jnp.array([[0, 255]], jnp.uint8)).tolist()
    [[-1.0, 1.0]]
    """
    return x.astype(jnp.float32) / 127.5 - 1 if x.dtype == jnp.uint8 else x


def dequantized(x: UInt8[Array, "b *d"], key: Key[Array, ""]) -> Float[Array, "b *d"]:
    """Convert as `to_float` and add uniform noise of one grey level: in [-256/255, 256/255].

    A density p over such values bounds the probability of a grey level, P >= p (2 / 255) per
    dimension in the mean of logarithms (arXiv:1511.01844, sec. 3.1). `to_uint8` gives x back.
    """
    return to_float(x) + jax.random.uniform(key, x.shape, minval=-1.0) / 255


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Convert float images in [-1, 1] to the nearest uint8; values beyond are clipped.

    >>> to_uint8(np.array([-1.0, 0.5, 2.0])).tolist()
    [0, 191, 255]
    """
    return np.clip(np.round((np.asarray(x) + 1) * 127.5), 0, 255).astype(np.uint8)


def pixels(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """Return an image as uint8 (H, W, channels), resized and cropped at the centre.

    The result is upright by the EXIF orientation, and white where the image is transparent. size:
    height and width of the result, or 0 to keep them. channels: 1 (grey) or 3 (RGB). Raises
    ValueError for more than 16 bits per channel, and whatever Pillow raises for a damaged image.
    """
    from PIL import Image, ImageOps

    if size:
        image.draft(None, (2 * size, 2 * size))  # a large JPEG need not be decoded whole
    tiles = getattr(image, "tile", None)  # only an image that was opened from a file has tiles
    stored = str(tiles[0].args) if tiles else ""
    image.load()  # some formats store the orientation after the pixels
    turn = _turn(image)  # read it now: conversion to other modes below drops it
    image = _on_white(image, stored).convert("L" if channels == 1 else "RGB")
    image = image if turn is None else image.transpose(turn)
    if size and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, channels)


class Unreadable(ValueError):
    """An image that cannot be decoded; the message states the reason."""


def decode(
    open_image: Callable[[], Image.Image], size: int, channels: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the pixels of an image as `pixels` does, and the upright (width, height) before.

    Raises Unreadable, whatever is wrong with the image.
    """
    from PIL import Image

    try:
        with open_image() as image:
            (w, h), x = image.size, pixels(image, size, channels)
            turn, t = _turn(image), Image.Transpose
            quarter = turn in (t.TRANSPOSE, t.TRANSVERSE, t.ROTATE_90, t.ROTATE_270)
            return x, (h, w) if quarter else (w, h)
    except Exception as error:  # Pillow raises struct.error, TypeError, KeyError and many more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Unreadable(reason[:200]) from error


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return the transposition that the EXIF orientation asks for.

    The result is None for orientation 1, and for a missing or invalid one.
    `ImageOps.exif_transpose` would also rewrite the other tags, and fails on malformed ones.
    """
    from PIL import ExifTags, Image

    t = Image.Transpose
    turns = (t.FLIP_LEFT_RIGHT, t.ROTATE_180, t.FLIP_TOP_BOTTOM, t.TRANSPOSE, t.ROTATE_270)
    turns = (*turns, t.TRANSVERSE, t.ROTATE_90)
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
        value = value[0] if isinstance(value, tuple | bytes) else value
        return dict(enumerate(turns, 2)).get(int(value or 1))
    except Exception:  # a camera may write anything, and Pillow raises many types
        return None


def _on_white(image: Image.Image, stored: str) -> Image.Image:
    """Return the image with 8 bits per channel, and white where it is transparent.

    Transparency comes from an alpha channel, from a palette, or from a colour that stands for it.
    stored: Pillow's name of the raw pixel format of the file, such as `L;4` for 4 bits.
    """
    from PIL import Image

    key = _key(image, stored)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow would clip at 255 instead of scaling.
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}): needs 8 or 16 bits")
    if key is not None:
        image = image.convert("RGB")
        image.info.pop("transparency", None)
        image.putalpha(Image.fromarray(np.where(key, 0, 255).astype(np.uint8)))
    if not image.has_transparency_data:
        return image
    if image.mode == "La":  # premultiplied alpha, which Pillow converts to LA only
        image = image.convert("LA")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _key(image: Image.Image, stored: str) -> np.ndarray | None:
    """Return a mask (H, W) of the pixels whose colour stands for transparency.

    The result is None where no colour does; Pillow itself handles palettes. The file states the
    colour at its own bit depth, while Pillow expands the pixels to 8 bits (or 16, if grey).
    """
    key = image.info.get("transparency")
    if key is None or not image.mode.startswith(("1", "L", "RGB", "I;16")):
        return None
    if not isinstance(key, int | tuple):
        return None
    level = np.atleast_1d(key) * {"L;2": 85, "L;4": 17}.get(stored, 1)
    level = level >> 8 if stored == "RGB;16B" else level
    x = np.asarray(image).astype(int) * (255 if image.mode == "1" else 1)
    return (x.reshape(image.height, image.width, -1) == level).all(-1)
