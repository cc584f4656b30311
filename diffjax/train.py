"""Train a model, or go on where training stopped.

    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/sigmoid \\
        --config.sde.schedule=sigmoid:tau=0.7 --config.parameterization.name=x0
    python -m diffjax.train --config=configs/cifar_vp.py --workdir=runs/mine \\
        --config.data.name=folder:$HOME/pictures --config.data.size=64 --config.data.labels=True

Every field of the config can be overridden. The same command goes on where it stopped, bit by bit.
Ctrl-C and SIGTERM save first; a second one ends at once. All devices of all processes train
together; `train.sharding` says how the state is laid out over them.

In the workdir: config.json, data.json, launches.jsonl, cost.json, metrics.jsonl, tensorboard/,
samples/, checkpoints/.

--resume_from=RUN begins a new run with the weights of another one, or of a published checkpoint.

Exit codes: 0 trained to the end; 1 a run that had to stop: steps that are not finite, data that do
not come, a disk that stays full; 2 a config or flag that cannot work, or data that cannot be read;
128 + signal when stopped: 130 by ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli, config
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.arrays import Params
    from diffjax.training.experiment import Experiment


def weights(
    experiment: Experiment, given: argparse.Namespace
) -> tuple[Params | None, dict[str, Any] | None]:
    """What --resume_from names, and what to note of it; None for a run that has begun already."""
    from diffjax.trained import load
    from diffjax.training.workdir import began_from, check_weights

    source = given.resume_from
    if source is None or began_from(given.workdir, source):
        return None, None
    found = load(source, ema=given.resume_ema).weights
    try:
        check_weights(experiment, found.params)
    except ValueError as error:
        raise ConfigError(f"--resume_from={source}: {error}") from error
    return found.params, {"path": str(source.resolve()), "step": found.step, "ema": found.ema}


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("train", __doc__, overrides=True)
    flags.add_argument("--config", required=True, help="config file, or the name of a built-in one")
    flags.add_argument("--workdir", type=Path, required=True, help="folder of the run")
    flags.add_argument(
        "--profile",
        metavar="FROM:TO",
        nargs="?",
        const="0:0",
        type=cli.span,
        help="write a trace of these steps, a few early ones by default, to WORKDIR/profile",
    )
    flags.add_argument("--resume_from", type=Path, metavar="RUN", help="begin with its weights")
    flags.add_argument("--resume_ema", help="which of them: an average in its config.ema, or raw")
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    given = cli.read(flags())
    settings = config.override(config.load(given.config), given.overrides)

    import jax

    from diffjax import build
    from diffjax.training.loop import train
    from diffjax.training.processes import first
    from diffjax.training.workdir import lock, open_run

    cli.start(given)
    experiment, began = build.experiment(settings), time.monotonic()
    with lock(given.workdir) if first() else nullcontext():
        params, origin = weights(experiment, given)
        if first():
            open_run(given.workdir, experiment, sys.argv, origin)
        state, stopped = train(experiment, given.workdir, profile=given.profile, params=params)
    steps, command = int(state.step), shlex.join(["python", "-m", "diffjax.train", *sys.argv[1:]])
    if stopped:
        if first():
            told = f"{stopped.name}: saved at step {steps}. To go on: {command}"
            print(told, file=sys.stderr, flush=True)
        if jax.process_count() == 1:  # an exit would wait for a thread that reads, for ever maybe
            os._exit(128 + stopped)
        return 128 + stopped
    print(
        f"trained to step {steps} in {time.monotonic() - began:.0f} s: {given.workdir}\n"
        f"next: python -m diffjax.sample --workdir={given.workdir}\n"
        f"      tensorboard --logdir={given.workdir}/tensorboard"
    )
    return 0


if __name__ == "__main__":
    cli.main(run)
