"""Nested dicts of arrays: flat and nested names, and fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from diffjax.arrays import Params

SHOWN = 5
"""Largest number of names in a message."""


def fingerprint(facts: Any, arrays: PyTree) -> str:
    """Return the first 12 hex digits of the SHA-256 of facts, as JSON, and leaves of a tree.

    >>> fingerprint({"steps": 20}, [np.zeros(3)])
    'f8d36c51643a'
    """
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for leaf in jax.tree.leaves(arrays):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:12]


def nested(flat: Mapping[str, Any]) -> Params:
    """Nest flat names: {"a/b": x} becomes {"a": {"b": x}}.

    >>> nested({"dense/kernel": 1, "dense/bias": 2})
    {'dense': {'kernel': 1, 'bias': 2}}
    """
    tree: Params = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        place = tree
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return tree


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten nested names: {"a": {"b": x}} becomes {"a/b": x}.

    >>> flat({"dense": {"kernel": 1, "bias": 2}})
    {'dense/kernel': 1, 'dense/bias': 2}
    """
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        here = f"{above}{name}"
        leaves |= flat(value, f"{here}/") if isinstance(value, Mapping) else {here: value}
    return leaves


def parted(tree: Mapping[str, Any], chosen: Callable[[str], bool]) -> tuple[Params, Params]:
    """Split a tree into the leaves whose path is chosen and the others.

    Both are trees without empty branches.

    >>> parted({"dense": {"kernel": 1, "bias": 2}}, lambda path: path.endswith("bias"))
    ({'dense': {'bias': 2}}, {'dense': {'kernel': 1}})
    """
    leaves = flat(tree)
    pick = lambda wanted: nested({k: v for k, v in leaves.items() if chosen(k) is wanted})
    return pick(True), pick(False)


def joined(*trees: Mapping[str, Any]) -> Params:
    """Merge trees; of a leaf that several trees have, the last is taken.

    >>> joined({"dense": {"kernel": 1}}, {"dense": {"bias": 2}})
    {'dense': {'kernel': 1, 'bias': 2}}
    """
    return nested({path: leaf for tree in trees for path, leaf in flat(tree).items()})


def only(tree: Mapping[str, Any], like: Mapping[str, Any]) -> Params:
    """Return the leaves of `tree` whose path is also in `like`.

    >>> only({"dense": {"kernel": 1, "bias": 2}}, like={"dense": {"bias": 0}})
    {'dense': {'bias': 2}}
    """
    wanted = flat(like)
    return nested({path: leaf for path, leaf in flat(tree).items() if path in wanted})


def some(title: str, names: Iterable[str]) -> str:
    """Count names and list the first: "missing: 7 (a, b, c, d, e, ...)", or "missing: none".

    >>> some("missing", ["b", "a"])
    'missing: 2 (a, b)'
    """
    names = sorted(names)
    if not names:
        return f"{title}: none"
    more = ", ..." if len(names) > SHOWN else ""
    return f"{title}: {len(names)} ({', '.join(names[:SHOWN])}{more})"
