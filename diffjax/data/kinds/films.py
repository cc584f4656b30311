"""Files of videos: frames in GIF and MP4 files, and many videos side by side in one of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Files, Texts, Units

if TYPE_CHECKING:
    from PIL import Image

RATE = 10
"""Frames per second of a video whose form states no rate."""
QUALITY = "18"
"""Constant rate factor of H.264: 0 is lossless, 23 the default."""
ENDINGS = (".gif", ".mp4")


def check_mp4() -> None:
    """Raise ValueError where the package that reads and writes MP4 files is absent."""
    try:
        found = importlib.util.find_spec("imageio_ffmpeg")
    except ValueError:  # a module that is set to None
        found = None
    if found is None:
        raise ValueError('MP4 files need imageio-ffmpeg: pip install "diffjax[video]"')


def frames(path: Path) -> tuple[Iterator[Image.Image], float]:
    """Return the frames of a GIF or MP4 file as pictures of Pillow, and frames per second.

    Raises ValueError for an MP4 file without imageio-ffmpeg, and whatever a reader raises for a
    damaged file.
    """
    return (_of_mp4 if path.suffix.lower() == ".mp4" else _of_gif)(path)


def _of_gif(path: Path) -> tuple[Iterator[Image.Image], float]:
    from PIL import Image, ImageSequence

    with Image.open(path) as image:
        shown = [frame.convert("RGB") for frame in ImageSequence.Iterator(image)]
        return iter(shown), 1000 / (image.info.get("duration") or 1000 / RATE)


def _of_mp4(path: Path) -> tuple[Iterator[Image.Image], float]:
    check_mp4()
    import imageio_ffmpeg  # type: ignore[import-not-found]
    from PIL import Image

    read = imageio_ffmpeg.read_frames(str(path), pix_fmt="rgb24")
    about = next(read)
    return (Image.frombytes("RGB", about["size"], part) for part in read), float(about["fps"])


def sheet(x: np.ndarray) -> np.ndarray:
    """Return videos uint8 (N, T, H, W, C) as one, with all of them in each frame (T, H', W', 3).

    >>> sheet(np.zeros((3, 2, 8, 8, 1), np.uint8)).shape
    (2, 134, 134, 3)
    """
    return np.stack([drawing.grid(x[:, k]) for k in range(x.shape[1])])


def apart(whole: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the videos (N, T, H, W, C) of a `sheet`, without white ones at its end.

    shape: that of an item.

    >>> x = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4, 1)
    >>> bool((apart(sheet(x), (3, 4, 4, 1)) == x).all())
    True
    """
    _, h, w, c = shape
    factor = max(1, min(drawing.TILE // h, drawing.WIDEST * drawing.TILE // w))
    gap = 2
    high, wide = h * factor + gap, w * factor + gap
    rows, columns = (whole.shape[1] - gap) // high, (whole.shape[2] - gap) // wide
    inner = whole[:, gap : gap + rows * high, gap : gap + columns * wide]
    tiles = inner.reshape(len(whole), rows, high, columns, wide, 3)
    middle = slice(factor // 2, None, factor)
    tiles = tiles[:, :, : h * factor, :, : w * factor][:, :, middle, :, middle]
    x = tiles.transpose(1, 3, 0, 2, 4, 5).reshape(rows * columns, len(whole), h, w, 3)[..., :c]
    there = np.flatnonzero((x < 250).any((1, 2, 3, 4)))
    return x[: there[-1] + 1] if len(there) else x[:0]


def _write_gif(path: Path, item: np.ndarray, units: Units, texts: Texts) -> None:
    """Write frames (T, H, W, C) as an animation of at most 256 colours."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    shown = [Image.fromarray(f[..., 0] if f.shape[-1] == 1 else f) for f in item]
    time = round(1000 / float(units.get("rate", RATE)))
    # With `optimize` Pillow may shift the grey levels of a frame that has few of them.
    how = {"append_images": shown[1:], "duration": time, "loop": 0, "optimize": False}
    shown[0].save(path, save_all=True, **how)


def _read_gif(path: Path, shape: tuple[int, ...], units: Units) -> np.ndarray:
    """Read frames (T, H, W, C); the file holds only one of consecutive equal frames."""
    mode = "L" if shape[-1] == 1 else "RGB"
    x = np.stack([np.asarray(frame.convert(mode)) for frame in frames(path)[0]])
    return x[..., None] if mode == "L" else x


def _write_gifs(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    _write_gif(path, sheet(items), units, texts)


def _write_mp4s(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    check_mp4()
    import imageio_ffmpeg  # type: ignore[import-not-found]

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = sheet(items)
    odd = [(0, n % 2) for n in whole.shape[1:3]]  # the format has half the resolution of colours
    whole = np.pad(whole, ((0, 0), *odd, (0, 0)), constant_values=255)
    writer = imageio_ffmpeg.write_frames(
        str(path),
        (whole.shape[2], whole.shape[1]),
        fps=float(units.get("rate", RATE)),
        macro_block_size=2,
        quality=None,
        output_params=["-crf", QUALITY],
    )
    writer.send(None)
    for frame in whole:
        writer.send(np.ascontiguousarray(frame))
    writer.close()


def _read_sheet(path: Path, shape: tuple[int, ...], units: Units) -> np.ndarray:
    return apart(_read_gif(path, (*shape[:-1], 3), units), shape)


GIF = Files(".gif", _write_gif, _read_gif)
GIFS = Files(".gif", _write_gifs, _read_sheet, each=False)
MP4S = Files(".mp4", _write_mp4s, _read_sheet, each=False, check=check_mp4)
