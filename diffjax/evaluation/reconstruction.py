"""Reconstructions of images by a codec, and what it loses of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array

from diffjax.codecs import Codec
from diffjax.codecs.statistics import Latents, statistics
from diffjax.data.form import Form
from diffjax.devices.mesh import layout
from diffjax.features.lpips import Distance
from diffjax.features.similarity import psnr, ssim
from diffjax.objectives.autoencoding import EMPTY
from diffjax.progress import Progress

NEAR = (0.5, 2.0)
"""Deviations of normalised latents, in those of the rule, between which nothing is reported."""


class Reconstructed(NamedTuple):
    """Stored images (N, H, W, C) that a codec returns for images.

    values: psnr in dB, ssim and the perceptual distance, means over the images.
    """

    x: np.ndarray
    values: dict[str, float]


def reconstruct(
    codec: Codec,
    form: Form,
    x: np.ndarray,
    distance: Distance,
    batch_size: int = 64,
) -> Reconstructed:
    """Encode stored images x (N, H, W, C) to the means of their latents, and decode these.

    Reconstructions are rounded to stored values, as all samples are, before they are compared.
    Raises ValueError for images that are too small for the perceptual distance.
    """
    devices, num = layout(), len(x)
    codec, params = devices.put((codec, distance.params))
    parts, rows = [], []
    with Progress("reconstructions", num, "image") as progress:
        for index, count in devices.batches(num, min(batch_size, num)):
            batch = devices.put(np.asarray(form.items.normalise(x[index]), np.float32), 0)
            stored = form.denormalise(devices.whole(_there_and_back(codec, batch)))
            back = devices.put(np.asarray(form.items.normalise(stored), np.float32), 0)
            each = devices.whole(_compared(distance.apply, params, batch, back))
            rows.append({name: value[:count] for name, value in each.items()})
            parts.append(stored[:count])
            progress.advance(count)
    values = {name: float(np.concatenate([r[name] for r in rows]).mean()) for name in rows[0]}
    return Reconstructed(np.concatenate(parts), values)


def check(codec: Codec, form: Form) -> None:
    """Raise ValueError for data that the codec does not map to images of the same shape."""
    if form.kind != "image":
        raise ValueError(f"the items are {form.items.noun}s; a codec needs images")
    codec.latent_shape(form.shape)


@jax.jit
def _there_and_back(codec: Codec, x: Array) -> Array:
    return codec.decode(codec.encode(x))


@functools.partial(jax.jit, static_argnums=0)
def _compared(apply: Callable[..., Array], params: Any, x: Array, y: Array) -> dict[str, Array]:
    """Return similarities and the perceptual distance of pairs of images, each (B,)."""
    return {"psnr": psnr(x, y), "ssim": ssim(x, y), "perceptual": apply(params, x, y)}


def picture(form: Form, x: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """Draw stored images, their reconstructions and half of the difference side by side."""
    first, second = (np.asarray(form.items.normalise(a), np.float32) for a in (x, rebuilt))
    difference = form.denormalise((second - first) / 2)
    return np.concatenate([form.picture(a) for a in (x, rebuilt, difference)], axis=1)


def latents(codec: Codec, form: Form, x: np.ndarray, batch_size: int = 64) -> Latents:
    """Return the statistics of the raw latents of stored images x (N, H, W, C)."""
    images = lambda index: np.asarray(form.items.normalise(x[index]))
    return statistics(codec, images, len(x), batch_size)


def doubts(codec: Codec, found: Latents) -> list[str]:
    """Return a line for each property of the latents that makes them hard to generate.

    >>> from diffjax import codecs
    >>> codec = codecs.load("pixels")
    >>> doubts(codec, Latents(np.zeros(3), np.array([1.0, 5.0, 1.0]), np.full(3, np.inf)))
    ['channel 1: the latents have the deviation 5, not 1: is this the codec of these images?']
    """
    rule = codec.normalisation
    deviation = found.under(rule)[1] / rule.std
    far = [(c, d) for c, d in enumerate(deviation) if not NEAR[0] <= d <= NEAR[1]]
    lines = [
        f"channel {c}: the latents have the deviation {d * rule.std:.3g}, not {rule.std:g}: is "
        f"this the codec of these images?"
        for c, d in far
    ]
    empty = ", ".join(str(c) for c in np.flatnonzero(found.kl < EMPTY))
    if empty:
        lines.append(
            f"channels {empty}: the KL divergence is below {EMPTY:g} nats per value: they say next "
            f"to nothing of an image (posterior collapse)"
        )
    return lines
