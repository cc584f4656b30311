"""The documentation site: python -m sphinx -W docs docs/_build/html, or `make docs`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import api
import catalogues
import commands
import formulas
import outside

project = "diffjax"
author = "the diffjax authors"
project_copyright = "2026, the diffjax authors"
extensions = ["myst_nb", "sphinx_copybutton"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "diffjax"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False
default_role = "py:obj"
highlight_language = "text"
suppress_warnings = ["misc.highlighting_failure"]  # a shell line that goes on, in a notebook
toc_object_entries = False
copybutton_exclude = ".linenos, .gp, .go"


def setup(app):
    """Pages made of something else are written before any is read."""
    catalogues.setup(app)
    formulas.setup(app)
    outside.setup(app)
    app.connect("config-inited", lambda *_: outside.copy(HERE / "notebooks"))
    app.connect("config-inited", lambda *_: api.write(HERE / "api"))
    app.connect("config-inited", lambda *_: commands.write(HERE / "commands"))
