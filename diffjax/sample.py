"""Sample from a trained run, or from a converted checkpoint.

    python -m diffjax.sample --workdir=runs/digits --num=64
    python -m diffjax.sample --workdir=runs/digits --sampler=dpmpp_2m --steps=20 --guidance=1.5 \\
        --label=3 --out=threes.npz
    python -m diffjax.sample --workdir=runs/moons --trajectory=moons.gif

Sample k depends on (seed, k) and its label only, not on --num or --batch-size. Labels are 0, 1, ...
in turn, unless --label says which. Flags that are not given keep the config's value.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diffjax import cli
from diffjax.config import ConfigError, parse

if TYPE_CHECKING:
    from diffjax.evaluation import Cell, Made
    from diffjax.samplers.generate import Plan
    from diffjax.trained import Trained
    from diffjax.training.experiment import Experiment


IMAGES, POINTS = 6, 500
"""Samples whose trajectory is drawn."""


def classes(text: str) -> list[int]:
    return [int(item) for item in text.split(",")]


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("sample", __doc__)
    flags.add_argument("--num", type=cli.positive, default=64, help="number of samples")
    flags.add_argument("--label", type=classes, help="class, or classes in turn: 3 or 0,1,2 (all)")
    flags.add_argument(
        "--out",
        type=Path,
        action="append",
        help=".png: one grid; .npz: uint8 arr_0 (N, H, W, C) and labels arr_1; else a folder of "
        "PNGs; may be repeated (WORKDIR/samples.png)",
    )
    flags.add_argument(
        "--trajectory",
        type=Path,
        help=".png or .gif: how the first samples come about, x_t and the predicted x0 by row",
    )
    cli.sampling_flags(flags)
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    given = cli.read(flags())
    given.out = given.out or [given.workdir / "samples.png"]

    from diffjax.training.processes import first
    from diffjax.training.workdir import read_config

    cli.start(given)
    read_config(given.workdir)  # a wrong workdir is refused before any folder is made
    for path in given.out:
        check(path)
    if given.trajectory:
        check(given.trajectory, (".png", ".gif"), "--trajectory")
    made = generate(given)
    for path in given.out if first() else ():
        write(path, made)
        print(f"wrote {path}")
    return 0


def prepare(given: argparse.Namespace) -> Trained:
    """What the flags ask for: the trained network, and how it is sampled."""
    from diffjax.trained import load

    return load(given.workdir, sampling(given))


def cell(trained: Trained, given: argparse.Namespace, turn: Sequence[int] | None = None) -> Cell:
    """How `trained` is sampled, and what a protocol says of it. turn: classes, all by default."""
    from diffjax import build
    from diffjax.evaluation import Cell

    about = build.SAMPLING | trained.config["sampling"]
    about |= {"trained": trained.step, "ema": trained.ema}
    turn = tuple(range(trained.experiment.classes) if turn is None else turn)
    own = (about, given.seed, given.batch_size, turn)
    return Cell(trained.denoise, trained.experiment, *own)


def generate(given: argparse.Namespace) -> Made:
    """The samples that the flags ask for."""
    from diffjax.training.processes import first

    trained = prepare(given)
    asked = cell(trained, given, turn(given.label, trained.experiment))
    if asked.plan.rows is None and given.trajectory:
        raise ConfigError(
            "--trajectory: adaptive steps differ between samples; use another sampler"
        )
    print(asked)
    made = asked.samples(given.num)
    if asked.plan.passes is None:
        print(f"network passes per sample: {min(made.passes)} to {max(made.passes)}")
    if given.trajectory and first():
        trajectory(given, asked)
    return made


def trajectory(given: argparse.Namespace, asked: Cell) -> None:
    """Draw the first samples after each row: x_t and the predicted x0."""
    import jax.numpy as jnp
    import numpy as np

    from diffjax import plot
    from diffjax.arrays import stream
    from diffjax.samplers.generate import generate

    shape, plan = asked.experiment.shape, cast("Plan", asked.plan)
    num = min(given.num, IMAGES if len(shape) == 3 else POINTS)
    label = asked.labels(num)
    cond = {} if label is None else {"label": jnp.asarray(label)}
    key, index = stream(given.seed, "sample"), jnp.arange(num)
    path = generate(asked.denoise, plan, key, index, cond, shape=shape, path=True).path
    x, x0 = (np.asarray(a) for a in path)
    draw = plot.film if given.trajectory.suffix == ".gif" else plot.trajectory
    try:
        draw(given.trajectory, x, x0, plan.table.t)
    except OSError as error:
        raise ConfigError(f"{given.trajectory}: cannot be written ({error.strerror})") from error
    print(f"wrote {given.trajectory}")


def turn(asked: list[int] | None, experiment: Experiment) -> list[int] | None:
    """The classes asked for, in turn; None: all that the network knows."""
    if bad := [k for k in asked or () if not 0 <= k < experiment.classes]:
        known = f"0 to {experiment.classes - 1}" if experiment.classes else "none (unconditional)"
        raise ConfigError(f"--label={bad[0]}: no such class; known: {known}")
    return asked


def sampling(given: argparse.Namespace) -> dict[str, Any]:
    """The fields of config.sampling that flags were given for."""
    flags = {
        "sampler": given.sampler and parse(given.sampler),
        "grid": given.grid and parse(given.grid),
        "steps": given.steps,
        "guidance": guidance(given),
        "corrector": given.corrector and parse(given.corrector),
        "noise": given.noise,
        "ema": given.ema,
    }
    return {k: v for k, v in flags.items() if v is not None}


def guidance(given: argparse.Namespace) -> dict[str, Any] | None:
    """The fields of config.sampling.guidance that flags were given for, or None."""
    flags = {
        "weight": given.guidance,
        "ramp": given.ramp,
        "interval": given.interval,
        "reference": given.reference and parse(given.reference),
        "rule": given.rule and parse(given.rule),
        "threshold": given.threshold and parse(given.threshold),
    }
    return {k: v for k, v in flags.items() if v is not None} or None


def check(path: Path, endings: tuple[str, ...] = (".png", ".npz", ""), flag: str = "--out") -> None:
    """Refuse a file that `write` cannot make, before the work is done."""
    if path.suffix not in endings:
        shown = ", ".join(e or "none for a folder of PNGs" for e in endings)
        raise ConfigError(f"{flag}={path}: known endings: {shown}")
    folder = path.parent if path.suffix else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{flag}={path}: cannot be written ({error.strerror})") from error


def write(path: Path, made: Made) -> None:
    """Write samples to a grid, an .npz or a folder, by the ending of `path`."""
    import numpy as np

    from diffjax import plot

    try:
        if path.suffix == ".png":
            plot.save(path, plot.samples(made.x, made.label))
        elif path.suffix == ".npz":
            np.savez(path, *(a for a in (made.x, made.label) if a is not None))
        elif made.x.dtype != np.uint8:
            raise ConfigError(f"--out={path}: the samples are no images; use .png or .npz")
        else:
            for k, image in enumerate(made.x):
                plot.save(path / f"{k:06d}.png", image)
    except OSError as error:
        raise ConfigError(f"--out={path}: cannot be written ({error.strerror})") from error


if __name__ == "__main__":
    cli.main(run)
