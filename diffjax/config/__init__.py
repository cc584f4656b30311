"""Configs as plain data: files, overrides, names of objects, and errors that a user can correct.

A config file is a Python file with a function `get_config()` that returns an
`ml_collections.ConfigDict`. `builder/` checks the names and types of fields.
"""

from diffjax.config.errors import ConfigError, RunError, Stopped
from diffjax.config.fields import (
    Config,
    arguments,
    checked,
    entries,
    known,
    literal,
    named,
    nearest,
    parse,
    separated,
    similar,
)
from diffjax.config.files import FOLDER, STAY, load, override
from diffjax.config.objects import Applied, lookup, written

__all__ = [
    "FOLDER",
    "STAY",
    "Applied",
    "Config",
    "ConfigError",
    "RunError",
    "Stopped",
    "arguments",
    "checked",
    "entries",
    "known",
    "literal",
    "load",
    "lookup",
    "named",
    "nearest",
    "override",
    "parse",
    "separated",
    "similar",
    "written",
]
