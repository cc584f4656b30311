"""Checkpoints of Flax: msgpack, which holds values only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import msgpack
import numpy as np

from diffjax.io.contents import Contents

ARRAY, SCALAR = 1, 3
"""Types of values that Flax adds to msgpack: (shape, name of the type, bytes)."""
ERRORS = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
ERRORS += (msgpack.UnpackException,)
"""Errors that damaged files cause."""
CHUNKED = "__msgpack_chunked_array__"


def read(path: Path) -> Contents:
    """Read arrays under dotted names; settings are numbers and text, under theirs.

    Raises ValueError for a file that is not a checkpoint of Flax.
    """
    try:
        tree = msgpack.unpackb(path.read_bytes(), ext_hook=_value, strict_map_key=False)
        leaves = dict(_flat(tree, "")) if isinstance(tree, Mapping) else {}
    except ERRORS as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: not a checkpoint of Flax ({text})") from error
    tensors = {k: v for k, v in leaves.items() if isinstance(v, np.ndarray)}
    if not tensors:
        raise ValueError(f"{path}: not a checkpoint of Flax (it holds no named arrays)")
    return Contents(tensors, {k: v for k, v in leaves.items() if k not in tensors})


def _value(kind: int, data: bytes) -> Any:
    if kind not in (ARRAY, SCALAR):
        return None
    shape, name, raw = msgpack.unpackb(data)
    array = np.frombuffer(raw, jnp.dtype(name)).reshape(shape)
    return array if kind == ARRAY else array[()]


def _flat(tree: Mapping[Any, Any], above: str) -> Iterator[tuple[str, Any]]:
    """Iterate over names and leaves, with the parts of large arrays joined."""
    for key, value in tree.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value.get(CHUNKED):
            shape, parts = (list(value[k].values()) for k in ("shape", "chunks"))
            yield name, np.concatenate([part.ravel() for part in parts]).reshape(shape)
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value
