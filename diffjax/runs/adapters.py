"""Adapters of trained networks: merging those of files and runs, and writing files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

from diffjax import builder
from diffjax.checks import finite
from diffjax.config import ConfigError, parse
from diffjax.encoders import ENCODERS
from diffjax.encoders.pretrained import FAMILIES, part_of
from diffjax.io.contents import Contents
from diffjax.io.reading import read as tensors_in
from diffjax.io.writing import writing
from diffjax.nets import Adapted, Controlled
from diffjax.nets.adapted import PARAMS
from diffjax.published import adapters as files
from diffjax.published import controls
from diffjax.published import vectors as of_words
from diffjax.published.adapter_files import FORMATS
from diffjax.published.adapters import Change, fitted
from diffjax.published.adapting import changes_of, modules, weights
from diffjax.published.adapting import merged as merge
from diffjax.published.adapting import patched as patch
from diffjax.published.vectors import Vectors
from diffjax.runs.controls import Branch, branches, with_control
from diffjax.runs.words import taught, vectors_of
from diffjax.training.workdir import check_empty, is_run

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained

Adapters = str | Path | Sequence[str | Path] | Mapping[Any, float | Sequence[float]]
"""The path of an adapter, several paths, or the weight of each path; of a control also
(weight, start, end)."""


class Stored(NamedTuple):
    """The contents of an adapter.

    changes: of kernels, by the names of modules. vectors: of words and classes, by name. encoders:
    the parts of a pipeline, such as `text_encoder`, that a file changes as well. branches: the
    controls that stand beside a network, in place of all others.
    """

    changes: Mapping[str, Change]
    vectors: Vectors
    encoders: frozenset[str] = frozenset()
    branches: tuple[Branch, ...] = ()


class Opened(NamedTuple):
    """An adapter: its path, its contents and its weight.

    interval: of a control, the shares of the rows of a sampler between which it acts, if given.
    """

    path: Path
    stored: Stored
    weight: float
    interval: tuple[float, ...] = ()


def read(adapters: Adapters) -> list[Opened]:
    """Read adapters: files, folders of PEFT, and runs or exports with an adapter or a control.

    Raises ConfigError for a path that holds none, for a weight that is not finite, and for an
    interval of an adapter that is not a control.

    >>> read("nowhere.safetensors")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: adapters: nowhere.safetensors: ...
    """
    found, refuse = [], builder.refuse("adapters")
    for path, (weight, *interval) in weighted(adapters).items():
        refuse(finite)(**{f"weight of {path}": weight})
        stored = of_run(path) if path.exists() and is_run(path) else refuse(of_file)(path)
        if interval and not stored.branches:
            raise ConfigError(
                f"adapters: {path}: is merged into parameters for all times; only a control takes "
                f"START,END"
            )
        found.append(Opened(path, stored, float(weight), tuple(map(float, interval))))
    return found


def weighted(adapters: Adapters) -> dict[Path, tuple[float, ...]]:
    """Return the weight of each path, 1 by default, and its interval where there is one.

    >>> weighted(["style.safetensors"]), weighted({"edges": (0.8, 0, 0.5)})
    ({PosixPath('style.safetensors'): (1.0,)}, {PosixPath('edges'): (0.8, 0, 0.5)})
    """
    if isinstance(adapters, str | Path):
        adapters = [adapters]
    if not isinstance(adapters, Mapping):
        adapters = dict.fromkeys(adapters, 1.0)
    pairs = {Path(path): weight for path, weight in adapters.items()}
    return {path: tuple(w) if isinstance(w, Sequence) else (w,) for path, w in pairs.items()}


def of_file(path: Path) -> Stored:
    """Return the contents of a file, or of a folder of PEFT or of a published control.

    Raises ValueError for another one.
    """
    if control := controls.opened(path):
        return Stored({}, {}, branches=(Branch(*control),))
    if vectors := of_words.opened(path):
        return Stored({}, vectors)
    parts = files.parts(tensors_in(path).tensors)
    encoders = frozenset(parts - {files.NETWORK, ""})
    changes = {} if encoders == parts else files.opened(path)
    return Stored(changes, {}, encoders)


def of_run(path: Path) -> Stored:
    """Return the adapter or the controls of a run; raise ConfigError where it has neither."""
    from diffjax.runs.trained import load

    return contents(load(path), f"adapters: {path}")


def contents(trained: Trained, place: str) -> Stored:
    """Return the adapter or the controls of a network.

    place: what the user asked for, in the ConfigError for a network without an adapter.
    """
    network = trained.experiment.model.network
    if isinstance(network, Controlled):
        return Stored({}, {}, branches=branches(trained))
    if not isinstance(network, Adapted):
        raise ConfigError(f"{place}: has no adapter; needs a run with config.adapter, or a file")
    params = jax.device_get(trained.denoise.params["network"])
    vectors = vectors_of(network, params, trained.experiment.form)
    return Stored(changes_of(network, params), vectors)


def merged(trained: Trained) -> Trained:
    """Return the network with its own adapter merged into its parameters, and without it.

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


def with_adapters(trained: Trained, adapters: Sequence[Opened]) -> Trained:
    """Return the network with adapters merged into its parameters, after its own one, and controls.

    Each adapter changes the kernels by its weight times the change that it alone makes, and the
    vectors of words and classes likewise; words that the network lacks are added to its
    vocabulary. A file that changes the encoder of the captions too becomes the adapter of that
    encoder. Controls stand beside those that the network has. Raises ConfigError for an adapter or
    a control that does not fit the network.
    """
    if not adapters:
        return trained
    trained = with_changes(merged(trained), [each for each in adapters if each.stored.changes])
    for each in adapters:
        refuse = builder.refuse(f"adapters: {each.path}")
        if each.stored.vectors:
            trained = refuse(taught)(trained, each.stored.vectors, each.weight)
        if each.stored.encoders:
            trained = refuse(encoded)(trained, each)
    for each in adapters:
        for branch in each.stored.branches:
            place = f"adapters: {each.path}"
            trained = with_control(trained, branch, place, each.weight, each.interval)
    return dataclasses.replace(trained, notes=(*trained.notes, *map(adding, adapters)))


def with_changes(trained: Trained, adapters: Sequence[Opened]) -> Trained:
    """Return the network with the changes of adapters merged into its kernels."""
    if not adapters:
        return trained
    network, params = trained.experiment.model.network, dict(trained.denoise.params)
    known = modules(params["network"], network.stacks)
    for each in adapters:
        builder.refuse(f"adapters: {each.path}")(fitted)(each.stored.changes, known)
    base = jax.device_get(params["network"])
    chosen = [(each.stored.changes, each.weight) for each in adapters]
    moved = builder.refuse("adapters")(merge)(network, base, chosen)
    params["network"] = jax.tree.map(jnp.asarray, moved)
    return dataclasses.replace(trained, denoise=trained.experiment.denoiser(params))


def encoded(trained: Trained, adapter: Opened) -> Trained:
    """Return the network with a file as the adapter of the encoder of its captions.

    Where the encoder takes none, a note states what was left out; raises ValueError where that is
    the whole file.
    """
    section = trained.config["data"]
    text = section.get("encoder", "")
    about = parse(text) if text else {}
    takes = about.get("name") in FAMILIES and not about.get("adapter")
    part = part_of(Path(str(about.get("path", ""))))
    if takes and part in adapter.stored.encoders:
        text = f"{text},adapter={adapter.path},adapter_weight={adapter.weight:g}"
        config = {**trained.config, "data": {**section, "encoder": text}}
        experiment = builder.experiment(config, trained.experiment.form)
        denoise = experiment.denoiser(trained.denoise.params)
        trained = dataclasses.replace(trained, experiment=experiment, denoise=denoise)
        left = adapter.stored.encoders - {part}
    else:
        left = adapter.stored.encoders
    if left == adapter.stored.encoders and not adapter.stored.changes:
        known = ", ".join(k for k in ENCODERS if k in FAMILIES)
        raise ValueError(
            f"changes {', '.join(sorted(left))} alone, and config.data.encoder={text!r} is none of "
            f"{known} without an adapter"
        )
    lines = (f"{adapter.path}: not used: its adapter of the {name}" for name in sorted(left))
    return dataclasses.replace(trained, notes=(*trained.notes, *lines))


def adding(adapter: Opened) -> str:
    """Return a line that states an adapter was merged, or a control was added."""
    done = "control added" if adapter.stored.branches else "adapter merged"
    return f"{adapter.path}: {done} with weight {adapter.weight:g}"


def notes(adapters: Sequence[Opened]) -> tuple[str, ...]:
    """Return a line for each adapter that was merged, and for each part that was not."""
    lines = []
    for each in adapters:
        lines.append(adding(each))
        left = sorted(each.stored.encoders)
        lines += [f"{each.path}: not used: its adapter of the {name}" for name in left]
    return tuple(lines)


def patched(contents: Contents, adapters: Sequence[Opened]) -> Contents:
    """Return the contents of a published network with adapters merged into its tensors.

    They are those of files with the names of the published network, and no controls. Raises
    ConfigError for an adapter that does not fit.
    """
    if not adapters:
        return contents
    known = weights(contents.tensors)
    for each in adapters:
        if not each.stored.changes:
            has = "learned vectors" if each.stored.vectors else "an adapter of a text encoder"
            raise ConfigError(f"adapters: {each.path}: holds {has}; needs one of the network")
        builder.refuse(f"adapters: {each.path}")(fitted)(each.stored.changes, known)
    chosen = [(each.stored.changes, each.weight) for each in adapters]
    tensors = builder.refuse("adapters")(patch)(contents.tensors, chosen)
    return contents._replace(tensors=tensors)


def write(trained: Trained, form: str, out: Path) -> list[Path]:
    """Write the adapter of a network to a new folder, and return the paths of its files.

    form: peft, diffusers or kohya. Raises ConfigError for a network without an adapter, for an
    adapter that the format cannot hold, and for a folder that is not empty.
    """
    written = builder.lookup(FORMATS, form, "--format")
    part = "transformer" if trained.config["network"]["name"] == "dit" else "unet"
    own, refuse = contents(trained, f"--format={form}"), builder.refuse(f"--format={form}")
    if own.branches:
        raise ConfigError(f"--format={form}: holds controls alone; leave --format out to export")
    file = refuse(written)(own.changes, part) if own.changes else None
    check_empty(out)
    with writing(f"--out={out}"):
        paths = refuse(of_words.save)(out, form, own.vectors) if own.vectors else []
        if file:
            file.save(out)
    return [*paths, *([out / file.file] if file else [])]
