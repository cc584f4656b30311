"""One network for the joint distribution of digits and labels: which of its four laws hold?

    python -m diffjax.train --config=configs/digits_joint.py --workdir=runs/joint
    python -m experiments.joint.study --run=runs/joint --out=experiments/joint

Labels are drawn for held-out images, images for labels, both together or one after the other, and
images alone, whose labels stay noise. Labels are compared with the true ones, and images with the
classifier of real digits and, by the Frechet distance of pixels with its floor, with the training
images. Images for labels are also guided by the network's own marginal. Writes joint.json and
samples.png.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import diffjax
from diffjax import cli, data, grids, plot, samplers
from diffjax.arrays import expand, pytree
from diffjax.data.joint import Pair
from diffjax.data.joint_clips import Card
from diffjax.evaluation.gaussian import frechet_with_floor
from diffjax.features.judge import fit
from diffjax.files import write_text
from diffjax.prediction import Denoise, Prediction
from diffjax.training.workdir import provenance
from experiments.markdown import number, table

FILE, COMMAND = "joint.json", ("experiments.joint.study",)
NUM, STEPS, WEIGHTS = 1000, 30, (1.0, 1.5, 2.0)
"""Samples of each law, steps of the sampler, and weights of guidance."""
LAWS = {
    "label of an image": ("image", "", ""),
    "image of a label": ("label", "", ""),
    "both": ("", "", ""),
    "both, the label first": ("", "", "label"),
    "image alone": ("", "label", ""),
}
"""The lanes that are known, left out, and drawn before the others, of each law."""


@pytree
@dataclass(frozen=True)
class OwnMarginal:
    """Guidance of the image by the marginal of the same network (arXiv:2303.06555).

    In the positions of the image both views are marginal + weight (conditional - marginal), where
    the marginal is the prediction with the positions of the label replaced by noise at t_max, so
    training needs no dropout of labels. noise: (B, L, ...), one draw for all rows.
    """

    denoise: Denoise
    noise: Any
    image: Any
    weight: Any

    @property
    def sde(self) -> Any:
        return self.denoise.sde

    def __call__(self, x: Any, t: Any, cond: Any = None, *, key: Any = None) -> Prediction:
        image = expand(jnp.broadcast_to(self.image, x.shape[:2]), x)
        without = jnp.where(image, x, self.noise)
        late = jnp.where(self.image[None], t, self.sde.t_max)
        one, other = self.denoise(x, t), self.denoise(without, late)
        views = [
            jnp.where(image, b + self.weight * (a - b), a)
            for a, b in ((one.x0, other.x0), (one.eps, other.eps))
        ]
        return Prediction(views[0], *views)


@dataclass(frozen=True)
class Laws:
    """Samples of the laws of a trained network.

    pair: the layout of its items. steps: those of the sampler. batch: the number of samples that
    are drawn at once; it does not change them.
    """

    trained: Any
    pair: Pair | Card
    steps: int = STEPS
    batch: int = NUM

    def draw(self, law: str, items: np.ndarray, weight: float = 1.0, seed: int = 0) -> np.ndarray:
        """Return one sample (N, L, ...) for each item, which gives the lane that is known."""
        sde, plan = self.trained.denoise.sde, self.plan(law)
        image, known = self.lane("image"), self.lane(LAWS[law][0])
        keys = jax.random.split(jax.random.key(seed), len(items))
        x, keys = samplers.initial(sde, keys, items.shape[1:], plan.t[0])
        x = jnp.where(expand(jnp.broadcast_to(known, x.shape[:2]), x), items, x)
        noise = jax.random.normal(jax.random.key(seed + 1), x.shape)
        made = []
        for k in range(0, len(items), self.batch):
            rows, denoise = slice(k, k + self.batch), self.trained.denoise
            if weight != 1:
                settings = noise[rows], jnp.asarray(image), jnp.asarray(weight)
                denoise = OwnMarginal(denoise, *settings)
            made.append(np.asarray(samplers.sample(denoise, plan, x[rows], keys[rows])))
        return np.concatenate(made)

    def lane(self, name: str) -> np.ndarray:
        """Return which positions are in the lane `image` or `label`, or in none, bool (L,)."""
        image = np.arange(sum(self.pair.positions)) < self.pair.positions[0]
        return {"image": image, "label": ~image, "": np.zeros_like(image)}[name]

    def plan(self, law: str) -> samplers.Table:
        """Return the table of DDIM whose times of lanes are those of a law."""
        sde = self.trained.denoise.sde
        known, left, first = map(self.lane, LAWS[law])
        grid = grids.uniform(sde, self.steps)
        times = np.where(known, 0.0, grid[:, None])
        if first.any():
            waits, done = (np.full(self.steps, t) for t in (sde.t_max, 0.0))
            earlier, later = np.append(grid, done), np.append(waits, grid)
            times = np.where(first, earlier[:, None], later[:, None])
        times[:, left] = sde.t_max
        return samplers.lanes(samplers.ddim, sde, times)


def stored(images: np.ndarray) -> np.ndarray:
    """Return images in [-1, 1] as uint8."""
    return np.clip(np.round((images + 1) * 127.5), 0, 255).astype(np.uint8)


def measured(laws: Laws, num: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the numbers of all laws, and samples of each."""
    pair, train, test = laws.pair, data.digits("train"), data.digits("test")
    judge, pixels = fit(train), lambda x: x.reshape(len(x), -1) / 127.5
    held_out = data.joint("test").x[:num]
    labels = np.arange(num) % pair.classes
    asked = pair.pack(np.zeros((num, *pair.shape)), labels)
    rows: dict[str, Any] = {}
    shown: dict[str, np.ndarray] = {}

    def one(name: str, law: str, items: np.ndarray, weight: float = 1.0) -> np.ndarray:
        begin = time.process_time()
        x = laws.draw(law, items, weight)
        images = stored(pair.images(x))
        rows[name] = {"count": len(x), "seconds": round(time.process_time() - begin, 1)}
        if law != "label of an image":
            rows[name]["ratio"] = float(frechet_with_floor(pixels(images), pixels(train.x)).ratio)
            shown[name] = images
        return x

    x = one("label of an image", "label of an image", held_out)
    right = pair.labels(x) == test.label[: len(x)]
    rows["label of an image"]["right"] = float(right.mean())
    truth = judge.right(test.x, test.label).mean()
    for weight in WEIGHTS:
        name = "image of a label" + ("" if weight == 1 else f", weight {weight:g}")
        x = one(name, "image of a label", asked, weight)
        rows[name]["right"] = float(judge.right(stored(pair.images(x)), labels).mean())
    for law in ("both", "both, the label first"):
        x = one(law, law, asked)
        rows[law]["right"] = float(judge.right(stored(pair.images(x)), pair.labels(x)).mean())
    one("image alone", "image alone", asked)
    return {"laws": rows, "classifier": float(truth)}, shown


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    report = json.loads((folder / FILE).read_text())
    share = lambda row: f"{100 * row['right']:.1f} %" if "right" in row else ""
    ratio = lambda row: number(row["ratio"]) if "ratio" in row else ""
    rows = [
        [name, f"{row['count']:,}", share(row), ratio(row), f"{row['seconds']:.0f}"]
        for name, row in report["laws"].items()
    ]
    return {"joint": table(["law", "samples", "label right", "over floor", "CPU s"], rows)}


def main() -> int:
    """Run the study and return its exit code."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--run", type=cli.path, required=True, help="a run of configs/digits_joint")
    flags.add_argument("--out", type=Path, default=Path("runs/joint_study"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="samples of each law")
    flags.add_argument("--steps", type=cli.positive, default=STEPS, help="steps of the sampler")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    trained = diffjax.load(asked.run)
    pair = Pair(data.digits("test").x.shape[1:], 10)
    found, shown = measured(Laws(trained, pair, asked.steps), asked.num)
    about = provenance() | {"step": trained.step, "steps": asked.steps}
    write_text(asked.out / FILE, json.dumps(about | found, indent=1))
    rows = [images[:20][None] for images in shown.values()]
    plot.save(asked.out / "samples.png", plot.strips(rows, [*shown], [""] * len(rows[0][0])))
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n{text}")
    return 0


if __name__ == "__main__":
    cli.main(main)
