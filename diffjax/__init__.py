"""diffjax: diffusion models in JAX, where one network works with every schedule, loss and sampler.

Modules load on first use (`diffjax.samplers.ddim`), so importing the package costs nothing.
`diffjax.fit(config, workdir)` trains a run, as the command does. `diffjax.load(path)` loads the
network of a run or of a published checkpoint, and its method `.sample(num)` generates samples.
`diffjax.plot` draws pictures.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "analytic",
    "aot",
    "arrays",
    "builder",
    "checks",
    "codecs",
    "config",
    "data",
    "denoiser",
    "devices",
    "draws",
    "encoders",
    "environments",
    "evaluation",
    "export",
    "features",
    "generation",
    "grids",
    "guidance",
    "inverse",
    "io",
    "likelihood",
    "nets",
    "objectives",
    "parameterization",
    "plot",
    "prediction",
    "published",
    "report",
    "runs",
    "samplers",
    "schedules",
    "sde",
    "solvers",
    "specs",
    "training",
    "weights",
)
_FUNCTIONS = {"cascade": "runs.cascade", "fit": "runs.launch", "load": "runs.trained"}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"diffjax.{_FUNCTIONS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"diffjax.{name}")
    raise AttributeError(f"module 'diffjax' has no attribute {name!r}; it has {__dir__()}")


def __dir__() -> list[str]:
    return [*_MODULES, *_FUNCTIONS, "__version__"]
