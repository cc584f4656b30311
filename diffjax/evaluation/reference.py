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
from diffjax.files import read_arrays, write_arrays

KEYS = {"pool": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
FREE = ("items", "data")
"""Facts that differ between statistics which may be compared."""
ROUNDING = 1e-5
"""Share of the largest entry, or eigenvalue, by which rounding may move one."""


def write(path: Path, by_kind: Mapping[str, Moments], facts: Mapping[str, Any]) -> None:
    """Moments by the kind of feature, with the facts about their items."""
    arrays: dict[str, Any] = {"protocol": np.array(json.dumps(dict(facts)))}
    for kind, moments in by_kind.items():
        mean, covariance = KEYS[kind]
        arrays |= {mean: moments.mean, covariance: moments.covariance}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays)


def read(
    path: Path, kind: str, width: int, facts: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Mean (D,), covariance (D, D), and what a result says of the file: hash and protocol.

    ValueError where they are not of `width` features, or where the file says that extractor,
    weights, resize, resolution or range are others than in `facts`; and as `opened`. Files of other
    programs say nothing.
    """
    place, keys = f"reference={path}", KEYS[kind]
    mean, covariance, protocol = opened(path, kind)
    for name in (k for k in facts if k in protocol and k not in FREE):
        if protocol[name] != facts[name]:
            there, here = protocol[name], facts[name]
            raise ValueError(f"{place}: {name} is {there!r} there and {here!r} here")
    if mean.shape != (width,):
        there = f"{mean.shape} and {covariance.shape}"
        raise ValueError(f"{place}: {' and '.join(keys)} are {there}; these features have {width}")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    about = {"file": str(path), "sha256": sha, "protocol": protocol or "not stated"}
    return mean, covariance, about


def opened(path: Path, kind: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Mean (D,), covariance (D, D) and protocol in a file, of any features.

    ValueError names the file where it cannot be read, or where they are no mean and covariance: of
    other shapes, not numbers, not finite, not symmetric, or with an eigenvalue below 0.
    """
    place, keys = f"reference={path}", KEYS[kind]
    if not path.is_file():
        raise ValueError(f"{place}: no such file")
    try:
        arrays = read_arrays(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if missing := [key for key in keys if key not in arrays]:
        raise ValueError(f"{place}: no {missing[0]} in it; it has {', '.join(arrays) or 'nothing'}")
    stored = [arrays[key] for key in keys]
    names = " and ".join(keys)
    shapes = " and ".join(str(a.shape) for a in stored)
    if stored[0].ndim != 1 or stored[1].shape != 2 * stored[0].shape or not stored[0].size:
        raise ValueError(f"{place}: {names} are {shapes}; needs a mean (D,), a covariance (D, D)")
    if any(a.dtype.kind not in "fiu" for a in stored):
        raise ValueError(f"{place}: {names} are {stored[0].dtype}, {stored[1].dtype}; needs floats")
    mean, covariance = (np.asarray(a, np.float64) for a in stored)
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(f"{place}: {names} are not finite")
    _check_covariance(covariance, f"{place}: {keys[1]}")
    return mean, covariance, _protocol(arrays, place)


def _check_covariance(covariance: np.ndarray, place: str) -> None:
    """Raise ValueError for what is none, up to rounding of float32."""
    scale = np.abs(covariance).max()
    if (apart := np.abs(covariance - covariance.T).max()) > ROUNDING * scale:
        raise ValueError(f"{place} is no covariance: not symmetric, by up to {apart:.3g}")
    eigenvalues = np.linalg.eigvalsh(covariance)
    if (least := float(eigenvalues[0])) < -ROUNDING * np.abs(eigenvalues).max():
        raise ValueError(f"{place} is no covariance: it has the eigenvalue {least:.3g}, below 0")


def _protocol(arrays: Mapping[str, np.ndarray], place: str) -> dict[str, Any]:
    """What a file says of itself; {} where it says nothing."""
    if "protocol" not in arrays:
        return {}
    try:
        protocol = json.loads(str(arrays["protocol"]))
    except ValueError as error:
        raise ValueError(f"{place}: protocol: cannot be read ({error})") from error
    return protocol if isinstance(protocol, dict) else {}
