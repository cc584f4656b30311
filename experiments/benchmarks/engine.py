"""The engine against whole batches: throughput when all slots are busy.

    python experiments/benchmarks/engine.py

A small DiT without training samples 8x8 digits in 20 rows: the same samples by the engine and by a
sampler of whole batches of as many as the engine has slots. `serving.py` measures waits.
"""

import time

import numpy as np

from diffjax import builder, cli, config
from diffjax.generation import Engine, Generation
from diffjax.runs.trained import Trained

SLOTS, STEPS, ROUNDS = 8, 20, 5
NETWORK = "network={'name': 'dit', 'width': 256, 'depth': 6, 'heads': 4, 'patch': 1}"


def network() -> Trained:
    """Return the network with its initial parameters."""
    e = builder.experiment(config.override(config.load("digits_vp"), [NETWORK]))
    return Trained(e.denoiser(e.parameters()), e)


def batches(trained: Trained, num: int) -> Generation:
    """Return the sampler of batches of `SLOTS`."""
    job = trained.job(steps=STEPS)
    cond = {k: np.resize(v, (num, *v.shape[1:])) for k, v in job.cond.items()}
    more = {"seed": 0, "num": num, "shape": job.form.shape, "cond": cond, "batch_size": SLOTS}
    return Generation(job.denoise, job.plan, **more)


def throughput(trained: Trained, engine: Engine) -> float:
    """Return the samples per second of batches over those of the engine, a median of pairs."""
    num = 4 * SLOTS
    static, ratios = batches(trained, num), []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for ticket in engine.submit(trained.job(steps=STEPS), num):
            ticket.result()
        middle = time.perf_counter()
        list(static)
        ratios.append((time.perf_counter() - middle) / (middle - began))
        print(f"  engine over batches {ratios[-1]:.3f}", flush=True)
    return float(np.median(ratios))


def main() -> None:
    """Print the comparison."""
    cli.set_up_jax()
    trained = network()
    with Engine(trained.job(), slots=SLOTS) as engine:
        print(f"throughput, engine over batches: {throughput(trained, engine):.3f}")


if __name__ == "__main__":
    main()
