"""The engine against batches of requests: throughput when full, and the wait for the first row.

    python experiments/benchmarks/engine.py

A small DiT without training samples 8x8 digits in 20 rows. Throughput: the same samples by the
engine and by a sampler of whole batches of as many as the engine has slots. Wait: requests arrive
at random at 50 and 70 % of the throughput of batches, one sample each. A server that batches whole
requests takes those that wait, at most a batch, when the batch before has ended.
"""

import time
from collections import deque

import numpy as np

from diffjax import builder, cli, config
from diffjax.generation import Engine, Generation
from diffjax.runs.trained import Trained

SLOTS, STEPS, ROUNDS, REQUESTS, LOADS = 8, 20, 5, 200, (0.5, 0.7)
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


def waits_of_batches(static: Generation, arrivals: np.ndarray) -> list[float]:
    """Return the seconds from each arrival to the start of the batch that has it."""
    waits, coming = [], deque(arrivals)
    began = time.perf_counter()
    while coming:
        now = time.perf_counter() - began
        if coming[0] > now:
            time.sleep(coming[0] - now)
            continue
        here = min(sum(a <= now for a in coming), SLOTS)
        waits += [now - coming.popleft() for _ in range(here)]
        list(static)
    return waits


def waits_of_engine(trained: Trained, engine: Engine, arrivals: np.ndarray) -> list[float]:
    """Return the seconds from each arrival to the entry of the request into a slot."""
    job, tickets = trained.job(steps=STEPS), []
    began = time.monotonic()
    for arrival in arrivals:
        time.sleep(max(0.0, arrival - (time.monotonic() - began)))
        tickets += engine.submit(job, 1)
    for ticket in tickets:
        ticket.result()
    pairs = zip(tickets, arrivals, strict=True)
    return [ticket.entered - began - arrival for ticket, arrival in pairs]


def main() -> None:
    """Print both comparisons."""
    cli.set_up_jax()
    trained = network()
    with Engine(trained.job(), slots=SLOTS) as engine:
        print(f"throughput, engine over batches: {throughput(trained, engine):.3f}")
        static = batches(trained, SLOTS)
        began = time.perf_counter()
        list(static)
        most = SLOTS / (time.perf_counter() - began)
        for load in LOADS:
            waiting(trained, engine, static, load * most)


def waiting(trained: Trained, engine: Engine, static: Generation, rate: float) -> None:
    """Print the waits of requests that arrive at a rate per second, by both servers."""
    arrivals = np.cumsum(np.random.default_rng(0).exponential(1 / rate, REQUESTS))
    rows = {
        "batches": waits_of_batches(static, arrivals),
        "engine": waits_of_engine(trained, engine, arrivals),
    }
    for name, waits in rows.items():
        middle, late = np.percentile(waits, [50, 99])
        print(f"{name}: wait P50 {middle:.3f} s, P99 {late:.3f} s at {rate:.1f} requests/s")
    ratio = np.percentile(rows["engine"], 99) / np.percentile(rows["batches"], 99)
    print(f"P99 of the wait, engine over batches: {ratio:.3f}")


if __name__ == "__main__":
    main()
