"""Hostile, damaged and odd files: only arrays are read, and nothing is executed."""

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffjax.io import torch_files
from diffjax.io.pickles import CONSTANTS, OPCODES, VALUES

CANARY = "canary"


def call(function: str, *arguments: bytes) -> bytes:
    """Return the instructions of a pickle that call a function, without head and end."""
    module, _, name = function.rpartition(".")
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(n: int) -> bytes:
    return b"J" + struct.pack("<i", n)


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def in_dict(body: bytes) -> bytes:
    """Put the pickle beside a harmless value, deep in a state dict."""
    inner = b"}" + text("layer.weight") + body + b"s"
    return b"}" + text("step") + number(3) + b"s" + text("state") + inner + b"s"


TOUCH = text(f"touch {CANARY}")
WRITE = text(f"open({CANARY!r}, 'w').close()")
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
STORAGE += number(4) + b"tQ"


def rebuilt(offset: int, size: bytes, stride: bytes, storage: bytes = STORAGE) -> bytes:
    rest = b"\x89" + call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", storage, number(offset), size, stride, rest)


def sizes(*n: int) -> bytes:
    return b"(" + b"".join(number(i) for i in n) + b"t"


def old_format(*parts: bytes, data: bytes = struct.pack("<q4f", 4, 1, 2, 3, 4)) -> bytes:
    head = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    return b"".join([*head, *(pickled(p) for p in parts), pickle.dumps(["0"], 2), data])


def loaded_from(data: bytes) -> bytes:
    body = b"B" + struct.pack("<I", len(data)) + data
    return call("torch.storage._load_from_bytes", body)


def zipped(body: bytes, data: bytes = struct.pack("<4f", 1, 2, 3, 4), **how) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", **how) as archive:
        archive.writestr("archive/data.pkl", pickled(body))
        archive.writestr("archive/data/0", data)
    return made.getvalue()


class Hostile:
    def __reduce__(self):
        import os

        return os.system, (f"touch {CANARY}",)


def objects() -> bytes:
    """An array of objects, one of which runs a command."""
    made = np.empty(1, object)
    made[0] = Hostile()
    return made.dumps()


VIEW = rebuilt(0, sizes(2, 2), sizes(2, 1))
SYSTEM = call("posix.system", TOUCH)
GETATTR = call("builtins.getattr", b"cos\nsystem\n", text("__call__"))
HOSTILE = {
    "os.system": pickled(call("os.system", TOUCH)),
    "posix.system": pickle.dumps(Hostile()),
    "every protocol": pickle.dumps(Hostile(), 0).replace(b"cposix", b"\x80\x02cposix", 1),
    "in a state dict": pickled(in_dict(SYSTEM)),
    "eval": pickled(call("builtins.eval", WRITE)),
    "exec": pickled(call("__builtin__.exec", WRITE)),
    "getattr": pickled(GETATTR),
    "getattr of an admitted name": pickled(
        call("builtins.getattr", b"ccollections\nOrderedDict\n", text("__class__"))
    ),
    "dotted name": pickled(b"\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93)R"),
    "dotted module": pickled(b"\x8c\x05numpy\x8c\x0ef2py.os.system\x93" + TOUCH + b"\x85R"),
    "partial": pickled(call("functools.partial", b"cos\nsystem\n", TOUCH)),
    "subprocess": pickled(call("subprocess.Popen", b"(" + TOUCH + b"l")),
    "torch.load": pickled(call("torch.serialization.load", text("other.pt"))),
    "hub": pickled(call("torch.hub.load", text("there"))),
    "instance": pickled(b"(" + TOUCH + b"ios\nsystem\n"),
    "object": pickled(b"(cos\nsystem\n" + TOUCH + b"o"),
    "new object": pickled(b"csubprocess\nPopen\n(" + TOUCH + b"t\x81"),
    "new object by keywords": pickled(b"ccollections\nOrderedDict\n)}\x92"),
    "extension": pickled(b"\x82\x01"),
    "persistent id as text": pickled(b"Pos.system\n"),
    "persistent id in a plain pickle": pickled(STORAGE),
    "state of a function": pickled(b"ccollections\nOrderedDict\n}" + text("a") + TOUCH + b"sb"),
    "slots of a module": pickled(
        b"ctorch.nn.modules.linear\nLinear\n)\x81N}" + text("__class__") + TOUCH + b"s\x86b"
    ),
    "setstate": pickled(b"ctorch.nn.modules.linear\nLinear\n)\x81" + SYSTEM + b"b"),
    "module, called as a value": pickled(b"ctorch.nn.modules.linear\nLinear\n)\x81)R"),
    "type called": pickled(call("torch.FloatStorage", number(2))),
    "function of another type": pickled(
        call("torch._tensor._rebuild_from_type_v2", b"ccollections\nOrderedDict\n", b"N)N")
    ),
    "old _codecs.encode": pickled(call("_codecs.encode", TOUCH, text("rot13"))),
    "decode": pickled(call("_codecs.decode", TOUCH, text("unicode_escape"))),
    "objects of numpy": objects(),
    "numpy of objects": pickled(
        call("numpy.core.multiarray.scalar", call("numpy.dtype", text("O8")), b"U\x08" + 8 * b"a")
    ),
    "numpy of records": pickled(
        call("numpy._core.multiarray.scalar", call("numpy.dtype", text("f4,O")), b"U\x01a")
    ),
    "source code of a module": pickled(
        call(
            "torch_utils.persistence._reconstruct_persistent_obj",
            b"}" + text("module_src") + WRITE + b"s" + text("class_name") + SYSTEM + b"s",
        )
    ),
    "zip": zipped(SYSTEM),
    "in the arguments of a tensor": zipped(rebuilt(0, SYSTEM, sizes(1))),
    "in a persistent id": zipped(b"(" + text("storage") + SYSTEM + b"tQ"),
    "as a storage": zipped(STORAGE.replace(b"ctorch\nFloatStorage\n", b"cos\nsystem\n")),
    "another tag": zipped(STORAGE.replace(b"storage", b"modules")),
    "a key that is a path": zipped(STORAGE.replace(text("0"), text("../../0")) + b"0" + VIEW),
    "negative size of a storage": zipped(STORAGE.replace(number(4), number(-4))),
    "two sizes of a storage": zipped(VIEW + STORAGE.replace(number(4), number(9)) + b"\x86"),
    "larger than its data": zipped(rebuilt(0, sizes(4), sizes(1)), data=12 * b"a"),
    "storage as a value": zipped(STORAGE),
    "negative size": zipped(rebuilt(0, sizes(-1), sizes(1))),
    "negative stride": zipped(rebuilt(3, sizes(2), sizes(-1))),
    "negative offset": zipped(rebuilt(-1, sizes(2), sizes(1))),
    "offset": zipped(rebuilt(3, sizes(2), sizes(1))),
    "stride": zipped(rebuilt(0, sizes(2, 2), sizes(3, 1))),
    "huge stride": zipped(rebuilt(0, sizes(2, 2**31 - 1), sizes(0, 2**31 - 1))),
    "size without memory": zipped(rebuilt(0, sizes(2**31 - 1, 2**31 - 1), sizes(0, 0))),
    "strides without sizes": zipped(rebuilt(0, sizes(2), sizes(1, 1))),
    "sizes of text": zipped(rebuilt(0, b"(" + text("a") + b"t", sizes(1))),
    "compressed": zipped(VIEW, compression=zipfile.ZIP_DEFLATED),
    "another zip": zipped(VIEW).replace(b"data.pkl", b"data.txt"),
    "without data": zipped(VIEW).replace(b"data/0", b"data/1"),
    "old format": old_format(SYSTEM),
    "in an old format's head": pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickled(SYSTEM),
    "in an old storage": pickled(loaded_from(old_format(SYSTEM))),
    "an old storage within": pickled(loaded_from(old_format(loaded_from(old_format(STORAGE))))),
    "no storage in an old one": pickled(loaded_from(old_format(b"}"))),
    "old storage cut short": old_format(VIEW, data=struct.pack("<q3f", 4, 1, 2, 3)),
    "old storage of another size": old_format(VIEW, data=struct.pack("<q4f", 3, 1, 2, 3, 4)),
    "old storage not there": old_format(VIEW.replace(text("0"), text("1"))),
    "list in itself": pickled(b"]q\x00h\x00a"),
    "more and more": pickled(b"]" + b"".join(b"(q\x002h\x00h\x00l" for _ in range(60))),
    "a key that is a list": pickled(b"}]Ns"),
    "an empty stack": pickled(b"R"),
    "no memo": pickled(b"h\x07"),
    "no mark": pickled(b"t"),
    "an odd number of items": pickled(b"}(Nu"),
    "endless text": b"\x80\x04\x8d" + b"\xff" * 8 + b"a",
    "endless bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"a",
    "huge number": b"\x80\x02L" + 5000 * b"1" + b"L\n.",
    "empty": b"",
    "text": b"Not Found",
    "html": b"<!doctype html>",
    "head of a zip file": b"PK\x03\x04" + 50 * b"a",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_and_damaged_files_are_refused(tmp_path, monkeypatch, name):
    """A downloaded file would run a program, or read memory outside of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch_files, "LIMIT", 10_000)
    Path("weights").write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=r"^weights: ") as caught:
        torch_files.read(Path("weights"))
    assert "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


@pytest.mark.parametrize(
    ("name", "refused"), [("os.system", "os.system"), ("eval", "builtins.eval")]
)
def test_what_is_refused_is_named(tmp_path, name, refused):
    """The user would not learn what is in the file."""
    (tmp_path / "weights").write_bytes(HOSTILE[name])
    with pytest.raises(ValueError, match=f"holds {refused}, which is not an array: refused"):
        torch_files.read(tmp_path / "weights")


def read(path: Path, data: bytes):
    path.write_bytes(data)
    return torch_files.read(path)


@pytest.mark.parametrize("name", ["zip", "old", "old storage"])
@pytest.mark.parametrize("cut", [1, 20, 100, 0.5, 0.9])
def test_a_file_cut_short_is_refused(tmp_path, name, cut):
    """Half of a download would be taken for weights."""
    whole = {
        "zip": zipped(VIEW),
        "old": old_format(VIEW),
        "old storage": pickled(rebuilt(0, sizes(2), sizes(1), loaded_from(old_format(STORAGE)))),
    }[name]
    assert len(read(tmp_path / "whole", whole).tensors) == 1
    kept = int(len(whole) * cut) if cut < 1 else len(whole) - int(cut)
    with pytest.raises(ValueError, match="cut"):
        read(tmp_path / "cut", whole[:kept])


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_pickles_of_arrays_are_read(tmp_path, protocol):
    """NumPy's own pickles, numbers and containers would be refused or changed."""
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    tree: dict[str, Any] = OrderedDict(
        a=a.T, b=[a, {"c": a[:, 1], "n": (1, 2.5, "x", True, b"raw")}]
    )
    tree["set"], tree["scalar"], tree["long"] = {1, 2}, np.float64(0.1), 2**70
    tree["frozen"], tree["big"] = frozenset((3,)), a.astype(">i4")
    made = read(tmp_path / "weights", pickle.dumps(tree, protocol))
    assert {k: v.tolist() for k, v in made.tensors.items()} == {
        "a": a.T.tolist(),
        "b.0": a.tolist(),
        "b.1.c": a[:, 1].tolist(),
        "big": a.tolist(),
    }
    assert made.settings == {
        "b": [{"n": (1, 2.5, "x", True, b"raw")}],
        "set": {1, 2},
        "scalar": 0.1,
        "long": 2**70,
        "frozen": frozenset((3,)),
    }


def test_every_instruction_is_known_or_refused():
    """A new instruction of pickles would silently be skipped."""
    refused = {code.name for code in pickletools.opcodes} - CONSTANTS - set(VALUES) - set(OPCODES)
    assert refused == {
        *("STOP", "PERSID", "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"),
        *("NEXT_BUFFER", "READONLY_BUFFER"),
    }


KINDS = {"Float": "<f4", "Half": "<f2", "Double": "<f8", "BFloat16": "<u2", "Long": "<i8"}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_of_every_kind_are_read_by_their_strides(tmp_path, kind):
    """Half precision, and bfloat16, which NumPy lacks, would be read as other numbers."""
    expected = np.array([1.0, -2.0, 0.5, 3.0] if kind != "Long" else [1, -2, 5, 3])
    data = expected.astype(KINDS[kind]) if kind != "BFloat16" else None
    if data is None:
        data = (expected.astype("<f4").view("<u4") >> 16).astype("<u2")
    storage = STORAGE.replace(b"FloatStorage", f"{kind}Storage".encode())
    body = rebuilt(0, sizes(2, 2), sizes(1, 2), storage)
    made = read(tmp_path / "weights", zipped(b"}" + text("w") + body + b"s", data.tobytes()))
    np.testing.assert_array_equal(made.tensors["w"], expected.reshape(2, 2).T)
