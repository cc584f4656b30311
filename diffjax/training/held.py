"""Held parameters of a run, which no step changes: they are saved once, beside the checkpoints.

WORKDIR/held contains an export of each trained network that the objective loads, so that a run does
not need the workdir of its teacher again. It also contains a .safetensors file for the frozen
parameters, and one for each copy of the initial parameters that the objective holds.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import Params
from diffjax.config import ConfigError, RunError
from diffjax.devices.mesh import Layout
from diffjax.devices.processes import first
from diffjax.io.trees import flat, nested, some
from diffjax.training import checksums
from diffjax.training.experiment import Experiment
from diffjax.training.step import FROZEN, TrainState

FOLDER = "held"


def folder(workdir: Path, name: str) -> Path:
    """Return the folder of a held network."""
    return workdir / FOLDER / name


def file(workdir: Path, name: str) -> Path:
    """Return the file of held parameters that have no config."""
    return workdir / FOLDER / f"{name}.safetensors"


def exists(workdir: Path, name: str) -> bool:
    """Return True if a held network is complete; its config is written last."""
    return (folder(workdir, name) / "config.json").exists()


def save(workdir: Path, experiment: Experiment, held: dict[str, Params], layout: Layout) -> None:
    """Write all held parameters when training begins; only the first process writes.

    Raises RunError where they cannot be written, since the run could not be resumed without them.
    """
    whole = {k: layout.whole(v) for k, v in held.items() if k not in experiment.holds}
    if not held or not first():
        return
    try:
        for name, params in whole.items():
            file(workdir, name).parent.mkdir(exist_ok=True)
            checksums.save(file(workdir, name), flat(params), {})
        for name, thing in experiment.holds.items():
            if not exists(workdir, name):
                shutil.rmtree(folder(workdir, name), ignore_errors=True)
                thing.save(folder(workdir, name))
    except OSError as error:
        raise RunError(f"{workdir / FOLDER}: cannot be written ({error.strerror})") from error


def restore(
    workdir: Path, experiment: Experiment, abstract: TrainState, shardings: Any
) -> dict[str, Params]:
    """Read the held parameters of a state and place them on the devices.

    abstract, shardings: the shapes and the placement of the whole state. Raises ConfigError for
    parameters that are missing or damaged.
    """
    held = {}
    for name, wanted in abstract.held.items():
        params = experiment.loaded.get(name)
        params = read(workdir, name, wanted) if params is None else params
        held[name] = placed(params, shardings.held[name])
    return held


def for_sampling(workdir: Path, abstract: TrainState) -> dict[str, Params]:
    """Read the frozen parameters, without those that only the objective needs."""
    if FROZEN not in abstract.held:
        return {}
    params = read(workdir, FROZEN, abstract.held[FROZEN])
    return {FROZEN: jax.tree.map(jnp.asarray, params)}


def frozen(workdir: Path, experiment: Experiment) -> Params:
    """Read the parameters that the run in `workdir` does not train, as NumPy arrays."""
    if not experiment.frozen:
        return {}
    return read(workdir, FROZEN, jax.eval_shape(experiment.initialise).held[FROZEN])


def read(workdir: Path, name: str, wanted: Params) -> Params:
    """Read held parameters with the names, shapes and types of `wanted`, as NumPy arrays.

    Raises ConfigError for a file that is missing or damaged, or holds other parameters.
    """
    path = file(workdir, name)
    try:
        tensors, _ = checksums.load(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error  # the message names the file
    shapes = lambda tree: {k: (tuple(a.shape), np.dtype(a.dtype)) for k, a in tree.items()}
    if shapes(tensors) != shapes(like := flat(wanted)):
        missing, surplus = set(like) - set(tensors), set(tensors) - set(like)
        raise ConfigError(
            f"{path}: does not fit this config: {some('missing', missing)}; "
            f"{some('unexpected', surplus)}"
        )
    return nested(tensors)


def placed(params: Params, shardings: Any) -> Params:
    """Place values that all processes have on the devices, with these shardings."""

    def place(value: Any, where: Any) -> Any:
        host = np.asarray(value)
        return jax.make_array_from_callback(host.shape, where, host.__getitem__)

    return jax.tree.map(place, params, shardings)
