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
from pathlib import Path
from typing import TYPE_CHECKING

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.generation import Cell, Made
    from diffjax.runs.trained import Trained


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

    from diffjax.devices.processes import first
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
    from diffjax.runs.trained import load

    return load(given.workdir, cli.sampling(given))


def generate(given: argparse.Namespace) -> Made:
    """The samples that the flags ask for."""
    from diffjax.devices.processes import first

    asked = prepare(given).cell(given.seed, given.label, given.batch_size)
    if given.trajectory and first():
        trajectory(given, asked)
    print(asked)
    made = asked.samples(given.num)
    if asked.plan.passes is None:
        print(f"network passes per sample: {min(made.passes)} to {max(made.passes)}")
    return made


def trajectory(given: argparse.Namespace, asked: Cell) -> None:
    """Draw the first samples after each row: x_t and the predicted x0."""
    from diffjax import builder, plot

    num = min(given.num, IMAGES if len(asked.form.shape) == 3 else POINTS)
    path, out = builder.refuse("--trajectory")(asked.path)(num), given.trajectory
    try:
        if out.suffix == ".gif":
            plot.film(out, *path)
        else:
            plot.save(out, plot.trajectory(*path))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from error
    print(f"wrote {out}")


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
