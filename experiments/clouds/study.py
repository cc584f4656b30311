"""Can clouds from a network be distinguished from held-out objects, and are they new?

    python -m diffjax.train --config=configs/meshes.py --workdir=runs/meshes
    python -m experiments.clouds.study --run=runs/meshes --out=experiments/clouds

Each set of clouds is compared with as many held-out ones by the exact earth mover's distance and by
the Chamfer distance: the accuracy of the nearest neighbour (1-NNA), coverage and the minimum
matching distance. The sets are clouds of training objects, samples of the run, and two controls:
Gaussians with the covariances of training clouds, which have the right sizes and no surfaces, and
clouds of a single object. How new samples are is the Chamfer distance of radius and height, which
does not see turns about the vertical, to the nearest of all training objects, beside that of
held-out objects. `--only` measures some sets. Writes clouds.json, clouds.png and turning.gif. With
`--points=512` all clouds have so many points, of which the network draws as many, whatever it was
trained with; the files are then clouds_512.json and clouds_512.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, data, plot
from diffjax.data.kinds import drawing
from diffjax.data.kinds.cloud import CLOUD, solid
from diffjax.data.kinds.solid import picture, turned
from diffjax.data.surfaces import Surfaces
from diffjax.evaluation.clouds import SHARES, across, chamfer, compared, summary
from diffjax.evaluation.resampling import with_intervals
from diffjax.files import write_text
from diffjax.runs.trained import load
from diffjax.training.workdir import provenance
from experiments.markdown import table

POINTS, NUM, SHOWN, STEPS, RESAMPLES = 256, 100, 12, 40, 20
FLOOR, NETWORK = "training objects", "network"
MORE = (512, 1024)
"""Other numbers of points that a README may show."""
NAMES = (FLOOR, NETWORK, "Gaussians", "one object")


def name_of(points: int) -> str:
    """Return the name of the files of clouds of so many points, without their ending.

    >>> name_of(256), name_of(512)
    ('clouds', 'clouds_512')
    """
    return "clouds" if points == POINTS else f"clouds_{points}"


def gaussian(x: np.ndarray) -> np.ndarray:
    """Return clouds of Gaussian points with the covariances of clouds x (N, n, 3).

    >>> gaussian(np.ones((2, 5, 3))).shape
    (2, 5, 3)
    """
    rng, z = np.random.default_rng(0), []
    for cloud in x.astype(np.float64):
        drawn = rng.normal(size=cloud.shape)
        drawn -= drawn.mean(0)
        root = [np.linalg.cholesky(np.cov(a.T) + 1e-9 * np.eye(3)) for a in (drawn, cloud)]
        z.append(drawn @ np.linalg.inv(root[0]).T @ root[1].T)
    return np.stack(z).astype(np.float32)


def profile(x: np.ndarray) -> np.ndarray:
    """Return the distance to the axis y and the height of points x (..., 3), as (..., 2).

    >>> profile(np.array([3.0, 7.0, 4.0])).tolist()
    [5.0, 7.0]
    """
    return np.stack([np.hypot(x[..., 0], x[..., 2]), x[..., 1]], -1)


def nearest(x: np.ndarray, training: np.ndarray) -> float:
    """Return the median Chamfer distance of the profiles of clouds to the nearest training one."""
    apart = across(profile(x), profile(training), chamfer)
    return float(np.median(apart.min(1)))


def sets(run: Path, source: Surfaces, num: int) -> dict[str, Callable[[], np.ndarray]]:
    """Return functions that make the clouds (num, n, 3) of each set, by its name."""
    order = np.random.default_rng(0).permutation(len(source))[:num]
    training = source.draw(order, np.arange(num), 0)["x"]
    one = lambda: source.draw(np.full(num, order[0]), np.arange(num), 0)["x"]
    return {
        FLOOR: lambda: training,
        NETWORK: lambda: np.asarray(load(run).sample(num, steps=STEPS, size=source.points).x),
        "Gaussians": lambda: gaussian(training),
        "one object": one,
    }


def study(
    run: Path, out: Path, num: int, only: list[str], folder: str = "", points: int = POINTS
) -> None:
    """Measure each set, write its values, and draw the figures of the network.

    folder: the surfaces, by default those of the package pybullet. points: those of each cloud.
    """
    train, test = (data.meshes(split, folder, points) for split in ("train", "test"))
    held = test[np.arange(min(num, len(test)))]["x"]
    every = train[np.arange(len(train))]["x"]
    path, apart = out / f"{name_of(points)}.json", None
    for name, made in sets(run, train, len(held)).items():
        if name not in only:
            continue
        begin = time.process_time()
        x = made()
        sampled = time.process_time() - begin
        apart = compared(x, held, apart)
        values = functools.partial(summary, apart)
        row = with_intervals(values, len(x), RESAMPLES, shares=SHARES)
        row |= {"nearest": nearest(x, every), "seconds": sampled}
        stored = json.loads(path.read_text()) if path.exists() else {}
        rows = stored.get("rows", {}) | {name: row}
        facts: dict[str, Any] = {"of": len(held), "objects": [len(train), len(test)]}
        facts["held_out_nearest"] = stored.get("held_out_nearest") or nearest(held, every)
        if name == NETWORK:
            facts["step"] = load(run).step
            draw(out, x, held, name_of(points))
        kept = {k: stored[k] for k in ("step",) if k in stored} | facts
        write_text(path, json.dumps({"rows": rows} | kept | provenance(), indent=1) + "\n")
        print(name, row, flush=True)


def draw(out: Path, x: np.ndarray, held: np.ndarray, name: str) -> None:
    """Draw held-out clouds above samples, and for 256 points samples that turn."""
    balls = [solid(cloud) for cloud in (*held[:SHOWN], *x[:SHOWN])]
    seen = [replace(b, positions=turned(b.positions, 0.6, 0.35)) for b in balls]
    reach = max(b.reach for b in seen)
    tiles = np.stack([picture(b, reach=reach) for b in seen])
    plot.save(out / f"{name}.png", drawing.grid(tiles, SHOWN // 2, tile=96))
    if name == name_of(POINTS):
        CLOUD.whole()[".gif"].write(out / "turning.gif", x[:8], {}, {})


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name, one for each number of points."""
    numbers = [POINTS, *(k for k in MORE if (folder / f"{name_of(k)}.json").exists())]
    names = [name_of(k) for k in numbers]
    return {
        name: compared_table(json.loads((folder / f"{name}.json").read_text())) for name in names
    }


def compared_table(stored: dict[str, Any]) -> str:
    """Return the table of what the study has stored."""
    heads = ["clouds", "1-NNA, EMD", "1-NNA, Chamfer", "coverage, EMD", "matching distance, EMD"]
    heads += ["nearest training profile"]
    lines = []
    for name in (n for n in NAMES if n in stored["rows"]):
        row = stored["rows"][name]
        low, high = row["intervals"]["emd_nna"]
        lines.append(
            [
                name,
                f"{row['emd_nna']:.3f} ± {(high - low) / 2:.3f}",
                f"{row['chamfer_nna']:.3f}",
                f"{row['emd_coverage']:.2f}",
                f"{row['emd_mmd']:.3f}",
                f"{row['nearest']:.4f}",
            ]
        )
    lines.append(["held-out objects", "", "", "", "", f"{stored['held_out_nearest']:.4f}"])
    return table(heads, lines)


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, required=True, help="the run of the config meshes")
    flags.add_argument("--path", default="", help="folder of surfaces (default: of pybullet)")
    flags.add_argument("--out", type=Path, default=Path("experiments/clouds"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="clouds of each set")
    flags.add_argument("--points", type=cli.positive, default=POINTS, help="points of each cloud")
    flags.add_argument("--only", nargs="+", default=[*NAMES], choices=NAMES)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num, asked.only, asked.path, asked.points)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
