"""Files of feature statistics in the usual .npz layout.

Entries are `mu` and `sigma`, and `mu_s` and `sigma_s` for spatial features. Files that diffjax
writes describe their items and features in `protocol`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.evaluation.moments import Moments
from diffjax.files import read_arrays, write_arrays

KEYS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
FREE = ("items", "data")
"""Facts in which comparable statistics may differ."""
ROUNDING = 1e-5
"""Tolerance of rounding, relative to the largest entry or eigenvalue."""


def write(path: Path, by_kind: Mapping[str, Moments], facts: Mapping[str, Any]) -> None:
    """Write moments by kind of feature, with the facts about their items."""
    arrays: dict[str, Any] = {"protocol": np.array(json.dumps(dict(facts)))}
    for kind, moments in by_kind.items():
        mean, covariance = KEYS[kind]
        arrays |= {mean: moments.mean, covariance: moments.covariance}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays)


def read(
    path: Path, kind: str, width: int, facts: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read the mean (D,), the covariance (D, D) and a description of the file for the result.

    The description has its hash and protocol. Raises ValueError as `opened` does, for another
    number of features than `width`, and where extractor, weights, resize, resolution or range in
    the file differ from `facts`. Files of other programs have no protocol, so this is not checked.
    """
    place, keys = f"reference={path}", KEYS[kind]
    mean, covariance, protocol = opened(path, kind)
    for name in (k for k in facts if k in protocol and k not in FREE):
        if protocol[name] != facts[name]:
            there, here = protocol[name], facts[name]
            raise ValueError(f"{place}: {name} is {there!r} in the file and {here!r} here")
    if mean.shape != (width,):
        names, there = " and ".join(keys), f"{mean.shape} and {covariance.shape}"
        raise ValueError(f"{place}: {names} have the shapes {there}; the features have {width}")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    about = {"file": str(path), "sha256": sha, "protocol": protocol or "not stated"}
    return mean, covariance, about


def opened(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Read the mean (D,), the covariance (D, D) and the protocol of a file, for any features.

    Raises ValueError, naming the file, where it cannot be read or where the entries are no mean and
    covariance: of other shapes, not numbers, not finite, not symmetric, or with a negative
    eigenvalue.
    """
    place, keys = f"reference={path}", KEYS[kind]
    if not path.is_file():
        raise ValueError(f"{place}: no such file")
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if missing := [key for key in keys if key not in arrays]:
        known = ", ".join(arrays) or "nothing"
        raise ValueError(f"{place}: lacks the array {missing[0]}; it holds {known}")
    stored = [arrays[key] for key in keys]
    names = " and ".join(keys)
    shapes = " and ".join(str(a.shape) for a in stored)
    if stored[0].ndim != 1 or stored[1].shape != 2 * stored[0].shape or not stored[0].size:
        needs = "a mean (D,) and a covariance (D, D)"
        raise ValueError(f"{place}: {names} have the shapes {shapes}; needs {needs}")
    if any(a.dtype.kind not in "fiu" for a in stored):
        types = f"{stored[0].dtype} and {stored[1].dtype}"
        raise ValueError(f"{place}: {names} have the types {types}; needs floats")
    mean, covariance = (np.asarray(a, np.float64) for a in stored)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{place}: {names} are not finite")
    _check_covariance(covariance, f"{place}: {keys[1]}")
    return mean, covariance, _protocol(arrays, place)


def _check_covariance(covariance: np.ndarray, place: str) -> None:
    """Raise ValueError for a matrix that is no covariance, up to float32 rounding."""
    scale = np.abs(covariance).max()
    if (apart := np.abs(covariance - covariance.T).max()) > ROUNDING * scale:
        raise ValueError(f"{place} is not a covariance: it is asymmetric by up to {apart:.3g}")
    eigenvalues = np.linalg.eigvalsh(covariance)
    if (least := float(eigenvalues[0])) < -ROUNDING * np.abs(eigenvalues).max():
        raise ValueError(f"{place} is not a covariance: it has the eigenvalue {least:.3g} < 0")


def _protocol(arrays: Mapping[str, np.ndarray], place: str) -> dict[str, Any]:
    """Return the protocol in a file; {} where it has none."""
    if "protocol" not in arrays:
        return {}
    try:
        protocol = json.loads(str(arrays["protocol"]))
    except ValueError as error:
        raise ValueError(f"{place}: protocol: cannot be read ({error})") from error
    return protocol if isinstance(protocol, dict) else {}
