"""The wheel holds all that the commands need, away from the checkout."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = (
    "--config.network.width=8",
    "--config.network.depth=1",
    "--config.train.batch_size=16",
    "--config.train.steps=2",
    "--config.train.steps_per_dispatch=1",
    "--config.train.samples=4",
    "--config.sampling.steps=3",
)


def run(*line, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *map(str, line)], capture_output=True, text=True, timeout=300, **options
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built as a release is; in an isolated environment where hatchling is not installed."""
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
    """The environment in which only the installed wheel is found, and not the checkout."""
    target = tmp_path_factory.mktemp("target")
    done = run("-m", "pip", "install", "-q", "--no-deps", f"--target={target}", wheel)
    assert done.returncode == 0, done.stderr
    return os.environ | {"PYTHONPATH": str(target), "PYTHONSAFEPATH": "1"}


def test_the_wheel_holds_the_packages_and_nothing_else(wheel):
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    info = {name for name in names if name.endswith(".dist-info")}
    assert len(info) == 1
    assert names - info == {"diffjax", "ml_collections_configs"}


def test_every_module_and_page_of_the_checkout_is_in_the_wheel(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for package in ("diffjax", "ml_collections_configs"):
        for path in (*(ROOT / package).rglob("*.py"), *(ROOT / package).rglob("*.html")):
            assert path.relative_to(ROOT).as_posix() in inside


def test_the_license_and_the_version_are_in_the_wheel(wheel):
    import diffjax

    archive = zipfile.ZipFile(wheel)
    (metadata,) = [n for n in archive.namelist() if n.endswith("/METADATA")]
    assert f"Version: {diffjax.__version__}\n" in archive.read(metadata).decode()
    assert any(n.endswith("/LICENSE") for n in archive.namelist())


def test_the_installed_commands_are_those_of_the_wheel(installed, tmp_path):
    code = "import diffjax, ml_collections_configs as c; print(diffjax.__file__, c.__file__)"
    done = run("-c", code, cwd=tmp_path, env=installed)
    assert done.stdout.count(installed["PYTHONPATH"]) == 2
    done = run("-m", "diffjax.train", "--help", cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    assert "python -m diffjax.train" in done.stdout


def test_the_installed_package_trains_from_another_folder(installed, tmp_path):
    """The built-in configs are found without the checkout, at the same path."""
    line = ["-m", "diffjax.train", "--config=configs/moons_vp.py", "--workdir=run", *TINY]
    done = run(*line, cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    assert "trained to step 2" in done.stdout
    (launch,) = (tmp_path / "run" / "launches.jsonl").read_text().splitlines()
    assert json.loads(launch)["commit"] is None
    assert (tmp_path / "run" / "samples" / "step_00000002.png").exists()
