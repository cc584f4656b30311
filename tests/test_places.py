"""Where commands read and write: used, lost or read-only folders, and other platforms."""

import ast
import contextlib
import errno
import json
import logging
import shlex
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from commands import ended

import diffjax
from diffjax import builder, files
from diffjax.config import ConfigError
from diffjax.files import check_writable, ending, read_arrays
from diffjax.runs.trained import load
from diffjax.training.lock import lock
from diffjax.training.workdir import began_from, open_run, read_config

ROOT = Path(diffjax.__file__).parent
POSIX = {"fcntl", "resource", "termios", "pwd", "grp", "msvcrt", "winreg"}


def test_no_module_imports_what_some_platforms_lack():
    """Every command would end at its import on Windows, for a lock that only training needs."""
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {n.split(".")[0] for n in names} & POSIX, path


@pytest.mark.parametrize("held", [False, True])
def test_on_windows_a_run_is_locked_by_other_means(tmp_path, monkeypatch, held):
    """Two runs would write to the same folder."""

    def locking(descriptor, mode, count):
        if held:
            raise PermissionError(errno.EACCES, "Permission denied")

    fake = types.SimpleNamespace(LK_NBLCK=2, locking=locking)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr(sys, "platform", "win32")
    if held:
        with pytest.raises(ConfigError, match="another run is training there"), lock(tmp_path):
            pass
        return
    with lock(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith("process ")


def test_a_file_system_without_locks_is_reported_but_no_obstacle(tmp_path, monkeypatch, caplog):
    """The message would report another run, which does not exist."""
    fcntl = pytest.importorskip("fcntl")

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with caplog.at_level(logging.WARNING), lock(tmp_path):
        pass
    assert "cannot be locked (No locks available)" in caplog.text


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("a.png", ".png"), ("a.PNG", ".png"), ("w1.5", ""), ("run.v2", ""), ("a.b.npz", ".npz"),
     ("x.jpg", ".jpg"), ("x.mp4", ".mp4"), (".hidden", ""), ("lr_1e-3.seed0", ""), ("a", "")],
)  # fmt: skip
def test_a_dot_in_a_name_is_no_ending_unless_files_have_it(name, wanted):
    """A folder `samples_w1.5` would be refused for its ending."""
    assert ending(Path(name)) == wanted


def test_a_place_is_tried_and_nothing_stays_behind(tmp_path, monkeypatch):
    check_writable(tmp_path / "new.npz")
    (tmp_path / "old.npz").write_text("old")
    check_writable(tmp_path / "old.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["old.npz"]
    with pytest.raises(OSError, match="Is a directory"):
        check_writable(tmp_path)
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "old.npz" / "new.npz")


def read_only(monkeypatch, folder: Path) -> None:
    """Refuse new files in a folder, as a read-only file system does, for root too."""
    touch = Path.touch

    def refused(self, *args, **kwargs):
        if self.parent == folder:
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        touch(self, *args, **kwargs)

    monkeypatch.setattr(Path, "touch", refused)


def test_samples_of_two_commands_are_never_in_one_folder(toy, tmp_path, monkeypatch, capsys):
    """Five new samples and seven old ones would be evaluated together."""
    out = tmp_path / "samples_w1.5"
    out.mkdir()
    (out / "a.csv").write_text("old")
    flags = [f"--workdir={toy}", "--num=2", "--steps=2"]
    monkeypatch.setattr(
        "diffjax.runs.output.endings", lambda kind: (".png", "")
    )  # points have none
    assert ended(monkeypatch, "sample", *flags, f"--out={out}") == 2
    line = capsys.readouterr().err
    assert f"error: --out={out}: exists already; needs a new or an empty folder" in line
    assert [p.read_text() for p in out.iterdir()] == ["old"]


def test_a_run_that_is_read_only_is_refused_before_the_work(toy, tmp_path, monkeypatch, capsys):
    """Samples would be drawn, and could then not be written."""
    others = shutil.ignore_patterns("samples*.png")  # pictures of other tests
    toy = shutil.copytree(toy, tmp_path / "toy", ignore=others)
    read_only(monkeypatch, toy)
    monkeypatch.setattr("diffjax.sample.generate", lambda given: pytest.fail("sampled"))
    assert ended(monkeypatch, "sample", f"--workdir={toy}", "--num=2") == 2
    assert "samples.png: cannot be written (Read-only file system)" in capsys.readouterr().err
    monkeypatch.setattr("diffjax.evaluate.results", lambda *given: pytest.fail("sampled"))
    assert ended(monkeypatch, "evaluate", f"--workdir={toy}", "--num=8") == 2
    err = capsys.readouterr().err
    assert f"--workdir={toy}: {toy / 'evaluation.json'} cannot be written (Read-only" in err
    assert err.count("\n") == 1


def test_a_read_only_run_can_be_sampled_elsewhere(toy, tmp_path, monkeypatch, capsys):
    read_only(monkeypatch, toy)
    flags = [f"--workdir={toy}", "--num=2", "--steps=2", f"--out={tmp_path / 'new' / 'a.NPZ'}"]
    assert ended(monkeypatch, "sample", *flags) == 0
    assert read_arrays(tmp_path / "new" / "a.NPZ")["arr_0"].shape == (2, 2)


@pytest.fixture
def copied(toy, tmp_path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "my run"))


def test_lost_files_are_named(copied, tmp_path):
    """A run without data.json would be reported as a file without tensors."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"data\.json is missing"):
        load(tmp_path / "empty")
    (copied / "data.json").unlink()
    with pytest.raises(ConfigError, match=r"data\.json is missing; the command that trained") as e:
        load(copied)
    assert "\n" not in str(e.value)


def test_a_run_that_is_resumed_writes_its_data_again_and_needs_its_config(copied, caplog):
    """Checkpoints of an unknown config would be read into another network."""
    experiment = builder.experiment(read_config(copied))
    before = json.loads((copied / "data.json").read_text())
    (copied / "data.json").unlink()
    with caplog.at_level(logging.WARNING):
        open_run(copied, experiment, [])
    assert "data.json is missing; it is written again" in caplog.text
    assert json.loads((copied / "data.json").read_text()) == before
    (copied / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"holds checkpoints, but config\.json is missing"):
        open_run(copied, experiment, [])


@pytest.mark.parametrize("content", [None, "{", "[]", "3"])
def test_a_lost_list_of_launches_is_named(copied, tmp_path, content):
    (copied / "launches.jsonl").unlink()
    if content:
        (copied / "launches.jsonl").write_text(content)
    with pytest.raises(ConfigError, match=r"launches\.jsonl: cannot be read \(.*leave --resume"):
        began_from(copied, tmp_path)


def test_printed_commands_can_be_pasted(tmp_path):
    """`--workdir=my run` would be pasted as two arguments."""
    with pytest.raises(ConfigError) as refused:
        read_config(tmp_path / "no such")
    *_, last = shlex.split(str(refused.value))
    assert last == f"--workdir={tmp_path / 'no such'}"


DAMAGE = {
    "empty": b"",
    "text": b"no array",
    "header": b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9",
    "huge": b"\x93NUMPY\x01\x00\x50\x00"
    + b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 99999), }".ljust(80),
    "archive": b"PK\x03\x04" + bytes(40),
    "pickle": b"\x80\x04\x95",
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_arrays_are_one_line(tmp_path, name):
    (tmp_path / "a.npz").write_bytes(DAMAGE[name])
    with pytest.raises(ValueError, match=r"^cannot be read \([^\n]+\)$"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_no_damage_to_an_array_is_another_error(tmp_path, name):
    """One of 3,000 damaged files would give neither an array nor an error of one line."""
    rng, path = np.random.default_rng(0), tmp_path / name
    (np.save if name == "a.npy" else np.savez_compressed)(path, rng.normal(size=(9, 4)))
    whole = path.read_bytes()
    for _ in range(3000):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 2):
            content[place] = rng.integers(0, 256)
        cut = rng.integers(0, len(whole) + 1) if rng.random() < 0.3 else len(whole)
        path.write_bytes(content[:cut])
        with contextlib.suppress(ValueError):
            read_arrays(path)


def test_the_reason_of_an_error_is_one_line():
    assert files.reason(OSError(errno.ENOSPC, "No space left on device", "x")) == (
        "No space left on device"
    )
    assert files.reason(ValueError("a\nb")) == "a b"
    assert files.reason(TypeError()) == "TypeError"
