"""Find the number of steps that a sampler needs, by doubling it until the samples converge.

    python -m diffjax.tools.steps --workdir=runs/digits --sampler=dpmpp_2m --error=1

The command generates the same samples with 5, 10, 20 ... steps, with noise from one Brownian path;
each doubling gives the error of the coarser samples. It prints the first number of steps whose
error is small enough.
"""

from __future__ import annotations

import argparse
from typing import Any

from diffjax import cli
from diffjax.config import ConfigError


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.steps", __doc__)
    flags.add_argument(
        "--error",
        type=cli.number,
        default=1.0,
        help="allowed root-mean-square error, in grey levels of 255 for images",
    )
    flags.add_argument("--num", type=cli.positive, default=16, help="number of samples")
    flags.add_argument("--most", type=cli.positive, default=640, help="most steps to try")
    cli.sampling_flags(flags)
    return flags


def run() -> int:
    asked = cli.read(flags())
    if not asked.error > 0:
        raise ConfigError(f"--error={asked.error:g}: needs an error above 0")

    import numpy as np

    from diffjax.samplers import refine

    first, asked.steps = asked.steps or 5, None
    cli.set_up_jax()
    plan, sample, order, (scale, unit) = prepare(asked)
    known = order(first)
    scaled = lambda steps: scale * np.concatenate([*sample(steps)])
    print(f"{'steps':>6} {'passes':>7}   error, {unit}")
    for refined in refine(scaled, known, asked.error, first, asked.most):
        print(
            f"{refined.steps:6d} {plan(refined.steps).passes:7d}   {refined.error:.3g}", flush=True
        )
    if refined.error > asked.error:
        raise ConfigError(
            f"--most={asked.most}: the error is {refined.error:.3g} with {refined.steps} steps, "
            f"more than --error={asked.error:g}"
        )
    print(f"--steps={refined.steps}")
    return 0


def prepare(asked: argparse.Namespace) -> tuple[Any, Any, Any, tuple[float, str]]:
    """Return functions of the number of steps, and the scale and the unit of errors.

    The three functions return the sampling plan, the samples, and the order of convergence.
    """
    from diffjax import builder
    from diffjax.generation.program import Generation
    from diffjax.runs.trained import load
    from diffjax.samplers.plan import Plan

    trained = load(asked.workdir, cli.sampling(asked), adapters=dict(asked.adapter))
    config, experiment, denoise = trained.config, trained.experiment, trained.denoise
    shape = experiment.shape
    cond, abilities = experiment.conditions(asked.num), builder.abilities(config["network"])

    def plan(steps: int) -> Plan:
        spec = {**config["sampling"], "noise": "brownian", "steps": steps}
        planned = builder.plan(spec, denoise.sde, experiment.form, place="sampling", **abilities)
        if not isinstance(planned, Plan):
            raise ConfigError(
                "--sampler=adaptive: chooses its own steps; allowed: the other samplers"
            )
        return planned

    def generation(steps: int) -> Generation:
        planned = plan(steps)
        return Generation(denoise, planned, asked.seed, asked.num, shape, cond, asked.batch_size)

    def order(steps: int) -> int:
        return 1 if plan(steps).noisy else max(1, builder.order(config["sampling"]))

    return plan, generation, order, experiment.form.items.unit


if __name__ == "__main__":
    cli.main(run)
