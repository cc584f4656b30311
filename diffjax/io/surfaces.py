"""Triangles in files of surfaces: Wavefront (.obj), and PLY in text or binary."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Mesh = tuple[np.ndarray, list[Sequence[int]]]
"""Vertices (V, 3) and faces, each of three or more indices of vertices."""
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}
"""The types of numbers in PLY files."""
FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}


def triangles(path: Path) -> np.ndarray:
    """Return the corners (F, 3, 3) of the triangles of a surface, in float64.

    A face of n corners becomes n - 2 triangles around its first corner, exact for convex faces.
    Raises ValueError, with the path, for another ending, for a file without faces, with an index
    of no vertex or with coordinates that are not finite, and for a damaged file.

    >>> import tempfile
    >>> square = "v 0 0 0\\nv 1 0 0\\nv 1 1 0\\nv 0 1 0\\nf 1 2 3 4\\n"
    >>> with tempfile.TemporaryDirectory() as place:
    ...     _ = Path(place, "square.obj").write_text(square)
    ...     triangles(Path(place, "square.obj")).shape
    (2, 3, 3)
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"{path}: unknown ending; known: {', '.join(READERS)}")
    try:
        vertices, faces = read(path.read_bytes())
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as {path.suffix} ({error})") from error
    fans = [(f[0], f[i], f[i + 1]) for f in faces for i in range(1, len(f) - 1)]
    if not fans:
        raise ValueError(f"{path}: has no faces; needs a surface")
    index = np.array(fans)
    if index.min() < 0 or index.max() >= len(vertices):
        raise ValueError(f"{path}: a face has a corner that is none of {len(vertices)} vertices")
    corners = vertices[index]
    if not np.isfinite(corners).all():
        raise ValueError(f"{path}: a corner of a face is not finite")
    return corners


def read_obj(contents: bytes) -> Mesh:
    """Read the vertices and the faces of a Wavefront file, whatever their groups and materials.

    >>> read_obj(b"v 0 0 0\\nv 1 0 0\\nv 0 1 0\\nf -3//1 -2//1 -1//1\\n")[1]
    [[0, 1, 2]]
    """
    vertices: list[list[float]] = []
    faces: list[Sequence[int]] = []
    for line in contents.decode(errors="replace").replace("\\\n", " ").splitlines():
        word, *values = line.partition("#")[0].split() or [""]
        if word == "v":
            vertices.append([float(v) for v in values[:3]])
        elif word == "f":  # indices count from 1, or backwards from the last vertex
            at = [int(v.partition("/")[0]) for v in values]
            faces.append([i - 1 if i > 0 else len(vertices) + i for i in at])
    return np.array(vertices, np.float64).reshape(-1, 3), faces


def read_ply(contents: bytes) -> Mesh:
    """Read the vertices and the faces of a PLY file; other elements and properties are skipped."""
    header, end, body = contents.partition(b"end_header")
    lines = [line.split() for line in header.decode("ascii").splitlines()]
    if not end or lines[0] != ["ply"]:
        raise ValueError("no header of PLY")
    order = FORMATS[next((line[1] for line in lines if line[:1] == ["format"]), "")]
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        if line[:1] == ["element"]:
            elements.append((line[1], int(line[2]), []))
        elif line[:1] == ["property"]:
            elements[-1][2].append(line[1:])
    number = _words(body.split()) if order == "" else _binary(body.partition(b"\n")[2], order)
    rows = {
        name: [[_value(number, form) for form in forms] for _ in range(count)]
        for name, count, forms in elements
    }
    names = {name: [form[-1] for form in forms] for name, _, forms in elements}
    at = [names["vertex"].index(axis) for axis in "xyz"]
    vertices = np.array([[row[i] for i in at] for row in rows["vertex"]], np.float64)
    listed = [i for i, n in enumerate(names.get("face", ())) if n.startswith("vertex_ind")]
    return vertices.reshape(-1, 3), [row[listed[0]] for row in rows.get("face", ())]


def _value(number: Callable[[str], float], form: Sequence[str]) -> Any:
    """Read a property: a number, or a list behind its length."""
    if form[0] != "list":
        return number(TYPES[form[0]])
    return [int(number(TYPES[form[2]])) for _ in range(int(number(TYPES[form[1]])))]


def _words(words: Sequence[bytes]) -> Callable[[str], float]:
    """Return a function that reads the next number of a text, whatever its type."""
    each: Iterator[bytes] = iter(words)
    return lambda _: float(next(each, b""))


def _binary(body: bytes, order: str) -> Callable[[str], float]:
    """Return a function that reads the next number of a type, in this order of bytes."""
    place = 0

    def number(kind: str) -> float:
        nonlocal place
        value = np.frombuffer(body, order + kind, 1, place)[0]
        place += value.itemsize
        return value.item()

    return number


READERS = {".obj": read_obj, ".ply": read_ply}
