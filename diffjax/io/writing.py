"""The error of files and folders that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from diffjax.config import ConfigError
from diffjax.files import reason


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Turn an OSError in the context into a ConfigError of one line, with the reason.

    place: what the user asked for, such as `--out=PATH`, or the path itself.
    """
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{place}: cannot be written ({reason(error)})") from error
