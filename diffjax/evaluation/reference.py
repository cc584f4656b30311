"""Statistics of features in the usual .npz layout: `mu` and `sigma`, and of spatial features `mu_s`
and `sigma_s`. Ours say in `protocol` what they are of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.evaluation.moments import Moments

KEYS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
FREE = ("items", "data")
"""Facts that differ between statistics which may be compared."""


def write(path: Path, found: Mapping[str, Moments], facts: Mapping[str, Any]) -> None:
    """Moments by the kind of feature, with the facts about their items."""
    arrays: dict[str, Any] = {"protocol": np.array(json.dumps(dict(facts)))}
    for kind, moments in found.items():
        mean, covariance = KEYS[kind]
        arrays |= {mean: moments.mean, covariance: moments.covariance}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:  # NumPy would append .npz to another name
        np.savez(file, **arrays)


def read(
    path: Path, kind: str, width: int, facts: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Mean (D,), covariance (D, D), and what a result says of the file: hash and protocol.

    ValueError where they are not of `width` features, or where the file says that extractor,
    weights, resize, resolution or range are others than in `facts`. Files of other programs say
    nothing.
    """
    place, keys = f"reference={path}", KEYS[kind]
    if not path.is_file():
        raise ValueError(f"{place}: no such file")
    with np.load(path) as stored:
        if missing := [key for key in keys if key not in stored.files]:
            raise ValueError(f"{place}: no {missing[0]} in it; it has {', '.join(stored.files)}")
        mean, covariance = (np.asarray(stored[key], np.float64) for key in keys)
        protocol = json.loads(str(stored["protocol"])) if "protocol" in stored.files else {}
    for name in (k for k in facts if k in protocol and k not in FREE):
        if protocol[name] != facts[name]:
            there, here = protocol[name], facts[name]
            raise ValueError(f"{place}: {name} is {there!r} there and {here!r} here")
    if mean.shape != (width,) or covariance.shape != (width, width):
        there = f"{mean.shape} and {covariance.shape}"
        raise ValueError(f"{place}: {' and '.join(keys)} are {there}; these features have {width}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{place}: {' and '.join(keys)} are not finite")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    told = {"file": str(path), "sha256": sha, "protocol": protocol or "not stated"}
    return mean, covariance, told
