"""A page that plays sounds below their waveforms."""

from __future__ import annotations

import base64
import io
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Files, Texts, Units
from diffjax.data.kinds.storing import RATE, ended, wav_bytes

MOST = 64
"""Largest number of sounds on a page."""


def uri(kind: str, content: bytes) -> str:
    """Return content of a media type as a data URI, for `src`.

    >>> uri("audio/wav", b"RIFF")
    'data:audio/wav;base64,UklGRg=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def page(sounds: np.ndarray, rate: int, title: str) -> str:
    """Return a page (HTML) of sounds (N, L, channels), floats or 16-bit integers, at `rate` hertz.

    The waveforms have one scale. The page is one file, which loads nothing.

    >>> page(np.zeros((2, 8, 1), np.int16), 8000, "Silence").count("<audio")
    2
    """
    waves = sounds / np.float32(32768) if sounds.dtype == np.int16 else sounds
    pictures = drawing.lines(np.asarray(waves, np.float32))
    made = [
        f'<figure><img alt="waveform of sound {k}" src="{uri("image/png", _png(picture))}">'
        f'<audio controls preload="metadata" src="{uri("audio/wav", wav_bytes(ended(x), rate))}">'
        f"</audio><figcaption>sound {k}, {len(ended(x)) / rate:.3g} s</figcaption></figure>"
        for k, (x, picture) in enumerate(zip(sounds, pictures, strict=True))
    ]
    template = Template(files("diffjax.data.kinds").joinpath("players.html").read_text())
    return template.substitute(title=escape(title), players="\n".join(made))


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def _write_html(path: Path, items: np.ndarray, units: Units, texts: Texts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = items[:MOST]
    path.write_text(page(shown, int(units.get("rate", RATE)), f"{len(shown)} sounds"))


PLAYERS = Files(".html", _write_html, each=False)
