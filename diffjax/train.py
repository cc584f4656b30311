"""Train a model, or resume where training stopped.

    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits
    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/sigmoid \\
        --config.sde.schedule=sigmoid:tau=0.7 --config.parameterization.name=x0
    python -m diffjax.train --config=configs/cifar_vp.py --workdir=runs/mine \\
        --config.data.name=folder:$HOME/pictures --config.data.size=64 --config.data.labels=True

Every field of the config can be overridden. The same command resumes where it stopped, with
bit-for-bit identical results. Ctrl-C and SIGTERM save first; a second one exits at once. All
devices of all processes train together; `train.sharding` says how the state is laid out over them.

In the workdir: config.json, data.json, launches.jsonl, cost.json, metrics.jsonl, tensorboard/,
samples/, checkpoints/.

--resume_from=RUN begins a new run with the weights of another one, or of a published checkpoint.
Parameters are found by name, and all have to be there: --resume_map=OLD=NEW renames some of RUN,
and --resume_partial takes those that fit and says which do not.

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

from diffjax import cli, config
from diffjax.config import Stopped


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("train", __doc__, overrides=True)
    flags.add_argument("--config", required=True, help="config file, or the name of a built-in one")
    flags.add_argument("--workdir", type=cli.path, required=True, help="folder of the run")
    flags.add_argument(
        "--profile",
        metavar="FROM:TO",
        nargs="?",
        const="0:0",
        type=cli.span,
        help="write a trace of these steps, a few early ones by default, to WORKDIR/profile",
    )
    flags.add_argument("--resume_from", type=cli.path, metavar="RUN", help="begin with its weights")
    flags.add_argument("--resume_ema", help="which of them: an average in its config.ema, or raw")
    flags.add_argument(
        "--resume_map",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="rename parameters of RUN, a regular expression and its replacement; repeatable",
    )
    flags.add_argument(
        "--resume_partial", action="store_true", help="begin with those that fit, draw the others"
    )
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    asked = cli.read(flags())
    settings = config.override(config.load(asked.config), asked.overrides)

    import jax

    from diffjax.devices.processes import first
    from diffjax.runs.launch import launch

    cli.start(asked)
    began, workdir = time.monotonic(), asked.workdir
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
        if first():
            command = shlex.join(["python", "-m", "diffjax.train", *sys.argv[1:]])
            line = f"{stopped.signal.name}: saved at step {stopped.step}. To go on: {command}"
            print(line, file=sys.stderr, flush=True)
        if jax.process_count() == 1:  # an exit would wait for a thread that reads, for ever maybe
            os._exit(128 + stopped.signal)
        return 128 + stopped.signal
    print(
        f"trained to step {steps} in {time.monotonic() - began:.0f} s: {workdir}\n"
        f"next: python -m diffjax.sample --workdir={shlex.quote(str(workdir))}"
    )
    if (workdir / "tensorboard").is_dir():
        print(f"      tensorboard --logdir={shlex.quote(str(workdir / 'tensorboard'))}")
    return 0


if __name__ == "__main__":
    cli.main(run)
