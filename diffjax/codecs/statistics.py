"""Mean, deviation and KL divergence of the raw latents of a set of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from diffjax.codecs.base import Codec, Normalisation
from diffjax.devices.mesh import layout
from diffjax.nets.autoencoder import divergence
from diffjax.progress import Progress


class Latents(NamedTuple):
    """Statistics of raw latents by channel, each (Z,), over draws of the posterior.

    centre, scale: mean and deviation. kl: the divergence of the posterior from N(0, 1) in nats per
    value, infinite for an encoder without noise.

    >>> rule = Latents(np.zeros(2), np.ones(2), np.zeros(2)).normalisation
    >>> rule.centre.tolist(), rule.scale.tolist()
    ([0.0, 0.0], [1.0, 1.0])
    """

    centre: Float[np.ndarray, " z"]
    scale: Float[np.ndarray, " z"]
    kl: Float[np.ndarray, " z"]

    @property
    def normalisation(self) -> Normalisation:
        """The rule that gives these latents the mean 0 and the deviation 1."""
        return Normalisation(self.centre, self.scale)

    def under(self, rule: Normalisation) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation, each (Z,), of the latents that `rule` normalises."""
        mean = np.asarray(rule(jnp.asarray(self.centre)))
        return mean, np.asarray(self.scale * abs(rule.std / np.asarray(rule.scale)))


def statistics(
    codec: Codec, images: Callable[[np.ndarray], np.ndarray], num: int, batch_size: int = 64
) -> Latents:
    """Compute the statistics of raw latents, whatever the normalisation of the codec is.

    images: indices (b,) -> images (b, H, W, C) in [-1, 1], for the indices 0, ..., num - 1. All
    devices share each batch. Variances are those of draws: the variance of the mean, and the mean
    of the variance.
    """
    devices = layout()
    raw = devices.put(dataclasses.replace(codec, normalisation=Normalisation()))
    sums = []
    with Progress("latents", num, "image") as progress:
        for index, count in devices.batches(num, min(batch_size, num)):
            x = np.asarray(images(index), np.float32)
            counts = np.float32(np.arange(len(index)) < count)
            sums.append(devices.whole(_sums(raw, *devices.put((x, counts), 0))))
            progress.advance(count)
    count, mean, square, kl = np.asarray(sums, np.float64).sum(0)
    mean, square = mean / count, square / count
    return Latents(mean, np.sqrt(square - mean**2), kl / count)


@jax.jit
def _sums(codec: Codec, x: Array, counts: Array) -> tuple[Array, ...]:
    """Return the number of values per channel, and sums of mean, square and divergence, (Z,)."""
    mean, std = codec.moments(x)
    total = lambda a: jnp.einsum("b,bhwz->z", counts, a)
    square, kl = mean**2 + std**2, divergence(mean, 2 * jnp.log(std))
    return total(jnp.ones_like(mean)), total(mean), total(square), total(kl)
