"""The command `diffjax`, which runs all others: `diffjax train ...`, `python -m diffjax train ...`.

`diffjax NAME ...` runs `python -m diffjax.NAME ...`, and `diffjax tools NAME ...` runs
`python -m diffjax.tools.NAME ...`, with the same flags and exit codes.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from typing import NoReturn

from diffjax import __version__, cli
from diffjax.config import ConfigError, nearest

COMMANDS = ("train", "sample", "evaluate", "serve")
FOLDER = Path(__file__).parent
TOOLS = tuple(sorted(p.stem for p in (FOLDER / "tools").glob("[!_]*.py")))


def main() -> NoReturn:
    """Run the command that the first arguments name, with the other arguments as its flags."""
    cli.main(run)


def run() -> int:
    """Run the command and return its exit code.

    Raises ConfigError for a missing or unknown command.
    """
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        print(f"diffjax {__version__}")
        return 0
    if arguments in (["--help"], ["-h"], ["tools", "--help"], ["tools", "-h"]):
        print(listing())
        return 0
    is_tool = arguments[:1] == ["tools"]
    words, names = arguments[is_tool:], TOOLS if is_tool else (*COMMANDS, "tools")
    prefix = "diffjax tools" if is_tool else "diffjax"
    if not words:
        raise ConfigError(f"{prefix}: no command given; known: {', '.join(names)}")
    name, *flags = words
    if name not in names:
        raise ConfigError(f"{prefix} {name}: no such command{nearest(name, names)}")
    module = importlib.import_module(f"diffjax.{'tools.' * is_tool}{name}")
    sys.argv = [str(module.__file__), *flags]  # as `python -m` sets it
    return module.run()


def listing() -> str:
    """Return a text with all commands and tools, one line each."""
    lines = {name: first_line(file(name)) for name in COMMANDS}
    tools = {f"tools {name}": first_line(FOLDER / "tools" / f"{name}.py") for name in TOOLS}
    width = max(map(len, [*lines, *tools])) + 2
    rows = [f"  {name:{width}}{line}" for name, line in (lines | tools).items()]
    usage = "usage: diffjax COMMAND [--flag=value ...]    (or python -m diffjax COMMAND ...)"
    options = (
        f"  {'--help':{width}}after a command: show its flags\n"
        f"  {'--version':{width}}show the version"
    )
    return "\n".join([usage, "", *rows, "", options])


def file(name: str) -> Path:
    """Return the file that holds a command: a module, or the package that shares its name."""
    module = FOLDER / f"{name}.py"
    return module if module.exists() else FOLDER / name / "__init__.py"


def first_line(path: Path) -> str:
    """Return the first line of the docstring of a file, without running it: some files load JAX."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
