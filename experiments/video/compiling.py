"""How long U-Nets of images, of videos and of volumes take to compile, and a training step of each.

    python -m experiments.video.compiling --out=experiments/video

All have the settings of the config `moving_digits` and as many frames: as images alone, as videos
with attention over time, and as volumes whose three axes are convolved and halved. The program is
that of the gradient. Writes compiling.json, with CPU time, which no other work on the machine
changes much.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from diffjax import config, nets
from diffjax.files import write_text
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "compiling.json"
VIDEOS, FRAMES, SIDE, REPEATS = 16, 8, 16, 5
IMAGES = (VIDEOS * FRAMES, SIDE, SIDE, 1)
CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "images": ({"time_attention": ()}, IMAGES),
    "videos, attention over time": ({}, (VIDEOS, FRAMES, SIDE, SIDE, 1)),
    "volumes": ({"time_attention": (), "attention": (2,)}, (VIDEOS, FRAMES, SIDE, SIDE, 1)),
}
"""Settings that differ from those of the config, and the shape of a batch."""


def measured(network: nets.Network, shape: tuple[int, ...]) -> dict[str, float]:
    """Return the CPU seconds of the compilation and of a step, and the number of parameters."""
    x, c = jnp.ones(shape), jnp.ones(shape[0])
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c, None)
    params = jax.tree.map(lambda a: jnp.full(a.shape, 0.01), shapes)
    loss = lambda params, x: (network.apply(params, x, c, None) ** 2).mean()
    began = time.process_time()
    step = jax.jit(jax.grad(loss)).lower(params, x).compile()
    compiled = time.process_time() - began
    jax.block_until_ready(step(params, x))
    began = time.process_time()
    for _ in range(REPEATS):
        jax.block_until_ready(step(params, x))
    passed = (time.process_time() - began) / REPEATS
    count = sum(a.size for a in jax.tree.leaves(shapes))
    return {"compile": round(compiled, 1), "step": round(passed, 3), "parameters": count}


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())["cases"]
    heads = ["network of", "parameters", "compilation, CPU s", "gradient, CPU s"]
    rows = [
        [name, f"{row['parameters']:,}", f"{row['compile']:.1f}", f"{row['step']:.2f}"]
        for name, row in report.items()
    ]
    return {"video_compiling": table(heads, rows)}


def main() -> int:
    """Measure all cases, print the table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True, help="folder of compiling.json")
    asked = flags.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    settings = config.load("configs/moving_digits.py")["network"]
    settings.pop("name")
    cases = {}
    for name, (changes, shape) in CASES.items():
        cases[name] = measured(nets.unet(**{**settings, **changes}), shape)
        print(name, cases[name], flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    write_text(asked.out / FILE, json.dumps({"cases": cases} | provenance(), indent=1) + "\n")
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
