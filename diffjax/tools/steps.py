"""Find the number of steps that a sampler needs, by doubling it until the samples converge.

    python -m diffjax.tools.steps --workdir=runs/digits --sampler=dpmpp_2m --error=1

The command generates the same samples with 5, 10, 20 ... steps, with noise from one Brownian path;
each doubling gives the error of the coarser samples. It prints the first number of steps whose
error is small enough.

The curve and the time of a network pass are stored in WORKDIR/steps.json, from which
`sample --quality=0.02` chooses a sampler and its steps: measure several samplers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
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

    from diffjax.samplers import refine

    first, asked.steps = asked.steps or 5, None
    cli.set_up_jax()
    trained, plan, generation = prepare(asked)
    measured = Measured(trained.experiment.form.items.unit, generation)
    order, points = order_of(trained, plan(first)), []
    print(f"{'steps':>6} {'passes':>7}   error, {measured.unit}")
    for refined in refine(measured, order, asked.error, first, asked.most):
        passes = plan(refined.steps).passes
        print(f"{refined.steps:6d} {passes:7d}   {refined.error:.3g}", flush=True)
        error = refined.error / measured.scale
        points.append({"steps": refined.steps, "passes": passes, "error": error})
    store(asked, trained, plan(first).noisy, points, measured)
    if refined.error > asked.error:
        raise ConfigError(
            f"--most={asked.most}: the error is {refined.error:.3g} with {refined.steps} steps, "
            f"more than --error={asked.error:g}"
        )
    print(f"--steps={refined.steps}")
    return 0


class Measured:
    """Samples by their number of steps, and the seconds that they take.

    unit: the scale and the name of errors. generation: a function of the number of steps.
    """

    def __init__(self, unit: tuple[float, str], generation: Callable[[int], Any]):
        (self.scale, self.unit), self._generation = unit, generation
        self._seconds, self._passes = 0.0, 0

    def __call__(self, steps: int) -> Any:
        """Return the samples in units of the error, (N, ...)."""
        import numpy as np

        run = self._generation(steps)
        began = time.perf_counter()
        x = np.concatenate([*run])
        self._seconds += time.perf_counter() - began
        self._passes += sum(run.passes)
        return self.scale * x

    @property
    def seconds_per_pass(self) -> float:
        """The seconds of a network pass of one sample in a batch, without compilation."""
        return self._seconds / self._passes


def store(
    asked: argparse.Namespace, trained: Any, noisy: bool, points: list[Any], measured: Measured
) -> None:
    """Store the curve in the folder of the run, where there is one."""
    import jax

    from diffjax.io.writing import writing
    from diffjax.runs import quality
    from diffjax.training.workdir import is_run

    if not is_run(asked.workdir):
        return
    about = f"{jax.devices()[0].device_kind}, batches of {min(asked.num, asked.batch_size)}"
    seconds = measured.seconds_per_pass
    new = quality.curve(trained, points, noisy=noisy, seconds_per_pass=seconds, about=about)
    with writing(asked.workdir / quality.FILE):
        quality.keep(asked.workdir, new)


def order_of(trained: Any, plan: Any) -> int:
    """Return the order of convergence of the samples themselves."""
    from diffjax import builder

    return 1 if plan.noisy else max(1, builder.order(trained.config["sampling"]))


def prepare(asked: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the network, and functions of the number of steps to a plan and to its samples."""
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
            raise ConfigError(f"--sampler: {planned.tableless}; needs the rows of a table")
        return planned

    def generation(steps: int) -> Generation:
        planned = plan(steps)
        return Generation(denoise, planned, asked.seed, asked.num, shape, cond, asked.batch_size)

    return trained, plan, generation


if __name__ == "__main__":
    cli.main(run)
