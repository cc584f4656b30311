"""How long a checkpoint of 1 GB keeps the training waiting.

python experiments/benchmarks/checkpoint.py [--gigabytes=1] [--saves=6]

Steps that reuse the state's memory, as the trainer's do; before every save the disk is done with
the one before, as with any sensible `checkpoint_every`.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli
from diffjax.training.checkpoints import Checkpoints

LEAVES, BETWEEN = 64, 5


def timed(function, *args):
    began = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return result, time.perf_counter() - began


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--gigabytes", type=float, default=1.0)
    flags.add_argument("--saves", type=int, default=6)
    given = flags.parse_args()
    cli.keep_memory()
    size = int(given.gigabytes * 1e9 / 4 / LEAVES)
    state = {f"w{k}": jnp.full((size,), k, jnp.float32) for k in range(LEAVES)}
    step = jax.jit(lambda s: jax.tree.map(lambda a: a * 0.999, s), donate_argnums=0)
    state, _ = timed(step, state)
    with tempfile.TemporaryDirectory() as folder:
        checkpoints, usual = Checkpoints(Path(folder), keep=1), []
        checkpoints.reserve(state)
        for save in range(given.saves):
            for _ in range(BETWEEN):
                state, seconds = timed(step, state)
                usual.append(seconds)
            _, blocked = timed(checkpoints.save, save, state)
            state, next_step = timed(step, state)
            began = time.perf_counter()
            checkpoints.wait()
            print(
                f"save {save}: blocks {blocked:.3f} s, the step after it takes {next_step:.3f} s "
                f"(usually {np.median(usual):.3f}), on disk {time.perf_counter() - began:.2f} s on"
            )
        abstract = jax.eval_shape(lambda: state)
        _, seconds = timed(checkpoints.restore, abstract)
        print(f"read and checked in {seconds:.2f} s")
        checkpoints.close()
