"""The start-up of commands: devices, memory, flags."""

import ctypes
import os
import platform
import subprocess
import sys
import types

import pytest

from diffjax import cli

STEPS = """
import ctypes, resource, sys
import jax
from diffjax import cli

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: count small pages
if sys.argv[1] == "kept":
    cli.keep_memory()
turned = lambda x: jax.lax.fori_loop(0, 2, lambda i, a: jax.numpy.roll(a, 1), x)
step = jax.jit(lambda x: turned(x).sum())
x, touched = jax.numpy.ones(2**22), []
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    jax.block_until_ready(step(x))
    touched.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(touched[-3:]))
"""


@pytest.mark.parametrize(
    ("given", "own", "threads"), [("999", "", "1998"), ("1", "", None), ("999", "4", "4")]
)
def test_devices_of_a_cpu_have_threads_to_spare(monkeypatch, given, own, threads):
    """On busy cores collectives would wait for each other until XLA terminates the run."""
    for name, value in (("JAX_NUM_CPU_DEVICES", given), ("NPROC", own)):
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    cli.spare_threads()
    assert os.environ.get("NPROC") == threads


def pages(word: str, **more: str) -> int:
    """Count new memory pages of a step in a separate process, with `new` or `kept` memory."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    env |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"} | more
    return int(subprocess.check_output([sys.executable, "-c", STEPS, word], env=env))


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_step_finds_the_memory_of_the_one_before():
    """A train step would take new pages, which cost a transformer a quarter of its time."""
    if pages("new") < 4000:
        pytest.skip("this system does not count new pages")
    assert pages("kept") < 400


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_a_step_keeps_no_memory_where_the_user_forbids_it():
    if pages("new") < 4000:
        pytest.skip("this system does not count new pages")
    assert pages("kept", MALLOC_MMAP_THRESHOLD_="131072") > 4000


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of Linux")
@pytest.mark.parametrize(
    "given", [{}, {"MALLOC_ARENA_MAX": "2"}, {"GLIBC_TUNABLES": "glibc.malloc.check=1"}], ids=str
)
def test_settings_of_the_user_for_memory_are_left_as_they_are(monkeypatch, given):
    """Memory settings of the user would be overruled."""
    told = []
    library = types.SimpleNamespace(mallopt=lambda *pair: told.append(pair))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    for name, value in {"JAX_PLATFORMS": "cpu", **given}.items():
        monkeypatch.setenv(name, value)
    cli.keep_memory()
    assert bool(told) == (not given)


@pytest.mark.parametrize("flags", [["--out="], ["--out", ""], ["--num=0"], ["--num=9e9"]])
def test_a_bad_flag_is_one_line(capsys, flags):
    """An unset variable would mean the current folder, or argparse print its usage first."""
    parser = cli.parser("sample", None)
    parser.add_argument("--out", type=cli.path)
    parser.add_argument("--num", type=cli.positive)
    with pytest.raises(SystemExit) as stopped:
        cli.read(parser, flags)
    line = capsys.readouterr().err
    assert stopped.value.code == 2 and line.startswith("error: ") and line.count("\n") == 1
    assert "is empty" in line or f"{flags[0][:5]}: '{flags[0][6:]}': needs an integer" in line


def test_too_little_memory_is_one_line(capsys):
    """A traceback of XLA would not name the flag that reduces memory."""

    def run():
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.\nmore")

    with pytest.raises(SystemExit) as stopped:
        cli.main(run)
    line = capsys.readouterr().err
    assert stopped.value.code == 1 and line.startswith("error: out of memory (")
    assert "--batch-size" in line and line.count("\n") == 1
