"""Construction of the maps in config.data.maps, which are computed from images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from diffjax.builder.construct import construct, refuse
from diffjax.config import ConfigError, parse
from diffjax.data import Source
from diffjax.data.maps import MAPS, Mapped


def construct_maps(texts: Sequence[str], place: str) -> dict[str, Callable[..., Any]]:
    """Return functions from images to maps by the names of their entries.

    texts: entries of `MAPS`, as `name:argument=value`. Raises ConfigError for unknown ones, and for
    a name that occurs twice.

    >>> construct_maps(["edges", "small:factor=4"], "config.data.maps").keys()
    dict_keys(['edges', 'small'])
    """
    maps = {}
    for i, text in enumerate(texts):
        entry = construct(MAPS, text, f"{place}[{i}]", partial=True)
        name = str(parse(text)["name"]).rpartition(":")[2]
        if name in maps:
            raise ConfigError(f"{place}: {name} occurs twice")
        maps[name] = entry
    return maps


def mapped(
    open_split: Callable[[str], Source], texts: Sequence[str], place: str
) -> Callable[[str], Source]:
    """Return `split -> source` whose images have maps as conditions."""
    maps = construct_maps(texts, place)
    return lambda split: refuse(place)(Mapped)(open_split(split), maps)
