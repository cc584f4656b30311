"""What the sampling loop costs beside the network: bare calls in one scan against tables.

python experiments/benchmarks/sampling.py
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder, config
from diffjax.denoiser import Denoiser
from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS, run

ROUNDS, STEPS = 15, 50


def network(name: str, overrides: list[str]) -> tuple[Denoiser, tuple[int, ...]]:
    """A denoiser with fresh parameters."""
    e = builder.experiment(config.override(config.load(name), overrides))
    return Denoiser(e.model, e.initialise().params), e.shape


@jax.jit
def bare(denoise: Denoiser, x: jax.Array, times: jax.Array) -> jax.Array:
    """As many network calls, each on the output of the one before, and nothing else."""
    call = lambda x, t: (denoise(x, jnp.full(len(x), t)).x0, None)
    return jax.lax.scan(call, x, times)[0]


def timed(call) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def overhead(name: str, overrides: list[str], batch: int) -> None:
    denoise, shape = network(name, ["data.labels=False", *overrides])
    x, keys = jnp.ones((batch, *shape)), jax.random.split(jax.random.key(0), batch)
    times = uniform(denoise.sde, STEPS)
    calls = {"bare": lambda: bare(denoise, x, jnp.asarray(times[:-1], jnp.float32))}
    for sampler in ("ddim", "dpmpp_2m", "ancestral"):
        table = SAMPLERS[sampler](denoise.sde, times)
        calls[sampler] = lambda table=table: run(denoise, table, x, keys)
    path = SAMPLERS["ancestral"](denoise.sde, times).brownian()
    calls["ancestral, brownian"] = lambda: run(denoise, path, x, keys)
    for call in calls.values():
        timed(call)
    rounds = np.array([[timed(call) for call in calls.values()] for _ in range(ROUNDS)])
    ratio = np.median(rounds / rounds[:, :1], axis=0)
    shown = ", ".join(f"{k} {r:.2f}" for k, r in zip(list(calls)[1:], ratio[1:], strict=True))
    print(
        f"{name} {' '.join(overrides)}, batch {batch}: {STEPS} bare calls "
        f"{1e3 * np.median(rounds[:, 0]):.1f} ms; times that: {shown}"
    )


def compiling(rows: int) -> float:
    """Seconds to compile a sampler of so many rows."""
    denoise, shape = network("digits_vp", ["data.labels=False"])
    table = SAMPLERS["dpmpp_2m"](denoise.sde, uniform(denoise.sde, rows))
    x, keys = jnp.ones((4, *shape)), jax.random.split(jax.random.key(0), 4)
    began = time.perf_counter()
    run.lower(denoise, table, x, keys).compile()
    return time.perf_counter() - began


if __name__ == "__main__":
    overhead("digits_vp", [], 64)
    overhead("moons_vp", [], 512)
    overhead("moons_vp", ["network.width=16", "network.depth=1"], 64)
    for rows in (10, 1000):
        print(f"dpmpp_2m of {rows} rows, digits U-Net: compiled in {compiling(rows):.2f} s")
