"""Results of restoration: samples of the posterior of images, their statistics and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffjax import plot
from diffjax.data.images import to_uint8
from diffjax.files import write_arrays
from diffjax.inverse import Jpeg, Mask, Operator, adjoint, psnr

SHOWN = 8
"""Largest number of samples per image that a picture shows."""
FAR = 2.0
"""Root mean square of a sample beyond which it is no image in [-1, 1]: sampling diverged."""


@dataclass(frozen=True)
class Restored:
    """Samples x0 given measurements of K images, all in the range of the network.

    x: (K, num, *shape). y: (K, ...), the measurements. std: that of the noise in them. truth: (K,
    *shape), where it is known. operator: A. passes, products: network passes and vector-Jacobian
    products of a sample. latents: (K, num, *grid, C), of which x are the decoded images, where the
    network is one of latents.
    """

    x: Float[np.ndarray, "k n *d"]
    y: Float[np.ndarray, "k *m"]
    std: float
    truth: Float[np.ndarray, "k *d"] | None
    operator: Operator
    passes: int
    products: int
    latents: Float[np.ndarray, "k n *z"] | None = None

    @property
    def mean(self) -> Float[np.ndarray, "k *d"]:
        """The mean of the samples of each image."""
        return self.x.mean(1)

    @property
    def deviation(self) -> Float[np.ndarray, "k *d"]:
        """The standard deviation of the samples of each image, 0 for a single sample."""
        return self.x.std(1, ddof=1) if self.x.shape[1] > 1 else np.zeros_like(self.mean)

    def misfit(self) -> Float[np.ndarray, " k"]:
        """Return the root mean square of y - A x over the samples of each image.

        It is taken over the measured values: those behind a mask do not count. Where the noise is
        normal, that of the truth is near `std`.
        """
        again = np.stack([np.asarray(self.operator(jnp.asarray(x))) for x in self.x])
        count = measured_part(self.operator, np.ones_like(self.y[:1])).sum()
        error = measured_part(self.operator, again - self.y[:, None])
        return np.sqrt((error**2).sum(tuple(range(2, error.ndim))) / count).mean(1)

    def summary(self) -> str:
        """Describe the quality in one line: PSNR where the truth is known, and the misfit."""
        parts = [f"|y - A x| {self.misfit().mean():.4f} (RMS; std of the noise {self.std:g})"]
        if self.truth is not None:
            of_mean = psnr(self.mean, self.truth).mean()
            of_samples = psnr(self.x, self.truth[:, None]).mean()
            parts.insert(0, f"PSNR of the mean {of_mean:.2f} dB, of samples {of_samples:.2f} dB")
        return ", ".join(parts)

    def warning(self) -> str:
        """Return a line about samples far outside the range of images, "" where there are none."""
        size = np.sqrt((self.x**2).mean(tuple(range(2, self.x.ndim))))
        if not (far := size > FAR).any():
            return ""
        return (
            f"warning: {far.sum()} of {far.size} samples diverged (RMS up to {size.max():.3g} for "
            f"images in [-1, 1]); use more --steps, a larger --std, or --method=tweedie"
        )

    def save(self, path: Path) -> None:
        """Write x, y, mean, std and, where they exist, truth and latents to an .npz file."""
        arrays = {"x": self.x, "y": self.y, "mean": self.mean, "std": self.deviation}
        more = {"truth": self.truth, "latents": self.latents}
        write_arrays(path, arrays | {name: a for name, a in more.items() if a is not None})

    def picture(self) -> np.ndarray:
        """Return a picture uint8 (H, W, 3): a row per image of truth, y, mean, std and samples."""
        top = max(float(self.deviation.mean(-1).max()), 1e-6)
        columns = {} if self.truth is None else {"truth": to_uint8(self.truth)}
        columns |= self._measurements() | {"mean": to_uint8(self.mean)}
        columns[f"std\n0 to {top:.2g}"] = plot.colours(self.deviation.mean(-1) / top)
        for n in range(min(SHOWN, self.x.shape[1])):
            columns[f"sample {n}"] = to_uint8(self.x[:, n])
        rows = [[column[k] for column in columns.values()] for k in range(len(self.x))]
        captions = [[*columns] for _ in rows]
        if self.truth is not None:
            for line, quality in zip(captions, psnr(self.mean, self.truth), strict=True):
                line[2] += f"\n{quality:.1f} dB"
        return plot.captioned(rows, [""] * len(rows), captions)

    def _measurements(self) -> dict[str, np.ndarray]:
        """Return the measurements as pictures uint8 (K, h, w, 1 or 3), by the caption.

        Those that are no images are shown by A^T y. What has no grey levels of its own is stretched
        to the whole range.
        """
        y, name = self.y, "y"
        is_picture = y.ndim == 4 and y.shape[-1] in (1, 3)
        if is_picture and (self.operator.linear or isinstance(self.operator, Jpeg)):
            return {name: to_uint8(y)}
        if not is_picture and self.operator.linear:
            back = adjoint(self.operator, jnp.asarray(self.mean))
            y, name = np.asarray(back(jnp.asarray(y))), "A$^T$ y"
        y = y if y.ndim == 4 else y.reshape(len(y), 1, -1, 1)
        low, high = float(y.min()), float(y.max())
        return {name: to_uint8(2 * (y - low) / max(high - low, 1e-9) - 1)}


def measured_part(operator: Operator, y: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """Return y with 0 in place of values behind a mask, which are no measurements."""
    return np.where(np.asarray(operator.keep), y, 0) if isinstance(operator, Mask) else y
