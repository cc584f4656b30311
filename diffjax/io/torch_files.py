"""Files of PyTorch, and pickles of its modules, read without PyTorch and without execution."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.io.contents import Contents
from diffjax.io.pickles import Name, Object, expect, interpret, printable
from diffjax.io.stored import (
    BUILDERS,
    MAGIC,
    Array,
    Dtype,
    Storage,
    Tensor,
    legacy,
    storages,
)

LIMIT, DEPTH = 1_000_000, 64
"""Largest number of values of a file, and depth: a pickle may refer to the same values
repeatedly."""
PARTS = ("_parameters", "_buffers", "_modules")


class Lazy(Mapping[str, np.ndarray]):
    """Tensors by name, each read from the file when it is accessed."""

    def __init__(self, tensors: Mapping[str, Tensor | Array]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> np.ndarray:
        return self.tensors[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def read(path: Path) -> Contents:
    """Read tensors under dotted names, and all other values as `settings`, nested as in the file.

    The files are .pt, .pth and .bin in either format of PyTorch, and .pkl with modules, dicts and
    lists. Parameters and buffers of a module have their names; its settings hold `class`, and
    attributes. Raises ValueError for anything that is not an array or a plain value, and for
    damaged files.
    """
    try:
        walk = Walk()
        settings = walk.plain(load(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    settings = settings if isinstance(settings, dict) else {}
    return Contents(Lazy(walk.tensors), settings)


def load(path: Path) -> Any:
    """Return the tree of the file, which contains `Tensor`, `Array` and `Object`."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("empty file")
        held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data = np.frombuffer(held, np.uint8)
    if held[:4] == b"PK\x03\x04":
        return _zipped(path, data)
    if MAGIC.to_bytes(10, "little") in held[:32]:
        return legacy(data, held, BUILDERS)
    if held[:1] != b"\x80":
        raise ValueError("neither a file of PyTorch nor a pickle")
    return interpret(held, BUILDERS)


def _zipped(path: Path, data: np.ndarray) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, OSError, struct.error) as error:
        raise ValueError(f"damaged zip file ({error})") from error
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise ValueError("a zip file without data.pkl: not one of PyTorch")

    def member(name: str) -> np.ndarray:
        entry = members.get(roots[0] + name)
        if entry is None or entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{name} is compressed or missing: not a file of PyTorch")
        head = data[entry.header_offset :][:30].tobytes()
        if head[:4] != b"PK\x03\x04" or len(head) < 30:
            raise ValueError(f"{name} is not where the zip file says: damaged")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:]))
        if start + entry.file_size > len(data):
            raise ValueError(f"{name} is cut short")
        return data[start : start + entry.file_size]

    by_key: dict[str, Storage] = {}
    stream = io.BytesIO(member("data.pkl").tobytes())
    tree = interpret(stream, BUILDERS, storages(by_key))
    big = f"{roots[0]}byteorder" in members and member("byteorder").tobytes() == b"big"
    for key, storage in by_key.items():
        storage.fill(member(f"data/{key}"), ">" if big else "<")
    return tree


@dataclass
class Walk:
    """A walk through a tree: tensors go into `tensors` by their place, the rest is returned."""

    tensors: dict[str, Tensor | Array] = field(default_factory=dict)
    visits: int = 0

    def plain(self, value: Any, place: str = "", depth: int = 0) -> Any:
        self.visits += 1
        if depth > DEPTH or self.visits > LIMIT:
            raise ValueError(f"nested deeper than {DEPTH}, or more than {LIMIT} values: refused")
        if isinstance(value, Tensor | Array):
            self.tensors[place] = value
            return None
        if isinstance(value, Storage | Dtype):
            raise ValueError(f"{printable(place)} is an array without a shape: refused")
        if isinstance(value, Name):
            return value.text
        if isinstance(value, Object):
            return self.module(value, place, depth)
        if not isinstance(value, dict | list | tuple):
            return value
        items = value.items() if isinstance(value, dict) else enumerate(value)
        values = {k: self.plain(v, below(place, k), depth + 1) for k, v in items}
        kept = {k: v for k, v in values.items() if v is not None}
        return kept if isinstance(value, dict) else type(value)(kept.values())

    def module(self, value: Object, place: str, depth: int) -> dict[str, Any]:
        fields: dict[str, Any] = {"class": value.kind.rsplit(".", 1)[-1]}
        for part in PARTS:
            fields |= self.plain(expect(dict, value.state.get(part) or {}), place, depth + 1)
        others = {k: v for k, v in value.state.items() if k not in PARTS}
        return fields | self.plain(others, place, depth + 1)


def below(place: str, key: Any) -> str:
    """Return the name of an entry below a place."""
    return f"{place}.{key}" if place else str(key)
