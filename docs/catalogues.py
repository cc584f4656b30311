"""The directive `catalogue`: a table of what a catalogue holds, from the catalogue itself.

```{catalogue} diffjax.samplers.SAMPLERS
```
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import api
from docstrings import PAPER, summary
from docutils import nodes
from docutils.parsers.rst import Directive
from docutils.statemachine import StringList

from diffjax.builder import metrics


def setup(app):
    app.add_directive("catalogue", Catalogue)


class Catalogue(Directive):
    """Name, what it is, and settings with their defaults; of samplers also order and passes."""

    required_arguments = 1

    def run(self):
        module, name = self.arguments[0].rsplit(".", 1)
        entries = getattr(importlib.import_module(module), name)
        box = nodes.container(classes=["catalogue"])
        self.state.nested_parse(StringList(table(entries), self.arguments[0]), 0, box)
        return [box]


def table(entries: dict[str, Any]) -> list[str]:
    """In Markdown."""
    orders = all(hasattr(e, "order") and hasattr(e, "passes") for e in entries.values())
    more = ["order", "passes per step"] if orders else []
    rows = [["name", "what it is", "settings", *more]]
    rows += [["---"] * len(rows[0])]
    for name, entry in entries.items():
        also = [str(entry.order()), str(entry.passes)] if orders else []
        rows.append([_name(name, entry), _about(entry), _settings(entry), *also])
    return ["| " + " | ".join(row) + " |" for row in rows]


def _name(name: str, entry: Any) -> str:
    where = api.targets().get(id(entry))
    return f"[`{name}`](#{where})" if where else f"`{name}`"


def _about(entry: Any) -> str:
    text = summary(inspect.getdoc(entry) or "").replace("`", "")
    for mark in r"\*_|<>[]$":
        text = text.replace(mark, "\\" + mark)
    return PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)


def _settings(entry: Any) -> str:
    """Arguments with a default value."""
    defaults = metrics.settings(entry).items()
    texts = [f"`{name}={api.shown(value)}`" for name, value in defaults if name not in api.UNTOLD]
    return ", ".join(texts).replace("|", "\\|")
