"""Reader of the CIFAR-10 archive that its authors publish."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np

from diffjax.data.decoded import Stored
from diffjax.data.source import Memory
from diffjax.files import reason
from diffjax.io.fetch import Remote

ARCHIVE = Remote(
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    "cifar-10-binary.tar.gz",
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    170052171,
)
"""Address of the archive, with the SHA-256 and the size in bytes that TensorFlow Datasets lists."""
SHAPE = (3, 32, 32)
PARTS = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
NAMES = "batches.meta.txt"


class Named(Stored):
    """Images in memory behind the interface of `Files`, with the names of their classes."""

    def __init__(self, items: Memory, names: list[str]):
        super().__init__(items)
        self.names = names


def read(archive: Path) -> dict[str, Named]:
    """Read both splits: uint8 images (N, 32, 32, 3) in the order of the files, and class names.

    Raises ValueError for an archive with any other contents.
    """
    try:
        with tarfile.open(archive) as tar:
            files = {Path(member.name).name: member for member in tar.getmembers()}
            content = lambda name: tar.extractfile(files[name]).read()  # type: ignore[union-attr]
            names = content(NAMES).decode().split()
            parts = {split: b"".join(map(content, of)) for split, of in PARTS.items()}
    except (OSError, tarfile.TarError, KeyError, AttributeError, UnicodeError, EOFError) as error:
        raise ValueError(f"{archive}: not the archive of CIFAR-10 ({reason(error)})") from error
    return {split: _items(archive, content, names) for split, content in parts.items()}


def _items(archive: Path, content: bytes, names: list[str]) -> Named:
    """Parse records, each of which is a label byte and an image, channel by channel."""
    size = 1 + int(np.prod(SHAPE))
    records = np.frombuffer(content, np.uint8)
    if not len(records) or len(records) % size:
        raise ValueError(f"{archive}: has {len(records)} bytes; needs a multiple of {size}")
    records = records.reshape(-1, size)
    label, x = records[:, 0].astype(np.int32), records[:, 1:].reshape(-1, *SHAPE)
    if label.max() >= len(names):
        raise ValueError(f"{archive}: has the label {label.max()}; known: 0 to {len(names) - 1}")
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return Named(Memory(x, label, len(names), kind="image"), names)
