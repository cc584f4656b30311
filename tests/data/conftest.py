"""Every source of the catalogue, on a small data set."""

import functools
from collections.abc import Callable

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
        "latents": lambda: {"path": str(of("tiny_latents")), "holdout": 0.3},
        "digits": dict,
        "moons": dict,
        "checkerboard": dict,
    }
    if request.param not in settings:
        pytest.fail(f"SOURCES[{request.param!r}] is new: say here how to make a small one")
    return functools.partial(SOURCES[request.param], **settings[request.param]())
