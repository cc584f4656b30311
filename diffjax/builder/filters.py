"""Construction of filters from texts like `opennsfw:threshold=0.8`."""

from __future__ import annotations

from collections.abc import Sequence

from diffjax.builder.construct import construct, instance, refuse
from diffjax.filters import FILTERS, Filter


def construct_filters(texts: Sequence[str], place: str) -> tuple[Filter, ...]:
    """Return the filters of texts, with their networks loaded.

    Raises ConfigError for an unknown name, for bad settings, and for a file that is no such filter.

    >>> construct_filters(["swords:path=a"], "--filter")
    Traceback (most recent call last):
    diffjax.config.errors.ConfigError: --filter.name='swords': unknown ...
    """
    return tuple(
        instance(refuse(f"{place}={text}")(construct)(FILTERS, text, place), Filter, place)
        for text in texts
    )


def check_prompts(filters: Sequence[Filter], prompts: Sequence[str], place: str) -> None:
    """Raise ConfigError for a prompt that one of the filters refuses.

    >>> check_prompts([], ["anything"], "--filter")
    """
    for each in filters:
        if each.texts is not None:
            for prompt in prompts:
                refuse(place)(each.texts)(prompt)
