"""Construction of a data source and of the settings of reading from config.data."""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable
from typing import Any

from diffjax.builder.construct import call, construct, fields, instance, lookup, refuse
from diffjax.builder.encoder import described
from diffjax.builder.maps import mapped
from diffjax.config import Config, ConfigError, arguments, literal
from diffjax.data import AUGMENTATIONS, SOURCES, Reading, Source
from diffjax.data.enlarged import Enlarged, Reduced, Resized
from diffjax.data.excited import excited
from diffjax.data.hidden import Concealed, Hidden

CHANGES: dict[str, Callable[..., Any]] = {
    "reduced": Reduced,
    "enlarged": Enlarged,
    "hidden": Hidden,
}
"""Settings of reading that change sizes, or add conditions computed from the items."""


def construct_data(
    spec: Config, place: str, opened: bool = True
) -> tuple[Callable[[str], Source], Reading]:
    """Return `split -> Source`, which opens each split once, and the settings of reading.

    The text after a colon in the name is the first setting of the source: `folder:PATH`. opened:
    True if the source is certain to be opened; otherwise a user-defined source that cannot be
    imported is refused only on opening, since a run can be sampled without its data. Raises
    ConfigError for unknown names and bad settings.

    >>> source, reading = construct_data({"name": "moons", "size": 10, "labels": True}, "data")
    >>> source("train"), reading.labels
    (Memory(10 points items of (2,) float32, classes=2), True)
    """
    reads_it = [f.name for f in dataclasses.fields(Reading) if not f.metadata.get("declared")]
    reads = {k: v for k, v in spec.items() if k in reads_it}
    if augment := reads.get("augment"):
        reads["augment"] = construct(AUGMENTATIONS, augment, f"{place}.augment")
    reads |= {k: resizing(k, reads[k], f"{place}.{k}") for k in CHANGES if reads.get(k) is not None}
    reading = call(Reading, reads, place)
    settings = {k: v for k, v in spec.items() if k not in reads_it}
    bind = functools.cache(functools.partial(_bound_source, settings, place))
    if opened or str(settings.get("name")).partition(":")[0] in SOURCES:
        bind()

    @functools.cache
    def plain_source(split: str) -> Source:
        return instance(bind()(split), Source, place)

    of_split = plain_source
    if reading.maps:
        of_split = mapped(plain_source, reading.maps, f"{place}.maps")
    if reading.excitation:
        of_split = _excited(of_split, place)
    if reading.encoded and not reading.encoder:
        raise ConfigError(f"{place}.encoded={reading.encoded}: needs {place}.encoder beside it")
    if reading.encoder:
        of_split = described(
            of_split,
            reading.encoder,
            f"{place}.encoder",
            run=reading.vocabulary,
            folder=reading.encoded,
        )
    if reading.reduced or reading.enlarged:
        of_split = _resized(of_split, reading)
    if reading.hidden:
        of_split = _concealed(of_split, reading.hidden, f"{place}.hidden")

    @functools.cache
    def source(split: str) -> Source:
        opened = of_split(split)
        refuse(place)(reading.check)(opened)
        return opened

    return source, reading


def _bound_source(spec: Config, place: str) -> Callable[[str], Source]:
    """Return `split -> Source`, with the settings of the source bound."""
    text = str(spec.get("name", ""))
    name, colon, first = text.partition(":")
    if qualified := name not in SOURCES and re.match(r"[\w.]+:[\w.]+(?=:|$)", text):
        name, colon, first = qualified[0], *text[qualified.end() :].partition(":")[1:]
    if colon:
        hints = typing.get_type_hints(lookup(SOURCES, name, f"{place}.name"))
        settings = [k for k in hints if k not in ("split", "return")]
        if not settings:
            raise ConfigError(f"{place}.name={spec['name']!r}: {name} has no setting for {first!r}")
        value = first if hints[settings[0]] is str else literal(first)
        spec = {settings[0]: value} | dict(spec) | {"name": name}
    return refuse(place)(construct(SOURCES, spec, place, partial=True))


def resizing(name: str, spec: Any, place: str) -> Any:
    """Construct a setting of `CHANGES` from its fields, or from a text like `factor=2`.

    >>> resizing("enlarged", "factor=4,enlarge=bilinear", "config.data.enlarged")
    Enlarged(factor=4, levels=(0.0, 0.5), kernel='area', enlarge='bilinear')
    """
    spec = arguments(spec, place) if isinstance(spec, str) else spec
    fields(spec, place)
    return call(CHANGES[name], spec, place)


def _excited(open_split: Callable[[str], Source], place: str) -> Callable[[str], Source]:
    """Return `split -> source` of the excitations of sounds."""
    return lambda split: refuse(place)(excited)(open_split(split))


def _concealed(
    open_split: Callable[[str], Source], hidden: Hidden, place: str
) -> Callable[[str], Source]:
    """Return `split -> source` whose items have a part hidden as a condition."""
    return lambda split: refuse(place)(Concealed)(open_split(split), hidden)


def _resized(open_split: Callable[[str], Source], reading: Reading) -> Callable[[str], Source]:
    """Return `split -> source` whose items have the sizes of the reading."""
    return lambda split: Resized(open_split(split), reading.reduced, reading.enlarged)
