"""What the sampling loop costs beside the network: bare calls in one scan against tables, and
what previews on the way cost.

python experiments/benchmarks/sampling.py
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder, config
from diffjax.denoiser import Denoiser
from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS, previews, run

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


def previewing(name: str, overrides: list[str], batch: int, every: int = 5) -> None:
    """The same rows with a preview after every so many, each fetched to the host, and without."""
    denoise, shape = network(name, ["data.labels=False", *overrides])
    x, keys = jnp.ones((batch, *shape)), jax.random.split(jax.random.key(0), batch)
    table = SAMPLERS["dpmpp_2m"](denoise.sde, uniform(denoise.sde, STEPS))

    def seen() -> jax.Array:
        for preview in previews(denoise, table, x, keys, every=every):
            np.asarray(preview.x0)
        return preview.x

    calls = [lambda: run(denoise, table, x, keys).x, seen]
    off, on = (np.asarray(call()) for call in calls)
    rounds = np.array([[both(call) for call in calls] for _ in range(ROUNDS)])
    wall, cpu = np.median(rounds[:, 1] / rounds[:, 0], axis=0)
    print(
        f"{name} {' '.join(overrides)}, batch {batch}: {STEPS} rows without previews "
        f"{1e3 * np.median(rounds[:, 0, 0]):.1f} ms; with one every {every} rows, times that: "
        f"{wall:.3f} by the clock, {cpu:.3f} by time of all cores; "
        f"the samples are {'equal' if (off == on).all() else 'different'}"
    )


def both(call) -> tuple[float, float]:
    """Seconds by the clock, and of all cores."""
    cores = time.process_time()
    return timed(call), time.process_time() - cores


def compiling(rows: int) -> float:
    """Seconds to compile a sampler of so many rows."""
    denoise, shape = network("digits_vp", ["data.labels=False"])
    table = SAMPLERS["dpmpp_2m"](denoise.sde, uniform(denoise.sde, rows))
    x, keys = jnp.ones((4, *shape)), jax.random.split(jax.random.key(0), 4)
    began = time.perf_counter()
    jax.jit(run).lower(denoise, table, x, keys).compile()
    return time.perf_counter() - began


if __name__ == "__main__":
    overhead("digits_vp", [], 64)
    overhead("moons_vp", [], 512)
    overhead("moons_vp", ["network.width=16", "network.depth=1"], 64)
    previewing("digits_vp", [], 64)
    previewing("moons_vp", [], 512)
    previewing("moons_vp", ["network.width=16", "network.depth=1"], 64)
    for rows in (10, 1000):
        print(f"dpmpp_2m of {rows} rows, digits U-Net: compiled in {compiling(rows):.2f} s")
