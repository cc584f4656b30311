"""Changes of the config of a trained network: other settings of sampling, another codec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffjax.builder.guidance import merged
from diffjax.config import Config, named, written

ENTRIES = ("sampler", "grid", "corrector", "lanes")
"""Fields of config.sampling that may be written as `name:argument=value`."""


def replaced(config: Config, sampling: Config | None) -> dict[str, Any]:
    """Return the config with other fields in config.sampling and in its guidance.

    Entries may be written as `name:argument=value`, or be functions. Each entry replaces the
    previous one together with all its settings.

    >>> replaced({"sampling": {"steps": 50}}, {"sampler": "ddim:eta=0.5"})
    {'sampling': {'steps': 50, 'sampler': {'name': 'ddim', 'eta': 0.5}}}
    """
    changes: Config = written(sampling or {}, "sampling")
    base, section = config.get("sampling", {}), named(changes, *ENTRIES)
    if isinstance(guidance := section.get("guidance"), Mapping):
        guidance = named(guidance, "reference", "rule", "threshold")
    if guidance is not None:
        section["guidance"] = merged(base.get("guidance", 1.0), guidance)
    return {**config, "sampling": {**base, **section}}


def coded(config: Config, codec: str) -> dict[str, Any]:
    """Return the config with another codec of the data; "" keeps that of the config.

    >>> coded({"data": {"name": "latents:a"}}, "vae")
    {'data': {'name': 'latents:a', 'codec': 'vae'}}
    """
    return {**config, "data": {**config["data"], "codec": codec}} if codec else dict(config)
