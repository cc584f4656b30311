"""Evaluate a trained run: python -m diffjax.evaluate --workdir=runs/digits

    python -m diffjax.evaluate --workdir=runs/digits --metrics=bpd:repeats=4,vlb --split=test
    python -m diffjax.evaluate --workdir=runs/digits --metrics=bpd:num=100 --data=folder:PATH

Of samples, for each guidance weight: `frechet`, the Frechet distance to the training set in pixel
space (values in [0, 1]) with its floor, real half against real half at equal counts; `classifier`,
the share of samples that a classifier fitted on the real training set assigns to the class asked
for, beside its share of right answers on the real test set; `memorization`, the distance to the
nearest training image beside that of held-out images.

Of the network on the images of --data and --split, in bits per dimension: `bpd`, by the
probability-flow ODE, and `vlb`, the variational bound. What is done is kept in WORKDIR/likelihood:
killed, the same command goes on and ends with the same numbers; a larger `num` adds to them.

A table here, everything with its protocol in WORKDIR/evaluation.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.sample import generate, prepare, shown

if TYPE_CHECKING:
    from pathlib import Path

    from diffjax.evaluation import Real

OF_SAMPLES = "frechet,classifier,memorization"


def weights(text: str) -> list[float]:
    return [float(item) for item in text.split(",")]


def run() -> int:
    flags = cli.parser("evaluate", __doc__)
    cli.sampling_flags(flags)
    cli.data_flags(flags)
    flags.add_argument(
        "--metrics",
        help=f"name[:setting=value,...],..., see --list ({OF_SAMPLES}; no classifier without "
        f"labels)",
    )
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
    standard = OF_SAMPLES if experiment.classes else OF_SAMPLES.replace("classifier,", "")
    of_samples, of_network = build.construct_metrics(given.metrics or standard, "--metrics")
    path = given.workdir / "evaluation.json"
    report = _stored(path) | {"config": config} | provenance()
    if of_network:
        subject = cli.subject(given)
        found = {k: build.refuse(f"--metrics={k}")(m)(subject) for k, m in of_network.items()}
        report["network"] = report.get("network", {}) | found
        show_network(found)
    if of_samples:
        from diffjax.evaluation import Real

        guidance = given.guidance or ([1.0, 1.5] if experiment.classes else [1.0])
        for given.guidance in guidance:  # what cannot be sampled is refused before the long work
            prepare(given)
        real = build.refuse("evaluation")(Real)(experiment, given.real, given.workdir)
        evaluated = build.refuse("evaluation")(evaluate)
        report["results"] = [evaluated(real, given, weight, of_samples) for weight in guidance]
        show(report["results"])
    if first():
        write_atomically(path, json.dumps(report, indent=2) + "\n")
    print(f"wrote {path}")
    return 0


def _stored(path: Path) -> dict[str, Any]:
    """What earlier commands measured, each with its protocol."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {k: found[k] for k in ("results", "network") if k in found}


def evaluate(
    real: Real, given: argparse.Namespace, weight: float, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """The metrics of samples made with one guidance weight."""
    from diffjax.data import is_image
    from diffjax.evaluation import Samples

    given.label, given.guidance = None, weight
    made = generate(given)
    counts = {"train": len(real.train), "test": len(real.test)}
    kind = "points" if made.x.ndim != 4 else "latents"
    kind = "pixels in [0, 1]" if is_image(made.x.shape[1:]) else kind
    result: dict[str, Any] = {"protocol": made.protocol | {"features": kind, "real": counts}}
    samples = Samples(made.x, made.label)
    return result | {name: metric(real, samples) for name, metric in metrics.items()}


COLUMNS = {
    "frechet": ("frechet", "distance", "8.4f"),
    "floor": ("frechet", "floor", "8.4f"),
    "ratio": ("frechet", "ratio", "6.2f"),
    "class agrees": ("classifier", "agreement", "13.1%"),
    "nearest train": ("memorization", "samples", "14.3f"),
    "held-out": ("memorization", "held_out", "9.3f"),
    "ratio to it": ("memorization", "ratio", "12.2f"),
}
"""Heading: metric, its value, and how that is written."""


def show(results: list[dict[str, Any]]) -> None:
    """The table on the screen."""
    columns = {k: v for k, v in COLUMNS.items() if v[0] in results[0]}
    width = lambda form: int(form.partition(".")[0])
    heads = "".join(f" {name:>{width(form)}}" for name, (_, _, form) in columns.items())
    print(f"\n{'guidance':>8} {'passes':>7}{heads}")
    for r in results:
        weight = shown(r["protocol"]["guidance"]).partition(",")[0]
        cells = "".join(f" {r[metric][value]:{form}}" for metric, value, form in columns.values())
        print(f"{weight:>8} {r['protocol']['passes']:7g}{cells}")
    first, told = results[0], []
    if "frechet" in first:
        count = first["frechet"]["count"]
        told.append(f"frechet, floor: {count} against {count}, {first['protocol']['features']}")
    if "classifier" in first:
        told.append(
            f"classifier: {first['classifier']['test_accuracy']:.1%} right on held-out data"
        )
    print("\n" + "; ".join(told))
    if "memorization" in first:
        print("nearest train, held-out: median distance to the nearest training item")


def show_network(found: Mapping[str, Mapping[str, Any]]) -> None:
    """A line per metric: bits per dimension, and their standard error over the images."""
    for name, result in found.items():
        more = ("noise", "importance_weighted", "prior", "diffusion", "decoder", "passes")
        rest = "".join(f", {k} {result[k]:.5g}" for k in more if k in result)
        error = f" +- {result['standard_error']:.4f}" if "standard_error" in result else ""
        protocol = result["protocol"]
        where = f"{result['count']} items of {protocol['data']} {protocol['split']}"
        print(f"{name} {result['bits']:.5f}{error} bits/dim on {where}{rest}")


if __name__ == "__main__":
    cli.main(run)
