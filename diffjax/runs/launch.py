"""Entry points of training: `launch` for `python -m diffjax.train`, and `fit` for notebooks."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax

from diffjax import builder
from diffjax.arrays import Params
from diffjax.builder.training import OBJECTIVE
from diffjax.config import Config, ConfigError, Stopped, known, load, override
from diffjax.devices import mesh
from diffjax.devices.processes import first
from diffjax.io.trees import some
from diffjax.objectives import OBJECTIVES
from diffjax.runs.rule import outdated, write_rule
from diffjax.runs.trained import Trained
from diffjax.runs.trained import load as load_trained
from diffjax.training import held as training_held
from diffjax.training.experiment import Experiment
from diffjax.training.lock import lock
from diffjax.training.loop import check, train
from diffjax.training.transfer import transfer
from diffjax.training.workdir import WEIGHTS, began_from, last_step, open_run
from diffjax.training.writers import check_writers

HELD = "held"
"""The path, in a config, of a network passed as an object, of which the run keeps a copy."""


def fit(
    config: Config | str | Path,
    workdir: str | Path,
    *changes: str,
    resume_from: str | Path | None = None,
    resume_ema: str | float | None = None,
    resume_map: Sequence[str] = (),
    resume_partial: bool = False,
    network: Any = None,
    source: Any = None,
    objective: Any = None,
    held: Mapping[str, Trained] | None = None,
) -> Trained:
    """Train in `workdir` up to config.train.steps, and load the trained network.

    Repeating the call resumes an interrupted run, with bit-for-bit identical results. The stop
    button of a notebook, ctrl-C and SIGTERM first save a checkpoint and then raise `Stopped`.

    config: the fields, a file, or the name of a built-in config; a name or a section in it may be a
    Python object, as in `{"network": {"name": small, "width": 8}}`. network, source, objective:
    such objects in place of config.network, config.data and config.loss, with their settings by
    `functools.partial(small, width=8)` or as a dataclass. The run stores their names and must be
    able to import them: `builder.plain` refuses other objects. changes: new values of fields, such
    as `train.steps=500`. held, resume_from, resume_ema, resume_map, resume_partial: see `launch`.
    Raises ConfigError for settings that cannot work, before anything is compiled.

        trained = diffjax.fit("moons_vp", "runs/moons", "train.steps=500")
        trained.sample(64, label=0).picture()  # uint8 (H, W, 3)
        trained = diffjax.fit("moons_vp", "runs/moons", "train.steps=1000")  # 500 more
    """
    if not str(workdir):
        raise ConfigError("workdir='': the path is empty; is a variable unset?")
    fields = config if isinstance(config, Mapping) else load(str(config))
    sections = {"network": network, "data": source, "loss": objective}
    fields = {**fields, **{k: v for k, v in sections.items() if v is not None}}
    launch(
        override(builder.plain(fields), changes),
        Path(workdir),
        resume_from=resume_from,
        resume_ema=resume_ema,
        resume_map=resume_map,
        resume_partial=resume_partial,
        held=held,
    )
    return load_trained(workdir)


def launch(
    config: Config,
    workdir: Path,
    *,
    resume_from: str | Path | None = None,
    resume_ema: str | float | None = None,
    resume_map: Sequence[str] = (),
    resume_partial: bool = False,
    profile: tuple[int, int] | None = None,
    command: Sequence[str] = ("diffjax.fit",),
    held: Mapping[str, Trained] | None = None,
) -> int:
    """Train in `workdir` up to config.train.steps, or resume there, and return the last step.

    config: plain data, or with Python objects in the place of names and sections. held: trained
    networks that the objective loads, by the name of its setting, in place of their paths; the run
    keeps a copy of each. resume_from: a run or a published checkpoint with whose weights a new run
    begins. resume_ema: the average of those weights to use. resume_map: `OLD=NEW`, new names of
    their parameters. resume_partial: begin with the parameters that fit and draw the others;
    without it, all must fit. profile: the steps of which a trace is written. command: the command
    that launches.jsonl records. Raises Stopped after a signal, once everything is saved, and
    ConfigError and RunError as `training.loop.train`.
    """
    if resume_from is None and (resume_map or resume_partial or resume_ema is not None):
        raise ConfigError("--resume_ema, --resume_map, --resume_partial: need --resume_from")
    held = held or {}
    config = with_held(builder.plain(config), held, workdir)
    experiment = builder.experiment(config, load=loader(workdir, held))
    check(experiment.train, mesh.layout(sharding=experiment.sharding))
    _ = experiment.decoding  # refuses a codec that does not fit the data
    check_writers(experiment.writers)
    lines = [*builder.doubts(experiment), experiment.loss.doubt(experiment.model)]
    for line in filter(None, lines if first() else ()):
        logging.warning(line)
    if "adapter" in config and resume_from is None and not last_step(workdir):
        raise ConfigError(
            "config.adapter: changes a trained network: --resume_from=RUN names the run or the "
            "published checkpoint with its weights"
        )
    params, origin = None, None
    if resume_from is not None and not began_from(workdir, Path(resume_from)):
        params, origin = weights(
            experiment, Path(resume_from), resume_ema, resume_map, resume_partial
        )
    if (workdir / WEIGHTS).exists():
        raise ConfigError(
            f"--workdir={workdir}: holds converted weights ({WEIGHTS}) and no run to resume; "
            f"use another workdir"
        )
    with lock(workdir) if first() else nullcontext():
        if first():
            open_run(workdir, experiment, command, origin)
        needs_rule = not experiment.loss.denoises and outdated(experiment, workdir)
        state, stopped = train(experiment, workdir, profile=profile, params=params)
        if needs_rule and not stopped:
            write_rule(experiment, state.weights(min(state.ema)), workdir)
    if stopped:
        raise Stopped(stopped, int(state.step))
    return int(state.step)


def interrupted(stopped: Stopped, module: str) -> int:
    """Print how to resume a command that a signal stopped, and return its exit code.

    module: the module of the command, whose flags are those of the process.
    """
    if first():
        command = shlex.join(["python", "-m", module, *sys.argv[1:]])
        line = f"{stopped.signal.name}: saved at step {stopped.step}. To resume: {command}"
        print(line, file=sys.stderr, flush=True)
    if jax.process_count() == 1:  # sys.exit might wait forever for a thread that reads data
        os._exit(128 + stopped.signal)
    return 128 + stopped.signal


def with_held(config: Config, things: Mapping[str, Trained], workdir: Path) -> dict[str, Any]:
    """Return the config with `HELD` as the path of each held network.

    These are the networks in `things`, and those of which the run already has a copy. Raises
    ConfigError for a network that the objective does not load.
    """
    fields = config.get("loss", {})
    entry = builder.lookup(OBJECTIVES, fields.get("name", OBJECTIVE), "config.loss.name")
    loads = getattr(entry, "loads", ())
    known(things, loads, "config.loss: held")
    copied = [k for k in loads if k not in fields and training_held.exists(workdir, k)]
    paths = dict.fromkeys([*copied, *things], HELD)
    return {**config, "loss": {**fields, **paths}} if paths else dict(config)


def loader(workdir: Path, things: Mapping[str, Trained]) -> Callable[[str, str], Trained]:
    """Return a function `(name, path) -> Trained` that loads the networks an objective holds.

    The function loads the copy in the workdir if there is one. things: networks that the caller
    passed as objects, by name. The function raises ConfigError where a network was passed as an
    object and has no copy yet.
    """

    def load_held(name: str, path: str) -> Trained:
        if training_held.exists(workdir, name):
            return load_trained(training_held.folder(workdir, name))
        if name in things:
            return things[name]
        if path == HELD:
            raise ConfigError("was passed as an object, and the run has no copy yet; pass it again")
        return load_trained(path)

    return load_held


def weights(
    experiment: Experiment,
    source: Path,
    ema: str | float | None = None,
    renames: Sequence[str] = (),
    partial: bool = False,
) -> tuple[Params, dict[str, Any]]:
    """Return the parameters with which a new run begins, and a record of their origin.

    source: a run or a published checkpoint. ema, renames: the average to use, and new names of its
    parameters. Raises ConfigError where the source does not have exactly the parameters of the
    config; with `partial`, only where it has none of them, and a line lists those it lacks.
    """
    try:
        source_weights = load_trained(source, ema=ema).weights
    except ConfigError as error:
        raise ConfigError(f"--resume_from={source}: {error}") from error
    fitting = transfer(experiment, source_weights.params, renames)
    if not partial and not fitting.complete:
        raise ConfigError(
            f"--resume_from={source}: not the parameters of config.network: "
            f"{some('missing', fitting.missing)}; {some('unexpected', fitting.surplus)}; "
            f"{some('of other shapes', fitting.reshaped)}. --resume_map=OLD=NEW renames them, and "
            f"--resume_partial uses those that fit"
        )
    if not fitting.params:
        raise ConfigError(f"--resume_from={source}: has no parameter of config.network: {fitting}")
    if not fitting.complete and first():
        print(f"--resume_from={source}: {fitting}", file=sys.stderr)
    about = {"path": str(source.resolve()), "step": source_weights.step, "ema": source_weights.ema}
    about |= {"map": list(renames)} if renames else {}
    if not fitting.complete:
        about |= {"missing": fitting.missing, "reshaped": fitting.reshaped}
    return fitting.params, about
