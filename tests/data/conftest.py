"""Fixtures with every source of the catalogue on a small data set."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffjax.data import SOURCES, Source


@pytest.fixture(params=SOURCES)
def source(request) -> Callable[[str], Source]:
    """`split -> Source` for every entry of the catalogue."""
    of = request.getfixturevalue
    settings = {
        "tfds": lambda: {"dataset": "tiny", "data_dir": str(of("tiny_tfds"))},
        "folder": lambda: {"path": str(of("tiny_folder")), "holdout": 0.3},
        "array": lambda: {"path": str(of("tiny_array")), "holdout": 0.3},
        "table": lambda: {"path": str(of("tiny_table")), "holdout": 0.3, "label": "sort"},
        "latents": lambda: {"path": str(of("tiny_latents")), "holdout": 0.3},
        "digits": dict,
        "emoji": dict,
        "moons": dict,
        "checkerboard": dict,
    }
    if request.param not in settings:
        pytest.fail(f"SOURCES[{request.param!r}] is new: say here how to make a small one")
    return functools.partial(SOURCES[request.param], **settings[request.param]())


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
