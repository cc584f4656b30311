"""Pages that are one file and load nothing: a common head, and content inside the page."""

from __future__ import annotations

import base64
import io
import json
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

POLICY = (
    "default-src 'none'; img-src data:; media-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)
"""Content security policy of the pages: a browser that obeys it loads nothing."""
HEAD = """<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">"""


def style() -> str:
    """Return the style sheet of all pages."""
    return files("diffjax.pages").joinpath("style.css").read_text()


def filled(package: str, name: str, title: str, **parts: str) -> str:
    """Return the page (HTML) of the template `name` of a package.

    title: plain text, which is escaped. parts: HTML, CSS or scripts that replace `$part` in the
    template; `$head` is the common head with title and style, and `$title` the escaped title.

    >>> "<title>1 &lt; 2</title>" in filled("diffjax.report", "page.html", "1 < 2", body="")
    True
    """
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    shown = f"<title>{escape(title)}</title>"
    head = "\n".join([HEAD, policy, shown, f"<style>\n{style()}</style>"])
    template = Template(files(package).joinpath(name).read_text())
    return template.substitute(head=head, title=escape(title), **parts)


def script(facts: Any) -> str:
    """Return facts as JSON that may stand between <script> and </script>.

    >>> script({"text": "</script>"})
    '{"text":"\\\\u003c/script>"}'
    """
    return json.dumps(facts, separators=(",", ":")).replace("<", "\\u003c")


def uri(kind: str, content: bytes) -> str:
    """Return content of a media type as a data URI, for `src`.

    >>> uri("audio/wav", b"RIFF")
    'data:audio/wav;base64,UklGRg=='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def encoded(image: Any, kind: str = "png") -> bytes:
    """Return the bytes of a Pillow image as PNG, or as JPEG of quality 85."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"optimize": True} if kind == "png" else {"quality": 85}))
    return buffer.getvalue()


def lossless(picture: np.ndarray) -> str:
    """Return the data URI of a picture uint8 (H, W, 3) as PNG, whatever its size."""
    from PIL import Image

    return uri("image/png", encoded(Image.fromarray(picture)))
