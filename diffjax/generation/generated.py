"""Results of a job: samples with their costs, or trajectories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from diffjax.data.form import Form


class Generated(NamedTuple):
    """Generated samples with their conditions and costs.

    x (N, ...): items in the form in which their data is stored, NaN beyond the length of an item.
    cond: conditions by name, (N, ...). passes, seconds (N,): network passes and seconds of each
    sample.

    >>> form, one = Form("points", (2,)), np.ones(3)
    >>> Generated(np.zeros((3, 2), np.float32), {}, passes=20 * one, seconds=0.1 * one, form=form)
    Generated(3 samples of (2,) float32, labels: none, network passes: 20)
    """

    x: np.ndarray
    cond: Mapping[str, np.ndarray]
    passes: np.ndarray
    seconds: np.ndarray
    form: Form

    @property
    def label(self) -> np.ndarray | None:
        """The class labels (N,), or None where there are none."""
        return self.cond.get("label")

    def picture(self) -> np.ndarray:
        """Return all samples as a picture uint8 (H, W, 3), drawn as their kind of data is."""
        return self.form.picture(self.x, self.label)

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
