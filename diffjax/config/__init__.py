"""Configs as plain data: files, overrides, names and objects, and errors that a user can mend.

A config file is Python with `get_config()` returning an `ml_collections.ConfigDict`. Names and
types of fields are checked in `builder/`.
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
    "written",
]
