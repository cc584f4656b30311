"""Parsers of the values of flags, for `add_argument(type=...)`."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from diffjax import zoo
from diffjax.config import ConfigError

T = TypeVar("T")
MOST = 2**31 - 1
"""Largest count that a flag accepts."""


def listed(one: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Return a parser of several values that are separated by commas."""

    def values(text: str) -> list[T]:
        return [one(item) for item in text.split(",")]

    values.__name__ = f"list of {one.__name__}"  # argparse shows it in errors
    return values


def interval(text: str) -> tuple[float, ...]:
    """Parse finite numbers `LOW,HIGH`; the order and the count are checked later."""
    return tuple(number(item) for item in text.split(","))


def span(text: str) -> tuple[int, int]:
    """Parse a range of steps `FROM:TO`; `0:0` lets the trainer choose the steps."""
    first, _, last = text.partition(":")
    if not (first.isdecimal() and last.isdecimal()) or (int(last) <= int(first) and text != "0:0"):
        raise argparse.ArgumentTypeError(f"{text}: needs FROM:TO, two steps with FROM < TO")
    return int(first), int(last)


def places(text: str) -> list[int]:
    """Parse positions `0:8` or `0,1,4:6`; the end of a range is not in it."""
    found: list[int] = []
    for part in text.split(","):
        first, colon, last = part.partition(":")
        stop = last if colon else "0"
        if not (first.isdecimal() and stop.isdecimal() and max(len(first), len(stop)) < 7) or (
            colon and int(stop) <= int(first)
        ):
            raise argparse.ArgumentTypeError(f"{text}: needs positions, as 0:8 or 0,1,4:6")
        found += range(int(first), int(last) if colon else int(first) + 1)
    return found


def path(text: str) -> Path:
    """Parse a path, and refuse an empty one: an unset variable would mean the current folder.

    `zoo:NAME` is a copy of an entry of the zoo.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; is a shell variable unset?")
    if not text.startswith(zoo.PREFIX):
        return Path(text)
    try:
        return zoo.copied(text.removeprefix(zoo.PREFIX))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def adapter(text: str) -> tuple[Path, tuple[float, ...]]:
    """Parse `PATH`, `PATH=WEIGHT` or `PATH=WEIGHT,START,END`; the weight is 1 by default."""
    place, sign, numbers = text.rpartition("=")
    try:
        strength = tuple(float(number) for number in numbers.split(",")) if sign else (1.0,)
        if len(strength) not in (1, 3):
            raise ValueError
        return path(place if sign else text), strength
    except ValueError as error:
        needs = "needs PATH, PATH=WEIGHT or PATH=WEIGHT,START,END"
        raise argparse.ArgumentTypeError(f"{text}: {needs}") from error


def stage(text: str) -> tuple[Path, str]:
    """Parse `PATH[,setting=value,...]`, a later stage of a cascade and the text of its settings."""
    place, _, settings = text.partition(",")
    return path(place), settings


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return a parser of integers from `least` to `most`."""

    def integer(text: str) -> int:
        value = int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else None
        if value is None or not least <= value <= most:
            allowed = f"of at least {least}" if most == MOST else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r}: needs an integer {allowed}")
        return value

    return integer


positive = whole(1, MOST)
"""Parser of counts, from 1 on."""
seed = whole(0, 2**32 - 1)
"""Parser of seeds, below `checks.SEEDS`; importing that constant would load JAX."""


def number(text: str) -> float:
    """Parse a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: needs a finite number")
    return value
