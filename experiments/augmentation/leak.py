"""Does augmentation leak into samples? Digits turned by quarters, with labels of it and without.

    python experiments/augmentation/leak.py --out=experiments/augmentation

Two short trainings that differ in `data.augment.labels` alone; a support vector machine that tells
upright digits from turned ones, fitted on the training images, judges 1,000 samples of each.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from diffjax import build, cli, config, plot
from diffjax.data import to_uint8
from diffjax.samplers.generate import Generation
from diffjax.training.loop import train

OFF = "flip=False,flip_y=False,scale=False,rotate=False,stretch=False,move=False"
CHANCE, SHOWN = 0.8, 40


def turned(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image by one, two or three quarters."""
    return np.stack([np.rot90(a, k) for a, k in zip(x, rng.integers(1, 4, len(x)), strict=True)])


def detector(source) -> tuple:
    """images -> share judged to be turned; that of real images, and of real ones that are."""
    rng, fit, real = np.random.default_rng(0), source("train").x, source("test").x
    flat = lambda x: x.reshape(len(x), -1) / 255.0
    every = np.concatenate([fit, *(np.rot90(fit, k, (1, 2)) for k in (1, 2, 3))])
    machine = SVC(C=10, class_weight="balanced").fit(
        flat(every), np.arange(len(every)) >= len(fit)
    )
    judge = lambda x: float(machine.predict(flat(x)).mean())
    return judge, judge(real), judge(turned(real, rng))


def samples(labels: bool, workdir: Path, steps: int, num: int) -> tuple[np.ndarray, float]:
    """uint8 samples of a run, and the seconds it took to train."""
    changes = [
        f"data.augment=affine:p={CHANCE},turn=True,{OFF},labels={labels}",
        f"train.steps={steps}",
    ]
    e = build.experiment(config.override(config.load("digits_vp"), changes))
    began = time.monotonic()
    state, _ = train(e, workdir)
    spent = time.monotonic() - began
    denoise = e.denoiser(state)
    made = Generation(denoise, e.plan(denoise.sde), 0, num, e.shape, e.labels(num), 250)
    return to_uint8(np.concatenate([*made])), spent


def run() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--work", type=Path, default=Path("runs/leak"))
    flags.add_argument("--steps", type=int, default=600)
    flags.add_argument("--num", type=int, default=1000)
    given = flags.parse_args()
    cli.use_compile_cache()
    e = build.experiment(config.load("digits_vp"))
    judge, real, known = detector(e.source)
    found = {"chance": 0.75 * CHANCE, "real": real, "real, turned": known}
    for labels in (False, True):
        x, spent = samples(labels, given.work / f"labels_{labels}", given.steps, given.num)
        name = "with labels" if labels else "without labels"
        found |= {name: judge(x), f"{name}, seconds": round(spent, 1)}
        picture = plot.samples(x[:SHOWN], e.labels(SHOWN))
        plot.save(given.out / f"{name.replace(' ', '_')}.png", picture)
    (given.out / "leak.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
