"""Optimize a time grid for a sampler, a number of steps and a data set, by gradient descent.

    python -m diffjax.tools.grid --config=configs/digits_vp.py --sampler=dpmpp_2m --steps=8

The data are modelled as a Gaussian with their principal variances, for which the distribution of
the samples of a sampler is known exactly, without a network. The command prints the error before
and after, and the grid as a flag for `python -m diffjax.sample`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from diffjax import cli, config
from diffjax.config import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from diffjax.data import Reading, Source


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.grid", __doc__)
    flags.add_argument("--config", required=True, help="config file with the process and the data")
    flags.add_argument("--sampler", required=True, help="name[:argument=value,...]")
    flags.add_argument("--steps", type=cli.positive, default=10, help="steps of the grid")
    flags.add_argument("--grid", default="uniform", help="grid to start from")
    flags.add_argument("--num", type=cli.positive, default=4096, help="number of items to use")
    flags.add_argument("--most", type=cli.positive, default=100, help="most iterations to run")
    return flags


def run() -> int:
    asked = cli.read(flags())

    from diffjax import builder
    from diffjax.samplers import optimize

    base = config.load(asked.config)
    sde = builder.construct_sde(base["sde"], "config.sde")
    source, reading = builder.construct_data(base["data"], "config.data")
    times = builder.construct_grid(config.parse(asked.grid), "--grid")(sde, asked.steps)
    sampler = builder.construct_sampler(config.parse(asked.sampler), "--sampler")
    var = variances(source("train"), reading, asked.num)
    if not len(var):
        raise ConfigError(f"--num={asked.num}: the items do not vary; needs more items")
    optimized = builder.refuse("--sampler")(optimize)(sampler, sde, times, var, asked.most)
    print(
        f"{len(var)} variances of the data, from {var[-1]:.2g} to {var[0]:.2g}\n"
        f"relative Wasserstein-2 distance: {optimized.before:.2%} with the grid {asked.grid}, "
        f"{optimized.after:.2%} with this grid:"
    )
    shown = ",".join(f"{t:.6g}" for t in optimized.times)
    print(f"--sampler={asked.sampler} --steps={asked.steps} '--grid=explicit:times=({shown})'")
    return 0


def variances(source: Source, reading: Reading, num: int) -> np.ndarray:
    """Return the principal variances above 1e-6 of the data that the network sees, descending."""
    import jax.numpy as jnp
    import numpy as np

    from diffjax.data import select

    items = select(source, reading, num)
    x = np.asarray(items.form.items.normalise(jnp.asarray(items.x)), np.float64)
    x = x.reshape(len(x), -1)
    values = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2 / len(x)
    return values[values > 1e-6]


if __name__ == "__main__":
    cli.main(run)
