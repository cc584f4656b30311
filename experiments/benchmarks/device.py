"""Train steps on the device that is here, beside their estimates, and attention against float32.

    python experiments/benchmarks/device.py                 # on a GPU or TPU, about ten minutes
    python experiments/benchmarks/device.py --tiny          # on a CPU, to see that it works

For each network: the time of a step, throughput, MFU, memory and compile time, and the least time
at the peak rates of the device by the bytes and FLOPs of the compiled program, which `tools.fit`
states without the device. The error of attention is that of bfloat16, as cuDNN or XLA computes it,
with and without a mask. Writes device.json beside this file with --write.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder, cli, config
from diffjax.aot import hlo
from diffjax.aot.programs import stack_of
from diffjax.aot.roofline import estimate
from diffjax.aot.traffic import traffic
from diffjax.data.form import Form, labelled
from diffjax.devices import mesh
from diffjax.devices.chips import chip
from diffjax.nets.kernels.attention import attention
from diffjax.training import loop
from diffjax.training.cost import model_flops
from diffjax.training.workdir import provenance
from experiments.markdown import table

LATENTS, PIXELS = labelled("latent", (32, 32, 4), 1000), labelled("image", (32, 32, 3), 10)
SIXTEEN = "network.dtype=bfloat16"
CASES: dict[str, tuple[str, Form, list[str]]] = {
    "DiT-S/2, batch 256": ("imagenet256_dit", LATENTS, [SIXTEEN, "network.size=S"]),
    "DiT-XL/2, batch 64": (
        "imagenet256_dit",
        LATENTS,
        [SIXTEEN, "network.remat=all", "train.batch_size=64"],
    ),
    "cifar_vp, batch 128": ("cifar_vp", labelled("image", (32, 32, 3)), [SIXTEEN]),
    "cifar_edm, batch 128": ("cifar_edm", PIXELS, [SIXTEEN, "train.batch_size=128"]),
}
SMALL = "network={'name': 'dit', 'width': 32, 'depth': 2, 'heads': 2, 'dtype': 'bfloat16'}"
BATCH = "train.batch_size=16"
TINY = {"small DiT, batch 16": ("digits_vp", labelled("image", (8, 8, 1), 10), [SMALL, BATCH])}
STEPS = 20
SHAPES = {"self": (2, 256, 16, 72), "long": (1, 1024, 8, 64), "odd": (2, 77, 4, 40)}


def measured(name: str, form: Form, changes: list[str], steps: int) -> dict[str, Any]:
    """Return the measures of one train step, on data of zeros."""
    e = builder.experiment(config.override(config.load(name), changes), form)
    where = mesh.layout(sharding=e.sharding)
    shapes = stack_of(e, where)
    state = jax.jit(e.initialise, out_shardings=where.state(jax.eval_shape(e.initialise)))()
    batch = jax.tree.map(lambda a: jax.device_put(np.zeros(a.shape, a.dtype), a.sharding), shapes)
    flops, each = model_flops(e, state, shapes), e.train.steps_per_dispatch
    began = time.monotonic()
    run = loop.compile_steps(e, where, state, batch)
    compiled = time.monotonic() - began
    state, metrics = run(state, batch)
    jax.block_until_ready(metrics)
    began = time.monotonic()
    for _ in range(steps):
        state, metrics = run(state, batch)
    jax.block_until_ready((state, metrics))
    seconds = (time.monotonic() - began) / steps / each
    device = jax.devices()[0]
    peak, rates = (device.memory_stats() or {}).get("peak_bytes_in_use"), chip(device.device_kind)
    least = estimate(
        rates,
        devices=where.size,
        host=where.size,
        flops=flops,
        model_flops=flops,
        moved=traffic(hlo.parse(run.as_text() or "")) / each,
        sent=0.0,
        items=e.train.batch_size,
        sixteen=True,
    )
    return {
        "seconds": seconds,
        "items_per_s": e.train.batch_size / seconds,
        "mfu": flops / seconds / where.size / rates.flops if rates else None,
        "least": least.seconds if least else None,
        "bound": least.bound if least else None,
        "peak": peak,
        "compile": compiled,
    }


def errors() -> dict[str, float]:
    """Return the largest error of attention in bfloat16, over the largest value, by shape."""
    found = {}
    for name, shape in SHAPES.items():
        q, k, v = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
        for mask in (None, jnp.arange(shape[1])[None].repeat(shape[0], 0) < shape[1] // 2):
            with jax.default_matmul_precision("highest"):
                logits = jnp.einsum("blhd,bmhd->bhlm", q, k) / np.sqrt(shape[-1])
                logits = (
                    logits if mask is None else jnp.where(mask[:, None, None], logits, -jnp.inf)
                )
                right = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(logits), v)
            half = (a.astype(jnp.bfloat16) for a in (q, k, v))
            ours = jax.jit(attention)(*half, mask).astype(jnp.float32)
            error = float(jnp.abs(ours - right).max() / jnp.abs(right).max())
            found[name if mask is None else f"{name}, masked"] = error
    return found


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--tiny", action="store_true", help="one small network")
    flags.add_argument("--steps", type=cli.positive, default=STEPS, help="that are timed")
    flags.add_argument("--write", action="store_true", help="write device.json")
    asked = flags.parse_args()
    cases = TINY if asked.tiny else CASES
    results: dict[str, Any] = {**provenance(), "attention": errors(), "steps": {}}
    for name, error in results["attention"].items():
        print(f"attention, {name}: {error:.1e}", flush=True)
    for name, (file, form, changes) in cases.items():
        results["steps"][name] = measured(file, form, changes, asked.steps)
        print(name, results["steps"][name], flush=True)
        if asked.write:
            Path(__file__).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    heads = ("network", "ms per step", "at least", "items per s", "MFU", "GB", "compile s")
    shown = lambda value, form: "" if value is None else form.format(value)
    rows = [
        [
            name,
            f"{r['seconds'] * 1e3:.1f}",
            shown(r["least"] and r["least"] * 1e3, "{:.1f}"),
            f"{r['items_per_s']:.0f}",
            shown(r["mfu"], "{:.2f}"),
            shown(r["peak"] and r["peak"] / 1e9, "{:.1f}"),
            f"{r['compile']:.0f}",
        ]
        for name, r in results["steps"].items()
    ]
    print(table(heads, rows))


if __name__ == "__main__":
    main()
