"""What a job makes: samples with what they cost, or how they come about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from diffjax.data.form import Form


class Generated(NamedTuple):
    """x (N, ...) as items of the form are stored, NaN beyond the length of one; their conditions by
    name, (N, ...); network passes and seconds of each (N,)."""

    x: np.ndarray
    cond: Mapping[str, np.ndarray]
    passes: np.ndarray
    seconds: np.ndarray
    form: Form

    @property
    def label(self) -> np.ndarray | None:
        """(N,), or None where there is none."""
        return self.cond.get("label")

    def picture(self) -> np.ndarray:
        """All of them as a picture uint8 (H, W, 3), as their kind is shown."""
        return self.form.picture(self.x, self.label)

    def __repr__(self) -> str:
        what = f"{len(self.x)} samples of {self.x.shape[1:]} {self.x.dtype}"
        labels = "none" if self.label is None else len(np.unique(self.label))
        return f"Generated({what}, labels: {labels}, network passes: {self.passes.mean():g})"


class Trajectory(NamedTuple):
    """x, x0 (R, N, ...): the state and the predicted x0 after each row; t (R,); kind of data."""

    x: np.ndarray
    x0: np.ndarray
    t: np.ndarray
    kind: str
