"""A page that plays sounds below their waveforms."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffjax import pages
from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Files, Texts, Units
from diffjax.data.kinds.storing import RATE, ended, wav_bytes

MOST = 64
"""Largest number of sounds on a page."""


def played(sound: np.ndarray, rate: int) -> str:
    """Return a sound (L, channels) at `rate` hertz as the data URI of a WAV file, without loss."""
    return pages.uri("audio/wav", wav_bytes(ended(sound), rate))


def page(sounds: np.ndarray, rate: int, title: str, names: Sequence[str] = ()) -> str:
    """Return a page (HTML) of sounds (N, L, channels), floats or 16-bit integers, at `rate` hertz.

    names: the caption of each sound, by default its number. The waveforms have one scale. The page
    is one file, which loads nothing.

    >>> page(np.zeros((2, 8, 1), np.int16), 8000, "Silence").count("<audio")
    2
    """
    names = [html.escape(name) for name in names] or [f"sound {k}" for k in range(len(sounds))]
    waves = sounds / np.float32(32768) if sounds.dtype == np.int16 else sounds
    pictures = drawing.lines(np.asarray(waves, np.float32))
    made = [
        f'<figure><img alt="waveform of {name}" src="{pages.lossless(picture)}">'
        f'<audio controls preload="metadata" src="{played(x, rate)}">'
        f"</audio><figcaption>{name}, {len(ended(x)) / rate:.3g} s</figcaption></figure>"
        for name, x, picture in zip(names, sounds, pictures, strict=True)
    ]
    return pages.filled("diffjax.data.kinds", "players.html", title, players="\n".join(made))


def _write_html(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = items[:MOST]
    path.write_text(page(shown, int(units.get("rate", RATE)), f"{len(shown)} sounds"))


PLAYERS = Files(".html", _write_html, each=False)
