"""Evaluate a trained run: python -m diffjax.evaluate --workdir=runs/digits

For each guidance weight: the Frechet distance to the training set in pixel space (values in [0, 1])
with its floor, real half against real half at equal counts; the share of samples that a classifier
fitted on real images assigns to the class asked for; the distance to the nearest training image
beside that of held-out images. A table here, everything with its protocol in
WORKDIR/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.sample import generate

if TYPE_CHECKING:
    import numpy as np

    from diffjax.training.experiment import Experiment


def weights(text: str) -> list[float]:
    return [float(item) for item in text.split(",")]


def run() -> int:
    flags = cli.parser("evaluate", __doc__)
    cli.sampling_flags(flags)
    flags.add_argument("--num", type=cli.positive, default=1000, help="samples per weight")
    flags.add_argument("--guidance", type=weights, help="weights, e.g. 1,2 (1, and 1.5 if labels)")
    given = flags.parse_args()
    if given.num < 4:
        flags.error(f"--num={given.num}: needs at least 4")

    from diffjax import build
    from diffjax.training.workdir import provenance, read_config, read_form, write_atomically

    config = read_config(given.workdir)
    experiment = build.experiment(config, read_form(given.workdir))
    results = [
        build.refuse("evaluation")(evaluate)(experiment, given, weight)
        for weight in given.guidance or ([1.0, 1.5] if experiment.classes else [1.0])
    ]
    path = given.workdir / "evaluation.json"
    report = {"results": results, "config": config} | provenance()
    write_atomically(path, json.dumps(report, indent=2) + "\n")
    show(results)
    print(f"wrote {path}")
    return 0


def evaluate(experiment: Experiment, given: argparse.Namespace, weight: float) -> dict[str, Any]:
    """All metrics of samples made with one guidance weight."""
    from diffjax import evaluation

    given.label, given.guidance = None, weight
    made = generate(given)
    train, test = experiment.source("train"), experiment.source("test")
    x, real, held_out = features(made.x), features(train.x), features(test.x)
    result: dict[str, Any] = {
        "protocol": made.protocol
        | {"features": "pixels in [0, 1]" if train.is_image else "points"},
        "frechet": evaluation.frechet_with_floor(x, real)._asdict(),
        "memorization": evaluation.memorization(x, real, held_out)._asdict(),
    }
    if made.label is not None and train.label is not None and test.label is not None:
        sets = (real, train.label), (held_out, test.label)
        result["classifier"] = evaluation.agreement(x, made.label, *sets)._asdict()
    return result


def features(x: np.ndarray) -> np.ndarray:
    """Pixels of uint8 images as (N, D) in [0, 1]; points as they are."""
    x = x.reshape(len(x), -1)
    return x / 255 if x.dtype == "uint8" else x


def show(results: list[dict[str, Any]]) -> None:
    """The table on the screen."""
    print(
        f"\n{'guidance':>8} {'passes':>7} {'frechet':>8} {'floor':>8} {'ratio':>6} "
        f"{'class agrees':>13} {'nearest train':>14} {'held-out':>9} {'ratio':>6}"
    )
    for r in results:
        p, f, m = r["protocol"], r["frechet"], r["memorization"]
        agrees = f"{r['classifier']['agreement']:.1%}" if "classifier" in r else "-"
        print(
            f"{p['guidance']:8g} {p['passes']:7d} {f['distance']:8.4f} {f['floor']:8.4f} "
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
