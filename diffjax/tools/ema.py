"""Compute post-hoc EMA of any width (arXiv:2312.02696) from the snapshots of a run.

    python -m diffjax.tools.ema --workdir=runs/digits --std=0.05,0.10,0.15
    python -m diffjax.sample    --workdir=runs/digits --ema=0.15

The run needs config.train.snapshot_every and power-function averages in config.ema; two of them,
such as 0.05 and 0.10, reach most widths. The command writes WORKDIR/ema/std_0.150.safetensors and
so on, and prints the error of each profile relative to the requested one.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from diffjax import cli

if TYPE_CHECKING:
    import numpy as np

    from diffjax.training.snapshots import Fit, Snapshots


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.ema", __doc__)
    flags.add_argument("--workdir", type=cli.path, required=True, help="folder of a run")
    flags.add_argument(
        "--std",
        type=cli.listed(cli.number),
        required=True,
        help="widths, relative to the length of training: 0.05,0.10",
    )
    flags.add_argument(
        "--step", type=cli.positive, help="end of the averages (default: the last snapshot)"
    )
    return flags


def run() -> int:
    asked = cli.read(flags())

    from diffjax.training.ema import length
    from diffjax.training.snapshots import Snapshots
    from diffjax.training.workdir import read_config

    read_config(asked.workdir)
    snapshots = Snapshots(asked.workdir, asked.step)
    fits = [solved(snapshots, std) for std in asked.std]
    end = "" if asked.step is None else f"_step_{asked.step:08d}"
    paths = [asked.workdir / "ema" / f"{length(std)}{end}.safetensors" for std in asked.std]
    print(f"{len(snapshots.profiles)} snapshots up to step {snapshots.step}")
    print(f"{'std':>7} {'error of the profile':>21} {'sum':>9} {'condition':>10}")
    for std, fitted in zip(asked.std, fits, strict=True):
        total = fitted.coefficients.sum()
        print(f"{std:7.3f} {fitted.error:21.2e} {total:9.6f} {fitted.condition:10.1e}")
    make(snapshots, fits, paths)
    for path in paths:
        print(f"wrote {path}")
    place = shlex.quote(str(asked.workdir))
    print(f"next: python -m diffjax.sample --workdir={place} --ema={paths[0].stem}")
    return 0


def solved(snapshots: Snapshots, std: float) -> Fit:
    """Return the combination of snapshots for this width.

    Raises ConfigError where the snapshots cannot approximate the width.
    """
    from diffjax.builder import refuse
    from diffjax.config import ConfigError
    from diffjax.training.snapshots import LARGEST, Profile, fit, reach

    if round(std, 3) != std:
        raise ConfigError(f"--std={std}: needs at most three digits after the point, as in 0.075")
    fitted = refuse("--std")(fit)(snapshots.profiles, Profile(std, snapshots.step))
    if fitted.error > LARGEST:
        low, high = reach(snapshots.profiles, snapshots.step)
        raise ConfigError(
            f"--std={std}: the {len(snapshots.profiles)} snapshots up to step {snapshots.step} "
            f"approximate its profile with an error of {fitted.error:.0%}; allowed: {low:.3f} to "
            f"{high:.3f}, where the error is at most {LARGEST:.0%}"
        )
    return fitted


def make(snapshots: Snapshots, fits: list[Fit], paths: list[Path]) -> None:
    """Compute and write the averages; memory holds them and one leaf of one snapshot."""
    import numpy as np

    from diffjax.io.writing import writing
    from diffjax.progress import Progress
    from diffjax.training import checksums

    coefficients = np.stack([fitted.coefficients for fitted in fits])
    leaves: dict[str, np.ndarray] = {}
    with Progress("average", len(snapshots.names), "leaf") as progress:
        for name in snapshots.names:
            leaves[name] = snapshots.combine(name, coefficients)
            progress.advance(1)
    for i, (path, fitted) in enumerate(zip(paths, fits, strict=True)):
        about = {"step": str(snapshots.step), "ema": path.stem, "error": f"{fitted.error:.3g}"}
        with writing(path):
            path.parent.mkdir(exist_ok=True)
            checksums.save(path, {name: leaf[i] for name, leaf in leaves.items()}, about)


if __name__ == "__main__":
    cli.main(run)
