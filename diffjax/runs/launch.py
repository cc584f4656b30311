"""Train a run: the calls that `python -m diffjax.train` and a notebook make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from diffjax import builder
from diffjax.arrays import Params
from diffjax.config import Config, ConfigError, Stopped, load, override
from diffjax.devices.processes import first
from diffjax.runs.trained import Trained
from diffjax.runs.trained import load as load_trained
from diffjax.training.experiment import Experiment
from diffjax.training.loop import train
from diffjax.training.workdir import began_from, check_weights, lock, open_run


def fit(
    config: Config | str | Path,
    workdir: str | Path,
    *changes: str,
    resume_from: str | Path | None = None,
    resume_ema: str | float | None = None,
) -> Trained:
    """Train in `workdir` to the end of the config, and load what was trained.

    config: its fields, a file, or the name of a built-in one. changes: `train.steps=500`, in place
    of those fields. resume_from, resume_ema: see `launch`. The same call goes on where training
    stopped, bit by bit; the stop button of a notebook, ctrl-C and SIGTERM save first and raise
    `Stopped`. Raises ConfigError for what cannot work, before anything is compiled.
    """
    fields = config if isinstance(config, Mapping) else load(str(config))
    launch(override(fields, changes), Path(workdir), resume_from, resume_ema)
    return load_trained(workdir)


def launch(
    config: Config,
    workdir: Path,
    resume_from: str | Path | None = None,
    resume_ema: str | float | None = None,
    profile: tuple[int, int] | None = None,
    command: Sequence[str] = ("diffjax.fit",),
) -> int:
    """Train in `workdir` to the end of the config, or go on there; the step that is reached.

    resume_from: a run or a published checkpoint, whose weights a new run begins with. resume_ema:
    which average of them. profile: steps of which a trace is written. command: what
    launches.jsonl says of this launch. Raises Stopped after a signal, when all is saved;
    ConfigError and RunError as `training.loop.train`.
    """
    experiment = builder.experiment(config)
    with lock(workdir) if first() else nullcontext():
        params, origin = weights(experiment, workdir, resume_from, resume_ema)
        if first():
            open_run(workdir, experiment, command, origin)
        state, stopped = train(experiment, workdir, profile=profile, params=params)
    if stopped:
        raise Stopped(stopped, int(state.step))
    return int(state.step)


def weights(
    experiment: Experiment,
    workdir: Path,
    source: str | Path | None,
    ema: str | float | None,
) -> tuple[Params | None, dict[str, Any] | None]:
    """What a new run begins with, and what to note of it; None for one that has begun already."""
    if source is None or began_from(workdir, Path(source)):
        return None, None
    found = load_trained(source, ema=ema).weights
    try:
        check_weights(experiment, found.params)
    except ValueError as error:
        raise ConfigError(f"--resume_from={source}: {error}") from error
    about = {"path": str(Path(source).resolve()), "step": found.step, "ema": found.ema}
    return found.params, about
