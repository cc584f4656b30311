"""Pictures of items as arrays of pixels: grids, contact sheets and curves.

Pictures that need axes are in `figures`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

MOST_COLUMNS = 20
TILE = 64
"""Height in pixels to which small images are enlarged, by an integer factor."""
WIDEST = 3
"""Largest width of an enlarged image, as a multiple of its tile."""
LINE = (64, 96)
"""Height and width in pixels of a picture of curves."""
LONGEST = 24
"""Largest number of characters of a title above a column."""
TILE_OF_TEXT, MOST_LINES = 128, 4
"""Height in pixels of images above a text, and the largest number of lines of that text."""
NO_TEXTS: Mapping[str, str] = MappingProxyType({})
COLOURS = np.array(
    [[31, 119, 180], [214, 39, 40], [44, 160, 44], [148, 103, 189], [255, 127, 14], [23, 190, 207]],
    np.uint8,
)


def grid(
    images: np.ndarray,
    columns: int | None = None,
    tile: int = TILE,
    titles: Sequence[str] = (),
) -> np.ndarray:
    """Return uint8 images (N, H, W, C) as one picture (H', W', 3), row by row, with thin gaps.

    columns: their number, by default that of an approximately square grid. tile: the height in
    pixels to which small images are enlarged. titles: texts above the columns.

    >>> grid(np.zeros((6, 8, 8, 1), np.uint8), columns=3, tile=8).shape
    (22, 32, 3)
    """
    n, h, w, c = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    factor = max(1, min(tile // h, WIDEST * tile // w))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = h * factor, w * factor
    gap = 2
    canvas = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, 3), 255, np.uint8)
    colour = images[..., :3] if c >= 3 else images[..., :1].repeat(3, axis=-1)
    for i, image in enumerate(colour):
        y, x = divmod(i, columns)
        canvas[gap + y * (h + gap) :, gap + x * (w + gap) :][:h, :w] = image
    above = [_titles(titles, w + gap, canvas.shape[1], gap)] if titles else []
    return np.concatenate([*above, canvas])


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """Return a uint8 picture (H, W, 3) with a line of text below it, widened to fit the text."""
    from PIL import Image, ImageDraw

    font = _font()
    width = max(picture.shape[1], math.ceil(font.getlength(text)) + 4)
    strip = Image.new("RGB", (width, 16), "white")
    ImageDraw.Draw(strip).text((2, 1), text, fill="black", font=font)
    beside = ((0, 0), (0, width - picture.shape[1]), (0, 0))
    return np.concatenate([np.pad(picture, beside, constant_values=255), np.asarray(strip)])


def described(images: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """Return uint8 images (N, H, W, C) as one picture (H', W', 3) with a text below each image.

    Small images are enlarged to about TILE_OF_TEXT pixels, and texts are broken into lines. One
    text of all images stands once, below the grid.

    >>> described(np.zeros((2, 32, 32, 3), np.uint8), ["red apple", "a cat"]).shape
    (150, 262, 3)
    """
    if len(set(texts)) == 1:
        return captioned(grid(images), texts[0])
    from PIL import Image, ImageDraw

    factor = max(1, TILE_OF_TEXT // images.shape[1])
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    colour = images[..., :3] if images.shape[-1] >= 3 else images[..., :1].repeat(3, axis=-1)
    height, width = images.shape[1:3]
    font, line = _font(), 14
    broken = [_lines(text, width, font) for text in texts]
    below = line * max(map(len, broken)) + 4
    tiles = np.full((len(images), height + below, width, 3), 255, np.uint8)
    tiles[:, :height] = colour
    for tile, rows in zip(tiles, broken, strict=True):
        strip = Image.new("RGB", (width, below), "white")
        for i, row in enumerate(rows):
            left = max(0, (width - math.ceil(font.getlength(row))) // 2)
            ImageDraw.Draw(strip).text((left, 1 + i * line), row, fill="black", font=font)
        tile[height:] = np.asarray(strip)
    return grid(tiles, tile=1)


def _lines(text: str, width: int, font: FreeTypeFont) -> list[str]:
    """Break a text into at most MOST_LINES lines that fit into a width in pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "…"]


def _font() -> FreeTypeFont:
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)


def _titles(titles: Sequence[str], step: int, width: int, gap: int) -> np.ndarray:
    """Return a uint8 strip (h, width, 3) of texts, one every `step` pixels.

    All texts are vertical where one of them is wider than its column; a text longer than LONGEST is
    shortened.
    """
    from PIL import Image, ImageDraw

    font = _font()
    texts = [short(t, LONGEST) for t in titles]
    longest, line = math.ceil(max(map(font.getlength, texts))), 16
    is_upright = longest > step - 2 * gap
    strip = Image.new("RGB", (width, longest + 2 * gap if is_upright else line), "white")
    for i, text in enumerate(texts):
        tile = Image.new("RGB", (longest, line), "white")
        ImageDraw.Draw(tile).text((0, 1), text, fill="black", font=font)
        length = math.ceil(font.getlength(text))
        if is_upright:
            tile = tile.rotate(90, expand=True)
            strip.paste(tile, (gap + i * step + (step - gap - line) // 2, 0))
        else:
            strip.paste(tile, (gap + i * step + (step - gap - length) // 2, 0))
    return np.asarray(strip)


def short(text: str, longest: int) -> str:
    """Return a text with at most `longest` characters, the last of which may be an ellipsis.

    >>> short("aeroplane", 5)
    'aero…'
    """
    return text if len(text) <= longest else text[: longest - 1] + "…"


def columns(label: np.ndarray | None, num: int) -> int | None:
    """Return one column per class where the labels cycle through the classes, else None.

    None stands for an approximately square grid.
    """
    if label is None:
        return None
    kinds = len(np.unique(label))
    in_turn = (label == np.resize(label[:kinds], num)).all()
    return kinds if in_turn and 1 < kinds <= min(MOST_COLUMNS, num // 2) else None


def lines(x: np.ndarray, bound: float | None = None) -> np.ndarray:
    """Draw curves x (N, L, C) over L, in a colour per channel, as uint8 pictures (N, 64, 96, 3).

    At most six channels are drawn, and nothing where x is NaN, as beyond the end of an item. Where
    a curve is longer than the picture is wide, each pixel column shows the full range of the values
    between its edges. bound: the value at the upper edge, by default the largest |value| of x.
    """
    height, width = LINE
    top = bound or _top(x)
    canvas = np.full((len(x), height, width, 3), 255, np.uint8)
    canvas[:, height // 2] = 225
    least, most = _extents(np.asarray(x, np.float32), width)
    there = ~np.isnan(least)
    heights = lambda value: (1 - np.clip(np.nan_to_num(value) / top, -1, 1)) / 2 * (height - 1)
    upper, lower = (np.round(heights(value)).astype(int) for value in (most, least))
    pixel = np.arange(height)[None, :, None]
    for channel in range(min(x.shape[2], len(COLOURS))):
        on = (pixel >= upper[:, None, :, channel]) & (pixel <= lower[:, None, :, channel])
        canvas[on & there[:, None, :, channel]] = COLOURS[channel]
    return canvas


def paths(x: np.ndarray) -> np.ndarray:
    """Draw the first two columns of x (N, L, C) as paths in the plane, uint8 (N, 64, 64, 3).

    The colour goes from blue at the start to red at the end. The pictures show [-1, 1]^2, or more
    where a path leaves it.

    >>> corner = np.array([[[-1, -1], [-1, 1], [1, 1]]], np.float32)
    >>> picture = paths(corner)[0]
    >>> picture[-1, 0].tolist(), picture[0, -1].tolist(), picture[-1, -1].tolist()
    ([31, 119, 180], [214, 39, 40], [255, 255, 255])
    """
    num, length = x.shape[:2]
    place = np.nan_to_num(np.asarray(x[..., :2], np.float32))
    at = np.linspace(0, length - 1, (length - 1) * TILE + 1)
    before = at.astype(int)
    share = (at - before).astype(np.float32)[:, None]
    dense = place[:, before] * (1 - share) + place[:, np.minimum(before + 1, length - 1)] * share
    pixel = np.round((dense / max(_top(place), 1) + 1) / 2 * (TILE - 1)).astype(int)
    age = np.linspace(0, 1, len(at))[:, None]
    canvas = np.full((num, TILE, TILE, 3), 255, np.uint8)
    colour = np.round(COLOURS[0] * (1 - age) + COLOURS[1] * age).astype(np.uint8)
    canvas[np.arange(num)[:, None], TILE - 1 - pixel[..., 1], pixel[..., 0]] = colour
    return canvas


def _extents(x: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the least and the largest value of curves x (N, L, C) in each of `width` columns.

    Both are (N, width, C), and NaN in columns without values.
    """
    last = max(x.shape[1] - 1, 0)
    at = np.linspace(0, last, width + 1)
    if x.shape[1] > width:
        edges = zip(np.floor(at[:-1]).astype(int), np.ceil(at[1:]).astype(int), strict=True)
        parts = [x[:, a : b + 1] for a, b in edges]
        lost = lambda part, value: np.where(np.isnan(part), value, part)
        least = np.stack([lost(part, np.inf).min(1) for part in parts], 1)
        most = np.stack([lost(part, -np.inf).max(1) for part in parts], 1)
        there = least <= most
        return np.where(there, least, np.nan), np.where(there, most, np.nan)
    before = np.minimum(at.astype(int), last)
    share = (at - before).astype(np.float32)[None, :, None]
    value = x[:, before] * (1 - share) + x[:, np.minimum(before + 1, last)] * share
    return np.minimum(value[:, :-1], value[:, 1:]), np.maximum(value[:, :-1], value[:, 1:])


def span(x: np.ndarray) -> str:
    """Return a caption with the vertical range of the pictures that `lines` draws of x."""
    return f"vertical: -{_top(x):.3g} to {_top(x):.3g}"


def _top(x: np.ndarray) -> float:
    """Return the largest |value|, at least 1e-6, ignoring NaN."""
    return max(float(np.abs(np.nan_to_num(np.asarray(x, np.float32))).max(initial=0.0)), 1e-6)


def beside(images: np.ndarray) -> np.ndarray:
    """Return frames (N, T, H, W, C) side by side, with white lines between them.

    The result is uint8 (N, H, T (W + 1) - 1, C), one row per item.
    """
    n, t, h, w, c = images.shape
    apart = np.pad(images, ((0, 0),) * 3 + ((0, 1), (0, 0)), constant_values=255)
    return np.moveaxis(apart, 1, 2).reshape(n, h, t * (w + 1), c)[:, :, :-1]


def save(path: Path, picture: np.ndarray, texts: Mapping[str, str] = NO_TEXTS) -> None:
    """Write a uint8 picture (H, W, 3) or (H, W, 1), and create its folder.

    texts: the metadata of a PNG file, by keyword.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(Path(folder, "new", "grid.png"), np.zeros((8, 8, 3), np.uint8))
    ...     [path.name for path in Path(folder).rglob("*.png")]
    ['grid.png']
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    path.parent.mkdir(parents=True, exist_ok=True)
    array = picture[..., 0] if picture.shape[-1] == 1 else picture
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_itxt(keyword, text)
    settings: dict[str, Any] = {"pnginfo": info} if texts else {}
    Image.fromarray(array).save(path, **settings)
