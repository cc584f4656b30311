"""Time per train step: K steps per dispatch against one, the same steps on the same batches; what
the loop itself takes of the host per dispatch, with a step that does nothing; and how long a
checkpoint of 1 GB keeps it waiting.

python experiments/benchmarks/loop.py
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder, cli, config
from diffjax.devices import mesh
from diffjax.training import loop
from diffjax.training.checkpoints import Checkpoints

ROUNDS, STEPS = 7, 50


def prepare(name: str, overrides: list[str], stride: int):
    """A function that makes STEPS steps, as the trainer does, and waits for them."""
    settings = config.override(config.load(name), overrides)
    settings["train"] |= {"steps_per_dispatch": stride, "steps": STEPS, "log_every": STEPS}
    settings["train"] |= {"checkpoint_every": STEPS, "sample_every": STEPS}
    e, layout = builder.experiment(settings), mesh.layout()
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


def host(dispatches: int) -> float:
    """Seconds of a whole training whose steps do nothing but count."""
    settings = config.override(config.load("moons_vp"), ["network.width=16", "network.depth=1"])
    settings["train"] |= dict.fromkeys(
        ("steps", "log_every", "checkpoint_every", "sample_every"), dispatches
    )
    settings["train"] |= {"samples": 8, "writers": ()}
    e = builder.experiment(settings)

    def compile_steps(experiment, layout, state, batch):
        step = jax.jit(experiment.step())
        metrics = jax.tree.map(
            lambda a: a[None],
            step(
                state,
                {k: batch[k][0] for k in ("x",)}
                | {"cond": {k: v[0] for k, v in batch["cond"].items()}},
            )[1],
        )
        last, count = jnp.asarray(dispatches, jnp.int32), iter(range(1, dispatches + 1))
        return lambda state, batch: (
            state._replace(step=last) if next(count) == dispatches else state,
            metrics,
        )

    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stderr(io.StringIO()),
        mock.patch.object(loop, "compile_steps", compile_steps),
        mock.patch.object(loop, "cost", return_value=None),
        mock.patch.object(loop, "report", return_value=None),
    ):
        began = time.perf_counter()
        loop.train(e, Path(folder))
        return time.perf_counter() - began


def saves(gigabytes: float, num: int = 4) -> list[float]:
    """Seconds that each of some saves blocks, the one before being on disk."""
    size = int(gigabytes * 1e9 / 4 / 16)
    state = {f"leaf_{i:02d}": jnp.full((size,), float(i)) for i in range(16)}
    made = []
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(Checkpoints(Path(folder))) as checkpoints,
    ):
        checkpoints.reserve(state)
        for step in range(num):
            jax.block_until_ready(state)
            began = time.perf_counter()
            checkpoints.save(step, state)
            made.append(time.perf_counter() - began)
            checkpoints.wait()
    return made


if __name__ == "__main__":
    cli.keep_memory()
    blocked = ", ".join(f"{t:.2f}" for t in saves(1.0))
    print(f"checkpoints of 1 GB block for {blocked} s", flush=True)
    host(10)
    few, many = (min(host(n) for _ in range(3)) for n in (100, 3100))
    print(f"host: {(many - few) / 3000 * 1e3:.3f} ms per dispatch of a step that does nothing")
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
