"""Controls of runs and files beside other networks, maps of images, and the rows of a control."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder
from diffjax.arrays import Params
from diffjax.config import ConfigError
from diffjax.data.maps import computed
from diffjax.denoiser import Denoiser
from diffjax.nets import Controlled
from diffjax.nets.adapted import PARAMS
from diffjax.runs.starts import stored
from diffjax.samplers.plan import Plan, Sampling
from diffjax.specs import Spec
from diffjax.training.experiment import Experiment
from diffjax.training.workdir import check_weights

if TYPE_CHECKING:
    from diffjax.runs.trained import Trained


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


def with_control(
    trained: Trained,
    branch: Branch,
    place: str,
    weight: float = 1.0,
    interval: tuple[float, ...] = (),
) -> Trained:
    """Return the network with one more control.

    place: where the control is from, in errors. weight: a factor on its scale. interval: its start
    and end, () for its own. Raises ConfigError for a control that does not fit the network, and for
    one whose condition the network has already.
    """
    form, name = trained.experiment.form, branch.spec.name
    if name in form.names:
        raise ConfigError(f"{place}: the network has a condition {name!r} already")
    section = branch.section | {"scale": branch.section.get("scale", 1.0) * weight}
    section |= dict(zip(("start", "end"), interval, strict=False))
    old = builder.adapter_sections(trained.config)
    names = {at.rpartition(".")[2]: dict(section) for at, section in old.items()}
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


def within(denoise: Denoiser, plan: Sampling) -> Denoiser:
    """Return the denoiser whose controls act in the rows of a plan that their settings say.

    Raises ConfigError for controls that act in some rows only where a plan has no rows.
    """
    network = denoise.model.network
    if not isinstance(network, Controlled):
        return denoise
    if not isinstance(plan, Plan):
        if late := [c.condition for c in network.controls if (c.start, c.end) != (0, 1)]:
            raise ConfigError(
                f"config.adapter: {late[0]}: start and end are shares of the rows of a table; "
                f"{plan.tableless}; allowed: 0 and 1, or another sampler"
            )
        return denoise
    t = jnp.asarray(plan.table.t)
    labels = np.asarray(denoise.model.parameterization.c_noise(denoise.sde, t))
    model = dataclasses.replace(denoise.model, network=network.within(labels.tolist()))
    return dataclasses.replace(denoise, model=model)


def mapped(experiment: Experiment, cond: Mapping[str, Any], images: Any) -> dict[str, Any]:
    """Return the requested conditions with the maps of images, (K, H, W, k) each.

    images: stored images (K, *shape), or their path, as `runs.starts.stored` reads them; None for
    no maps. Raises ConfigError for a network that takes no such map, and for a condition that is
    set twice.
    """
    if images is None:
        return dict(cond)
    form, texts = experiment.form, tuple(experiment.config["data"].get("maps", ()))
    maps = builder.construct_maps(texts, "config.data.maps")
    if not (taken := [name for name in maps if name in form.names]):
        raise ConfigError(
            "--control: the network takes no map of images (config.data.maps); allowed: "
            "--cond=NAME=FILE"
        )
    if twice := [name for name in taken if name in cond]:
        raise ConfigError(f"--control: --cond={twice[0]} sets it too; allowed: only one of them")
    x = stored(images, form.stored, "--control")
    found = computed({name: maps[name] for name in taken}, x, form.stored)
    return {**cond, **form.read(found)}
