"""Readers of files to tensors by name, and a writer; no content of a file is executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from diffjax.files import read_arrays, whole
from diffjax.io import flax_files, torch_files
from diffjax.io.contents import Contents

INDEX = ".safetensors.index.json"


def numpy_file(path: Path) -> Contents:
    """Read an .npz file of arrays.

    Raises ValueError that names the file, where it cannot be read.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/net.npz", w=np.ones(2))
    ...     [*numpy_file(Path(folder, "net.npz")).tensors]
    ['w']
    """
    try:
        return Contents(read_arrays(path), {})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


READERS: dict[str, Callable[[Path], Contents]] = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".pkl", ".ckpt"), torch_files.read),
    ".msgpack": flax_files.read,
    ".npz": numpy_file,
}
"""Readers by ending, beside `.safetensors`. Flax gives its checkpoints no ending."""


def read(path: Path) -> Contents:
    """Read a file by its ending, or a folder with one model, or with a pipeline of one network.

    The contents include the settings in JSON beside the tensors, and those of the scheduler of a
    pipeline. Raises ValueError that names the file, where there is nothing to read, or more than
    one candidate.

    >>> read(Path("nowhere.pt"))
    Traceback (most recent call last):
    ValueError: nowhere.pt: ...
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if not path.is_dir():
        return _with_settings(path, path.parent, path.parent)
    inner = [path / name for name in MODELS if (path / name).is_dir()]
    if len(inner) > 1:
        raise ValueError(f"{path}: holds {' and '.join(p.name for p in inner)}; name one of them")
    model = inner[0] if inner else path
    return _with_settings(_only(model), model, path)


MODELS = ("unet", "unet_ema", "transformer")
"""Folders of networks in a pipeline, and in a checkpoint of diffusers' training scripts."""


def _read(path: Path) -> Contents:
    if path.name.endswith(INDEX):
        return Contents(Tensors(*_shards(path)), {})
    if path.suffix == ".safetensors":
        return Contents(Tensors(path), {})
    if not path.suffix:
        return flax_files.read(path)
    if path.suffix not in READERS:
        known = ", ".join([".safetensors", *READERS])
        raise ValueError(f"{path}: unknown ending; known: {known}, and folders")
    return READERS[path.suffix](path)


def _shards(path: Path) -> list[Path]:
    """Return the files that an index names, which lie beside it."""
    places = settings(path).get("weight_map")
    names = [*places.values()] if isinstance(places, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise ValueError(f"{path}: its weight_map does not name files beside it")
    return [path.parent / name for name in sorted(set(names))]


def _only(folder: Path) -> Path:
    """Return the only file of tensors in a folder, the complete one where there are variants.

    Raises ValueError where there is none, or more than one.
    """
    for pattern in (f"*{INDEX}", "*.safetensors", *(f"*{ending}" for ending in READERS)):
        files = sorted(folder.glob(pattern))
        files = [p for p in files if p.name.count(".") == pattern.count(".")] or files
        if len(files) == 1:
            return files[0]
        if files:
            raise ValueError(
                f"{folder}: holds {', '.join(p.name for p in files)}; name one of them"
            )
    raise ValueError(f"{folder}: no tensors in it; known: *.safetensors {' '.join(READERS)}")


def _with_settings(file: Path, model: Path, pipeline: Path) -> Contents:
    """Return the contents of a file, with the settings in JSON beside it."""
    contents, scheduler = _read(file), {}
    for place in (pipeline / "scheduler", pipeline, pipeline.parent / "scheduler"):
        scheduler = scheduler or settings(place / "scheduler_config.json")
    config = settings(model / "config.json") or None
    return Contents(*contents[:2], file.stem, config, scheduler or None)


def settings(path: Path) -> dict[str, Any]:
    """Return the fields of a JSON file, {} where there is no file.

    Raises ValueError that names the file for other contents.

    >>> settings(Path("nowhere.json"))
    {}
    """
    if not path.is_file():
        return {}
    try:
        fields = json.loads(path.read_text())
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: holds {str(fields)[:40]!r}; needs an object with fields")
    return fields


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one or more .safetensors files, each read when it is accessed.

    Raises ValueError for a file that cannot be read, and for a tensor of a type without a NumPy
    type.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "net.safetensors"), {"w": np.ones(2)}, {"step": "500"})
    ...     tensors = Tensors(Path(folder, "net.safetensors"))
    ...     [*tensors], tensors.metadata
    (['w'], {'step': '500'})
    """

    def __init__(self, *paths: Path):
        self.metadata: dict[str, str] = {}
        self._files: dict[str, Any] = {}
        for path in paths:
            try:
                file = safe_open(path, framework="np")
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path}: cannot be read ({error})") from error
            self.metadata |= file.metadata() or {}
            self._files |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> np.ndarray:
        try:
            return self._files[name].get_tensor(name)
        except (SafetensorError, TypeError, AttributeError) as error:
            raise ValueError(f"{name}: has a type that NumPy lacks ({error})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def write(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """Write these arrays unchanged to a .safetensors file, atomically.

    tensors: arrays by name. metadata: texts by name, stored beside them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(Path(folder, "net.safetensors"), {"w": np.ones(2)}, {"step": "500"})
    ...     contents = read(Path(folder, "net.safetensors"))
    ...     contents.tensors["w"].tolist()
    [1.0, 1.0]
    """
    with whole(path) as part:
        part.touch()
        mode = part.stat().st_mode
        save_file({k: np.asarray(v, order="C") for k, v in tensors.items()}, part, metadata)
        part.chmod(mode)  # the library leaves 0600, which other users could not read
        _sort(part)


def _sort(path: Path) -> None:
    """Sort the metadata alphabetically, so that equal runs write equal files.

    The library writes them in random order.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))
