"""Links from a page to files of the repository that are no pages: to where they can be read."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.resolve()
HERE = Path(__file__).parent.resolve()
REPOSITORY = "https://github.com/diffjax/diffjax/blob/main"
LINK = re.compile(r"(?<!!)(\[[^\]]*\]\()([^)#\s:]+)(#[^)\s]*)?\)")
"""A link to a file, no picture: its text, the path, the anchor."""


def setup(app):
    app.connect("source-read", lambda app, name, source: _read(app, name, source))


def _read(app, name, source):
    folder = Path(app.env.doc2path(name)).resolve().parent
    source[0] = LINK.sub(lambda m: _link(folder, *m.groups(default="")), source[0])


def _link(folder: Path, text: str, path: str, anchor: str) -> str:
    """The same link where it leads to a page, or nowhere, which Sphinx tells."""
    target = (folder / path).resolve()
    inside = target.is_relative_to(HERE) or target.suffix == ".ipynb"
    if inside or not target.is_relative_to(ROOT) or not target.exists():
        return f"{text}{path}{anchor})"
    return f"{text}{REPOSITORY}/{target.relative_to(ROOT)}{anchor})"
