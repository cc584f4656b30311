"""Train a model, or resume where training stopped.

    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/sigmoid \\
        --config.sde.schedule=sigmoid:tau=0.7 --config.parameterization.name=x0
    python -m diffjax.train --config=configs/cifar_vp.py --workdir=runs/mine \\
        --config.data.name=folder:$HOME/pictures --config.data.size=64 --config.data.labels=True

Flags can override every field of the config. The same command resumes an interrupted run, with
bit-for-bit identical results. Ctrl-C and SIGTERM save a checkpoint first; a second signal exits at
once. All devices of all processes train together; `train.sharding` sets the layout of the state.

The workdir contains config.json, data.json, launches.jsonl, cost.json, metrics.jsonl, tensorboard/,
samples/ and checkpoints/.

--resume_from=RUN begins a new run with the weights of another run, or of a published checkpoint.
Parameters are matched by name, and RUN must have all of them: --resume_map=OLD=NEW renames
parameters of RUN, and --resume_partial uses those that fit and lists the others.

Exit codes: 0 for completed training; 1 for a run that had to stop, because of steps that are not
finite, a stalled input pipeline or a disk that stays full; 2 for a config or flag that cannot work,
or for unreadable data; 128 + signal for an interruption: 130 by ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time

from diffjax import cli, config
from diffjax.config import Stopped


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("train", __doc__, overrides=True)
    flags.add_argument("--config", required=True, help="config file, or name of a built-in one")
    flags.add_argument("--workdir", type=cli.path, required=True, help="folder of the run")
    flags.add_argument(
        "--profile",
        metavar="FROM:TO",
        nargs="?",
        const="0:0",
        type=cli.span,
        help="write a trace of these steps (by default a few early ones) to WORKDIR/profile",
    )
    flags.add_argument(
        "--resume_from",
        type=cli.path,
        metavar="RUN",
        help="begin a new run with the weights of RUN",
    )
    flags.add_argument(
        "--resume_ema", help="which weights of RUN: an average in its config.ema, or raw"
    )
    flags.add_argument(
        "--resume_map",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename parameters of RUN, by a regular expression and its replacement; repeatable",
    )
    flags.add_argument(
        "--resume_partial",
        action="store_true",
        help="use the parameters of RUN that fit, and initialise the others at random",
    )
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    asked = cli.read(flags())
    settings = config.override(config.load(asked.config), asked.overrides)

    from diffjax.builder import denoises
    from diffjax.runs.launch import interrupted, launch
    from diffjax.training.workdir import last_step

    cli.start(asked)
    began, workdir = time.monotonic(), asked.workdir
    before = last_step(workdir)
    try:
        steps = launch(
            settings,
            workdir,
            resume_from=asked.resume_from,
            resume_ema=asked.resume_ema,
            resume_map=asked.resume_map,
            resume_partial=asked.resume_partial,
            profile=asked.profile,
            command=sys.argv,
        )
    except Stopped as stopped:
        return interrupted(stopped, "diffjax.train")
    done = f"trained to step {steps} in {time.monotonic() - began:.0f} s"
    if steps == before:
        done = f"already at step {steps}; to train longer, set a larger --config.train.steps"
    place = shlex.quote(str(workdir))
    follows = f"sample --workdir={place}" if denoises(settings) else f"tools.codec {place}"
    print(f"{done}: {workdir}\nnext: python -m diffjax.{follows}")
    if (workdir / "tensorboard").is_dir():
        print(f"      tensorboard --logdir={shlex.quote(str(workdir / 'tensorboard'))}")
    return 0


if __name__ == "__main__":
    cli.main(run)
