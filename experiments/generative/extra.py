"""Two claims on digits: labels improve samples, and repeated images are memorised.

    python -m experiments.generative.extra --out=experiments/generative

Both use the perceptron of the study `schedules`, with its recipe `v`. Writes extra.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffjax import cli
from diffjax.evaluation import frechet_with_floor
from diffjax.evaluation.neighbours import nearest
from diffjax.features import features
from diffjax.files import write_text
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import Label
from diffjax.training.workdir import provenance
from experiments import plane
from experiments.generative.data import images
from experiments.markdown import number, table
from experiments.recipes import Items, train
from experiments.schedules.study import Digits, published

COPIES, EACH = (1, 10, 100, 1000), 3
"""How often a held-out image is added to the training images, and how many images of each count."""
NUM = 3000


def labels(seeds: int, steps: int) -> dict[str, Any]:
    """Return Frechet distances over floor of networks without and with labels, by seed."""
    study = Digits(1000)
    recipe = published(study.sigma_data)["v"]
    network = NETWORKS["mlp"](width=128, depth=3, conditions=(Label(10),))
    hows = {"none": study.how, "labels": replace(study.how, network=network, dropout=0.1)}
    made: dict[str, Any] = {"without": [], "with, asked": [], "with, not asked": []}
    for seed in range(seeds):
        for name, how in hows.items():
            denoise = train(recipe, study.data, seed, steps, how)
            asked = {"without": None}
            if name == "labels":
                of = jnp.arange(1000) % 10
                asked = {"with, asked": of, "with, not asked": jnp.full(1000, -1)}
            for key, label in asked.items():
                cond = {} if label is None else {"cond": {"label": label}}
                x = images(plane.samples(denoise, 1000, seed, (64,), **cond))
                made[key].append(frechet_with_floor(features(x, "image"), study.real).ratio)
    return made


def reproduced(x: np.ndarray, repeated: np.ndarray, threshold: float) -> np.ndarray:
    """Return how many samples x (N, D) lie within `threshold` of each repeated image (M, D)."""
    distance, index = nearest(x, repeated)
    return np.bincount(index[:, 0][distance[:, 0] < threshold], minlength=len(repeated))


def repeats(steps: int, seed: int = 0) -> dict[str, Any]:
    """Return shares of training items and of samples that are copies of repeated images.

    A sample is a copy within a third of the median distance of a held-out image to the nearest
    training image.
    """
    study = Digits(1000)
    plain, test = np.asarray(study.data.x), np.asarray(study.held_out)
    chosen, others = test[: EACH * len(COPIES)], test[EACH * len(COPIES) :]
    counts = np.repeat(COPIES, EACH)
    x = np.concatenate([plain, np.repeat(chosen, counts, axis=0)])
    items = Items(jnp.asarray(x), jnp.zeros(len(x), jnp.int32))
    denoise = train(published(study.sigma_data)["v"], items, seed, steps, study.how)
    samples = plane.samples(denoise, NUM, seed, (64,))
    threshold = float(np.median(nearest(others, plain)[0])) / 3
    copies = reproduced(samples, chosen, threshold).reshape(len(COPIES), EACH)
    return {
        "threshold": threshold,
        "items": len(x),
        "samples": NUM,
        "copies": {str(n): c.tolist() for n, c in zip(COPIES, copies, strict=True)},
    }


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of README.md, by name."""
    report = json.loads((folder / "extra.json").read_text())
    heads = ["samples", "Frechet / floor, by seed"]
    lines = [[k, ", ".join(map(number, v))] for k, v in report["labels"].items()]
    found = report["repeats"]
    copied = [
        [
            n,
            f"{int(n) / found['items']:.2%}",
            ", ".join(f"{c / found['samples']:.2%}" for c in copies),
        ]
        for n, copies in found["copies"].items()
    ]
    shares = ["copies in the data", "share of the data, each", "share of samples, each"]
    return {"generative-labels": table(heads, lines), "generative-repeats": table(shares, copied)}


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/generative"))
    flags.add_argument("--steps", type=cli.positive, default=2000, help="of training")
    flags.add_argument("--seeds", type=cli.positive, default=3)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    report: dict[str, Any] = {"steps": asked.steps}
    report["repeats"] = repeats(asked.steps)
    report["labels"] = labels(asked.seeds, asked.steps)
    write_text(asked.out / "extra.json", json.dumps(report | provenance(), indent=1) + "\n")
    print(*tables(asked.out).values(), sep="\n")


if __name__ == "__main__":
    main()
