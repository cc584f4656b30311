"""Arrays as PyTorch and NumPy pickle them: the builder of each name, and the reading of arrays."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffjax.io.pickles import Builder, Name, Object, Stream, expect, interpret, printable

DTYPES = {
    "Float": "f4",
    "Double": "f8",
    "Half": "f2",
    "BFloat16": "u2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
    "Untyped": "u1",
}
"""Types of the storages of PyTorch; bfloat16, which NumPy lacks, is read as its bits."""


@dataclass
class Storage:
    """A storage: consecutive numbers. `data` is filled when the place of its bytes is known."""

    kind: str
    numel: int
    data: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(DTYPES[self.kind])

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize

    def fill(self, data: np.ndarray, order: Any = "<") -> None:
        """Set the data from bytes.

        data: the bytes of the storage. Raises ValueError where there are too few.
        """
        if len(data) < self.nbytes:
            raise ValueError(f"a storage of {self.nbytes} bytes has {len(data)}: cut short")
        self.data = data[: self.nbytes].view(self.dtype.newbyteorder(order))


@dataclass
class Tensor:
    """A view of a storage, whose bounds are checked, read by `read`."""

    storage: Storage
    offset: Any  # integers, which is checked because they come from a file
    size: tuple[Any, ...]
    stride: tuple[Any, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        whole = all(type(n) is int and n >= 0 for n in numbers)
        if not whole or len(self.size) != len(self.stride):
            raise ValueError(f"a tensor of shape {self.size} and stride {self.stride}: refused")
        last = sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        inside = self.offset + last < self.storage.numel
        if math.prod(self.size) and not (inside and math.prod(self.size) <= self.storage.numel):
            raise ValueError(
                f"a tensor of shape {self.size}, stride {self.stride} and offset {self.offset} "
                f"reaches out of its storage of {self.storage.numel}: refused"
            )

    def read(self) -> np.ndarray:
        data = self.storage.data
        assert data is not None
        if not math.prod(self.size):
            data = np.zeros(self.size, data.dtype)
        else:
            strides = [s * data.itemsize for s in self.stride]
            data = np.lib.stride_tricks.as_strided(
                data[self.offset :], self.size, strides, writeable=False
            )
        if self.storage.kind == "BFloat16":
            return (data.astype(np.uint32) << 16).view(np.float32)
        return data if data.dtype.isnative else data.astype(data.dtype.newbyteorder("="))


@dataclass
class Dtype:
    """A NumPy dtype of numbers."""

    text: str

    def filled(self, _: Any, order: Any, *_others: Any) -> None:
        self.text = expect(str, order).replace("|", "=") + self.text

    def dtype(self) -> np.dtype[Any]:
        if not re.fullmatch("[<>=]?[biufc][0-9]+", self.text):
            raise ValueError(f"an array of dtype {printable(self.text)}: refused")
        return np.dtype(self.text)


@dataclass
class Array:
    """A NumPy array, which its pickle first creates and then fills."""

    value: np.ndarray | None = None

    def filled(self, _: Any, shape: Any, dtype: Any, fortran: Any, data: Any) -> None:
        flat = np.frombuffer(expect(bytes, data), expect(Dtype, dtype).dtype())
        self.value = flat.reshape(shape, order="F" if fortran else "C")

    def read(self) -> np.ndarray:
        if self.value is None:
            raise ValueError("an array without data: cut short")
        return self.value


def scalar(dtype: Any, data: Any) -> Any:
    """Return a NumPy scalar as a Python number."""
    return np.frombuffer(expect(bytes, data), expect(Dtype, dtype).dtype())[0].item()


def buffered(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Return a NumPy array of protocol 5."""
    array = Array()
    array.filled(1, shape, dtype, order == "F", bytes(data))
    return array


def encoded(text: Any, encoding: Any = "latin1") -> bytes:
    """Return bytes in the form in which protocol 2 writes them."""
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {printable(str(encoding))}: refused")
    return expect(str, text).encode("latin1")


# Builders, whose arguments come from the file and so may have any value.


def tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    """Return a tensor of PyTorch."""
    return Tensor(expect(Storage, storage), offset, expect(tuple, size), expect(tuple, stride))


def parameter(data: Any, *_: Any) -> Tensor:
    """Return the tensor of a parameter."""
    return expect(Tensor, data)


def of_type(function: Any, kind: Any, arguments: Any, state: Any) -> Tensor:
    """Return a tensor with attributes, which are dropped."""
    return parameter(TENSORS[expect(Name, function).text](*arguments))


def persistent_object(meta: Any) -> Object:
    """Return an object of EDM's `torch_utils.persistence`; its source code is never read."""
    return Object(expect(str, meta["class_name"]), expect(dict, meta["state"]))


def reconstructed(kind: Any, *_: Any) -> Any:
    """Return an object of a class, in the form in which protocols 0 and 1 create it."""
    text = expect(Name, kind).text
    return PLAIN[text]() if text in PLAIN else Object(text)


def not_called(*_: Any) -> Any:
    """Raise ValueError: the name of a type is admitted, but not a call of it."""
    raise ValueError("a name of a type is called: refused")


def path(*parts: Any) -> str:
    """Return a path as text."""
    return "/".join(expect(str, part) for part in parts)


PLAIN: dict[str, Builder] = {
    "collections.OrderedDict": lambda items=(): dict(items),
    "collections.defaultdict": lambda factory=None, items=(): dict(items),
    "dnnlib.util.EasyDict": dict,
    "builtins.set": lambda items=(): set(items),
    "__builtin__.set": lambda items=(): set(items),
    "builtins.frozenset": lambda items=(): frozenset(items),
    "__builtin__.frozenset": lambda items=(): frozenset(items),
}
TENSORS: dict[str, Builder] = {
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
}
STORAGES = {f"torch.{kind}Storage": kind for kind in DTYPES}
STORAGES |= {f"torch.storage.{kind}Storage": kind for kind in ("Untyped",)}
NUMPY: dict[str, Builder] = {
    "numpy.ndarray": not_called,
    "numpy.dtype": lambda text, *_: Dtype(expect(str, text)),
    "_codecs.encode": encoded,
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: Array() for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": buffered for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
}
TYPES: dict[str, Builder] = {
    **dict.fromkeys(STORAGES, not_called),
    **dict.fromkeys(
        ("torch.Tensor", "torch.nn.parameter.Parameter", "builtins.object"), not_called
    ),
    **{f"torch.{name}": not_called for name in ("float32", "float16", "bfloat16", "float64")},
    "torch.Size": tuple,
    "torch.device": lambda *_: "cpu",
}
SETTINGS: dict[str, Builder] = {
    **dict.fromkeys(
        ("builtins.dict", "builtins.list", "builtins.int", "builtins.float"), not_called
    ),
    "argparse.Namespace": lambda *_: Object("argparse.Namespace"),
    **{
        f"pathlib.{name}": path
        for module in ("", "_local.")
        for name in (f"{module}{kind}Path" for kind in ("", "Posix", "Windows", "PurePosix"))
    },
    **{
        f"{module}.AttributeDict": lambda items=(): dict(items)
        for module in (
            "pytorch_lightning.utilities.parsing",
            "lightning.pytorch.utilities.parsing",
            "lightning.fabric.utilities.data",
            "lightning_fabric.utilities.data",
        )
    },
    "torch.torch_version.TorchVersion": lambda text: expect(str, text),
}
"""Builders of what training scripts store beside the tensors: arguments, paths, containers."""
BASIC: dict[str, Builder] = {
    **PLAIN,
    **TENSORS,
    **NUMPY,
    **TYPES,
    "torch._tensor._rebuild_from_type_v2": of_type,
    "copyreg._reconstructor": reconstructed,
    "copy_reg._reconstructor": reconstructed,
    "torch_utils.persistence._reconstruct_persistent_obj": persistent_object,
    **SETTINGS,
    "torch.nn.modules.*": not_called,
}


def storages(storages_by_key: dict[str, Storage]) -> Callable[[Any], Storage]:
    """Return the function from persistent ids to storages, which it collects by their keys."""

    def persistent(reference: Any) -> Storage:
        tag, kind, key, _, numel, *view = expect(tuple, reference)
        known = tag == "storage" and isinstance(kind, Name) and kind.text in STORAGES
        if not known or type(numel) is not int or numel < 0 or any(v is not None for v in view):
            raise ValueError(
                f"refers to {printable(repr(reference))}, which is no storage: refused"
            )
        storage = Storage(STORAGES[kind.text], numel)
        kept = storages_by_key.setdefault(expect(str, key), storage)
        if (kept.kind, kept.numel) != (storage.kind, numel):
            raise ValueError(f"two storages of the key {printable(key)}: refused")
        return kept

    return persistent


MAGIC = 0x1950A86A20F9469CFC6C
"""First number of a file in the format that PyTorch wrote until 1.5."""


def legacy(data: np.ndarray, stream: Stream, builders: dict[str, Builder]) -> Any:
    """Read a file in the format that PyTorch wrote until 1.5.

    data: its bytes, which `stream` reads.
    """
    if interpret(stream, {}) != MAGIC or interpret(stream, {}) != 1001:
        raise ValueError("not a file of PyTorch")
    system = expect(dict, interpret(stream, {}))
    by_key: dict[str, Storage] = {}
    tree = interpret(stream, builders, storages(by_key))
    keys, place = expect(list, interpret(stream, {})), stream.tell()
    order = "<" if system.get("little_endian", True) else ">"
    for key in keys:
        head = data[place : place + 8]
        if key not in by_key or len(head) < 8 or head.view(f"{order}i8")[0] != by_key[key].numel:
            raise ValueError(f"the storage {printable(str(key))} is not as announced: cut short")
        by_key[key].fill(data[place + 8 :], order)
        place += 8 + by_key[key].nbytes
    if missing := set(by_key) - set(keys):
        raise ValueError(f"the storage {printable(min(missing))} is missing: cut short")
    return tree


def from_bytes(data: Any) -> Storage:
    """Return a storage in a plain pickle: a file of the old format that holds nothing else."""
    data = expect(bytes, data)
    return expect(Storage, legacy(np.frombuffer(data, np.uint8), io.BytesIO(data), BASIC))


BUILDERS = {**BASIC, "torch.storage._load_from_bytes": from_bytes}
