"""Checksums of leaves against their definition, for any devices that hold the leaf."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from diffjax.training import checksums as module
from diffjax.training.checksums import checksums, total

pytestmark = pytest.mark.typed


def by_definition(a) -> tuple[int, int]:
    """Compute the two sums in exact integers."""
    a = np.asarray(a)
    words = [int.from_bytes(item.tobytes(), "little") for item in a.reshape(-1)]
    return sum(words) % 2**64, sum(i * w for i, w in enumerate(words)) % 2**64


def leaf(shape, dtype="float32"):
    return np.random.default_rng(0).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("block", [1 << 20, 7])
def test_the_sums_are_those_of_the_definition(monkeypatch, block):
    """Checksums would depend on the blocks, which only save memory."""
    monkeypatch.setattr(module, "BLOCK", block)
    tree = {
        "scalar": leaf(()),
        "empty": leaf((0, 3)),
        "long": leaf((50,)),
        "wide": leaf((3, 4, 5), "float16"),
        "bfloat16": jnp.asarray(leaf((4, 6)), jnp.bfloat16),
        "whole": np.arange(-5, 20, dtype=np.int32),
        "bool": leaf((9,)) > 0,
    }
    tree = jax.device_put(tree)
    expected = {f"['{k}']": by_definition(a) for k, a in tree.items()}
    assert checksums(tree) == expected


@pytest.mark.parametrize("spec", [(), ("a",), (None, "b"), ("a", "b"), (None, None, ("a", "b"))])
def test_they_do_not_depend_on_the_devices(spec):
    """A checkpoint that is read on more devices would be reported as damaged."""
    mesh = jax.make_mesh((2, 4), ("a", "b"), (jax.sharding.AxisType.Auto,) * 2)
    a = leaf((4, 8, 16))
    placed = jax.device_put(a, NamedSharding(mesh, PartitionSpec(*spec)))
    assert checksums(placed) == {"": by_definition(a)}


def test_parts_of_processes_add_up():
    assert total([{"a": (2**64 - 1, 3)}, {"a": (2, 4)}, {"b": (1, 1)}]) == {
        "a": (1, 7),
        "b": (1, 1),
    }


def test_a_changed_bit_and_two_swapped_elements_are_seen():
    a = leaf((6, 5))
    found = checksums(jax.device_put(a))
    for bit in range(32):
        b = a.copy()
        b.view(np.uint32)[3, 2] ^= 1 << bit
        assert checksums(jax.device_put(b)) != found
    b = a.copy()
    b[[1, 4]] = b[[4, 1]]
    assert checksums(jax.device_put(b)) != found
