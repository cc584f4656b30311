"""The emoji that come with the package: 32 x 32 pixels, in three styles, with captions.

Their drawings are those of Noto Emoji (Google), Fluent Emoji (Microsoft) and Twemoji (Twitter and
contributors), their names and tags those of emojibase and Unicode CLDR. Licences:
`embedded/LICENSES.txt`.
"""

from __future__ import annotations

import functools
import json
import zlib
from pathlib import Path

import numpy as np

from diffjax.checks import one_of
from diffjax.data.source import Memory, check_split

STYLES = ("noto", "fluent", "twemoji")
SIDE, COLUMNS = 32, 64
"""The side of an image in pixels, and the number of images in a row of a sheet."""
FOLDER = Path(__file__).parent / "embedded"
TABLE = "emoji.jsonl"
"""One line per concept, in the order of the sheets: its code points, names and tags."""
FEW = 10
"""The number of concepts whose drawings in another style are for training."""
DARK, LIGHT = (38, 50, 104), (255, 244, 214)
"""The two colours of `duotone`, sRGB."""


def emoji(split: str, drawn: str = "") -> Memory:
    """Load captioned uint8 images (N, 32, 32, 3) on white of 1,590 concepts in three styles.

    The label is the style: noto, fluent or twemoji. `held_out` chooses the (concept, style) pairs
    of the split "test", so training sees each of their concepts in the two other styles.
    `captions` lists the phrases for each image: the name of the concept first, then paraphrases
    where there are any, and the tags last, each followed by the style.

    drawn: another style, in which the drawings of noto are drawn anew, as if by hand: `duotone`
    alone. "train" then has FEW concepts, spread over all, and "test" all others. Raises ValueError
    for any other split or style.

    >>> test = emoji("test")
    >>> test
    Memory(325 image items of (32, 32, 3) uint8, classes=3)
    >>> test.captions(np.array([40]))
    [['call me hand, noto style', 'call, hand, hang, loose, me, shaka, noto style']]
    >>> emoji("train", drawn="duotone").captions([1])[0][0]
    'palm up hand, duotone style'
    """
    check_split(split, "emoji")
    if drawn:
        return redrawn(split, drawn)
    lines = (FOLDER / TABLE).read_text(encoding="utf-8").splitlines()
    concepts = [json.loads(line) for line in lines]
    style = np.arange(len(STYLES), dtype=np.int32)
    held = np.array([held_out(concept["code"]) for concept in concepts])[:, None] == style
    concept, label = np.nonzero(held if split == "test" else ~held)
    texts = [
        phrases(concepts[c]["names"], concepts[c]["tags"], STYLES[k])
        for c, k in zip(concept, label, strict=True)
    ]
    return Memory(
        drawings(len(concepts))[concept, label],
        label.astype(np.int32),
        classes=len(STYLES),
        kind="image",
        class_names=STYLES,
        texts=texts,
    )


def redrawn(split: str, style: str) -> Memory:
    """Load drawings of noto in another style, an entry of DRAWN: those of FEW concepts, or others.

    Raises ValueError for an unknown style.
    """
    one_of(DRAWN, drawn=style)
    lines = (FOLDER / TABLE).read_text(encoding="utf-8").splitlines()
    concepts = [json.loads(line) for line in lines]
    few = np.linspace(0, len(concepts) - 1, FEW).astype(int)
    chosen = few if split == "train" else np.setdiff1d(np.arange(len(concepts)), few)
    return Memory(
        DRAWN[style](drawings(len(concepts))[chosen, 0]),
        np.zeros(len(chosen), np.int32),
        classes=1,
        kind="image",
        class_names=(style,),
        texts=[phrases(concepts[c]["names"], concepts[c]["tags"], style) for c in chosen],
    )


def duotone(x: np.ndarray) -> np.ndarray:
    """Return uint8 images (N, H, W, 3) in two colours and what lies between them, by their luma.

    >>> duotone(np.array([[[[0, 0, 0], [255, 255, 255]]]], np.uint8)).tolist()
    [[[[38, 50, 104], [255, 244, 214]]]]
    """
    share = (x @ np.array([0.299, 0.587, 0.114]) / 255)[..., None]
    return np.round(np.array(DARK) * (1 - share) + np.array(LIGHT) * share).astype(np.uint8)


DRAWN = {"duotone": duotone}


def held_out(code: str) -> int:
    """Return the style in which a concept is held out, as an index of STYLES, or -1 for none.

    One concept in five is held out in one style, by the crc32 of its code points alone.

    >>> held_out("1f34e"), held_out("1f919")
    (-1, 0)
    """
    crc = zlib.crc32(code.encode())
    return crc // 5 % len(STYLES) if crc % 5 == 0 else -1


def phrases(names: list[str], tags: list[str], style: str) -> tuple[str, ...]:
    """Return the captions of an image: one for each name, and one that lists the tags.

    >>> phrases(["red apple"], ["fruit", "red"], "noto")
    ('red apple, noto style', 'fruit, red, noto style')
    """
    described = dict.fromkeys((*names, ", ".join(tags)))
    return tuple(f"{text}, {style} style" for text in described if text)


@functools.lru_cache(maxsize=1)
def drawings(count: int) -> np.ndarray:
    """Return the first `count` concepts in all styles (count, 3, 32, 32, 3), read-only.

    They are decoded once for both splits.
    """
    x = np.stack([sheet(FOLDER / f"{name}.webp", count) for name in STYLES], 1)
    x.flags.writeable = False
    return x


def sheet(file: Path, count: int) -> np.ndarray:
    """Read the first `count` images (count, 32, 32, 3) of a sheet, in rows of COLUMNS."""
    from PIL import Image

    with Image.open(file) as image:
        x = np.asarray(image.convert("RGB"))
    rows = x.reshape(-1, SIDE, COLUMNS, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return rows.reshape(-1, SIDE, SIDE, 3)[:count]
