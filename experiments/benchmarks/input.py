"""Images per second of the input pipeline on one core, and its memory over 10,000 batches.

TFDS_DATA_DIR=... python experiments/benchmarks/input.py
"""

import os
import time

import numpy as np

from diffjax.data import Batches, Reading, load, read, tfds

BATCH = 128


def resident() -> float:
    """Resident memory of this process in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def rate(source, batches: int, reading: Reading, per_item: int = 1) -> tuple[float, float]:
    """Images per second, and MB gained between the first tenth and the end."""
    stacks = read(Batches(source, BATCH, 0, reading), 0, batches, per_item, reading.workers)
    began, checked = time.monotonic(), 0.0
    for k, stack in enumerate(stacks):
        np.add.reduce(stack["x"][..., 0, 0, 0].ravel())  # somebody looks at it
        if k == batches // per_item // 10:
            checked = resident()
    return batches * BATCH / (time.monotonic() - began), resident() - checked


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})
    stored = tfds("train", "cifar10")
    memory = load(stored)
    flip = Reading(flip=True)
    for name, source, batches, reading, per_item in (
        ("from memory", memory, 10_000, Reading(), 1),
        ("from memory, flips", memory, 10_000, flip, 1),
        ("from memory, flips, stacks of 10", memory, 10_000, flip, 10),
        ("from memory, flips and crops", memory, 2_000, Reading(flip=True, crop=28), 1),
        ("from ArrayRecord, decoded, flips", stored, 300, flip, 1),
        (
            "from ArrayRecord, decoded, flips, 2 threads",
            stored,
            300,
            Reading(flip=True, workers=2),
            1,
        ),
    ):
        speed, growth = rate(source, batches, reading, per_item)
        print(f"{name:45} {speed:9,.0f} images/s, {growth:+6.1f} MB over {batches:,} batches")
