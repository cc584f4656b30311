"""What lies elsewhere in the repository: notebooks, which become pages, and files linked to."""

import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent.resolve()
HERE = Path(__file__).parent.resolve()
REPOSITORY = "https://github.com/diffjax/diffjax/blob/main"
NOTEBOOKS = ROOT / "experiments" / "notebooks"
LINK = re.compile(r"(?<!!)(\[[^\]]*\]\()([^)#\s:]+)(#[^)\s]*)?\)")
"""A link to a file, no picture: its text, the path, the anchor."""


def copy(folder: Path) -> None:
    """The notebooks, as files: through a link of the file system theirs lead nowhere."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in NOTEBOOKS.glob("*.ipynb"):
        shutil.copy(path, folder)


def setup(app):
    """Links to files that are no pages lead to where they can be read."""
    app.connect("source-read", lambda app, name, source: _read(app, name, source))


def _read(app, name, source):
    page = HERE / f"{name}.md"
    folder = NOTEBOOKS if page.parent.name == "notebooks" else page.parent

    def link(m: re.Match[str]) -> str:
        """The same one where it leads to a page, or nowhere, which Sphinx tells."""
        text, path, anchor = m.groups(default="")
        target = (folder / path).resolve()
        if target.parent == NOTEBOOKS and target.suffix == ".ipynb":
            path = os.path.relpath(HERE / "notebooks" / target.name, page.parent)
        elif target.exists() and target.is_relative_to(ROOT) and not target.is_relative_to(HERE):
            path = f"{REPOSITORY}/{target.relative_to(ROOT)}"
        return f"{text}{path}{anchor})"

    source[0] = LINK.sub(link, source[0])
