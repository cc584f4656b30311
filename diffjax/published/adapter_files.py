"""Writers of adapters in the formats of PEFT, diffusers and kohya."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.io.reading import write
from diffjax.published.adapters import CONFIG, METADATA, Array, Change, underscored


class Written(NamedTuple):
    """The file of an adapter: its name, tensors and metadata, and the settings beside it."""

    file: str
    tensors: dict[str, Array]
    metadata: dict[str, str]
    settings: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write the file, and the settings where the format has them, into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / self.file, self.tensors, self.metadata)
        if self.settings:
            (folder / CONFIG).write_text(json.dumps(self.settings, indent=2) + "\n")


def peft(changes: Mapping[str, Change], part: str = "unet") -> Written:
    """Return a file of PEFT, in which lora_alpha / r is the scale.

    part: the name of the network in a pipeline, which PEFT does not state. Raises ValueError for
    magnitudes of inputs, which the format lacks, and for several scales.
    """
    tensors, scales = _factors(changes, "base_model.model."), {c.scale for c in changes.values()}
    if len(scales) != 1:
        raise ValueError(f"scales {sorted(scales)}: a file needs one scale")
    settings = {"peft_type": "LORA", "bias": "none", "inference_mode": True, **_about(changes)}
    settings["lora_alpha"] = scales.pop() * settings["r"]
    return Written("adapter_model.safetensors", tensors, {"format": "pt"}, settings)


def diffusers(changes: Mapping[str, Change], part: str = "unet") -> Written:
    """Return a file of diffusers, with the scale in B.

    So alpha = r, and readers that ignore the metadata find the same
    change. part: `unet` or `transformer`. Raises ValueError for magnitudes of inputs.
    """
    changes = {k: c._replace(up=np.float32(c.scale * c.up), scale=1.0) for k, c in changes.items()}
    about = {f"{part}.{name}": value for name, value in _about(changes).items()}
    metadata = {"format": "pt", METADATA: json.dumps(about, indent=2, sort_keys=True)}
    tensors = _factors(changes, f"{part}.")
    return Written("pytorch_lora_weights.safetensors", tensors, metadata, {})


def kohya(changes: Mapping[str, Change], part: str = "unet") -> Written:
    """Return a file of kohya, in which alpha / r is the scale.

    part: is not stated. Raises ValueError where two modules would have one name.
    """
    tensors: dict[str, Array] = {}
    for name, change in changes.items():
        if f"{underscored(name)}.alpha" in tensors:
            raise ValueError(f"{underscored(name)}: is the name of several modules")
        down, up = _torch(change)
        parts = {"lora_down.weight": down, "lora_up.weight": up}
        parts["alpha"] = np.array(change.scale * change.rank, np.float32)
        if change.magnitude is not None:
            n, ones = change.magnitude.size, (1,) * (change.down.ndim - 2)
            shape = (n, 1, *ones) if change.axis == "output" else (1, n, *ones)
            parts["dora_scale"] = change.magnitude.reshape(shape)
        tensors |= {f"{underscored(name)}.{key}": value for key, value in parts.items()}
    rank, alpha = _one(changes), {float(c.scale * c.rank) for c in changes.values()}
    metadata = {"ss_network_module": "networks.lora", "ss_network_dim": str(rank)}
    metadata["ss_network_alpha"] = str(alpha.pop()) if len(alpha) == 1 else "Dynamic"
    return Written("adapter.safetensors", tensors, metadata, {})


FORMATS = {"peft": peft, "diffusers": diffusers, "kohya": kohya}


def _torch(change: Change) -> tuple[Array, Array]:
    """Return the factors in the shapes of layers: those of a convolution end with axes k and 1."""
    ones = (1,) * (change.down.ndim - 2)
    return change.down, change.up.reshape(*change.up.shape, *ones)


def _factors(changes: Mapping[str, Change], prefix: str) -> dict[str, Array]:
    tensors = {}
    for name, change in changes.items():
        down, up = _torch(change)
        tensors[f"{prefix}{name}.lora_A.weight"] = down
        tensors[f"{prefix}{name}.lora_B.weight"] = up
        if change.magnitude is None:
            continue
        if change.axis != "output":
            raise ValueError("axis='input': this format has magnitudes of outputs alone; use kohya")
        ones = (1,) * (down.ndim - 2)
        shape = (1, change.magnitude.size, *ones) if ones else (change.magnitude.size,)
        tensors[f"{prefix}{name}.lora_magnitude_vector"] = change.magnitude.reshape(shape)
    return tensors


def _about(changes: Mapping[str, Change]) -> dict[str, Any]:
    """Return the settings that PEFT and diffusers state, for a scale of 1."""
    rank = _one(changes)
    dora = any(change.magnitude is not None for change in changes.values())
    return {
        "r": rank,
        "lora_alpha": rank,
        "target_modules": sorted(changes),
        "use_rslora": False,
        "use_dora": dora,
        "rank_pattern": {},
        "alpha_pattern": {},
        "fan_in_fan_out": False,
        "lora_dropout": 0.0,
    }


def _one(changes: Mapping[str, Change]) -> int:
    """Return the rank of all changes; raise ValueError where they differ."""
    ranks = {change.rank for change in changes.values()}
    if len(ranks) != 1:
        raise ValueError(f"ranks {sorted(ranks)}: a file needs one rank")
    return ranks.pop()
