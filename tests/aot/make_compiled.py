"""Compile a small program for a target, and write its text to `compiled/`, for the tests.

    python tests/aot/make_compiled.py cpu:4 tpu:v5e:2x2 gpu:h100:4

The program is a gradient step over three layers in a loop, whose weights are split over four
devices by rows and the batch by items. What says nothing about communication is left out.
"""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from diffjax.aot import targets

LAYERS, WIDTH, BATCH = 3, 256, 64
FOLDER = Path(__file__).parent / "compiled"


def loss(w, x):
    layer = lambda x, w: (jnp.tanh(x @ w), None)
    return (jax.lax.scan(layer, x, w)[0] ** 2).mean()


def step(w, x):
    with jax.named_scope("gradient"):
        gradient = jax.grad(loss)(w, x)
    with jax.named_scope("optimizer"):
        return w - 0.1 * gradient


def compiled(target: targets.Target) -> str:
    mesh = Mesh(target.devices(), "data")
    rows = NamedSharding(mesh, PartitionSpec(None, "data"))
    items = NamedSharding(mesh, PartitionSpec("data"))
    w = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32, sharding=rows)
    x = jax.ShapeDtypeStruct((BATCH, WIDTH), jnp.float32, sharding=items)
    jitted = jax.jit(step, out_shardings=rows, donate_argnums=0)
    return jitted.lower(w, x).compile(compiler_options=target.options).as_text()


def short(text: str) -> str:
    """Leave out file names, source lines, and settings of kernels."""
    text = text[: text.index("\n")] + "\n\n" + text[re.search(r"^%|^ENTRY", text, re.M).start() :]
    text = re.sub(r' (?:stack_frame_id=\d+|scheduling_name="[^"]*")', "", text)
    lines = []
    for line in text.splitlines():
        length = re.search(r'"known_trip_count":\{"n":"\d+"\}', line)
        line = line.partition(", backend_config=")[0]
        lines.append(line + (f", backend_config={{{length[0]}}}" if length else ""))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    targets.prepare(4)
    for name in sys.argv[1:]:
        file = FOLDER / f"{name.replace(':', '_')}.txt"
        file.write_text(short(compiled(targets.target(name))))
        print(f"wrote {file}")
