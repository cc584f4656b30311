"""The source `clips:<path>`: MP4 and GIF files of any length, of which each epoch cuts windows.

Images beside them may train the same network, as items of unrelated frames.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from diffjax import checks
from diffjax.data.conditions import STILL
from diffjax.data.form import Form
from diffjax.data.images import pixels
from diffjax.data.kinds.films import ENDINGS, check_mp4, frames
from diffjax.data.layout import files_of
from diffjax.data.walk import shown, tell
from diffjax.data.windows import Windows
from diffjax.specs import Spec

IMAGES = (".png", ".jpg", ".jpeg")


def clips(
    split: str,
    path: str = "",
    length: int = 16,
    size: int = 64,
    channels: int = 3,
    every: int = 1,
    holdout: float = 0.1,
    classes: bool = False,
    stills: bool = False,
) -> Windows:
    """Read the MP4 and GIF files under `path` as videos (length, size, size, channels) in uint8.

    Folders `train` and `test` in `path` are the splits; otherwise the share `holdout` of the files
    is held out, by file name. Frames are resized and cropped at the centre, and all are kept in
    memory. length: frames of an item, cut anew from the files in each epoch. channels: 1 (grey) or
    3. every: keep one frame of so many. classes: whether the folders, in alphabetical order, are
    the classes. stills: whether PNG and JPEG files of the training split are read too, as items of
    `length` images with the condition `still`; the images of an item have one class, and held-out
    items are clips. The unit `rate` is that of the first clip. Files shorter than an item are left
    out with a note. Raises ValueError for a folder without such files, for a file that cannot be
    read, by name, and for MP4 files without the package imageio-ffmpeg.

    >>> clips("train", "nowhere")
    Traceback (most recent call last):
    ValueError: path='nowhere': no such folder; the form is name=clips:PATH
    """
    checks.at_least(1, length=length, size=size, every=every)
    checks.one_of((1, 3), channels=channels)
    wanted, noun = (ENDINGS + IMAGES, "file") if stills else (ENDINGS, "clip")
    chosen = files_of("clips", path, wanted, split, holdout=holdout, classes=classes, noun=noun)
    label = np.zeros(len(chosen.paths), np.int32) if chosen.label is None else chosen.label
    films, images = [], []
    for file, k in zip(chosen.paths, label.tolist(), strict=True):
        (images if file.suffix.lower() in IMAGES else films).append((file, k))
    if any(file.suffix.lower() == ".mp4" for file, _ in films):
        check_mp4()
    read = [(*_read(file, size, channels, every), k) for file, k in films]
    kept = [(x, k) for x, _, k in read if len(x) >= length]
    if short := len(read) - len(kept):
        note = f"files of fewer than {length} frames {short}"
        tell(Path(path).expanduser(), len(kept), "clip", note)
    if not kept:
        raise ValueError(f"length={length}: no file of split {split!r} has so many frames")
    unrelated = _stills(images if split == "train" else [], length, size, channels)
    names, units = chosen.class_names, (("rate", round(read[0][1] / every, 3)),)
    specs = (Spec("label", "label", len(names)),) if names else ()
    specs += (Spec(STILL, STILL, 2),) if stills else ()
    recordings, of_class = zip(*kept, *unrelated, strict=True)
    return Windows(
        x=np.concatenate(recordings),
        begins=np.cumsum([0, *map(len, recordings)]),
        form=Form("video", (length, size, size, channels), specs, "uint8", units, names),
        label=np.array(of_class, np.int32) if names else None,
        still=np.repeat([0, 1], [len(kept), len(unrelated)]).astype(np.int32) if stills else None,
    )


def _stills(
    images: list[tuple[Path, int]], length: int, size: int, channels: int
) -> list[tuple[np.ndarray, int]]:
    """Return all images of each class as one recording, so that any window of it is an item.

    The images of a recording are in a random order, and repeated to the length of an item.
    """
    recordings = []
    for label in sorted({k for _, k in images}):
        x = np.stack([_image(p, size, channels) for p, k in images if k == label])
        order = np.random.Generator(np.random.Philox(key=label)).permutation(len(x))
        recordings.append((x[np.resize(order, max(len(x), length))], label))
    return recordings


def _image(path: Path, size: int, channels: int) -> np.ndarray:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return pixels(image, size, channels)
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error and others
        raise ValueError(f"{shown(path)}: cannot be read as an image ({error})") from error


def _read(path: Path, size: int, channels: int, every: int) -> tuple[np.ndarray, float]:
    """Return the frames (T, size, size, channels) of a file, and frames per second."""
    try:
        shown_frames, rate = frames(path)
        taken = itertools.islice(shown_frames, 0, None, every)
        return np.stack([pixels(f, size, channels) for f in taken]), rate
    except Exception as error:  # readers raise OSError, RuntimeError, struct.error and others
        reason = " ".join(str(error).split())[-200:] or type(error).__name__
        raise ValueError(f"{shown(path)}: cannot be read as a video ({reason})") from error
