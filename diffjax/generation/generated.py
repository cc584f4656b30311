"""Results of a job: samples with their costs, or trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from diffjax.codecs import Decoding
from diffjax.data.form import Form


class Generated(NamedTuple):
    """Generated samples with their conditions and costs.

    x (N, ...): items in the form in which their data is stored, NaN beyond the length of an item.
    cond: conditions by name, (N, ...). passes, seconds (N,): network passes and seconds of each
    sample. prompts: the text of each sample, empty without any. stamp: texts for the metadata of
    pictures, as in `Job.stamp`.

    >>> form, one = Form("points", (2,)), np.ones(3)
    >>> Generated(np.zeros((3, 2), np.float32), {}, passes=20 * one, seconds=0.1 * one, form=form)
    Generated(3 samples of (2,) float32, labels: none, network passes: 20)
    """

    x: np.ndarray
    cond: Mapping[str, np.ndarray]
    passes: np.ndarray
    seconds: np.ndarray
    form: Form
    prompts: tuple[str, ...] = ()
    stamp: Mapping[str, str] = MappingProxyType({})

    @property
    def label(self) -> np.ndarray | None:
        """The class labels (N,), or None where there are none."""
        return self.cond.get("label")

    def picture(self) -> np.ndarray:
        """Return all samples as a picture uint8 (H, W, 3), drawn as their kind of data is.

        Prompts stand below the samples.
        """
        return self.form.picture(self.x, self.label, self.prompts)

    def __repr__(self) -> str:
        what = f"{len(self.x)} samples of {self.x.shape[1:]} {self.x.dtype}"
        labels = "none" if self.label is None else len(np.unique(self.label))
        return f"Generated({what}, labels: {labels}, network passes: {self.passes.mean():g})"


class Trajectory(NamedTuple):
    """The trajectory of N samples over the R rows of a table.

    x, x0 (R, N, ...): the state and the predicted x0 after each row. t (R,): times of the rows.
    kind: kind of the data.
    """

    x: np.ndarray
    x0: np.ndarray
    t: np.ndarray
    kind: str

    def thinned(self, rows: int) -> Trajectory:
        """Return at most `rows` rows, evenly spaced, among them the first and the last.

        >>> x = np.zeros((5, 1, 2))
        >>> Trajectory(x, x, np.linspace(1, 0.2, 5), "points").thinned(3).t.tolist()
        [1.0, 0.6, 0.2]
        """
        pick = np.unique(np.linspace(0, len(self.t) - 1, rows).round().astype(int))
        return Trajectory(self.x[pick], self.x0[pick], self.t[pick], self.kind)

    def decoded(self, decoding: Decoding) -> Trajectory:
        """Return the trajectory of the images that latents decode to; without a codec, itself.

        Noisy latents are first divided by their deviation where it exceeds that of the samples.
        """
        if decoding.codec is None:
            return self
        spread = self.x.std(axis=tuple(range(2, self.x.ndim)), keepdims=True)
        noisier = np.maximum(1, spread / np.maximum(1, spread[-1:]))
        rows, stored = self.x.shape[:2], decoding.stored
        images = lambda z: decoding.decode(z.reshape(-1, *z.shape[2:])).reshape(
            *rows, *stored.shape
        )
        x, x0 = images(self.x / noisier), images(self.x0)
        return Trajectory(x, x0, self.t, stored.kind)
