"""Tar files of images, as WebDataset writes them."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def png(x: np.ndarray) -> bytes:
    """The file of an image."""
    Image.fromarray(x).save(file := io.BytesIO(), "png")
    return file.getvalue()


def packed(path: Path, contents: dict[str, bytes]) -> Path:
    """Write a tar file with these members."""
    with tarfile.open(path, "w") as archive:
        for name, value in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(value)
            archive.addfile(info, io.BytesIO(value))
    return path
