"""Files of adapters in the formats of PEFT, diffusers and kohya: names, layouts and scales.

A file holds, for some modules with a weight W (out, in, *k), the factors A (r, in, *k) and B
(out, r), so that W' = W + s B A, and with DoRA a magnitude of each output or input. The formats
name the modules differently: PEFT and diffusers after a prefix by their paths, kohya with "_" in
place of ".". Two paths may then have one name, so a name is never split: it is compared with the
names that the modules of the network have.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax.io.contents import Contents
from diffjax.io.reading import Tensors, read, write
from diffjax.io.trees import some

Array = np.ndarray
CONFIG, METADATA = "adapter_config.json", "lora_adapter_metadata"
"""The file of settings of PEFT, and the metadata in which diffusers keeps the same settings."""
KOHYA = "lora_unet_"
PREFIXES = ("base_model.model.", "unet.", "transformer.")
PARTS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".dora_scale": "dora_scale",
    ".alpha": "alpha",
}
"""The endings of the names of tensors in all formats, the older ones of diffusers among them."""
BASES = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Initialisations of PEFT that change the weights of the base too."""


class Change(NamedTuple):
    """The change of one weight W (out, in, *k): W' = W + s B A, then scaled to a magnitude.

    down: A (r, in, *k). up: B (out, r). scale: s. magnitude: the norm of each output, (out,), or of
    each input, (in,), after the change; None without DoRA. axis: `output` or `input`.

    >>> one = Change(down=np.ones((1, 3)), up=np.ones((2, 1)), scale=0.5)
    >>> one.of(np.zeros((2, 3))).tolist()
    [[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    """

    down: Array
    up: Array
    scale: float = 1.0
    magnitude: Array | None = None
    axis: str = "output"

    @property
    def rank(self) -> int:
        """The number r of columns of B."""
        return self.down.shape[0]

    def of(self, weight: Array) -> Array:
        """Return W' - W in float64; raise ValueError for a weight of another shape."""
        weight, rank = np.asarray(weight, np.float64), self.rank
        down, up = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (self.down, self.up))
        fits = (len(weight), rank, weight[0].size) == (len(up), up.shape[1], down.shape[1])
        n = len(weight) if self.axis == "output" else weight.shape[1]
        if not fits or (self.magnitude is not None and self.magnitude.size != n):
            raise ValueError(
                f"factors {self.down.shape} and {self.up.shape} do not change {weight.shape}"
            )
        moved = weight + self.scale * (up @ down).reshape(weight.shape)
        if self.magnitude is None:
            return moved - weight
        size = norms(moved, self.axis)
        wanted = self.magnitude.reshape(size.shape)
        return moved * np.where(size > 0, wanted / np.where(size > 0, size, 1), 1) - weight


def norms(weight: Array, axis: str) -> Array:
    """Return the norm of each output or input of a weight (out, in, *k), broadcasting against it.

    >>> norms(np.ones((2, 4)), "output").tolist()
    [[2.0], [2.0]]
    """
    kept = 0 if axis == "output" else 1
    axes = tuple(i for i in range(weight.ndim) if i != kept)
    return np.sqrt(np.square(weight).sum(axes, keepdims=True))


def opened(path: Path) -> dict[str, Change]:
    """Read the changes in a file, or in a folder of PEFT, by the names of modules in it.

    Names in the format of kohya keep their prefix. Raises ValueError, which names the file, for
    tensors of unknown names, factors that are not complete, and settings that are not supported.
    """
    contents = read(path)
    place = path if path.is_dir() else path.parent
    settings = _settings(place / CONFIG) if (place / CONFIG).is_file() else {}
    try:
        return changes(contents, settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def changes(contents: Contents, settings: Mapping[str, Any]) -> dict[str, Change]:
    """Return the changes in the contents of a file; settings: those of PEFT, {} for none."""
    if isinstance(contents.tensors, Tensors) and not settings:
        settings = _stated(contents.tensors.metadata)
    _check(settings)
    parts: dict[str, dict[str, Array]] = {}
    unknown = []
    for name, tensor in contents.tensors.items():
        module, part = _split(name)
        if not part:
            unknown.append(name)
        else:
            parts.setdefault(module, {})[part] = np.asarray(tensor, np.float32)
    if unknown:
        raise ValueError(f"not tensors of an adapter of this network: {some('unknown', unknown)}")
    if half := [m for m, p in parts.items() if not {"down", "up"} <= set(p)]:
        raise ValueError(f"{some('modules without both factors', half)}")
    if not parts:
        raise ValueError("holds no adapter")
    return {module: _change(module, each, settings) for module, each in parts.items()}


def _split(name: str) -> tuple[str, str]:
    """Return the module and the part that the name of a tensor stands for, "" for neither."""
    ending = next((e for e in sorted(PARTS, key=len, reverse=True) if name.endswith(e)), "")
    module = name.removesuffix(ending)
    if not ending or (module.startswith("lora_") and not module.startswith(KOHYA)):
        return name, ""
    if module.startswith("text_encoder"):
        return name, ""
    for prefix in PREFIXES:
        module = module.removeprefix(prefix)
    if ending.startswith("_lora"):  # attn1.processor.to_q_lora.down.weight
        module = module.replace(".processor.", ".")
        module += ".0" * module.endswith(".to_out")
    return module, PARTS[ending]


def _change(module: str, parts: Mapping[str, Array], settings: Mapping[str, Any]) -> Change:
    down, up = parts["down"], parts["up"].reshape(len(parts["up"]), -1)
    rank = len(down)
    alpha = float(parts["alpha"].reshape(-1)[0]) if "alpha" in parts else 0.0
    alpha = alpha or _alpha(module, settings) or rank
    scale = alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)
    if "dora_scale" in parts:  # (out, 1, ...) or (1, in, ...)
        magnitude = parts["dora_scale"]
        axis = "input" if magnitude.size > 1 and len(magnitude) == 1 else "output"
        return Change(down, up, scale, magnitude.reshape(-1), axis)
    magnitude = parts.get("magnitude")
    return Change(down, up, scale, None if magnitude is None else magnitude.reshape(-1))


def _alpha(module: str, settings: Mapping[str, Any]) -> float:
    """Return alpha as PEFT finds it: by the first pattern at the end of the path, or for all."""
    for pattern, alpha in (settings.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(alpha)
    return float(settings.get("lora_alpha") or 0)


def _stated(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in the metadata of a file of diffusers, without their prefix."""
    try:
        fields = json.loads(metadata.get(METADATA, "{}"))
    except ValueError as error:
        raise ValueError(f"its metadata {METADATA} cannot be read ({error})") from error
    ours = tuple(prefix for prefix in PREFIXES if not prefix.startswith("base"))
    return {k.partition(".")[2]: v for k, v in fields.items() if k.startswith(ours)}


def _settings(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: needs an object with fields")
    return fields


def _check(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings of PEFT that mean something else than `Change`."""
    kind, begins = settings.get("peft_type", "LORA"), settings.get("init_lora_weights")
    if kind != "LORA":
        raise ValueError(f"peft_type={kind!r}: not supported; known: 'LORA'")
    if settings.get("fan_in_fan_out"):
        raise ValueError("fan_in_fan_out=True: not supported; its weights are (in, out)")
    if isinstance(begins, str) and begins.startswith(BASES):
        raise ValueError(f"init_lora_weights={begins!r}: has changed the base too; convert it")


def fitted(changes: Mapping[str, Change], names: Iterable[str]) -> dict[str, Change]:
    """Return the changes by the names of the modules of a network.

    names: the paths of all its modules with a weight. Raises ValueError for changes of modules that
    the network lacks, and for names in the format of kohya that several modules have.

    >>> one = Change(np.ones((1, 3)), np.ones((2, 1)))
    >>> [*fitted({"lora_unet_conv_in": one}, ["conv_in", "out"])]
    ['conv_in']
    >>> fitted({"lora_unet_conv_in": one}, ["conv_in", "conv.in"])
    Traceback (most recent call last):
    ValueError: lora_unet_conv_in: stands for conv.in and conv_in
    """
    known: dict[str, list[str]] = {}
    for name in (names := list(names)):
        for text in (name, underscored(name)):
            known.setdefault(text, []).append(name)
    if unknown := [text for text in changes if text not in known]:
        raise ValueError(
            f"{some('modules that the network lacks', unknown)}; {some('it has', names)}"
        )
    for text in changes:
        if len(known[text]) > 1:
            raise ValueError(f"{text}: stands for {' and '.join(sorted(known[text]))}")
    return {known[text][0]: change for text, change in changes.items()}


def underscored(name: str) -> str:
    """Return the name of a module in the format of kohya."""
    return KOHYA + name.replace(".", "_")


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
