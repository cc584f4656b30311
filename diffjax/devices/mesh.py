"""Where arrays live: one mesh over all devices, the batch split over it, the state by a rule.

The same program runs on one device and on many, in one process or in one per host: `jax.jit` with
these shardings makes the compiler put in the communication that they imply.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from diffjax.arrays import catalogue, spread
from diffjax.checks import at_least
from diffjax.config import ConfigError

Split = list[str | None]
"""The axis of the mesh that each axis of an array is split over; None: it is not."""


class Sharding(abc.ABC):
    """How the leaves of the train state are laid out: all that ways to train in parallel differ in.

    size: devices along the axis "model", which share one part of the batch.
    """

    size: int = 1

    @abc.abstractmethod
    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        """Of the leaf at `path`, as `params/network/blocks/main/qkv/kernel`."""


@dataclass(frozen=True)
class Data(Sharding):
    """Every device holds the whole state: data parallelism."""

    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        return [None] * len(shape)


@dataclass(frozen=True)
class FSDP(Sharding):
    """Each leaf is split along its longest axis that divides: fully sharded data parallelism.

    Parameters are gathered where a layer needs them, gradients summed into the shards
    (arXiv:1910.02054, stage 3). smallest: leaves of fewer numbers are whole on every device.
    """

    smallest: int = 1024

    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        whole: Split = [None] * len(shape)
        return longest(whole, shape, mesh) if np.prod(shape) >= self.smallest else whole


@dataclass(frozen=True)
class Model(Sharding):
    """The layers themselves are split, over `size` devices: tensor parallelism (arXiv:1909.08053).

    Weights are split by output features, so that each device computes some of them, and those whose
    path matches `rows`, which lead back to all features, by input features: their products are
    partial sums. fsdp: split what there is over the axis "data" as well. smallest: as in `FSDP`.
    """

    size: int = 2
    fsdp: bool = False
    smallest: int = 2**16
    rows: str = r"/(out|mlp_out)/kernel$"

    def __post_init__(self):
        at_least(1, size=self.size)

    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        axes: Split = [None] * len(shape)
        if len(shape) < 2 or np.prod(shape) < self.smallest:
            return axes
        axis = -2 if re.search(self.rows, path) else -1
        if shape[axis] % self.size == 0:
            axes[axis] = "model"
        return longest(axes, shape, mesh) if self.fsdp else axes


SHARDINGS = catalogue(Data, FSDP, Model)


def longest(split: Split, shape: tuple[int, ...], mesh: Mesh) -> Split:
    """The same with the longest free axis that divides split over "data"."""
    free = [i for i, n in enumerate(shape) if split[i] is None and n % mesh.shape["data"] == 0]
    chosen = max(free, key=lambda i: shape[i], default=None)
    return ["data" if i == chosen else s for i, s in enumerate(split)]


@dataclass(frozen=True)
class Layout:
    """Devices as a mesh, axes "data" and "model", and the rule for the state."""

    mesh: Mesh
    sharding: Sharding = Data()

    @property
    def size(self) -> int:
        return self.mesh.size

    @property
    def alone(self) -> bool:
        """Whether all devices are those of this process."""
        return self.everywhere.is_fully_addressable

    @property
    def parts(self) -> int:
        """Into how many a batch is split."""
        return self.mesh.shape["data"]

    def state(self, abstract: PyTree) -> PyTree:
        """Shardings of a state whose leaves have these shapes."""

        def place(path: Any, a: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            split = self.sharding.split(name, a.shape, self.mesh)
            return NamedSharding(self.mesh, PartitionSpec(*split))

        return jax.tree_util.tree_map_with_path(place, abstract)

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def split(self, axis: int) -> NamedSharding:
        """Sharding that splits `axis` into the parts of a batch."""
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, "data"))

    def rows(self, batch_size: int) -> np.ndarray:
        """The rows of a batch that the devices of this process need, rising."""
        slices = self.split(0).addressable_devices_indices_map((batch_size,)).values()
        return np.unique([np.arange(batch_size)[i] for i in slices if i is not None])

    def place(self, stack: PyTree) -> PyTree:
        """Batches (K, B, ...) from their `rows` (K, b, ...) on the hosts, B split over the mesh."""
        split = self.split(1)
        if split.is_fully_addressable:
            return jax.device_put(stack, split)  # the same in half the time
        put = lambda a: jax.make_array_from_process_local_data(split, np.asarray(a))
        return jax.tree.map(put, stack)

    def put(self, tree: PyTree, axis: int | None = None) -> PyTree:
        """Values that are equal on all hosts: on every device, or `axis` split over the mesh."""
        return spread(tree, self.everywhere if axis is None else self.split(axis))

    def whole(self, tree: PyTree) -> PyTree:
        """Leaf by leaf on every host, whatever they are split over."""
        gather = jax.jit(lambda a: a, out_shardings=self.everywhere)
        get = lambda a: np.asarray(a if a.is_fully_addressable else gather(a))
        return jax.tree.map(get, tree)


def layout(devices: Sequence[Any] | None = None, sharding: Sharding = Data()) -> Layout:
    """The layout over `devices`, all there are, of all processes, where none are given.

    ConfigError where they cannot be arranged so that `sharding.size` of them share a part.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % sharding.size:
        raise ConfigError(
            f"config.train.sharding: size={sharding.size}: needs a divisor of the number of "
            f"devices ({len(devices)})"
        )
    shape, types = (len(devices) // sharding.size, sharding.size), (AxisType.Auto,) * 2
    return Layout(jax.make_mesh(shape, ("data", "model"), types, devices=devices), sharding)
