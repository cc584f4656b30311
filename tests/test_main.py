"""`diffjax COMMAND` and `python -m diffjax COMMAND`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import diffjax
from diffjax import __main__ as entry

ROOT = Path(diffjax.__file__).parent.parent


@pytest.fixture
def call(monkeypatch, capsys):
    """Run `diffjax` with these arguments in this process; return exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["diffjax", *arguments])
        with pytest.raises(SystemExit) as end:
            entry.main()
        return (end.value.code, *capsys.readouterr())

    return run


def test_the_script_that_is_installed_is_this_one():
    """`pip install` would create a script that fails at its first line."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"diffjax": f"{entry.__name__}:{entry.main.__name__}"}


def test_the_list_of_commands_loads_nothing_heavy():
    """Listing the commands would wait for JAX, or a tool would be missing from the list."""
    code = "import sys, diffjax.__main__ as m; print(m.listing()); assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    listed = [" ".join(row[: 1 + (row[0] == "tools")]) for row in rows]
    tools = [f"tools {name}" for name in entry.TOOLS]
    assert listed == ["train", "sample", "evaluate", "serve", *tools, "--help", "--version"]
    assert all(len(row) > 2 for row in rows)


@pytest.mark.parametrize("command", [*entry.COMMANDS, *(f"tools {name}" for name in entry.TOOLS)])
def test_each_command_gets_the_flags_that_follow_its_name(call, command):
    """The name of the command would be taken for one of its flags, or its flags be lost."""
    name = command.replace(" ", ".")
    code, out, _ = call(*command.split(), "--help")
    assert code == 0
    assert f"python -m diffjax.{name} " in out
    code, _, err = call(*command.split(), "--no-such-flag=1")
    assert code == 2
    assert "--no-such-flag" in err or "required" in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "error: diffjax: no command given; known: train, sample, evaluate, serve, tools"),
        (["trian"], "error: diffjax trian: no such command (did you mean 'train'?)"),
        (["tools"], "error: diffjax tools: no command given; known: codec, compare,"),
        (["tools", "train"], "error: diffjax tools train: no such command"),
        (["__main__"], "error: diffjax __main__: no such command"),
    ],
)
def test_what_is_no_command_is_refused_in_one_line(call, arguments, line):
    """A typing error would raise a traceback of importlib."""
    code, out, err = call(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(line)


def test_the_package_of_tools_is_a_command():
    """`python -m diffjax.tools` would say that a package cannot be executed."""
    line = [sys.executable, "-m", "diffjax.tools"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: diffjax tools: no command given; known: codec, compare,")


def test_the_version_is_that_of_the_package(call):
    assert call("--version")[:2] == (0, f"diffjax {diffjax.__version__}\n")


def test_what_a_command_refuses_is_its_own_line_and_exit_code(call, tmp_path):
    """A command under `diffjax` would fail differently from the command by itself."""
    code, _, err = call("sample", f"--workdir={tmp_path}")
    assert code == 2
    assert err.startswith("error: ")
    assert str(tmp_path) in err
    assert err.count("\n") == 1
