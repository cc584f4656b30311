"""Time of a row with the posterior of an inverse problem, in network passes.

    python experiments/benchmarks/posterior.py

A pass is a row of DDIM without guidance. Every round times all sides in turn, and ratios are
medians over rounds. The networks have random weights, which do not change the time.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder, cli, config
from diffjax.denoiser import Denoiser, Model
from diffjax.grids import uniform
from diffjax.inverse import OPERATORS, Measurement, Posterior, Tweedie, Unit
from diffjax.nets import dit
from diffjax.parameterization import V
from diffjax.samplers import ddim, run
from diffjax.schedules import Cosine
from diffjax.sde import VP

COVARIANCES = {
    "pigdm": Unit(),
    **{f"tweedie, {k}": Tweedie(k) for k in (1, 3, 5)},
}
BATCHES = {"U-Net": 64, "DiT": 8}
"""Samples per network."""


def digits() -> tuple[Denoiser, tuple[int, ...]]:
    """Return the U-Net of configs/digits_vp.py with fresh parameters, and its shape."""
    e = builder.experiment(config.override(config.load("digits_vp"), ["data.labels=False"]))
    return Denoiser(e.model, e.initialise().params), e.shape


def transformer() -> tuple[Denoiser, tuple[int, ...]]:
    """Return a DiT of width 192 and depth 6 on 32 x 32 x 3, and its shape."""
    shape, net = (32, 32, 3), dit(width=192, depth=6, heads=3, patch=4)
    model = Model(VP(Cosine(), t_max=0.995), V(), net)
    params = net.init(jax.random.key(0), jnp.zeros((1, *shape)), jnp.zeros(1), {})
    return Denoiser(model, {"network": params}), shape


def compared(name: str, batch: int, rows: int, rounds: int) -> None:
    """Print the time of a row of each covariance in passes."""
    denoise, shape = {"U-Net": digits, "DiT": transformer}[name]()
    x, keys = jnp.ones((batch, *shape)), jax.random.split(jax.random.key(0), batch)
    operator = OPERATORS["half"](shape)
    measurement = Measurement(operator(x[:1]), operator, 0.1)
    table = ddim(denoise.sde, uniform(denoise.sde, rows))
    calls = {"pass": lambda: run(denoise, table, x, keys)}
    for covariance, kind in COVARIANCES.items():
        guidance = Posterior(measurement, kind)
        calls[covariance] = lambda guidance=guidance: run(
            denoise, table, x, keys, guidance=guidance
        )
    for call in calls.values():
        timed(call)
    times = np.array([[timed(call) for call in calls.values()] for _ in range(rounds)])
    ratios = times / times[:, :1]
    for k, covariance in enumerate(calls):
        wall, cpu = np.median(ratios[:, k], axis=0)
        low, high = ratios[:, k, 0].min(), ratios[:, k, 0].max()
        print(f"{name}, {covariance}: {wall:.2f} ({low:.2f} to {high:.2f}), CPU time {cpu:.2f}")
    print(
        f"{name}: a pass of {batch} samples takes {1e3 * np.median(times[:, 0, 0]) / rows:.1f} ms"
    )


def timed(call) -> tuple[float, float]:
    """Return seconds of wall-clock time, and of CPU time of all cores."""
    began, cores = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return time.perf_counter() - began, time.process_time() - cores


def main() -> None:
    """Run the benchmark."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rounds", type=int, default=9)
    flags.add_argument("--rows", type=int, default=5)
    flags.add_argument("--only", choices=BATCHES, help="one network (both)")
    asked = flags.parse_args()
    cli.keep_memory()
    for name in [asked.only] if asked.only else BATCHES:
        compared(name, BATCHES[name], asked.rows, asked.rounds)


if __name__ == "__main__":
    main()
