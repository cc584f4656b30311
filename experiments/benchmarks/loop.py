"""Time per train step: K steps per dispatch against one, the same steps on the same batches.

python experiments/benchmarks/loop.py
"""

import time

import jax
import numpy as np

from diffjax import build, config
from diffjax.training import loop, mesh

ROUNDS, STEPS = 7, 50


def prepare(name: str, overrides: list[str], stride: int):
    """A function that makes STEPS steps, as the trainer does, and waits for them."""
    settings = config.override(config.load(name), overrides)
    settings["train"] |= {"steps_per_dispatch": stride, "steps": STEPS, "log_every": STEPS}
    settings["train"] |= {"checkpoint_every": STEPS, "sample_every": STEPS}
    e, layout = build.experiment(settings), mesh.layout()
    batches = e.batches()
    stacks = [
        {k: np.stack([batches[i][k] for i in range(n, n + stride)]) for k in batches[0]}
        for n in range(0, STEPS, stride)
    ]
    state = jax.jit(e.initialise, out_shardings=layout.state(jax.eval_shape(e.initialise)))()
    run = loop.compile_steps(e, layout, state, layout.place(e.batch(stacks[0])))

    def steps() -> float:
        nonlocal state
        began, pending = time.perf_counter(), []
        for stack in stacks:
            state, metrics = run(state, layout.place(e.batch(stack)))
            pending.append(metrics)
        jax.block_until_ready(pending)
        return (time.perf_counter() - began) / STEPS

    return steps


if __name__ == "__main__":
    cases = (
        ("digits_vp", []),
        ("moons_vp", []),
        ("moons_vp", ["network.width=16", "network.depth=1", "train.batch_size=32"]),
    )
    for name, overrides in cases:
        single, scanned = (prepare(name, overrides, stride) for stride in (1, STEPS))
        single(), scanned()
        pairs = np.array([(single(), scanned()) for _ in range(ROUNDS)])
        one, many = np.median(pairs, axis=0) * 1e3
        ratio = np.median(pairs[:, 1] / pairs[:, 0])
        print(
            f"{name} {' '.join(overrides)}: {one:.3f} ms single, {many:.3f} ms of {STEPS} in one "
            f"dispatch, ratio {ratio:.2f}"
        )
