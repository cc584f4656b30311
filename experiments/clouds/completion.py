"""Do clouds of a network complete the side of a held-out object that it is shown?

    python -m diffjax.train --config=configs/meshes_completed.py \\
        --workdir=runs/meshes_completed --resume_from=runs/meshes --resume_partial
    python -m experiments.clouds.completion --run=runs/meshes_completed --out=experiments/clouds

Of each held-out object two clouds are drawn in one orientation. The network is given the quarter of
the points of the first that is nearest to a viewer, and its clouds are compared with the first, as
`evaluation.completion` does. Beside it are the second cloud, which is the floor; samples of the
same network that were given no points; the points seen and their images in a mirror across the
line of sight, twice each; and the next held-out object. Writes completion.json and completion.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffjax import cli, data, plot
from diffjax.data.kinds import drawing
from diffjax.data.kinds.cloud import centred, solid
from diffjax.data.kinds.solid import Solid, picture, turned
from diffjax.data.surfaces import nearest
from diffjax.evaluation.completion import distances
from diffjax.evaluation.resampling import Rows, with_intervals
from diffjax.files import write_text
from diffjax.runs.trained import load
from diffjax.training.workdir import provenance
from experiments.clouds.study import POINTS, STEPS
from experiments.markdown import table

FILE, NUM, SHOWN, RESAMPLES = "completion.json", 100, 6, 20
NETWORK = "network, given a quarter"


def mirrored(seen: np.ndarray, whole: int) -> np.ndarray:
    """Return clouds (N, whole, 3) of the points seen (N, n, 3) and their images in a mirror.

    The mirror is across the line of sight, at the mean of the whole cloud.

    >>> mirrored(np.array([[[1.0, 0.0, 2.0]]]), 2).tolist()
    [[[1.0, 0.0, 2.0], [1.0, 0.0, -2.0]]]
    """
    both = np.concatenate([seen, seen * np.array([1, 1, -1], seen.dtype)], 1)
    return np.tile(both, (1, whole // both.shape[1], 1))


def halves(folder: str, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two clouds (N, POINTS, 3) of each of N held-out objects, in one orientation."""
    source = data.meshes("test", folder, 2 * POINTS)
    x = source[np.arange(min(num, len(source)))]["x"]
    return centred(x[:, :POINTS]), centred(x[:, POINTS:])


def study(run: Path, out: Path, num: int, folder: str = "") -> None:
    """Measure the network beside its floor and its controls, and draw its clouds."""
    true, floor = halves(folder, num)
    seen, trained = nearest(true, POINTS // 4), load(run)
    drawn = lambda given: np.asarray(
        trained.sample(len(true), cond={"seen": given}, steps=STEPS, batch_size=100).x
    )
    rows: dict[str, Callable[[], np.ndarray]] = {
        "the same object": lambda: floor,
        NETWORK: lambda: drawn(seen),
        "network, given nothing": lambda: drawn(None),
        "mirror image": lambda: mirrored(seen, POINTS),
        "next object": lambda: np.roll(true, -1, 0),
    }
    measured, clouds = {}, {name: make() for name, make in rows.items()}
    for name, x in clouds.items():
        each = distances(x, true, seen)

        def values(rows: Rows, each: dict[str, np.ndarray] = each) -> dict[str, float]:
            return {k: float(a[rows].mean()) for k, a in each.items()}

        measured[name] = with_intervals(values, len(x), RESAMPLES)
        print(name, measured[name], flush=True)
    facts = {"of": len(true), "step": trained.step}
    text = json.dumps({"rows": measured} | facts | provenance(), indent=1)
    write_text(out / FILE, text + "\n")
    draw(out, [seen, clouds[NETWORK], true])


def placed(cloud: np.ndarray) -> Solid:
    """Return a cloud (n, 3) as balls at its place, seen from the side of the viewer and above."""
    balls = solid(cloud)
    return replace(balls, positions=turned(balls.positions + cloud.mean(0), 0.9, 0.35))


def draw(out: Path, rows: list[np.ndarray]) -> None:
    """Draw a row of clouds (N, n, 3) above the next, from the side of the viewer."""
    seen = [placed(cloud) for x in rows for cloud in x[:SHOWN]]
    reach = max(b.reach for b in seen)
    tiles = np.stack([picture(b, reach=reach) for b in seen])
    plot.save(out / "completion.png", drawing.grid(tiles, SHOWN, tile=96))


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    stored = json.loads((folder / FILE).read_text())
    lines = []
    for name, row in stored["rows"].items():
        low, high = row["intervals"]["emd"]
        lines.append(
            [
                name,
                f"{row['emd']:.3f} ± {(high - low) / 2:.3f}",
                f"{row['chamfer']:.3f}",
                f"{row['missed']:.3f}",
            ]
        )
    heads = ["cloud", "EMD to the object", "Chamfer", "seen points to the cloud"]
    return {"clouds-completion": table(heads, lines)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, required=True, help="a run of meshes_completed")
    flags.add_argument("--path", default="", help="folder of surfaces (default: of pybullet)")
    flags.add_argument("--out", type=Path, default=Path("experiments/clouds"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="held-out objects")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.out, asked.num, asked.path)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
