"""Does augmentation leak into samples? Digits turned by quarters, with labels of it and without.

    python experiments/augmentation/leak.py --out=experiments/augmentation

Three short trainings that differ in `data.augment` alone. A support vector machine that tells
upright digits from turned ones, fitted on the training images, judges 1,000 samples of each.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.svm import SVC

from diffjax import builder, cli, config, plot
from diffjax.data import to_uint8
from diffjax.generation.program import Generation
from diffjax.training.loop import train

TURNS = (
    "data.augment=affine:p=0.8,turn=True,flip=False,flip_y=False,scale=False,rotate=False,"
    "stretch=False,move=False"
)
RUNS = {
    "no augmentation": (),
    "augmentation without labels": (f"{TURNS},labels=False",),
    "augmentation with labels": (TURNS,),
}
SHOWN = 40


def turned(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image by one, two or three quarters."""
    return np.stack([np.rot90(a, k) for a, k in zip(x, rng.integers(1, 4, len(x)), strict=True)])


def detector(source: Callable) -> tuple[Callable[[np.ndarray], float], dict[str, float]]:
    """images -> share judged to be turned; that of held-out images, and of the same turned."""
    fit, real = source("train").x, source("test").x
    flat = lambda x: x.reshape(len(x), -1) / 255.0
    every = np.concatenate([np.rot90(fit, k, (1, 2)) for k in range(4)])
    machine = SVC(C=10, class_weight="balanced").fit(flat(every), np.arange(len(every)) >= len(fit))
    judge = lambda x: float(machine.predict(flat(x)).mean())
    known = {"held-out images, turned": judge(turned(real, np.random.default_rng(0)))}
    return judge, {"held-out images": judge(real), **known}


def run() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--work", type=Path, default=Path("runs/leak"))
    flags.add_argument("--steps", type=int, default=1200)
    flags.add_argument("--num", type=int, default=1000)
    given = flags.parse_args()
    cli.set_up_jax()
    base = config.override(config.load("digits_vp"), [f"train.steps={given.steps}"])
    judge, found = detector(builder.experiment(base).source)
    for name, changes in RUNS.items():
        e = builder.experiment(config.override(base, changes))
        file = name.replace(" ", "_")
        state, _ = train(e, given.work / file)
        denoise, cond = e.denoiser(state.ema[min(state.ema)]), e.conditions(given.num)
        made = Generation(denoise, e.plan(denoise.sde), 0, given.num, e.shape, cond, 250)
        x = to_uint8(np.concatenate([*made]))
        found[name] = judge(x)
        label = e.conditions(SHOWN).get("label")
        plot.save(given.out / f"{file}.png", plot.samples(x[:SHOWN], label))
    text = json.dumps(found, indent=2)
    (given.out / "leak.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
