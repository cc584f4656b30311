"""Placement of arrays on one mesh over all devices: the batch is split, the state follows a rule.

The same program runs on one device and on many, in one process or in one per host: `jax.jit` with
these shardings lets the compiler insert the communication that they imply.
"""

from __future__ import annotations

import abc
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from diffjax.arrays import BATCH, catalogue, spread
from diffjax.checks import at_least
from diffjax.config import ConfigError

Split = list[str | None]
"""The axis of the mesh over which each axis of an array is split, None where it is not split."""


class Sharding(abc.ABC):
    """A layout of the leaves of the train state, the only difference between parallel strategies.

    size: the number of devices along the axis "model", which share one part of the batch. within:
    the number of devices along the axis "data", None for all that remain; the others are along the
    axis "replica".
    """

    size: int = 1
    within: int | None = None

    @property
    def splits_weights(self) -> bool:
        """Whether weights are split over the axis "data" alone, like the batch."""
        return False

    @abc.abstractmethod
    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        """Return the split of the leaf at `path`, such as `params/network/blocks/main/qkv/kernel`.

        shape: the shape of the leaf.
        """


@dataclass(frozen=True)
class Data(Sharding):
    """Data parallelism: every device holds the whole state.

    >>> devices = layout(jax.devices()[:1])
    >>> Data().split("params/network/Dense_0/kernel", (64, 128), devices.mesh)
    [None, None]
    """

    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        return [None] * len(shape)


@dataclass(frozen=True)
class FSDP(Sharding):
    """Fully sharded data parallelism: each leaf is split along its longest divisible axis.

    Parameters are gathered where a layer needs them, and gradients are summed into the shards
    (arXiv:1910.02054, stage 3). smallest: the least number of elements of a leaf that is split.
    within: the number of neighbouring devices that share one copy of the state, a divisor of their
    number, None for all (arXiv:2304.11277, hybrid sharding). On hundreds of devices the
    parts of a layer are a few rows, which take long to gather: a group of 8 or 16 gathers larger
    ones, and only sums of gradients travel between groups.

    >>> devices = layout(jax.devices()[:1])
    >>> FSDP().split("params/network/Dense_0/kernel", (64, 128), devices.mesh)
    [None, 'data']
    """

    smallest: int = 1024
    within: int | None = None

    def __post_init__(self):
        at_least(1, within=self.within or 1)

    @property
    def splits_weights(self) -> bool:
        return True

    def split(self, path: str, shape: tuple[int, ...], mesh: Mesh) -> Split:
        whole: Split = [None] * len(shape)
        return longest(whole, shape, mesh) if np.prod(shape) >= self.smallest else whole


@dataclass(frozen=True)
class Model(Sharding):
    """Tensor parallelism: the layers are split over `size` devices (arXiv:1909.08053).

    Weights are split by output features, so that each device computes some of the features. Weights
    whose path matches `rows`, which map back to all features, are split by input features, and
    their products are partial sums. size: the number of devices, >= 1. fsdp: split the leaves over
    the axis "data" as well. smallest: as in `FSDP`. rows: a regular expression.

    >>> devices = layout(jax.devices()[:1])
    >>> Model(size=1).split("params/network/qkv/kernel", (256, 768), devices.mesh)
    [None, 'model']
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
    """Return the split with the longest free axis that is divisible split over "data".

    >>> longest([None, "model"], (64, 128), layout(jax.devices()[:1]).mesh)
    ['data', 'model']
    """
    free = [i for i, n in enumerate(shape) if split[i] is None and n % mesh.shape["data"] == 0]
    chosen = max(free, key=lambda i: shape[i], default=None)
    return ["data" if i == chosen else s for i, s in enumerate(split)]


@dataclass(frozen=True)
class Layout:
    """The devices as a mesh with the axes "replica", "data" and "model", and the state's sharding.

    A batch is split over "replica" and "data" together.

    >>> devices = layout(jax.devices()[:1])
    >>> devices.size, devices.parts, devices.rows(batch_size=4).tolist()
    (1, 1, [0, 1, 2, 3])
    """

    mesh: Mesh
    sharding: Sharding = Data()

    @property
    def size(self) -> int:
        """The number of devices."""
        return self.mesh.size

    @property
    def alone(self) -> bool:
        """True if all devices belong to this process."""
        return self.everywhere.is_fully_addressable

    @property
    def parts(self) -> int:
        """The number of parts into which a batch is split."""
        return self.mesh.shape["replica"] * self.mesh.shape["data"]

    def state(self, abstract: PyTree) -> PyTree:
        """Return the shardings of a state whose leaves have these shapes."""

        def place(path: Any, a: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            split = self.sharding.split(name, a.shape, self.mesh)
            return NamedSharding(self.mesh, PartitionSpec(*split))

        return jax.tree_util.tree_map_with_path(place, abstract)

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding that keeps a whole array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def split(self, axis: int) -> NamedSharding:
        """Return the sharding that splits `axis` into the parts of a batch."""
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, BATCH))

    def rows(self, batch_size: int) -> np.ndarray:
        """Return the rows of a batch that the devices of this process need, in ascending order."""
        slices = self.split(0).addressable_devices_indices_map((batch_size,)).values()
        return np.unique([np.arange(batch_size)[i] for i in slices if i is not None])

    def batches(self, num: int, size: int) -> Iterator[tuple[np.ndarray, int]]:
        """Yield the rows of batches of one size that cover `num` rows, and how many of them count.

        The last batch is filled up with the last row, so that one program serves all batches. size:
        rounded up to a multiple of the parts of a batch.

        >>> [(rows.tolist(), count) for rows, count in layout(jax.devices()[:1]).batches(3, 2)]
        [([0, 1], 2), ([2, 2], 1)]
        """
        size = -(-size // self.parts) * self.parts
        for start in range(0, num, size):
            yield np.minimum(np.arange(start, start + size), num - 1), min(size, num - start)

    def place(self, stack: PyTree) -> PyTree:
        """Place batches (K, B, ...) on the devices, with the axis B split over the mesh.

        stack: the `rows` (K, b, ...) of this process.
        """
        split = self.split(1)
        if split.is_fully_addressable:
            return jax.device_put(stack, split)  # equal to the general case, in half the time
        put = lambda a: jax.make_array_from_process_local_data(split, np.asarray(a))
        return jax.tree.map(put, stack)

    def put(self, tree: PyTree, axis: int | None = None) -> PyTree:
        """Place values that are equal on all hosts on every device, or with `axis` split."""
        return spread(tree, self.everywhere if axis is None else self.split(axis))

    def whole(self, tree: PyTree) -> PyTree:
        """Gather the whole of each leaf, however it is split, as NumPy arrays on every host."""
        gather = jax.jit(lambda a: a, out_shardings=self.everywhere)
        get = lambda a: np.asarray(a if a.is_fully_addressable else gather(a))
        return jax.tree.map(get, tree)


def layout(devices: Sequence[Any] | None = None, sharding: Sharding = Data()) -> Layout:
    """Return the layout over `devices`, by default all devices of all processes.

    Raises ConfigError where `sharding.size` and `sharding.within` do not divide their number.

    >>> layout(jax.devices()[:1]).sharding
    Data()
    """
    devices = jax.devices() if devices is None else devices
    within = sharding.within or len(devices) // sharding.size
    for name, value in {"size": sharding.size, "within": within}.items():
        if len(devices) % value:
            raise ConfigError(
                f"config.train.sharding: {name}={value}: needs a divisor of the number of "
                f"devices ({len(devices)})"
            )
    shape = (len(devices) // sharding.size // within, within, sharding.size)
    types = (AxisType.Auto,) * 3
    return Layout(jax.make_mesh(shape, (*BATCH, "model"), types, devices=devices), sharding)
