"""Evaluate a trained run: python -m diffjax.evaluate --workdir=runs/digits

For each guidance weight: the Frechet distance to the training set in pixel space (values in [0, 1])
with its floor, real half against real half at equal counts; the share of samples that a classifier
fitted on the real training set assigns to the class asked for, beside its share of right answers on
the real test set; the distance to the nearest training image beside that of held-out images. A
table here, everything with its protocol in WORKDIR/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.sample import generate, prepare, shown

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from diffjax.training.experiment import Experiment


def weights(text: str) -> list[float]:
    return [float(item) for item in text.split(",")]


def run() -> int:
    flags = cli.parser("evaluate", __doc__)
    cli.sampling_flags(flags)
    cli.cluster_flags(flags)
    flags.add_argument("--num", type=cli.positive, default=1000, help="samples per weight")
    flags.add_argument(
        "--real", type=cli.positive, default=50_000, help="most real items per split"
    )
    flags.add_argument("--guidance", type=weights, help="weights, e.g. 1,2 (1, and 1.5 if labels)")
    given = flags.parse_args()
    if given.num < 4:
        flags.error(f"--num={given.num}: needs at least 4")

    from diffjax import build
    from diffjax.training.processes import first
    from diffjax.training.workdir import provenance, read_config, read_form, write_atomically

    cli.start(given)
    config = read_config(given.workdir)
    experiment = build.experiment(config, read_form(given.workdir))
    guidance = given.guidance or ([1.0, 1.5] if experiment.classes else [1.0])
    for given.guidance in guidance:  # what cannot be sampled is refused before the long work
        prepare(given)
    real = build.refuse("evaluation")(Real)(experiment, given.real, given.workdir)
    results = [build.refuse("evaluation")(evaluate)(real, given, weight) for weight in guidance]
    path = given.workdir / "evaluation.json"
    report = {"results": results, "config": config} | provenance()
    if first():
        write_atomically(path, json.dumps(report, indent=2) + "\n")
    show(results)
    print(f"wrote {path}")
    return 0


class Real:
    """Real data to compare with, and a classifier fitted on them where there are labels."""

    def __init__(self, experiment: Experiment, most: int, workdir: Path):
        from diffjax import evaluation
        from diffjax.data import select

        reading = experiment.reading
        self.train = select(experiment.source("train"), reading, most)
        self.test = select(experiment.source("test"), reading, most)
        self.features = features(self.train.x)
        self.held_out = features(self.test.x)
        self.judge = None
        if experiment.classes:
            self.judge = evaluation.fit(self.train, reading.flip, workdir)


def evaluate(real: Real, given: argparse.Namespace, weight: float) -> dict[str, Any]:
    """All metrics of samples made with one guidance weight."""
    from diffjax import evaluation
    from diffjax.data import is_image

    given.label, given.guidance = None, weight
    made = generate(given)
    x = features(made.x)
    counts = {"train": len(real.train), "test": len(real.test)}
    kind = "points" if made.x.ndim != 4 else "latents"
    kind = "pixels in [0, 1]" if is_image(made.x.shape[1:]) else kind
    result: dict[str, Any] = {
        "protocol": made.protocol | {"features": kind, "real": counts},
        "frechet": evaluation.frechet_with_floor(x, real.features)._asdict(),
        "memorization": evaluation.memorization(x, real.features, real.held_out)._asdict(),
    }
    if real.judge and made.label is not None:
        result["classifier"] = real.judge.agreement(made.x, made.label, real.test)._asdict()
    return result


def features(x: np.ndarray) -> np.ndarray:
    """Pixels as (N, D) in [0, 1]; latents (N, D) and points as they are."""
    from diffjax.data import is_image

    flat = x.reshape(len(x), -1)
    if not is_image(x.shape[1:]):
        return flat
    flat = flat.astype("float32")
    return flat / 255 if x.dtype == "uint8" else (flat + 1) / 2


def show(results: list[dict[str, Any]]) -> None:
    """The table on the screen."""
    print(
        f"\n{'guidance':>8} {'passes':>7} {'frechet':>8} {'floor':>8} {'ratio':>6} "
        f"{'class agrees':>13} {'nearest train':>14} {'held-out':>9} {'ratio':>6}"
    )
    for r in results:
        p, f, m = r["protocol"], r["frechet"], r["memorization"]
        weight = shown(p["guidance"]).partition(",")[0]
        agrees = f"{r['classifier']['agreement']:.1%}" if "classifier" in r else "-"
        print(
            f"{weight:>8} {p['passes']:7g} {f['distance']:8.4f} {f['floor']:8.4f} "
            f"{f['ratio']:6.2f} {agrees:>13} {m['samples']:14.3f} {m['held_out']:9.3f} "
            f"{m['ratio']:6.2f}"
        )
    first = results[0]
    count = first["frechet"]["count"]
    print(f"\nfrechet, floor: {count} against {count}, {first['protocol']['features']}", end="")
    if "classifier" in first:
        accuracy = first["classifier"]["test_accuracy"]
        print(f"; classifier: {accuracy:.1%} right on held-out data", end="")
    print("\nnearest train, held-out: median distance to the nearest training item")


if __name__ == "__main__":
    cli.main(run)
