"""The split of a batch over the devices, as networks state it to the compiler."""

from __future__ import annotations

from typing import Any

import jax
from jax.sharding import PartitionSpec

from diffjax.arrays import BATCH


def parts_of(size: int) -> tuple[int, int] | None:
    """Return over how many devices the axes `BATCH` of the mesh split a batch of `size`.

    None where the mesh of `jax.set_mesh` lacks these axes, has one device, or does not divide size.

    >>> parts_of(8) is None
    True
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not {*BATCH} <= {*mesh.auto_axes} or mesh.size == 1:
        return None
    replicas, parts = (mesh.shape[name] for name in BATCH)
    return None if size % (replicas * parts) else (replicas, parts)


def batch_split(a: Any) -> Any:
    """Return an array (B, ...) that stays split along its first axis, as the batch is.

    The compiler may otherwise follow the layout of weights, and gather the batch.

    >>> batch_split(jax.numpy.ones((2, 3))).shape
    (2, 3)
    """
    if parts_of(a.shape[0]) is None:
        return a
    free = (PartitionSpec.UNCONSTRAINED,) * (a.ndim - 1)
    return jax.lax.with_sharding_constraint(a, PartitionSpec(BATCH, *free))
