"""Store pairs of noise and the sample that a teacher maps it to, the data of reflow.

    python -m diffjax.tools.pairs --workdir=runs/digits --out=runs/digits_pairs --num=10000
    python -m diffjax.train --config=configs/digits_vp.py --workdir=runs/digits_straight \\
        --config.data.name=array:runs/digits_pairs/pairs.npz --config.loss.pairing=stored \\
        --resume_from=runs/digits

Reflow (arXiv:2209.03003) trains flow matching on the pairs (X(eps), eps) of a deterministic sampler
instead of independent ones. The paths then cross less, so that a few steps of an ODE sampler
suffice, one if the pairs were straight. Sampler, steps, guidance and the average of the parameters
are those of `sample`; a sampler that adds noise is refused.

OUT/pairs.npz holds x, labels and the condition `noise`, for the source `array`. Images are rounded
to grey levels, as in all stored samples. The same command resumes after an interruption, with the
same bytes as a result.
"""

from __future__ import annotations

import argparse
import shlex

from diffjax import cli


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.pairs", __doc__)
    flags.add_argument("--out", type=cli.path, required=True, help="folder of the pairs")
    flags.add_argument("--num", type=cli.positive, default=10_000, help="number of pairs")
    flags.add_argument(
        "--label",
        type=cli.listed(str),
        metavar="CLASS,...",
        help="class, or classes in turn, by number or by name (default: all)",
    )
    cli.sampling_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    cli.set_up_jax()

    from diffjax.runs import coupled
    from diffjax.runs.trained import load

    trained = load(asked.workdir, cli.sampling(asked), adapters=dict(asked.adapter))
    job = trained.job(seed=asked.seed, label=asked.label, batch_size=asked.batch_size, latents=True)
    coupled.check(job)
    coupled.claim(job, asked.out)
    print(job, flush=True)
    file = coupled.pairs(job, asked.num, asked.out)
    labels = " --config.data.labels=True" if job.form.classes else ""
    print(
        f"wrote {asked.num} pairs to {file}\n"
        f"next: python -m diffjax.train --config=... --workdir=... --config.loss.pairing=stored "
        f"--config.data.name={shlex.quote(f'array:{file}')}{labels} "
        f"--resume_from={shlex.quote(str(asked.workdir))}"
    )
    return 0


if __name__ == "__main__":
    cli.main(run)
