"""What every data source is: a length, and items by index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Source:
    """Items in memory. x: (N, ...), uint8 images (N, H, W, C) or float32 points (N, D).

    label: (N,) int32 in [0, classes), or None where classes = 0.
    """

    x: np.ndarray
    label: np.ndarray | None = None
    classes: int = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Items at `index` (B,): {"x": (B, ...), "label": (B,)}."""
        items = {"x": self.x[index]}
        return items if self.label is None else items | {"label": self.label[index]}

    @property
    def is_image(self) -> bool:
        return self.x.ndim == 4
