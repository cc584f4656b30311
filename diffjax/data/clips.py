"""The source `clips:<path>`: MP4 and GIF files of any length, of which each epoch cuts windows."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from diffjax import checks
from diffjax.data.form import Form
from diffjax.data.images import pixels
from diffjax.data.kinds.films import ENDINGS, check_mp4, frames
from diffjax.data.layout import files_of
from diffjax.data.walk import shown, tell
from diffjax.data.windows import Windows
from diffjax.specs import Spec


def clips(
    split: str,
    path: str = "",
    length: int = 16,
    size: int = 64,
    channels: int = 3,
    every: int = 1,
    holdout: float = 0.1,
    classes: bool = False,
) -> Windows:
    """Read the MP4 and GIF files under `path` as videos (length, size, size, channels) in uint8.

    Folders `train` and `test` in `path` are the splits; otherwise the share `holdout` of the files
    is held out, by file name. Frames are resized and cropped at the centre, and all are kept in
    memory. length: frames of an item, cut anew from the files in each epoch. channels: 1 (grey) or
    3. every: keep one frame of so many. classes: whether the folders, in alphabetical order, are
    the classes. The unit `rate` is that of the first file. Files shorter than an item are left out
    with a note. Raises ValueError for a folder without such files, for a file that cannot be read,
    by name, and for MP4 files without the package imageio-ffmpeg.

    >>> clips("train", "nowhere")
    Traceback (most recent call last):
    ValueError: path='nowhere': no such folder; the form is name=clips:PATH
    """
    checks.at_least(1, length=length, size=size, every=every)
    checks.one_of((1, 3), channels=channels)
    chosen = files_of("clips", path, ENDINGS, split, holdout=holdout, classes=classes, noun="clip")
    if any(p.suffix.lower() == ".mp4" for p in chosen.paths):
        check_mp4()
    read = [_read(p, size, channels, every) for p in chosen.paths]
    long = [k for k, (x, _) in enumerate(read) if len(x) >= length]
    if short := len(read) - len(long):
        note = f"files of fewer than {length} frames {short}"
        tell(Path(path).expanduser(), len(long), "clip", note)
    if not long:
        raise ValueError(f"length={length}: no file of split {split!r} has so many frames")
    begins = np.concatenate([[0], np.cumsum([len(read[k][0]) for k in long])])
    names, units = chosen.class_names, (("rate", round(read[0][1] / every, 3)),)
    spec = (Spec("label", "label", len(names)),) if names else ()
    form = Form("video", (length, size, size, channels), spec, "uint8", units, names)
    label = None if chosen.label is None else chosen.label[long]
    return Windows(np.concatenate([read[k][0] for k in long]), begins, form, label)


def _read(path: Path, size: int, channels: int, every: int) -> tuple[np.ndarray, float]:
    """Return the frames (T, size, size, channels) of a file, and frames per second."""
    try:
        shown_frames, rate = frames(path)
        x = [pixels(f, size, channels) for f in itertools.islice(shown_frames, 0, None, every)]
    except Exception as error:  # readers raise OSError, RuntimeError, struct.error and others
        reason = " ".join(str(error).split())[-200:] or type(error).__name__
        raise ValueError(f"{shown(path)}: cannot be read as a video ({reason})") from error
    return np.stack(x), rate
