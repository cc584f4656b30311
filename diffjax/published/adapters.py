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
from diffjax.io.reading import Tensors, read
from diffjax.io.trees import some

Array = np.ndarray
CONFIG, METADATA = "adapter_config.json", "lora_adapter_metadata"
"""The file of settings of PEFT, and the metadata in which diffusers keeps the same settings."""
PEFT, NETWORK = "base_model.model.", "network"
"""The prefix of PEFT, which does not state the part, and the part that all functions default to."""
PREFIXES = {
    NETWORK: ("unet.", "transformer."),
    **{f"text_encoder{n}": (f"text_encoder{n}.",) for n in ("", "_2", "_3")},
}
"""The prefixes of diffusers for each part of a pipeline."""
KOHYA = {
    NETWORK: ("lora_unet_",),
    "text_encoder": ("lora_te_", "lora_te1_"),
    "text_encoder_2": ("lora_te2_",),
    "text_encoder_3": ("lora_te3_",),
}
"""The prefixes of kohya for each part."""
PARTS = {
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
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


def opened(path: Path, part: str = NETWORK) -> dict[str, Change]:
    """Read the changes in a file, or in a folder of PEFT, by the names of modules in it.

    part: the part of a pipeline whose changes are read, such as `text_encoder`; tensors of PEFT
    belong to any part. Names in the format of kohya keep their prefix. Raises ValueError, which
    names the file, for a file without changes of this part, for tensors of unknown names, factors
    that are not complete, and settings that are not supported.
    """
    contents = read(path)
    place = path if path.is_dir() else path.parent
    settings = _settings(place / CONFIG) if (place / CONFIG).is_file() else {}
    try:
        return changes(contents, settings, part)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parts(names: Iterable[str]) -> set[str]:
    """Return the parts of a pipeline that tensors of these names belong to, "" for those of PEFT.

    >>> sorted(parts(["lora_te_q.alpha", "unet.out.lora_A.weight"]))
    ['network', 'text_encoder']
    """
    return {_part(name) for name in names}


def _part(name: str) -> str:
    known = ((part, p) for table in (PREFIXES, KOHYA) for part, each in table.items() for p in each)
    return next((part for part, prefix in known if name.startswith(prefix)), "")


def changes(
    contents: Contents, settings: Mapping[str, Any], part: str = NETWORK
) -> dict[str, Change]:
    """Return the changes of a part in the contents of a file.

    settings: those of PEFT, {} for none.
    """
    if isinstance(contents.tensors, Tensors) and not settings:
        settings = _stated(contents.tensors.metadata, part)
    _check(settings)
    found: dict[str, dict[str, Array]] = {}
    unknown, others = [], []
    for name, tensor in contents.tensors.items():
        module, kind = _split(name)
        if not kind:
            unknown.append(name)
        elif (of := _part(name)) not in ("", part):
            others.append(of)
        else:
            found.setdefault(module, {})[kind] = np.asarray(tensor, np.float32)
    if unknown:
        raise ValueError(f"not tensors of an adapter: {some('unknown', unknown)}")
    if half := [m for m, p in found.items() if not {"down", "up"} <= set(p)]:
        raise ValueError(f"{some('modules without both factors', half)}")
    if not found:
        has = f" of the {part}, but of {', '.join(sorted(set(others)))}" if others else ""
        raise ValueError(f"holds no adapter{has}")
    return {module: _change(module, each, settings) for module, each in found.items()}


def _split(name: str) -> tuple[str, str]:
    """Return the module and the kind of a tensor by its name, the kind "" for an unknown one."""
    ending = next((e for e in sorted(PARTS, key=len, reverse=True) if name.endswith(e)), "")
    module = name.removesuffix(ending)
    if not ending or (module.startswith("lora_") and not _part(name)):
        return name, ""
    for prefix in (PEFT, *(prefix for each in PREFIXES.values() for prefix in each)):
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


def _stated(metadata: Mapping[str, str], part: str) -> dict[str, Any]:
    """Return the settings of a part in the metadata of a file of diffusers, without its prefix."""
    try:
        fields = json.loads(metadata.get(METADATA, "{}"))
    except ValueError as error:
        raise ValueError(f"its metadata {METADATA} cannot be read ({error})") from error
    return {k.partition(".")[2]: v for k, v in fields.items() if k.startswith(PREFIXES[part])}


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
    prefixes = [prefix for each in KOHYA.values() for prefix in each]
    for name in (names := list(names)):
        for text in (name, *(underscored(name, prefix) for prefix in prefixes)):
            known.setdefault(text, []).append(name)
    if unknown := [text for text in changes if text not in known]:
        raise ValueError(
            f"{some('modules that the network lacks', unknown)}; {some('it has', names)}"
        )
    for text in changes:
        if len(known[text]) > 1:
            raise ValueError(f"{text}: stands for {' and '.join(sorted(known[text]))}")
    return {known[text][0]: change for text, change in changes.items()}


def underscored(name: str, prefix: str = KOHYA[NETWORK][0]) -> str:
    """Return the name of a module in the format of kohya."""
    return prefix + name.replace(".", "_")
