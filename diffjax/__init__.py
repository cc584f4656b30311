"""diffjax: diffusion models in JAX. One network; every schedule, SDE, loss and sampler with it.

Modules load on first use (`diffjax.samplers.ddim`), so that importing the package costs nothing.
`diffjax.load(path)` is the network of a run or of a published checkpoint.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "analytic",
    "arrays",
    "build",
    "data",
    "denoiser",
    "draws",
    "evaluation",
    "grids",
    "guidance",
    "likelihood",
    "losses",
    "nets",
    "parameterization",
    "plot",
    "published",
    "samplers",
    "schedules",
    "sde",
    "trained",
    "training",
    "weights",
)


def __getattr__(name: str) -> Any:
    if name == "load":
        return importlib.import_module("diffjax.trained").load
    if name in _MODULES:
        return importlib.import_module(f"diffjax.{name}")
    raise AttributeError(f"module 'diffjax' has no attribute {name!r}; it has {__dir__()}")


def __dir__() -> list[str]:
    return [*_MODULES, "__version__", "load"]
