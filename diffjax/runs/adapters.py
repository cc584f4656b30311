"""Adapters of trained networks: merging those of files and runs, and writing files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from diffjax import builder
from diffjax.arrays import Params
from diffjax.checks import finite
from diffjax.config import ConfigError
from diffjax.io.contents import Contents
from diffjax.io.writing import writing
from diffjax.nets import Adapted, Controlled
from diffjax.nets.adapters import PARAMS
from diffjax.published import controls
from diffjax.published.adapters import FORMATS, Change, fitted, opened
from diffjax.published.adapting import changes_of, modules, weights
from diffjax.published.adapting import merged as merge
from diffjax.published.adapting import patched as patch
from diffjax.specs import Spec
from diffjax.training.workdir import check_empty, check_weights, is_run

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained

Adapters = str | Path | Sequence[str | Path] | Mapping[Any, float | Sequence[float]]
"""The path of an adapter, several paths, or the weight of each path; of a control also
(weight, start, end)."""


class Branch(NamedTuple):
    """The control of a run or of a file.

    section: its settings, as in config.adapter. spec: the condition that it reads. params: a
    function from the parameters of the base, its settings and the side of its items to its own.
    maps: the entry of config.data.maps that makes the condition of images, "" for none.
    """

    section: dict[str, Any]
    spec: Spec
    params: Callable[[Params, Mapping[str, Any], int], Params]
    maps: str = ""


class Read(NamedTuple):
    """An adapter as it was read: its path, weight, and interval of the rows of a sampler.

    content: the changes of an adapter by the names of modules, or the controls of a network.
    """

    path: Path
    content: dict[str, Change] | tuple[Branch, ...]
    weight: float
    interval: tuple[float, ...] = ()


Opened = Sequence[Read]


def read(adapters: Adapters) -> Opened:
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
        content = of_run(path) if path.exists() and is_run(path) else refuse(of_files)(path)
        if interval and isinstance(content, dict):
            raise ConfigError(
                f"adapters: {path}: is merged into kernels for all times; only a control takes "
                f"START,END"
            )
        found.append(Read(path, content, float(weight), tuple(map(float, interval))))
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


def of_run(path: Path) -> dict[str, Change] | tuple[Branch, ...]:
    """Return the changes of the adapter of a run, or its controls.

    Raises ConfigError where it has neither.
    """
    from diffjax.runs.trained import load

    trained = load(path)
    network = trained.experiment.model.network
    if isinstance(network, Controlled):
        return branches(trained)
    return changes(trained, f"adapters: {path}")


def of_files(path: Path) -> dict[str, Change] | tuple[Branch, ...]:
    """Return the changes of an adapter in files, or a published control."""
    found = controls.opened(path)
    return opened(path) if found is None else (Branch(*found),)


def branches(trained: Trained) -> tuple[Branch, ...]:
    """Return the controls of a network, in the order of the config."""
    own = trained.denoise.params["network"][PARAMS]
    specs = {spec.name: spec for spec in trained.experiment.form.conditions}
    maps = {text.partition(":")[0]: text for text in trained.config["data"].get("maps", ())}
    sections, found = builder.adapter_sections(trained.config), []
    for name, place in builder.controlled_by(trained.config).items():
        params = lambda *_, name=name: own[name]
        found.append(Branch(dict(sections[place]), specs[name], params, maps.get(name, "")))
    return tuple(found)


def changes(trained: Trained, place: str) -> dict[str, Change]:
    """Return the changes of the adapter of a network, by the names of modules.

    place: what the user asked for, in the ConfigError for a network without an adapter.
    """
    network = trained.experiment.model.network
    if not isinstance(network, Adapted):
        raise ConfigError(
            f"{place}: has no adapter of kernels; needs a run with config.adapter, or a file"
        )
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
    """Return the network with adapters merged into its kernels, after its own one, and controls.

    Each adapter changes the kernels by its weight times the change that it alone makes. Controls
    stand beside those that the network has. Raises ConfigError for an adapter or a control that
    does not fit the network.
    """
    if not adapters:
        return trained
    trained = with_changes(trained, [each for each in adapters if isinstance(each.content, dict)])
    for each in adapters:
        for branch in each.content if isinstance(each.content, tuple) else ():
            trained = with_control(trained, branch, each)
    return dataclasses.replace(trained, notes=trained.notes + notes(adapters))


def with_changes(trained: Trained, adapters: Opened) -> Trained:
    """Return the network with adapters merged into its kernels, after its own one."""
    trained = merged(trained)
    network, params = trained.experiment.model.network, dict(trained.denoise.params)
    known = modules(params["network"], network.stacks)
    chosen = [(cast(dict[str, Change], each.content), each.weight) for each in adapters]
    for each, (changes, _) in zip(adapters, chosen, strict=True):
        builder.refuse(f"adapters: {each.path}")(fitted)(changes, known)
    base = jax.device_get(params["network"])
    moved = builder.refuse("adapters")(merge)(network, base, chosen)
    params["network"] = jax.tree.map(jnp.asarray, moved)
    denoise = trained.experiment.denoiser(params)
    return dataclasses.replace(trained, denoise=denoise)


def with_control(trained: Trained, branch: Branch, read: Read) -> Trained:
    """Return the network with one more control.

    Raises ConfigError for a control that does not fit the network, and for one whose condition the
    network has already.
    """
    form, place, name = trained.experiment.form, f"adapters: {read.path}", branch.spec.name
    if name in form.names:
        raise ConfigError(f"{place}: the network has a condition {name!r} already")
    old = builder.adapter_sections(trained.config)
    names = {at.rpartition(".")[2]: dict(section) for at, section in old.items()}
    section = branch.section | {"scale": branch.section.get("scale", 1.0) * read.weight}
    section |= dict(zip(("start", "end"), read.interval, strict=False))
    if [*old] == [builder.ADAPTER]:
        names = {names[PARAMS]["condition"]: names[PARAMS]}
    data = trained.config["data"]
    maps = (*data.get("maps", ()), *([branch.maps] if branch.maps else []))
    config = {**trained.config, "data": {**data, "maps": maps}, PARAMS: {**names, name: section}}
    form = dataclasses.replace(form, conditions=(*form.conditions, branch.spec))
    network, make = dict(trained.denoise.params["network"]), builder.refuse(place)(branch.params)
    own = {**network.pop(PARAMS, {}), name: make(network, trained.config["network"], form.shape[0])}
    params = {**trained.denoise.params, "network": {**network, PARAMS: own}}
    experiment = builder.refuse(place)(builder.experiment)(config, form)
    builder.refuse(place)(check_weights)(experiment, params)
    params = jax.tree.map(jnp.asarray, params)
    return dataclasses.replace(trained, denoise=experiment.denoiser(params), experiment=experiment)


def notes(adapters: Opened) -> tuple[str, ...]:
    """Return a line for each adapter that was merged, and for each control that was added."""
    done = lambda each: "merged" if isinstance(each.content, dict) else "control added"
    kind = lambda each: "adapter " if isinstance(each.content, dict) else ""
    return tuple(f"{e.path}: {kind(e)}{done(e)} with weight {e.weight:g}" for e in adapters)


def patched(contents: Contents, adapters: Opened) -> tuple[Contents, Opened]:
    """Return the contents of a published network with adapters merged, and the controls.

    The adapters are merged into its tensors, and have the names of the published network. Raises
    ConfigError for an adapter that does not fit.
    """
    changes = [each for each in adapters if isinstance(each.content, dict)]
    beside = [each for each in adapters if each not in changes]
    if not changes:
        return contents, beside
    known = weights(contents.tensors)
    chosen = [(cast(dict[str, Change], each.content), each.weight) for each in changes]
    for each, (found, _) in zip(changes, chosen, strict=True):
        builder.refuse(f"adapters: {each.path}")(fitted)(found, known)
    tensors = builder.refuse("adapters")(patch)(contents.tensors, chosen)
    return contents._replace(tensors=tensors), beside


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
