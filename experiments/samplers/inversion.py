"""Image to latent and back by the same sampler on the reversed grid: how far it is off.

python experiments/samplers/inversion.py --workdir=runs/digits
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import diffjax
from diffjax.data import to_float
from diffjax.grids import uniform
from diffjax.samplers import SAMPLERS, run

NUM = 100

if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--workdir", type=Path, required=True)
    workdir = flags.parse_args().workdir
    trained = diffjax.load(workdir)
    e, denoise = trained.experiment, trained.denoise
    items = e.source("test")[np.arange(NUM)]
    x, keys = to_float(jnp.asarray(items["x"])), jax.random.split(jax.random.key(0), NUM)
    cond = {"label": jnp.asarray(items["label"])} if e.classes else {}
    sde = denoise.sde
    start = sde.alpha(jnp.asarray(sde.t_min)) * x
    print("| sampler | rows each way | round trip, grey levels of 255 (RMS) | latent: mean, std |")
    print("|---|---|---|---|")
    for name, steps in (("ddim", 20), ("ddim", 100), ("heun", 50), ("dpmpp_2m", 100), ("rk4", 25)):
        times = uniform(sde, steps + 1)[:-1]
        there = run(denoise, SAMPLERS[name](sde, times[::-1]), start, keys, cond=cond).x
        table = SAMPLERS[name](sde, times)
        back = run(denoise, table, there, keys, cond=cond).x
        error = 127.5 * float(jnp.sqrt(jnp.mean((back - start) ** 2)))
        print(
            f"| {name} | {len(table)} | {error:.2f} | {float(there.mean()):.3f}, "
            f"{float(there.std()):.3f} |"
        )
