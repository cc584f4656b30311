"""Pictures that lie beside images, such as maps of depth or poses, as conditions on their grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from diffjax.config import ConfigError
from diffjax.data.images import Unreadable, decode
from diffjax.data.walk import shown
from diffjax.files import reason


@dataclass(frozen=True)
class Pictures:
    """One picture for each image, of the proportions of that image.

    name: the name of the condition. paths: the file of each picture, in the order of the images.
    """

    name: str
    paths: Sequence[Path]

    @cached_property
    def channels(self) -> int:
        """The number of channels: 1 where the first picture is grey, 3 otherwise.

        Raises ValueError where the first picture cannot be read.
        """
        from PIL import Image

        try:
            with Image.open(self.paths[0]) as first:
                return 1 if first.mode in ("1", "L", "LA", "I", "I;16") else 3
        except OSError as error:
            where = f"{self.name}: {shown(self.paths[0])}"
            raise ValueError(f"{where}: unreadable ({reason(error)})") from error

    def at(self, i: int, size: int, shape: tuple[int, ...], whole: tuple[int, int]) -> np.ndarray:
        """Return picture i as (H, W, channels) in [0, 1], float32, resized and cropped.

        size, shape: the size of `decode`, and the shape (H, W, C) of the image after it. whole:
        (width, height) of the image before it was resized. Raises ConfigError for a picture that
        is unreadable or has other proportions.
        """
        from PIL import Image

        path = self.paths[i]
        try:
            picture, own = decode(lambda: Image.open(path), size, self.channels)
        except Unreadable as error:
            raise ConfigError(f"{self.name}: {shown(path)}: unreadable ({error})") from error
        (w, h), (width, height) = own, whole
        # The sides of a smaller or larger picture are whole numbers, so they may be off by one.
        alike = abs(w * height - h * width) <= max(width, height) if size else own == whole
        if not alike or picture.shape[:2] != shape[:2]:
            raise ConfigError(
                f"{self.name}: {shown(path)}: is {h} x {w}, and its image is {height} x {width}; "
                f"needs {'the same proportions' if size else 'the same sides'}"
            )
        return picture.astype(np.float32) / 255
