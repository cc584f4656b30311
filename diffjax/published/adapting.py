"""Changes of weights as files have them, and the adapters and kernels of our networks.

A kernel (*k, in, out) at `Block_0/Conv_1/kernel` is the weight (out, in, *k) of the module
`Block_0.Conv_1`. A kernel of stacked blocks is one weight per block: `blocks/main/qkv/kernel` is
that of `blocks.0.main.qkv`, `blocks.1.main.qkv`, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from diffjax.arrays import Params
from diffjax.io.trees import flat, joined, nested
from diffjax.nets import Adapted, Network
from diffjax.nets.adapted import PARAMS
from diffjax.nets.adapters import DOWN, MAGNITUDE, UP, LowRank, kernels
from diffjax.published.adapters import Change, fitted, norms

WEIGHT = ".weight"
"""The ending of the names of weights in published networks."""
Weighted = Sequence[tuple[Mapping[str, Change], float]]
"""Adapters, each as changes by name, with the weight of each."""


class Place(NamedTuple):
    """The place of a weight: the path of a kernel, and an index if its blocks are stacked."""

    path: str
    index: int | tuple[()] = ()


def modules(params: Mapping[str, Any], stacks: tuple[str, ...] = ()) -> dict[str, Place]:
    """Return the place of the weight of each module of a network, by the name of the module.

    >>> kernel = np.ones((2, 4, 4))
    >>> modules({"blocks": {"out": {"kernel": kernel}}}, stacks=("blocks",))["blocks.1.out"]
    Place(path='blocks/out/kernel', index=1)
    """
    named = {}
    for path, kernel in kernels(params, stacks).items():
        top, *inner = path.split("/")[:-1]
        for i in range(kernel.stack or 1):
            number = [str(i)] if kernel.stack else []
            place = Place(path, i) if kernel.stack else Place(path)
            named[".".join([top, *number, *inner])] = place
    return named


def weight(kernel: Any) -> np.ndarray:
    """Return a kernel (*k, in, out) as the weight (out, in, *k).

    >>> weight(np.ones((3, 3, 1, 2))).shape
    (2, 1, 3, 3)
    """
    return np.moveaxis(np.asarray(kernel, np.float32), (-1, -2), (0, 1))


def changes_of(network: Adapted, params: Params) -> dict[str, Change]:
    """Return the changes that an adapter makes, by the names of modules.

    params: the parameters of the adapted network.
    """
    base, own = flat({k: v for k, v in params.items() if k != PARAMS}), flat(params[PARAMS])
    found = {}
    for name, (path, index) in modules(nested(base), network.stacks).items():
        if f"{path}/{DOWN}" not in own:
            continue
        low = (part for part in network.adapter.parts if isinstance(part, LowRank))
        adapter = next(part for part in low if part.adapted([f"{path}/{DOWN}"], DOWN))
        down, up = (np.asarray(own[f"{path}/{part}"], np.float32)[index] for part in (DOWN, UP))
        magnitude, axis = None, getattr(adapter, "axis", "output")
        if f"{path}/{MAGNITUDE}" in own:
            first = norms(weight(base[path][index]), axis).reshape(-1)
            magnitude = first + np.asarray(own[f"{path}/{MAGNITUDE}"])[index]
        found[name] = Change(weight(down), weight(up), adapter.scale, magnitude, axis)
    return found


def changed(before: Mapping[str, np.ndarray], adapters: Weighted) -> dict[str, np.ndarray]:
    """Return the weights that adapters change, float32: W + sum of w (W' - W) over the adapters.

    before: the weights W of all modules, by name. Raises ValueError where an adapter does not fit.

    >>> one = {"out": Change(np.ones((1, 3)), np.ones((2, 1)))}
    >>> changed({"out": np.zeros((2, 3))}, [(one, 1.0), (one, -0.5)])["out"].tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """
    moved: dict[str, np.ndarray] = {}
    for changes, strength in adapters:
        for name, change in fitted(changes, before).items():
            w = np.asarray(before[name], np.float64)
            try:
                step = strength * change.of(w)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            moved[name] = moved.get(name, w) + step
    return {name: value.astype(np.float32) for name, value in moved.items()}


def merged(network: Network, params: Params, adapters: Weighted) -> Params:
    """Return the parameters of a network with adapters merged into them.

    Raises ValueError where an adapter does not fit the network.
    """
    known, leaves = modules(params, network.stacks), flat(params)
    ours = {name: weight(leaves[path][index]) for name, (path, index) in known.items()}
    kept: dict[str, np.ndarray] = {}
    for name, value in changed(ours, adapters).items():
        path, index = known[name]
        kernel = kept.setdefault(path, np.array(leaves[path], np.float32))
        kernel[index] = np.moveaxis(value, (0, 1), (-1, -2))
    return joined(params, nested(kept))


def weights(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights of the modules of a published network, by the names of the modules.

    >>> [*weights({"out.weight": np.ones((2, 2)), "out.bias": np.ones(2), "scale.w": np.ones(2)})]
    ['out']
    """
    names = [name for name in tensors if name.endswith(WEIGHT) and tensors[name].ndim > 1]
    return {name.removesuffix(WEIGHT): tensors[name] for name in names}


def patched(tensors: Mapping[str, np.ndarray], adapters: Weighted) -> dict[str, np.ndarray]:
    """Return the tensors of a published network with adapters merged into them.

    Raises ValueError where an adapter does not fit the network.

    >>> one = {"out": Change(np.ones((1, 3)), np.ones((2, 1)))}
    >>> patched({"out.weight": np.zeros((2, 3))}, [(one, 1.0)])["out.weight"].sum()
    np.float32(6.0)
    """
    moved = changed(weights(tensors), adapters)
    return {**tensors, **{f"{name}{WEIGHT}": value for name, value in moved.items()}}
