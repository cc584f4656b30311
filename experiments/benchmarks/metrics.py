"""Seconds of the parts of a Frechet distance: python experiments/benchmarks/metrics.py

Of 50,000 x 2,048 random features, by the clock and by time of all cores; the best of `--rounds`.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from diffjax.evaluation.gaussian import distance, gaussian
from diffjax.evaluation.moments import moments


def best(rounds: int, name: str, run: Callable[[], Any]) -> Any:
    """What `run` gives; its least times are printed."""
    clock, cores, made = [], [], None
    for _ in range(rounds):
        began = time.monotonic(), time.process_time()
        made = run()
        clock.append(time.monotonic() - began[0])
        cores.append(time.process_time() - began[1])
    print(
        f"{name:<28} {min(clock):6.1f} s by the clock, {min(cores):6.1f} s of all cores", flush=True
    )
    return made


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--rounds", type=int, default=3)
    given = flags.parse_args()
    x = np.random.default_rng(0).standard_normal((50_000, 2048), np.float32)
    found = best(given.rounds, "moments", lambda: moments(x))
    half = moments(x[::2])
    law = best(
        given.rounds, "root of the covariance", lambda: gaussian(found.mean, found.covariance)
    )
    other = gaussian(half.mean, half.covariance)
    best(given.rounds, "distance of two laws", lambda: distance(law, other))


if __name__ == "__main__":
    main()
