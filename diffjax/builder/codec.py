"""Construction of a codec from a text: a published autoencoder, a run, or a function."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from diffjax import codecs, zoo
from diffjax.builder.construct import call, instance, lookup, refuse
from diffjax.codecs import Codec, Decoding, Normalisation
from diffjax.config import ConfigError, arguments, checked, known
from diffjax.data.form import Form
from diffjax.files import reason
from diffjax.io.trees import fingerprint
from diffjax.nets.autoencoder import Autoencoder

RULE = "codec.json"
"""The file of an autoencoder's run or export that states the normalisation of its latents."""
Stamps = tuple[tuple[str, int, int], ...]


def construct_decoding(text: str, form: Form, place: str) -> Decoding:
    """Return the step from samples of this form to stored items, by the codec that `text` names.

    text: see `construct_codec`; "" for no codec. Raises ConfigError for a codec that does not exist
    or does not fit the samples.

    >>> construct_decoding("pixels", Form("latent", (8, 8, 3)), "config.data.codec").stored.kind
    'image'
    """
    codec = construct_codec(text, place) if text else None
    return refuse(f"{place}={text}")(Decoding)(form, codec)


def construct_codec(text: str, place: str) -> Codec:
    """Return the codec that a text names, loaded again only after its files have changed.

    text: the file or folder of a published autoencoder or the word `pixels` (`codecs.load`), the
    folder of a run or an export of one, `zoo:NAME` for an entry of the zoo, or `module:function`
    for a function that returns a codec. Settings may follow, as in `PATH,rule=edm2` or
    `RUN,ema=raw`. Raises ConfigError for a text that names none of them.

    >>> construct_codec("runs/nowhere", "--codec")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --codec=runs/nowhere: ...
    """
    name, _, settings = text.partition(",")
    path = _path(name, place)
    if re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name) and not path.exists():
        function, place = lookup({}, name, place), f"{place}={name}"
        codec = instance(call(function, arguments(settings, text), place), Codec, place)
        mark = codec.fingerprint or fingerprint(text, (codec.params, codec.normalisation))
        return dataclasses.replace(codec, fingerprint=mark)
    if not path.exists() and name not in codecs.CODECS:
        raise ConfigError(
            f"{place}={name}: no such file or folder; needs a published autoencoder, a run or an "
            f"export of one, zoo:NAME, MODULE:FUNCTION, or the word pixels"
        )
    try:
        return _loaded(text, _stamps(path))
    except ConfigError as error:
        raise ConfigError(f"{place}={error}") from error


def _path(name: str, place: str) -> Path:
    """Return the path that the name of a codec stands for."""
    try:
        return zoo.found(name).expanduser()
    except ConfigError as error:
        raise ConfigError(f"{place}={error}") from error


def _stamps(path: Path) -> Stamps:
    """Return names, times of change and sizes of a file, or of the files of a folder."""
    files = [file for file in (path, *sorted(path.rglob("*"))) if file.exists()]
    stats = ((str(file), file.stat()) for file in files)
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@functools.lru_cache(maxsize=1)  # an experiment is built several times, with one codec
def _loaded(text: str, stamps: Stamps) -> Codec:
    from diffjax.training.workdir import is_run

    name, _, settings = text.partition(",")
    if is_run(zoo.found(name).expanduser()):
        return call(of_run, arguments(settings, text), name, run=name)
    load = call(codecs.load, arguments(settings, text), name, partial=True)
    try:
        return load(name)
    except ValueError as error:  # its message names the path
        raise ConfigError(str(error)) from error


def of_run(run: str, ema: str = "") -> Codec:
    """Return the autoencoder in the folder of a run or an export, with the rule of its latents.

    run: the folder, or `zoo:NAME` for an entry of the zoo. ema: the average of its parameters, by
    default that of its config. Raises ConfigError for a run of another network, and for one without
    codec.json, which training writes at its end.
    """
    from diffjax import builder
    from diffjax.training.workdir import load_weights, read_config, read_form

    path = zoo.found(run).expanduser()
    config = read_config(path)
    if ema:
        config["sampling"] = {**config["sampling"], "ema": ema}
    experiment = builder.experiment(config, read_form(path))
    network = experiment.model.network
    if not isinstance(network, Autoencoder):
        name = config["network"]["name"]
        raise ConfigError(f"{run}: is a run of the network {name}; needs an autoencoder")
    step, params, average = load_weights(experiment, path)
    rule = read_rule(path / RULE, network.latent)
    return Codec(
        params["network"],
        Normalisation(**rule),
        network=network,
        fingerprint=fingerprint("", (rule, params["network"])),
        about=f"{run}, step {step}, ema {average or '-'}",
    )


def read_rule(file: Path, channels: int) -> dict[str, Any]:
    """Return the arguments of the `Normalisation` in a file: centre, scale and std.

    channels: the number of channels of a latent. Raises ConfigError for anything but finite
    numbers, one or one for each channel, with a scale and std other than 0.
    """
    try:
        rule: dict[str, Any] = json.loads(file.read_text())
        known(rule, ("centre", "scale", "std"), str(file))
    except FileNotFoundError:
        raise ConfigError(
            f"{file}: is missing: the deviation of the latents is unknown; the run writes it when "
            f"its training is complete"
        ) from None
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({reason(error)})") from error
    for name, value in rule.items():
        place = f"{file}: {name}"
        numbers = value if isinstance(value, list) else [value]
        each = [checked(number, float, place) for number in numbers]
        if len(each) not in (1, channels) or (name == "std" and isinstance(value, list)):
            raise ConfigError(f"{place}: holds {len(each)} numbers; needs 1 or {channels}")
        if not all(abs(n) < float("inf") and (n or name == "centre") for n in each):
            raise ConfigError(f"{place}={value}: needs finite numbers, and no deviation of 0")
    return {k: jnp.asarray(v) if isinstance(v, list) else float(v) for k, v in rule.items()}
