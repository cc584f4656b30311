"""Adapters of trained networks: merging those of files and runs, and writing files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from diffjax import builder
from diffjax.checks import finite
from diffjax.config import ConfigError
from diffjax.io.contents import Contents
from diffjax.io.writing import writing
from diffjax.nets import Adapted
from diffjax.nets.adapters import PARAMS
from diffjax.published.adapters import FORMATS, Change, fitted, opened
from diffjax.published.adapting import changes_of, modules, weights
from diffjax.published.adapting import merged as merge
from diffjax.published.adapting import patched as patch
from diffjax.training.workdir import check_empty, is_run

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained

Adapters = str | Path | Sequence[str | Path] | Mapping[Any, float]
"""The path of an adapter, several paths, or the weight of each path."""
Opened = Sequence[tuple[Path, dict[str, Change], float]]
"""The path of each adapter, its changes by the names of modules, and its weight."""


def read(adapters: Adapters) -> Opened:
    """Read adapters: files, folders of PEFT, and runs or exports with an adapter.

    Raises ConfigError for a path that holds no adapter, and for a weight that is not finite.

    >>> read("nowhere.safetensors")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: adapters: nowhere.safetensors: ...
    """
    found = []
    for path, weight in weighted(adapters).items():
        refuse = builder.refuse("adapters")
        refuse(finite)(**{f"weight of {path}": weight})
        changes = of_run(path) if path.exists() and is_run(path) else refuse(opened)(path)
        found.append((path, changes, float(weight)))
    return found


def weighted(adapters: Adapters) -> dict[Path, float]:
    """Return the weight of each path, 1 by default.

    >>> weighted(["style.safetensors"])
    {PosixPath('style.safetensors'): 1.0}
    """
    if isinstance(adapters, str | Path):
        adapters = [adapters]
    if not isinstance(adapters, Mapping):
        adapters = dict.fromkeys(adapters, 1.0)
    return {Path(path): weight for path, weight in adapters.items()}


def of_run(path: Path) -> dict[str, Change]:
    """Return the changes that the adapter of a run makes; raise ConfigError where it has none."""
    from diffjax.runs.trained import load

    return changes(load(path), f"adapters: {path}")


def changes(trained: Trained, place: str) -> dict[str, Change]:
    """Return the changes of the adapter of a network, by the names of modules.

    place: what the user asked for, in the ConfigError for a network without an adapter.
    """
    network = trained.experiment.model.network
    if not isinstance(network, Adapted):
        raise ConfigError(f"{place}: has no adapter; needs a run with config.adapter, or a file")
    return changes_of(network, jax.device_get(trained.denoise.params["network"]))


def merged(trained: Trained) -> Trained:
    """Return the network with its own adapter merged into its kernels, and without it.

    A network without an adapter is returned unchanged.
    """
    network = trained.experiment.model.network
    if not isinstance(network, Adapted):
        return trained
    config = {k: v for k, v in trained.config.items() if k != PARAMS}
    experiment = builder.experiment(config, trained.experiment.form)
    params = trained.denoise.params
    params = {**params, "network": network.merge(params["network"])}
    denoise = experiment.denoiser(params)
    return dataclasses.replace(trained, denoise=denoise, experiment=experiment)


def with_adapters(trained: Trained, adapters: Opened) -> Trained:
    """Return the network with adapters merged into its kernels, after its own one.

    Each adapter changes the kernels by its weight times the change that it alone makes. Raises
    ConfigError for an adapter that does not fit the network.
    """
    if not adapters:
        return trained
    trained = merged(trained)
    network, params = trained.experiment.model.network, dict(trained.denoise.params)
    known = modules(params["network"], network.stacks)
    for path, found, _ in adapters:
        builder.refuse(f"adapters: {path}")(fitted)(found, known)
    base, chosen = jax.device_get(params["network"]), [(each, w) for _, each, w in adapters]
    moved = builder.refuse("adapters")(merge)(network, base, chosen)
    params["network"] = jax.tree.map(jnp.asarray, moved)
    denoise = trained.experiment.denoiser(params)
    return dataclasses.replace(trained, denoise=denoise, notes=trained.notes + notes(adapters))


def notes(adapters: Opened) -> tuple[str, ...]:
    """Return a line for each adapter that was merged."""
    return tuple(f"{path}: adapter merged with weight {w:g}" for path, _, w in adapters)


def patched(contents: Contents, adapters: Opened) -> Contents:
    """Return the contents of a published network with adapters merged into its tensors.

    They are those of files with the names of the published network. Raises ConfigError for an
    adapter that does not fit.
    """
    if not adapters:
        return contents
    known = weights(contents.tensors)
    for path, found, _ in adapters:
        builder.refuse(f"adapters: {path}")(fitted)(found, known)
    chosen = [(each, w) for _, each, w in adapters]
    tensors = builder.refuse("adapters")(patch)(contents.tensors, chosen)
    return contents._replace(tensors=tensors)


def write(trained: Trained, form: str, out: Path) -> Path:
    """Write the adapter of a network to a new folder, and return the path of its file.

    form: peft, diffusers or kohya. Raises ConfigError for a network without an adapter, for an
    adapter that the format cannot hold, and for a folder that is not empty.
    """
    written = builder.lookup(FORMATS, form, "--format")
    part = "transformer" if trained.config["network"]["name"] == "dit" else "unet"
    file = builder.refuse(f"--format={form}")(written)(changes(trained, f"--format={form}"), part)
    check_empty(out)
    with writing(f"--out={out}"):
        file.save(out)
    return out / file.file
