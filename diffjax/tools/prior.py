"""Store samples of a network as its prior, among which it learns images of your own (DreamBooth).

    python -m diffjax.tools.prior --workdir=runs/digits_0_8 --out=runs/prior --num=200 \\
        --label=0,1,2,3,4,5,6,7,8
    python -m diffjax.train --config=configs/digits_dreambooth.py --workdir=runs/mine \\
        --resume_from=runs/digits_0_8 --config.data.path=PICTURES --config.data.prior=runs/prior

A network that is trained on a few images alone forgets what else it could draw. DreamBooth
(arXiv:2208.12242) trains it on its own samples as well, which this command draws once: of the
classes of --label, or of the texts of --prompt. Sampler, steps, guidance and the average of the
parameters are those of `sample`.

OUT/prior.npz holds x, labels y and prompts, and OUT/prior.json the form of the network's data, for
the source `dreambooth`. The same command resumes after an interruption, with the same bytes as a
result.
"""

from __future__ import annotations

import argparse

from diffjax import cli


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.prior", __doc__)
    flags.add_argument("--out", type=cli.path, required=True, help="folder of the samples")
    flags.add_argument("--num", type=cli.positive, default=200, help="number of samples")
    flags.add_argument(
        "--label",
        type=cli.listed(str),
        metavar="CLASS,...",
        help="class, or classes in turn, by number or by name (default: all)",
    )
    cli.prompt_flags(flags)
    cli.sampling_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    prompts = cli.prompts(asked)
    cli.set_up_jax()

    from diffjax.runs.prior import prior
    from diffjax.runs.trained import load

    trained = load(
        asked.workdir, cli.sampling(asked), codec=asked.codec, adapters=dict(asked.adapter)
    )
    job = trained.job(
        seed=asked.seed,
        label=asked.label,
        prompt=prompts,
        negative=asked.negative,
        batch_size=asked.batch_size,
    )
    job.check(asked.num)
    print(job, flush=True)
    print(f"wrote {asked.num} samples to {prior(job, asked.num, asked.out)}")
    return 0


if __name__ == "__main__":
    cli.main(run)
