"""The 1,797 handwritten digits (8 x 8, 10 classes) of scikit-learn, which need no download.

They come from the UCI data set "Optical Recognition of Handwritten Digits" (E. Alpaydin,
C. Kaynak, 1998).
"""

from __future__ import annotations

import numpy as np

from diffjax.data.source import Memory, check_split

TRAIN = 1500


def digits(split: str, only: tuple[int, ...] = ()) -> Memory:
    """Load uint8 images (N, 8, 8, 1) with grey levels 0 to 255: 1,500 in "train", 297 in "test".

    One fixed shuffle of all images defines both splits. only: the digits to keep, all by default;
    a digit that is listed twice occurs twice. There are always ten classes. Raises ValueError for
    any other split, and for other digits.

    >>> digits("test")
    Memory(297 image items of (8, 8, 1) uint8, classes=10)
    >>> digits("test", only=(9,))
    Memory(36 image items of (8, 8, 1) uint8, classes=10)
    """
    from sklearn.datasets import load_digits

    check_split(split, "digits")
    pixels, target = load_digits(return_X_y=True)
    order = np.random.Generator(np.random.Philox(key=0)).permutation(len(pixels))
    index = order[:TRAIN] if split == "train" else order[TRAIN:]
    if wrong := [digit for digit in only if digit not in range(10)]:
        raise ValueError(f"only: {wrong[0]!r} is no digit; needs numbers from 0 to 9")
    if only:
        index = np.repeat(index, [only.count(digit) for digit in target[index]])
    x = np.round(pixels[index] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return Memory(x, target[index].astype(np.int32), classes=10, kind="image")
