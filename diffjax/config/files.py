"""Loading of config files, and replacement of their fields by flags."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffjax.config.errors import ConfigError
from diffjax.config.fields import Config, known, literal, nearest, parse

FOLDER = "ml_collections_configs"

SEVERAL = ("adapter", "ema")
"""Sections with one entry, or with several entries by names of their own."""
STAY = {
    "data": (
        *("labels", "conditions", "flip", "crop", "balanced", "dequantize", "augment"),
        *("memory", "workers", "timeout", "codec", "encoder", "encoded", "vocabulary"),
        *("maps", "excitation", "reduced", "enlarged", "hidden"),
    ),
    "sde": ("schedule",),
    "network": ("conditions",),
    "adapter": ("where", "rank", "alpha", "rank_stabilized"),
    "optimizer": (
        *("learning_rate", "warmup", "schedule", "in_images", "clip", "rates", "frozen"),
    ),
}
"""Fields of a section that do not belong to the entry it names, and so survive another name."""


def load(path: str) -> dict[str, Any]:
    """Load the config in a file; `configs/NAME.py` and `NAME` may also name a built-in config.

    The file is a Python file, or the config.json of a run, of an export or of a converted
    checkpoint. Raises ConfigError where there is no such file, or where it is not a config file.

    >>> sorted(load("moons_vp"))[:4]
    ['data', 'ema', 'loss', 'network']
    """
    file = next((p for p in _candidates(path) if p.is_file()), None)
    if file is None:
        files = [p for folder in _folders() for p in folder.glob("*.py")]
        names = sorted(p.stem for p in files if "def get_config" in p.read_text())
        raise ConfigError(f"--config={path}: no such file{nearest(Path(path).stem, names)}")
    if file.suffix == ".json":
        return _of_run(file)
    if file.suffix != ".py":
        raise ConfigError(f"--config={path}: needs a config file, NAME.py or RUN/config.json")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config().to_dict()
    except Exception as error:
        raise ConfigError(f"--config={path}: {type(error).__name__}: {error}") from error


def _of_run(file: Path) -> dict[str, Any]:
    """Return the config in the config.json of a run."""
    try:
        fields = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--config={file}: cannot be read ({error})") from error
    if not isinstance(fields, dict) or not isinstance(fields.get("network"), dict):
        raise ConfigError(f"--config={file}: is no config of a run; tools.convert writes one")
    return fields


def _candidates(path: str) -> list[Path]:
    name = Path(path).stem + ".py"
    return [Path(path), *(folder / name for folder in _folders())]


def _folders() -> list[Path]:
    package = importlib.util.find_spec(FOLDER)
    return [Path(p) for p in package.submodule_search_locations or ()] if package else []


def override(config: Config, assignments: Iterable[str]) -> dict[str, Any]:
    """Return the config with texts `a.b=value` applied.

    Values are Python literals, or strings where the field is a string. The text
    `a.b=name:argument=value,...` replaces a section that has a name as a whole, and a literal dict
    replaces any section. Another name, `a.b.name=name`, drops the settings of the previous entry
    and keeps the fields in `STAY`. Whole sections are applied first, then names, then other fields,
    so that no order of the texts loses one of them; of two texts for one field the last counts.
    Raises ConfigError for an unknown field, and for a text without a value.

    >>> override({"train": {"steps": 500}}, ["train.steps=20"])
    {'train': {'steps': 20}}
    >>> override({"ema": {"short": {"name": "raw"}}}, ["ema=constant:decay=0.9"])
    {'ema': {'name': 'constant', 'decay': 0.9}}
    """
    result = copy.deepcopy(dict(config))
    for text in sorted(assignments, key=_breadth):
        path, sign, value = text.partition("=")
        if not sign:
            raise ConfigError(f"--config.{path}: has no value; the form is --config.{path}=value")
        *parents, leaf = path.split(".")
        node, place = result, "config"
        for name in parents:
            known([name], node, place)
            node, place = node[name], f"{place}.{name}"
            if not isinstance(node, dict):
                raise ConfigError(f"{place}={node!r}: is a single value, without a field {leaf!r}")
        old = node.get(leaf)
        if isinstance(old, dict) and isinstance(section := literal(value), dict):
            node[leaf] = section
        elif isinstance(old, dict) and ("name" in old or path in SEVERAL):
            node[leaf] = parse(value)
        elif isinstance(old, dict):
            fields = ", ".join(node[leaf])
            raise ConfigError(f"{place}.{leaf}: is a section; set one of its fields: {fields}")
        elif leaf == "name" and parents and isinstance(old, str):
            _rename(node, ".".join(parents), value)
        else:
            node[leaf] = value if isinstance(old, str) else literal(value)
    return result


def _breadth(assignment: str) -> float:
    """Return the depth of the assigned field, by which texts are sorted.

    A name counts as half a level below its section, before the other fields.
    """
    path = assignment.partition("=")[0]
    return path.count(".") - 0.5 * path.endswith(".name")


def _rename(section: dict[str, Any], path: str, name: str) -> None:
    """Set the name of a section, and drop the settings of a different previous entry."""
    entry = lambda text: text.partition(":")[0] if path == "data" else text
    if entry(section["name"]) != entry(name):
        for field in [k for k in section if k not in STAY.get(path, ())]:
            del section[field]
    section["name"] = name
