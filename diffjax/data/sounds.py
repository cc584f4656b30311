"""The source `sounds:<path>`: WAV files of any length, of which each epoch cuts new windows."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax.data.form import Form
from diffjax.data.layout import files_of
from diffjax.data.walk import shown
from diffjax.data.windows import Windows
from diffjax.specs import Spec


def sounds(
    split: str, path: str = "", length: int = 4096, holdout: float = 0.1, classes: bool = False
) -> Windows:
    """Read the WAV files of 16 bits under `path`, all of one rate and one number of channels.

    Folders `train` and `test` in `path` are the splits; otherwise the share `holdout` of the files
    is held out, by file name. length: samples of an item, cut anew from the sounds in each epoch.
    classes: whether the folders, in alphabetical order, are the classes. Raises ValueError for a
    folder without such files, and for a file of another form, rate or number of channels, by name.

    >>> sounds("train", "nowhere")
    Traceback (most recent call last):
    ValueError: path='nowhere': no such folder; the form is name=sounds:PATH
    """
    if length < 1:
        raise ValueError(f"length={length}: needs length >= 1")
    chosen = files_of(
        "sounds", path, (".wav",), split, holdout=holdout, classes=classes, noun="sound"
    )
    x, rate = _read(chosen.paths)
    begins = np.concatenate([[0], np.cumsum([len(sound) for sound in x])])
    names, units = chosen.class_names, (("rate", rate),)
    spec = (Spec("label", "label", len(names)),) if names else ()
    form = Form("audio", (length, x[0].shape[1]), spec, "int16", units, names)
    return Windows(np.concatenate(x), begins, form, chosen.label)


def _read(files: Sequence[Path]) -> tuple[list[np.ndarray], int]:
    """Return the samples (n, channels) of each file, and the rate that all of them have."""
    found, forms = [], {}
    for path in files:
        try:
            with wave.open(str(path), "rb") as file:
                form = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
                frames = file.readframes(file.getnframes())
        except (wave.Error, EOFError, OSError) as error:
            raise ValueError(f"{shown(path)}: is no WAV file that can be read ({error})") from error
        if form[2] != 16:
            raise ValueError(f"{shown(path)}: has {form[2]} bits; needs 16")
        forms.setdefault(form, path)
        if len(forms) > 1:
            (one, first), (other, second) = forms.items()
            raise ValueError(
                f"{shown(second)}: has {other[0]} samples per second and {other[1]} channels; "
                f"{shown(first)} has {one[0]} and {one[1]}; needs equal ones"
            )
        found.append(np.frombuffer(frames, "<i2").reshape(-1, form[1]).astype(np.int16))
    return found, next(iter(forms))[0]
