"""Train a model: python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits

Every field of the config can be overridden: --config.train.steps=500 --config.sde.name=ve
The same command goes on where it stopped, bit by bit. Ctrl-C and SIGTERM save first; a second one
ends at once. In the workdir: config.json, launches.jsonl, cost.json, metrics.jsonl, tensorboard/,
samples/, checkpoints/. All devices of all processes train together (README: many devices).

Exit codes: 0 trained to the end, 2 a config or flag that cannot work, 128 + signal when stopped.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from diffjax import cli, config


def run() -> int:
    flags = cli.parser("train", __doc__)
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
    cli.cluster_flags(flags)
    known, rest = flags.parse_known_args()
    assignments = []
    for text in rest:
        if not text.startswith("--config."):
            flags.error(f"unrecognized argument: {text}; config fields are --config.field=value")
        assignments.append(text.removeprefix("--config."))
    settings = config.override(config.load(known.config), assignments)

    from diffjax import build
    from diffjax.training.loop import train
    from diffjax.training.processes import first
    from diffjax.training.workdir import open_run

    cli.start(known)
    experiment = build.experiment(settings)
    if first():
        open_run(known.workdir, experiment, sys.argv)
    began = time.monotonic()
    state, stopped = train(experiment, known.workdir, profile=known.profile)
    steps, command = int(state.step), shlex.join(["python", "-m", "diffjax.train", *sys.argv[1:]])
    if stopped and first():
        print(f"{stopped.name}: saved at step {steps}. To go on: {command}", file=sys.stderr)
    if stopped:
        return 128 + stopped
    print(
        f"trained to step {steps} in {time.monotonic() - began:.0f} s: {known.workdir}\n"
        f"next: python -m diffjax.sample --workdir={known.workdir}\n"
        f"      tensorboard --logdir={known.workdir}/tensorboard"
    )
    return 0


if __name__ == "__main__":
    cli.main(run)
