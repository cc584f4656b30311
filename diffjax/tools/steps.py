"""How many steps does a sampler need? Double them until the samples stay as they are.

    python -m diffjax.tools.steps --workdir=runs/digits --sampler=dpmpp_2m --error=1

The same samples with 5, 10, 20 ... steps, noise of one Brownian path included; each doubling says
how far off the coarser ones were. Prints the first number of steps whose error is small enough.
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
        help="root mean square; grey levels of 255 if images",
    )
    flags.add_argument("--num", type=cli.positive, default=16, help="samples")
    flags.add_argument("--most", type=cli.positive, default=640, help="most steps to try")
    cli.sampling_flags(flags)
    return flags


def run() -> int:
    given = cli.read(flags())
    if not given.error > 0:
        raise ConfigError(f"--error={given.error:g}: needs an error above 0")

    import numpy as np

    from diffjax.samplers import refine

    first, given.steps = given.steps or 5, None
    cli.set_up_jax()
    plan, sample, order, (scale, unit) = prepare(given)
    known = order(first)
    scaled = lambda steps: scale * np.concatenate([*sample(steps)])
    print(f"{'steps':>6} {'passes':>7}   error, {unit}")
    for found in refine(scaled, known, given.error, first, given.most):
        print(f"{found.steps:6d} {plan(found.steps).passes:7d}   {found.error:.3g}", flush=True)
    if found.error > given.error:
        raise ConfigError(
            f"--most={given.most}: the error is {found.error:.3g} with {found.steps} steps, more "
            f"than --error={given.error:g}"
        )
    print(f"--steps={found.steps}")
    return 0


def prepare(given: argparse.Namespace) -> tuple[Any, Any, Any, tuple[float, str]]:
    """steps -> how to sample; steps -> samples; steps -> their order; scale and unit of errors."""
    from diffjax import builder
    from diffjax.generation.program import Generation
    from diffjax.runs.trained import load
    from diffjax.samplers.plan import Plan

    trained = load(given.workdir, cli.sampling(given))
    config, experiment, denoise = trained.config, trained.experiment, trained.denoise
    shape = experiment.shape
    cond, abilities = experiment.conditions(given.num), builder.abilities(config["network"])

    def plan(steps: int) -> Plan:
        spec = {**config["sampling"], "noise": "brownian", "steps": steps}
        planned = builder.plan(spec, denoise.sde, experiment.form, place="sampling", **abilities)
        if not isinstance(planned, Plan):
            raise ConfigError("--sampler=adaptive: chooses its own steps; allowed: the others")
        return planned

    def generation(steps: int) -> Generation:
        how = plan(steps)
        return Generation(denoise, how, given.seed, given.num, shape, cond, given.batch_size)

    def order(steps: int) -> int:
        return 1 if plan(steps).noisy else max(1, builder.order(config["sampling"]))

    return plan, generation, order, experiment.form.items.unit


if __name__ == "__main__":
    cli.main(run)
