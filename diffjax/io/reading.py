"""Files to tensors by name. Nothing that is read is executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from diffjax.files import whole
from diffjax.io import flax_files, torch_files
from diffjax.io.contents import Contents

INDEX = ".safetensors.index.json"
READERS: dict[str, Callable[[Path], Contents]] = {
    **dict.fromkeys((".pt", ".pth", ".bin", ".pkl"), torch_files.read),
    ".msgpack": flax_files.read,
}
"""By ending, beside `.safetensors`. Flax gives its checkpoints no ending."""


def read(path: Path) -> Contents:
    """Of a file, by its ending, or of a folder: that of one model, or a pipeline with `unet`.

    Settings: `config.json` beside the tensors, and under `scheduler` that of a pipeline. ValueError
    names the file where there is nothing to read, or more than one thing.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_dir():
        inner = path / "unet" if (path / "unet").is_dir() else path
        return _with_settings(_read(_only(inner)), inner, path)
    return _with_settings(_read(path), path.parent, path.parent)


def _read(path: Path) -> Contents:
    if path.name.endswith(INDEX):
        shards = sorted(set(_json(path).get("weight_map", {}).values()))
        return Contents(Tensors(*(path.parent / name for name in shards)), {})
    if path.suffix == ".safetensors":
        return Contents(Tensors(path), {})
    if not path.suffix:
        return flax_files.read(path)
    if path.suffix not in READERS:
        known = ", ".join([".safetensors", *READERS])
        raise ValueError(f"{path}: no known ending; known: {known}, and folders")
    return READERS[path.suffix](path)


def _only(folder: Path) -> Path:
    """The one file of tensors in a folder; the whole one where there are variants of it."""
    for pattern in (f"*{INDEX}", "*.safetensors", *(f"*{ending}" for ending in READERS)):
        found = sorted(folder.glob(pattern))
        found = [p for p in found if p.name.count(".") == pattern.count(".")] or found
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{folder}: holds {', '.join(p.name for p in found)}; name one")
    raise ValueError(f"{folder}: no tensors in it; known: *.safetensors {' '.join(READERS)}")


def _with_settings(contents: Contents, model: Path, pipeline: Path) -> Contents:
    """Beside what the tensors come with, the settings in JSON."""
    settings = _json(model / "config.json")
    for place in (pipeline / "scheduler", pipeline, pipeline.parent / "scheduler"):
        if scheduler := _json(place / "scheduler_config.json"):
            settings["scheduler"] = scheduler
            break
    return Contents(contents.tensors, settings | contents.settings)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    return found if isinstance(found, dict) else {}


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one or more .safetensors files, each read when it is asked for."""

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
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def write(path: Path, tensors: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """A .safetensors file of these arrays, as they are, and all of it at once."""
    with whole(path) as part:
        save_file({k: np.asarray(v, order="C") for k, v in tensors.items()}, part, metadata)
