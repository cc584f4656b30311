"""The wheel contains everything that the commands need, away from the checkout."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("diffjax", "ml_collections_configs")
TINY = (
    "--config.network.width=8",
    "--config.network.depth=1",
    "--config.train.batch_size=16",
    "--config.train.steps=2",
    "--config.train.steps_per_dispatch=1",
    "--config.train.samples=4",
    "--config.sampling.steps=3",
)


def files() -> list[str]:
    """Return all files of the packages in this checkout, relative to its root."""
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    kept = [p for p in found if p.is_file() and "__pycache__" not in p.parts]
    return [path.relative_to(ROOT).as_posix() for path in kept]


def run(*line, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, line)], capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel as for a release, isolated if hatchling is not installed."""
    folder = tmp_path_factory.mktemp("wheel")
    here = importlib.util.find_spec("hatchling") is not None
    flags = ["--no-isolation"] if here else []
    done = run("-m", "build", "--wheel", *flags, f"--outdir={folder}", ROOT)
    if done.returncode and not here:
        reachable = run("-m", "pip", "download", "-q", "--no-deps", f"-d{folder}", "hatchling")
        if reachable.returncode:
            pytest.skip("hatchling is not installed, and no package index can be reached")
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("diffjax-*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> dict[str, str]:
    """Return an environment that finds the installed wheel only, and not the checkout."""
    target = tmp_path_factory.mktemp("target")
    done = run("-m", "pip", "install", "-q", "--no-deps", f"--target={target}", wheel)
    assert done.returncode == 0, done.stderr
    return os.environ | {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="no checkout of git"
)
def test_the_packages_are_listed_and_none_of_their_files_is_ignored():
    """A wheel would lack a module of this checkout, as it leaves out what git ignores."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [*PACKAGES]
    assert {name.partition("/")[0] for name in files()} == set(PACKAGES)
    line = ["git", "check-ignore", "--no-index", "--stdin"]
    ask = {"input": "\n".join(files()), "capture_output": True, "text": True, "cwd": ROOT}
    assert subprocess.run(line, **ask).stdout == ""


@pytest.mark.thorough
def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    info = {name for name in names if name.endswith(".dist-info")}
    assert len(info) == 1
    assert names - info == set(PACKAGES)


@pytest.mark.thorough
def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    """A module, a page or its style would be missing away from the checkout."""
    assert set(files()) <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.thorough
def test_the_license_and_the_version_are_in_the_wheel(wheel):
    import diffjax

    archive = zipfile.ZipFile(wheel)
    (metadata,) = [n for n in archive.namelist() if n.endswith("/METADATA")]
    assert f"Version: {diffjax.__version__}\n" in archive.read(metadata).decode()
    assert any(n.endswith("/LICENSE") for n in archive.namelist())


@pytest.mark.thorough
def test_the_installed_commands_are_those_of_the_wheel(installed, tmp_path):
    code = "import diffjax, ml_collections_configs as c; print(diffjax.__file__, c.__file__)"
    done = run("-c", code, cwd=tmp_path, env=installed)
    assert done.stdout.count(installed["PYTHONPATH"]) == 2
    done = run("-m", "diffjax.train", "--help", cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    assert "python -m diffjax.train" in done.stdout


@pytest.mark.thorough
def test_the_installed_package_trains_from_another_folder(installed, tmp_path):
    """The built-in configs could not be found without the checkout, at the same path."""
    line = ["-m", "diffjax.train", "--config=configs/moons_vp.py", "--workdir=run", *TINY]
    done = run(*line, cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    assert "trained to step 2" in done.stdout
    (launch,) = (tmp_path / "run" / "launches.jsonl").read_text().splitlines()
    assert json.loads(launch)["commit"] is None
    assert (tmp_path / "run" / "samples" / "step_00000002.png").exists()
