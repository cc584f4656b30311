"""Fixtures with every source of the catalogue on a small data set."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import netcdf_file
from shards_of_tests import packed, png

from diffjax.data import SOURCES, Source
from diffjax.data.dreambooth import ABOUT, FILE
from diffjax.data.form import labelled
from diffjax.data.kinds.films import GIF
from diffjax.data.kinds.molecule_files import block
from diffjax.data.kinds.storing import WAV


@pytest.fixture(params=SOURCES)
def source(request) -> Callable[[str], Source]:
    """`split -> Source` for every entry of the catalogue."""
    of = request.getfixturevalue
    settings = {
        "tfds": lambda: {"dataset": "tiny", "data_dir": str(of("tiny_tfds"))},
        "folder": lambda: {"path": str(of("tiny_folder")), "holdout": 0.3},
        "webdataset": lambda: {"path": f"{of('tiny_shards')}/s-{{0..1}}.tar", "holdout": 0.3},
        "dreambooth": lambda: {
            "path": str(of("tiny_folder")),
            "prior": str(of("tiny_prior")),
            "label": 1,
            "holdout": 0.3,
        },
        "array": lambda: {"path": str(of("tiny_array")), "holdout": 0.3},
        "sounds": lambda: {"path": str(of("tiny_sounds")), "length": 64, "holdout": 0.3},
        "meshes": lambda: {"path": str(of("tiny_meshes")), "points": 8, "holdout": 0.3},
        "winds": lambda: {"path": str(of("tiny_winds")), "factor": 1},
        "relief": lambda: {"path": str(of("tiny_relief")), "side": 4, "holdout": 0.3},
        "table": lambda: {"path": str(of("tiny_table")), "holdout": 0.3, "label": "sort"},
        "joint": dict,
        "joint_clips": lambda: {"size": 200, "frames": 3},
        "lines": lambda: {"path": str(of("tiny_lines")), "length": 5, "holdout": 0.3},
        "latents": lambda: {"path": str(of("tiny_latents")), "holdout": 0.3},
        "digits": dict,
        "diamonds": lambda: {"path": str(of("tiny_table")), "holdout": 0.3},
        "emoji": dict,
        "lorenz96": lambda: {"size": 200},
        "moons": dict,
        "checkerboard": dict,
        "series": dict,
        "dw4": lambda: {"size": 40},
        "lj13": lambda: {"size": 40},
        "molecules": lambda: {"path": str(of("tiny_molecules")), "atoms": 8, "holdout": 0.3},
        "conformers": lambda: {"path": str(of("tiny_molecules")), "atoms": 8, "holdout": 0.3},
        "demonstrations": lambda: {"episodes": 8, "horizon": 4},
        "moving_digits": lambda: {"size": 200, "frames": 3},
        "clips": lambda: {"path": str(of("tiny_clips")), "length": 3, "size": 6, "holdout": 0.3},
    }
    if request.param not in settings:
        pytest.fail(f"SOURCES[{request.param!r}] is new: say here how to make a small one")
    return functools.partial(SOURCES[request.param], **settings[request.param]())


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory) -> Path:
    """Two tar files of 20 images of two classes each."""
    path = tmp_path_factory.mktemp("shards")
    x = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), np.uint8)
    for part in range(2):
        rows = {}
        for i in range(20 * part, 20 * part + 20):
            rows |= {f"{i:03d}.png": png(x[i]), f"{i:03d}.cls": str(i % 2).encode()}
        packed(path / f"s-{part}.tar", rows)
    return path


@pytest.fixture(scope="session")
def tiny_prior(tmp_path_factory) -> Path:
    """Samples of a network of two classes, as tools.prior writes them."""
    folder = tmp_path_factory.mktemp("prior")
    form = labelled("image", (6, 6, 3), 2, "uint8")
    (folder / ABOUT).write_text(json.dumps({"form": form.as_json()}))
    x = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), np.uint8)
    np.savez(folder / FILE, x=x, y=np.arange(20) % 2)
    return folder


@pytest.fixture(scope="session")
def tiny_sounds(tmp_path_factory) -> Path:
    """Twenty WAV files of noise, of several lengths."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for k in range(20):
        x = rng.integers(-3000, 3000, (50 + 20 * k, 1)).astype(np.int16)
        WAV.write(folder / f"{k}.wav", x, {"rate": 8000}, {})
    return folder


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory) -> Path:
    """Twenty GIF files of noise, of several lengths."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for k in range(20):
        x = rng.integers(0, 256, (3 + k % 5, 8, 10, 1), np.uint8)
        GIF.write(folder / f"{k}.gif", x, {"rate": 20}, {})
    return folder


@pytest.fixture(scope="session")
def tiny_meshes(tmp_path_factory) -> Path:
    """Twenty tetrahedra."""
    folder = tmp_path_factory.mktemp("meshes")
    faces = "f 1 2 3\nf 1 2 4\nf 1 3 4\nf 2 3 4\n"
    for k in range(20):
        corners = np.random.default_rng(k).normal(size=(4, 3))
        rows = "".join(f"v {x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in corners)
        (folder / f"{k}.obj").write_text(rows + faces)
    return folder


@pytest.fixture(scope="session")
def tiny_lines(tmp_path_factory) -> Path:
    """Forty words of up to five letters, and lines that are left out."""
    rng, place = np.random.default_rng(0), tmp_path_factory.mktemp("lines") / "words"
    words = ["".join(rng.choice([*"abcdef"], n)) for n in rng.integers(1, 6, 60)]
    place.write_text("\n".join([*words, "", "Upper", "longer", "o'er"]) + "\n")
    return place


@pytest.fixture(scope="session")
def tiny_molecules(tmp_path_factory) -> Path:
    """Forty molecules of 3 to 8 atoms at random places, in an .sdf file."""
    rng, texts = np.random.default_rng(0), []
    for k in range(40):
        elements = np.array(["C", "O", *rng.choice([*"HCNOF"], rng.integers(1, 7))])
        texts.append(block(rng.normal(size=(len(elements), 3)), elements, f"molecule {k}"))
    path = tmp_path_factory.mktemp("molecules") / "few.sdf"
    path.write_text("".join(texts))
    return path


@pytest.fixture(scope="session")
def tiny_winds(tmp_path_factory) -> Path:
    """Five years of winds on a grid of 4 x 6 places."""
    path, rng = tmp_path_factory.mktemp("winds") / "winds.cdf", np.random.default_rng(0)
    with netcdf_file(path, "w") as file:
        for name, size in {"T": 60, "Y": 4, "X": 6}.items():
            file.createDimension(name, size)
        for name in ("UWND", "VWND"):
            file.createVariable(name, "f4", ("T", "Y", "X"))[:] = rng.normal(size=(60, 4, 6))
        file.createVariable("TIME", "f8", ("T",))[:] = 17598 + 730.5 * np.arange(60)
    return path


@pytest.fixture(scope="session")
def tiny_relief(tmp_path_factory) -> Path:
    """Heights of 20 x 24 places."""
    path, rng = tmp_path_factory.mktemp("relief") / "relief.cdf", np.random.default_rng(0)
    with netcdf_file(path, "w") as file:
        for name, size in {"Y": 20, "X": 24}.items():
            file.createDimension(name, size)
        file.createVariable("ROSE", "f4", ("Y", "X"))[:] = rng.normal(size=(20, 24))
        file.createVariable("ETOPO05_Y", "f8", ("Y",))[:] = np.linspace(-90, 90, 20)
    return path


@pytest.fixture(scope="session")
def tiny_table(tmp_path_factory) -> Path:
    """A .csv file of 40 rows: two numbers, a category and a class."""
    path = tmp_path_factory.mktemp("table") / "diamonds.csv"
    rng = np.random.default_rng(0)
    cut = np.array(["low", "mid", "high"])[np.arange(40) % 3]
    numbers = (5 + 2 * rng.normal(size=40), 100 * rng.random(40))
    rows = [f"{a:.4f},{c},{p:.4f}" for a, p, c in zip(*numbers, cut, strict=True)]
    rows = [f"{row},{k % 2}" for k, row in enumerate(rows)]
    path.write_text("\n".join(["carat,cut,price,sort", *rows]) + "\n")
    return path
