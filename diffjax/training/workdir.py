"""The folder of a run, with its config, its provenance and its checkpoints, or weights alone."""

from __future__ import annotations

import json
import logging
import platform
import re
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import diffjax
from diffjax import zoo
from diffjax.arrays import Params
from diffjax.config import ConfigError, nearest, similar
from diffjax.data.form import Form, from_json
from diffjax.data.source import fingerprint
from diffjax.files import reason
from diffjax.io.trees import flat, joined, nested, some
from diffjax.io.writing import writing
from diffjax.training import checksums, held, stamps
from diffjax.training.checkpoints import Checkpoints
from diffjax.training.ema import RAW, length
from diffjax.training.experiment import Experiment
from diffjax.training.step import TrainState

WEIGHTS = "weights.safetensors"
LOST = {
    "config.json": "without it the network is unknown: restore it from a copy",
    "data.json": "the command that trained the run writes it again; for an export, restore it",
}
"""Advice where a file of a run is missing."""
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
FREE = {
    "config": ("sampling",),
    "config.train": (
        *("steps", "steps_per_dispatch", "log_every", "sample_every", "checkpoint_every"),
        *("snapshot_every", "keep", "samples", "held_out_every", "held_out", "writers"),
        *("max_bad_steps", "sharding", "peak_flops"),
    ),
    "config.data": ("memory", "workers", "timeout", "codec"),
    "data": ("classes",),
}
"""Fields that may differ, with all fields below them, when a run resumes: no step reads them."""


def open_run(
    workdir: Path,
    experiment: Experiment,
    command: Sequence[str],
    resume_from: Mapping[str, Any] | None = None,
) -> None:
    """Check that the folder is empty or holds a run of this config and data, and record the launch.

    It writes config.json with all defaults, data.json with the form and the fingerprint of the
    data, and one line of launches.jsonl with the command, git commit, versions, devices, the step
    from which the run resumes, and the origin of its initial weights, `resume_from`. Raises
    ConfigError, naming the differences, where the folder holds a run of another config or of other
    data.
    """
    data = experiment.form.as_json() | {"train": fingerprint(experiment.source("train"))}
    if not (workdir / "config.json").exists() and _steps(workdir):
        raise ConfigError(
            f"--workdir={workdir}: holds checkpoints, but config.json is missing: restore it, or "
            f"use another workdir"
        )
    if (workdir / "config.json").exists():
        if line := stamps.changed(workdir):
            logging.warning(line)
        complete = experiment.complete
        there: dict[str, Any] = {"config": complete(read_config(workdir))}
        here: dict[str, Any] = {"config": complete(experiment.config), "data": data}
        if (workdir / "data.json").exists():
            there["data"] = _read(workdir, "data.json")
        else:
            del here["data"]
            logging.warning("%s: data.json is missing; it is written again", workdir)
        there, here = json.loads(json.dumps(there)), json.loads(json.dumps(here))
        differences = list(_differences(there, here))
        if differences:
            raise ConfigError(
                f"--workdir={workdir} holds a run of another config: {'; '.join(differences)}. "
                f"Use another workdir, or the config of that run"
            )
    with writing(f"--workdir={workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        _describe(workdir, experiment.complete(experiment.config), data)
        with (workdir / "launches.jsonl").open("a") as file:
            launch = provenance() | {"command": list(command), "step": last_step(workdir)}
            launch |= {"resume_from": dict(resume_from)} if resume_from else {}
            file.write(json.dumps(launch) + "\n")


def began_from(workdir: Path, path: Path) -> bool:
    """Return True if the run in `workdir` has a checkpoint and began with the weights in `path`.

    The result is False without a checkpoint. Raises ConfigError where the run has a checkpoint and
    began with other weights.
    """
    if not _steps(workdir):
        return False
    file = workdir / "launches.jsonl"
    try:
        launches = [json.loads(line) for line in file.read_text().splitlines()]
        origins = [launch.get("resume_from", {}).get("path") for launch in launches]
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({reason(error)}), so the origin of the run is unknown: leave "
            f"--resume_from out to resume the run, or use another workdir"
        ) from error
    if str(path.resolve()) not in origins:
        origin = next((o for o in origins if o), "random weights")
        raise ConfigError(
            f"--resume_from={path}: the run in {workdir} began with {origin}; use another workdir, "
            f"or leave the flag out to resume that run"
        )
    return True


def read_config(workdir: Path) -> dict[str, Any]:
    """Read the config of the run in `workdir`; raise ConfigError where there is none."""
    return _read(workdir, "config.json")


def read_form(workdir: Path) -> Form:
    """Read the form of the training data from `workdir`, so that sampling needs no data set.

    Raises ConfigError for a file that is missing or holds no form.
    """
    read = _read(workdir, "data.json")
    try:
        return from_json(read)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        path = workdir / "data.json"
        raise ConfigError(f"{path}: does not describe a form of data ({reason})") from error


def _read(workdir: Path, name: str) -> dict[str, Any]:
    path = workdir / name
    try:
        fields = json.loads(path.read_text())
    except FileNotFoundError:
        if is_run(workdir):
            raise ConfigError(f"{path}: {name} is missing; {LOST[name]}") from None
        raise ConfigError(
            f"--workdir={workdir}: no run here (no {name}){_nearby(workdir)}; to train one: python "
            f"-m diffjax.train --config=configs/digits_vp.py --workdir={shlex.quote(str(workdir))}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({reason(error)})") from error
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: holds {fields!r}; needs an object with fields")
    return fields


def _nearby(workdir: Path) -> str:
    """Return a hint: a similar name in the zoo, or up to five runs in this folder or beside it."""
    if near := similar(workdir, zoo.names()):
        return f"; did you mean {zoo.PREFIX}{near}?"
    runs = [*workdir.glob("*/config.json")] or [*workdir.parent.glob("*/config.json")]
    names = ", ".join(sorted(str(path.parent) for path in runs)[:5])
    return f"; there are runs in {names}" if names else ""


def is_run(workdir: Path) -> bool:
    """Return True for the folder of a run or an export, whichever of its files are lost."""
    names = ("data.json", "launches.jsonl", "checkpoints")
    if any((workdir / name).exists() for name in names):
        return True
    try:
        config = json.loads((workdir / "config.json").read_text())
    except (OSError, ValueError, RecursionError):
        return False
    # The config.json of a published model is another one: it names the class of the model.
    return isinstance(config, dict) and (not config or isinstance(config.get("network"), dict))


def last_step(workdir: Path) -> int:
    """Return the step of the newest checkpoint in `workdir`, 0 where there is none."""
    return max(_steps(workdir), default=0)


def _steps(workdir: Path) -> list[int]:
    # `Checkpoints` would wait for the other processes, while one process may call this alone.
    marks = (workdir / "checkpoints").glob("*/commit_success.txt")
    return [int(mark.parent.name) for mark in marks if mark.parent.name.isdecimal()]


def load_state(experiment: Experiment, workdir: Path) -> TrainState:
    """Read the newest state of the run in `workdir`, without the held parameters of its objective.

    Raises ConfigError where there is no checkpoint yet.
    """
    folder = workdir / "checkpoints"
    state = None
    if folder.is_dir():
        abstract = jax.eval_shape(experiment.initialise)
        moving = Checkpoints(folder, write=False).restore(abstract.moving)
        state = moving and moving.holding(held.for_sampling(workdir, abstract))
    if state is None:
        raise ConfigError(f"--workdir={workdir}: no checkpoint yet; train until the run saves one")
    return state


class Weights(NamedTuple):
    """The weights of a network.

    step: the number of training steps, 0 if unknown. params: the parameters. ema: the name of the
    average that they are, "" if unknown.
    """

    step: int
    params: Params
    ema: str = ""


def load_weights(experiment: Experiment, workdir: Path) -> Weights:
    """Load the weights of the newest checkpoint in `workdir`, or else of its weights.safetensors.

    config.sampling.ema selects them: the name of an average in config.ema, `raw` for the parameters
    themselves, or a width that `tools.ema` has computed; by default the first average by name.
    Raises ConfigError where there are none, or where they are not the parameters of the config.
    """
    if line := stamps.changed(workdir):
        logging.warning(line)
    asked, whole = experiment.config["sampling"].get("ema", ""), workdir / WEIGHTS
    name = length(asked)
    if whole.exists() and not (workdir / "checkpoints").is_dir():
        exported = _read_weights(experiment, whole)
        if name not in ("", exported.ema):
            raise ConfigError(
                f"ema={asked}: {whole} holds one average; known: {exported.ema or 'its own'}"
            )
        return exported
    names, file = [*sorted(experiment.averages), RAW], workdir / "ema" / f"{name}.safetensors"
    if name not in (*names, "") and file.is_file():
        return _read_weights(experiment, file, held.frozen(workdir, experiment))
    if name not in (*names, ""):
        names += sorted(path.stem for path in file.parent.glob("*.safetensors"))
        raise ConfigError(f"ema={asked}: unknown{nearest(name, names)}{_hint(name, workdir)}")
    state, name = load_state(experiment, workdir), name or names[0]
    return Weights(int(state.step), state.weights(name), name)


def _hint(name: str, workdir: Path) -> str:
    if not re.fullmatch(r"std_[\d.]+", name):
        return ""
    std = name.removeprefix("std_")
    place = shlex.quote(str(workdir))
    return f". To compute it: python -m diffjax.tools.ema --workdir={place} --std={std}"


def _read_weights(experiment: Experiment, path: Path, frozen: Params | None = None) -> Weights:
    """Read the weights in a file, which need not contain the `frozen` parameters of the run."""
    try:
        tensors, about = checksums.load(path)
    except ValueError as error:  # its message names the file
        raise ConfigError(str(error)) from error
    try:
        params = joined(nested(tensors), frozen or {})
        check_weights(experiment, params)
        step, ema = int(about.get("step", 0)), about.get("ema", "")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error
    # Entries of the zoo are stored in half precision.
    like = jax.eval_shape(experiment.parameters)
    whole = jax.tree.map(lambda a, wanted: jnp.asarray(a, wanted.dtype), params, like)
    return Weights(step, whole, ema)


def check_weights(experiment: Experiment, params: Params) -> None:
    """Raise ValueError, which names them, for parameters that are missing, surplus or reshaped."""
    wanted = flat(jax.eval_shape(experiment.parameters))
    stored = flat(params)
    if set(wanted) != set(stored):
        raise ValueError(
            f"not the parameters of config.network: {some('missing', set(wanted) - set(stored))}; "
            f"{some('unexpected', set(stored) - set(wanted))}"
        )
    shapes = lambda k: f"{k} {stored[k].shape}, needs {wanted[k].shape}"
    if bad := [shapes(k) for k in wanted if stored[k].shape != wanted[k].shape]:
        raise ValueError(f"not the parameters of config.network: {some('of other shapes', bad)}")


def write_weights(workdir: Path, experiment: Experiment, weights: Weights) -> None:
    """Write an export, the folder that every command but train reads.

    It contains config.json, data.json and weights.safetensors. Raises ConfigError for a folder that
    is not empty or cannot be written.
    """
    check_empty(workdir)
    with writing(f"--out={workdir}"):
        workdir.mkdir(parents=True, exist_ok=True)
        about = {"step": str(weights.step), "ema": weights.ema}
        checksums.save(workdir / WEIGHTS, flat(weights.params), about)
        _describe(workdir, experiment.complete(experiment.config), experiment.form.as_json())


def check_empty(out: Path, flag: str = "--out") -> None:
    """Raise ConfigError for a folder that is not empty, and for a path that is not a folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{flag}={out}: exists already; needs a new or an empty folder")


def _describe(workdir: Path, config: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    texts = {"data.json": json.dumps(data), "config.json": json.dumps(config, indent=2)}
    stamps.write(workdir, {name: f"{text}\n" for name, text in texts.items()})


def provenance() -> dict[str, Any]:
    """Return the provenance of a result: time, versions, git commit and devices."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "diffjax": diffjax.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {p: metadata.version(p) for p in PACKAGES},
        "devices": [str(d) for d in jax.devices()],
    }


def _commit() -> str | None:
    """Return the commit of the source tree, "-dirty" if modified; None outside a checkout."""
    root = Path(diffjax.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40"]
        return subprocess.run(describe, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], place: str = "") -> Iterator[str]:
    for key in sorted({*old, *new}):
        a, b, here = old.get(key), new.get(key), f"{place}.{key}".strip(".")
        if key in FREE.get(place, ()):
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, here)
        elif a != b:
            yield f"{here} is {a!r} there and {b!r} here"
