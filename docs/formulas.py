"""Formulas as MathML, made when the site is built: no script, no font, no network."""

import html
import re

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

SPACING = [
    # A minus after an operator is a sign.
    (r"(<mo[^>]*>[^<)\]|]+</mo>)<mo>(&#x02212;)</mo>", r'\1<mo form="prefix">\2</mo>'),
    # A function and what it is of.
    (r"(?<!<msub>)(<mi>(?:log|tan|arctan)</mi>)(?=<m[a-np-z])", r'\1<mspace width="0.17em"/>'),
]
"""As TeX has it."""


def setup(app):
    """The renderer `mathml`, for `$...$` and for blocks."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))


def inline(writer, node):
    writer.body.append(f'<span class="formula">{mathml(node.astext(), "inline")}</span>')
    raise SkipNode


def block(writer, node):
    writer.body.append(f'<div class="formula">{mathml(node.astext(), "block")}</div>')
    raise SkipNode


def mathml(latex: str, display: str) -> str:
    """ValueError where something is not understood, which would be shown as it is typed."""
    made = convert(latex, display=display)
    if "\\" in html.unescape(made):
        raise ValueError(f"formula {latex!r}: {made}")
    for pattern, better in SPACING:
        made = re.sub(pattern, better, made)
    return made
