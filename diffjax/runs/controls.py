"""Controls in sampling: the maps of given images, and the rows in which a control acts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.denoiser import Denoiser
from diffjax.nets import Controlled
from diffjax.runs.starts import stored
from diffjax.samplers.plan import Plan, Sampling
from diffjax.training.experiment import Experiment


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
                f"config.adapter: {late[0]}: start and end are shares of the rows, and the sampler "
                f"adaptive has none; allowed: 0 and 1, or the other samplers"
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
    x = np.asarray(form.items.normalise(stored(images, form, "--control")), np.float32)
    return {**cond, **{name: np.asarray(maps[name](x)) for name in taken}}
