"""Where arrays live: one mesh over all devices, the batch split over it, the state by a rule.

The same program runs on one device and on many: `jax.jit` with these shardings makes the compiler
put in the communication that they imply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

Rule = Callable[[jax.ShapeDtypeStruct, Mesh], PartitionSpec]
"""How one leaf of the train state is laid out; all that data-parallel and sharded training differ
in."""


def replicated(leaf: jax.ShapeDtypeStruct, mesh: Mesh) -> PartitionSpec:
    """Every device holds the whole leaf: data parallelism."""
    return PartitionSpec()


@dataclass(frozen=True)
class Layout:
    """Devices in a row, axis "data", and the rule for the state."""

    mesh: Mesh
    rule: Rule = replicated

    @property
    def size(self) -> int:
        return self.mesh.size

    def state(self, abstract: PyTree) -> PyTree:
        """Shardings of a state whose leaves have these shapes."""
        shape = lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype)
        place = lambda a: NamedSharding(self.mesh, self.rule(shape(a), self.mesh))
        return jax.tree.map(place, abstract)

    @property
    def everywhere(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())

    def split(self, axis: int) -> NamedSharding:
        """Sharding that splits `axis` over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(*(None,) * axis, "data"))

    def place(self, stack: PyTree) -> PyTree:
        """Batches (K, B, ...) from the host, B split over the devices."""
        put = lambda a: jax.make_array_from_process_local_data(self.split(1), np.asarray(a))
        return jax.tree.map(put, stack)


def layout(devices: Any = None, rule: Rule = replicated) -> Layout:
    """The layout over `devices`, all there are where none are given."""
    devices = jax.devices() if devices is None else devices
    types = (AxisType.Auto,)
    return Layout(jax.make_mesh((len(devices),), ("data",), types, devices=devices), rule)
