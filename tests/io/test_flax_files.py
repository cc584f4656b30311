"""Checkpoints in the format of Flax, and files that are not checkpoints."""

import flax.serialization
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

from diffjax.io.flax_files import CHUNKED
from diffjax.io.reading import read

pytestmark = pytest.mark.typed


def test_every_kind_of_value_comes_back(tmp_path):
    """Averages in half precision, numbers and nested names would be lost."""
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": {"0": jnp.ones(2, jnp.bfloat16)}}
    tree = {"params": arrays, "step": 7, "rate": np.float32(0.5), "rng": np.array([1], np.uint32)}
    (tmp_path / "checkpoint_7").write_bytes(flax.serialization.to_bytes(tree))
    contents = read(tmp_path / "checkpoint_7")
    assert set(contents.tensors) == {"params.a", "params.b.0", "rng"}
    np.testing.assert_array_equal(contents.tensors["params.a"], arrays["a"])
    assert contents.tensors["params.b.0"].dtype == jnp.bfloat16
    assert contents.settings["step"] == 7 and contents.settings["rate"] == 0.5


def test_arrays_in_parts_are_joined(tmp_path, monkeypatch):
    """Arrays larger than a gigabyte, which Flax cuts into parts, would not be read."""
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 64)
    a = np.arange(60.0).reshape(5, 12)
    data = flax.serialization.msgpack_serialize({"a": a})
    assert CHUNKED.encode() in data
    (tmp_path / "a.msgpack").write_bytes(data)
    np.testing.assert_array_equal(read(tmp_path / "a.msgpack").tensors["a"], a)


def array(shape, dtype, data):
    return msgpack.packb({"a": msgpack.ExtType(1, msgpack.packb((shape, dtype, data)))})


BAD = {
    "empty": b"",
    "text": b"Not Found",
    "a number": msgpack.packb(3),
    "no named arrays": msgpack.packb({"step": 3}),
    "cut short": array((2,), "float32", b"12345678")[:-3],
    "another size": array((3,), "float32", b"12345678"),
    "objects": array((1,), "object", b"12345678"),
    "no type": array((1,), "system", b"12345678"),
    "parts that are none": msgpack.packb({"a": {CHUNKED: True, "shape": 3, "chunks": {}}}),
    "parts without a shape": msgpack.packb({"a": {CHUNKED: True}}),
}


@pytest.mark.parametrize("name", BAD)
def test_other_files_are_refused_in_one_line(tmp_path, name):
    """A traceback of msgpack would name neither the file nor the expected format."""
    (tmp_path / "checkpoint").write_bytes(BAD[name])
    with pytest.raises(ValueError, match=r"checkpoint: not a checkpoint of Flax") as caught:
        read(tmp_path / "checkpoint")
    assert "\n" not in str(caught.value)
