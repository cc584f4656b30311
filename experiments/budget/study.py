"""How good are samples after so many images? A curve that grows while there is time.

    TFDS_DATA_DIR=... python -m experiments.budget.study --minutes=12 \\
        --features=inception:weights=inception.pt -- --config.network.dtype=bfloat16
    python -m experiments.budget.study --config=cifar_vp_small --batch=64 --minutes=600

Trains a config to 2^k times FIRST images in turn and evaluates after each, with the commands that
it prints, until the next stage would end after MINUTES of wall-clock time, by the time of the last
one. What follows -- goes to the training. Writes WORKDIR/curve.json, curve.png and samples. After
an interruption the same command resumes, and with more minutes it adds to the curve.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from diffjax import cli
from diffjax.evaluate import RESULT
from diffjax.files import write_text
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import number, table

CURVE = "curve.json"
EDM = "EDM, 200 million images (arXiv:2206.00364): FID 1.79 with classes, 1.97 without"


def stages(first: int, batch: int, done: int = 0) -> Any:
    """Yield the steps of stages: those of 2^k * first images, from after `done` steps on.

    >>> stage = stages(first=1000, batch=100, done=20)
    >>> next(stage), next(stage)
    (40, 80)
    """
    steps = max(1, first // batch)
    while True:
        if steps > done:
            yield steps
        steps *= 2


def command(module: str, *flags: str) -> float:
    """Run a command of the package, print it, and return its CPU seconds; exit where it fails."""
    line = [sys.executable, "-m", f"diffjax.{module}", *flags]
    print("python", *line[1:], flush=True)
    before = _children()
    if code := subprocess.run(line, check=False).returncode:
        raise SystemExit(code)
    return _children() - before


def _children() -> float:
    """Return the CPU seconds of the processes that were started and have exited."""
    used = os.times()
    return used.children_user + used.children_system


def stage(asked: argparse.Namespace, steps: int, cpu: float = 0.0) -> dict[str, Any]:
    """Train to this step, evaluate, draw samples, and return the row of the curve.

    cpu: the CPU seconds of a training step, for a stage whose training finished in an earlier
    launch of the study.
    """
    run, began = asked.workdir, time.time()
    if (done := last_step(run)) < steps:
        flags = [f"--config=configs/{asked.config}.py", f"--workdir={run}"]
        changes = [f"--config.train.steps={steps}", f"--config.train.batch_size={asked.batch}"]
        cpu = command("train", *flags, *changes, *asked.train) / (steps - done)
    trained = time.time()
    features = [f"--features={asked.features}"] if asked.features else []
    weights = [f"--guidance={asked.guidance}"] if asked.guidance else []
    common = [f"--workdir={run}", *weights]
    command("evaluate", *common, f"--num={asked.num}", f"--metrics={asked.metrics}", *features)
    picture = run / "curve" / f"step_{steps:08d}.png"
    command("sample", *common[:1], "--num=60", f"--out={picture}")
    results = json.loads((run / RESULT).read_text())["results"]
    cost = json.loads((run / "cost.json").read_text())
    return {
        "steps": steps,
        "images": steps * asked.batch,
        "flops": steps * cost["flops"],
        "train_seconds": round(trained - began, 1),
        "cpu_seconds_per_step": round(cpu, 4),
        "seconds": round(time.time() - began, 1),
        "results": results,
    }


def study(asked: argparse.Namespace) -> dict[str, Any]:
    """Add stages to the curve until the time is over, and return it."""
    path, began = asked.workdir / CURVE, time.time()
    curve = json.loads(path.read_text()) if path.exists() else {"config": asked.config, "rows": []}
    if curve["config"] != asked.config:
        raise SystemExit(f"{path}: is of {curve['config']}; --config={asked.config} needs its own")
    rows = curve["rows"]
    for steps in stages(asked.first, asked.batch, rows[-1]["steps"] if rows else 0):
        # A stage trains as many images as all before it: the next one takes twice the time.
        train = 2 * rows[-1]["train_seconds"] if rows else 0.0
        rest = rows[-1]["seconds"] - rows[-1]["train_seconds"] if rows else 0.0
        if time.time() - began + train + rest > 60 * asked.minutes:
            print(f"{steps * asked.batch:,} images would take {(train + rest) / 60:.1f} minutes")
            break
        rows.append(stage(asked, steps, rows[-1]["cpu_seconds_per_step"] if rows else 0.0))
        write_text(path, json.dumps(curve | provenance(), indent=1) + "\n")
        draw(curve, path.with_suffix(".png"))
    return curve


def measures(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a result that the table shows, by column."""
    wanted = {
        "Frechet": ("frechet", "distance"),
        "over floor": ("frechet", "ratio"),
        "class agrees": ("classifier", "agreement"),
        "precision": ("precision_recall", "precision"),
        "recall": ("precision_recall", "recall"),
        "ratio to held-out": ("memorization", "ratio"),
    }
    return {k: result[metric][v] for k, (metric, v) in wanted.items() if metric in result}


def tables(curve: Mapping[str, Any]) -> str:
    """Return the table of a curve in Markdown."""
    lines, columns, hours, before = [], {}, 0.0, 0
    for row in curve["rows"]:
        hours += (row["steps"] - before) * row["cpu_seconds_per_step"] / 3600
        before = row["steps"]
        for result in row["results"]:
            columns = measures(result)
            lines.append(
                [
                    f"{row['images']:,}",
                    f"{row['flops']:.2g}",
                    f"{hours:.2f}",
                    f"{result['protocol']['guidance']:g}",
                    *(number(v) for v in columns.values()),
                ]
            )
    return table(["images", "FLOPs", "CPU hours", "guidance", *columns], lines)


def draw(curve: Mapping[str, Any], path: Path) -> None:
    """Draw the Frechet distance against images seen, for each weight of guidance."""
    lines: dict[float, list[tuple[float, float]]] = {}
    for row in curve["rows"]:
        for result in row["results"]:
            point = row["images"], result["frechet"]["distance"]
            lines.setdefault(result["protocol"]["guidance"], []).append(point)
    figure = Figure((7, 4.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for weight, points in lines.items():
        axes.plot(*zip(*points, strict=True), "o-", label=f"guidance {weight:g}")
    protocol, frechet = (curve["rows"][-1]["results"][-1][k] for k in ("protocol", "frechet"))
    axes.axhline(frechet["floor"], ls="--", c="gray", label="floor: two halves of the real data")
    axes.set_title(f"{curve['config']}, {protocol['num']:,} samples, {protocol['features']}")
    axes.set(xscale="log", yscale="log", xlabel="images seen", ylabel="Frechet distance")
    if "inception" in str(protocol["features"]) and "cifar" in curve["config"]:
        axes.set_xlabel(f"images seen\n{EDM}")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--config", default="cifar_edm", help="config, as configs/NAME.py or NAME")
    flags.add_argument("--workdir", type=Path, help="by default runs/budget_ and the config")
    flags.add_argument("--minutes", type=float, default=12.0, help="of wall-clock time in all")
    flags.add_argument("--first", type=cli.positive, default=64_000, help="images of stage one")
    flags.add_argument("--batch", type=cli.positive, default=512, help="images of a step")
    flags.add_argument("--num", type=cli.positive, default=5000, help="samples of a stage")
    flags.add_argument("--guidance", default="", help="weights, as of evaluate")
    flags.add_argument("--features", default="", help="as of evaluate")
    flags.add_argument("--metrics", default="frechet", help="as of evaluate; frechet among them")
    flags.add_argument("train", nargs="*", help="flags of diffjax.train, after --")
    asked = flags.parse_args(arguments)
    if not asked.minutes > 0:
        flags.error(f"--minutes={asked.minutes:g}: needs minutes > 0")
    asked.config = Path(asked.config).stem
    asked.workdir = asked.workdir or Path("runs", f"budget_{asked.config}")
    curve = study(asked)
    if curve["rows"]:
        print(f"\n{tables(curve)}\nwrote {asked.workdir / CURVE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
