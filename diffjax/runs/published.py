"""Published checkpoints: their contents, family and a complete config."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.form import Form, labelled
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.published import FAMILIES, Converted, Family, recognised


def opened(path: Path, family: str = "") -> tuple[Contents, str]:
    """Open a published checkpoint and return its contents and its family.

    family: a name in `published.FAMILIES`, by default the one that recognises the tensors. Raises
    ConfigError for an unreadable checkpoint, and for an unknown family.

    >>> opened(Path("nowhere.pt"))
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: nowhere.pt: ...
    """
    try:
        contents = read(path)
    except ValueError as error:  # its message names the file
        raise ConfigError(str(error)) from error
    family = family or builder.refuse(str(path))(recognised)(contents)
    known_family(family)
    return contents, family


def check_published(path: Path, entries: Mapping[str, Any], sampling: Mapping[str, Any]) -> None:
    """Raise ConfigError for what a published checkpoint does not leave open.

    entries: objects in place of sections of its config. sampling: fields of config.sampling.

    >>> check_published(Path("net.pt"), {}, {"ema": "raw"})
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: ema=raw: net.pt holds only one set of weights; ...
    """
    if entries:
        (section, *_) = entries
        raise ConfigError(f"{path}: is a published checkpoint, which has its own {section}")
    if "ema" in sampling:
        raise ConfigError(
            f"ema={sampling['ema']}: {path} holds only one set of weights; leave ema out"
        )


def known_family(name: str) -> Family:
    """Return an entry of `published.FAMILIES`, or your own family from `module:FAMILY`.

    Raises ConfigError for an unknown name.

    >>> known_family("edm2").knows is not None
    True
    """
    return builder.lookup(FAMILIES, name, "family", Family)


def completed(converted: Converted) -> dict[str, Any]:
    """Return a complete config: sections of the checkpoint, and defaults to train it further.

    >>> converted = Converted({"network": {"name": "unet"}}, (32, 32, 3), 10, {})
    >>> sections = completed(converted)
    >>> sections["network"], sections["loss"]["condition_dropout"]
    ({'name': 'unet'}, 0.1)
    """
    two = bool(converted.config["network"].get("learn_variance"))
    enlarges = "enlarged" in converted.config.get("data", {})  # never without the smaller image
    dropped = {"label": 0.1} if enlarges else 0.1
    return {
        "seed": 0,
        "data": {"name": {"latent": "latents:latents"}.get(converted.kind, "folder:images")}
        | {"labels": bool(converted.classes)}
        | {"conditions": [spec.name for spec in converted.conditions]},
        "loss": {
            "weight": {"name": "uniform_output"},
            "condition_dropout": dropped if converted.classes else 0.0,
            "hybrid": 0.001 if two else 0.0,
        },
        "optimizer": {"name": "adamw", "learning_rate": 1e-4},
        "ema": {"name": "constant", "decay": 0.9999},
        "train": {},
        **converted.config,
    }


def form_of(converted: Converted, path: Path) -> Form:
    """Return the form of the data of a converted network, also of those that an encoder makes.

    Raises ConfigError for an encoder whose conditions are not those of the network.
    """
    form = builder.refuse(str(path))(labelled)(converted.kind, converted.shape, converted.classes)
    form = dataclasses.replace(form, conditions=(*form.conditions, *converted.conditions))
    text = converted.config.get("data", {}).get("encoder", "")
    if not text:
        return form
    encoder = builder.construct_encoder(text, (), str(path))
    if {*encoder.specs} != {*converted.conditions}:
        makes, takes = ([*map(str, specs)] for specs in (encoder.specs, converted.conditions))
        raise ConfigError(f"{path}: its texts become {makes}; the network takes {takes}")
    names = tuple(spec.name for spec in encoder.specs)
    return dataclasses.replace(form, texts=names, encoder=encoder.fingerprint)
