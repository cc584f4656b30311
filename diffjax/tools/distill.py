"""Distil a network to few steps, by a chain of runs that halve the steps of its sampler.

    python -m diffjax.tools.distill --workdir=runs/digits --out=runs/digits_few --from=32 --to=1
    python -m diffjax.tools.distill --workdir=runs/digits --out=runs/digits_fast --from=8 --to=4 \\
        --guidance=1.5 --train-steps=300 --config.optimizer.learning_rate=5e-4

Progressive distillation (arXiv:2202.00512): the network of --workdir samples with DDIM in --from
steps. A first student learns to do in one step what its teacher does in two, and is the teacher of
the next student, until --to steps remain. --workdir is a run, an export or a published checkpoint;
the data of its config are needed again, so a published checkpoint also takes --config.data.name and
--train-steps.

Each student is a run, OUT/steps_N, which `sample`, `evaluate` and other commands read. It has the
config of the first teacher with another loss and sampler, begins with the weights of its teacher,
and its learning rate falls linearly to 0. --config.FIELD=VALUE sets a field of all runs.

The same command resumes after ctrl-C or SIGTERM; finished runs are not trained again. At the end it
prints the Frechet distance of all students and of DDIM of the first teacher at the same times, and
writes OUT/distill.json, distill.md and distill.png. Exit codes are those of `train`.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from diffjax import cli
from diffjax.config import Stopped


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.distill", __doc__, overrides=True)
    flags.add_argument(
        "--workdir",
        type=cli.path,
        required=True,
        help="the teacher: run, export, checkpoint",
    )
    flags.add_argument("--out", type=cli.path, required=True, help="folder of the chain of runs")
    flags.add_argument(
        "--from", dest="first", type=cli.positive, default=32, help="steps of the teacher"
    )
    flags.add_argument(
        "--to", dest="last", type=cli.positive, default=1, help="steps of the last student"
    )
    flags.add_argument(
        "--train-steps",
        type=cli.positive,
        help="training steps of each student (default: a quarter of the teacher's)",
    )
    flags.add_argument(
        "--grid",
        help="time grid of the teacher's steps, e.g. karras:rho=7 (default: from its config)",
    )
    flags.add_argument(
        "--guidance",
        type=cli.number,
        default=1.0,
        help="weight of the first teacher's guidance, which students need no more; 1: none",
    )
    table = flags.add_argument_group("the table at the end")
    table.add_argument(
        "--num", type=cli.whole(4, cli.MOST), default=1000, help="samples of each network"
    )
    table.add_argument(
        "--features", help="features of the Frechet distance (default: by the kind of data)"
    )
    table.add_argument("--batch-size", type=cli.positive, default=256, help="samples per batch")
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())

    from diffjax.devices.processes import first
    from diffjax.runs.distilling import chain, reference
    from diffjax.runs.launch import interrupted

    cli.start(asked)
    runs = chain(
        asked.workdir,
        asked.out,
        asked.first,
        asked.last,
        train_steps=asked.train_steps,
        guidance=asked.guidance,
        grid=asked.grid,
        changes=asked.overrides,
    )
    config, form = runs.config(runs.counts[0]), runs.teacher.experiment.form
    real = reference(config, form, asked.features, asked.out)
    runs.claim()
    try:
        runs.train(sys.argv)
    except Stopped as stopped:
        return interrupted(stopped, "diffjax.tools.distill")
    results = runs.results(real, asked.num, asked.batch_size)
    if first():
        print(f"\n{runs.report(results)}\n")
        print(f"wrote {asked.out / 'distill.json'}, distill.md and distill.png")
        last = shlex.quote(str(runs.workdir(asked.last)))
        print(f"next: python -m diffjax.sample --workdir={last}")
    return 0


if __name__ == "__main__":
    cli.main(run)
