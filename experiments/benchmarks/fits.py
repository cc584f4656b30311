"""Resident memory of a process that trains many networks in turn: one line after every few fits.

python experiments/benchmarks/fits.py --fits 40 [--same] [--clear]

Every fit trains an MLP of another width for two steps, samples from it and is dropped. With --same
all have one width, so that JAX's traces of its own functions, one for each new shape, do not add
up. With --clear, `jax.clear_caches()` follows each fit. The last lines show how much of the memory
JAX's caches hold, and how much glibc has free but has not returned. Figures: README.md.
"""

import argparse
import contextlib
import ctypes
import gc
import io
import tempfile
from pathlib import Path

import jax

import diffjax

SETTINGS = ("network.depth=1", "train.batch_size=8", "train.samples=8", "train.writers=()")
SHORT = tuple(f"train.{name}=2" for name in ("steps", "log_every", "sample_every"))


def resident() -> float:
    """Resident memory of this process, in MB."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6


def fit(folder: Path, seed: int, width: int) -> None:
    """Train a network and sample from it, without any output."""
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        changes = (*SETTINGS, *SHORT, "train.checkpoint_every=2", f"network.width={width}")
        diffjax.fit("moons_vp", folder, *changes, f"seed={seed}").sample(4, steps=2)


def show(what: str) -> None:
    """Print what the process holds after a collection of garbage."""
    gc.collect()
    programs = len(jax.devices()[0].client.live_executables())
    print(
        f"{what}: {resident():.0f} MB, {programs} compiled programs, {len(jax.live_arrays())} "
        f"arrays, {len(gc.get_objects()):,} Python objects",
        flush=True,
    )


if __name__ == "__main__":
    flags = argparse.ArgumentParser()
    flags.add_argument("--fits", type=int, default=40)
    flags.add_argument("--every", type=int, default=5)
    flags.add_argument("--same", action="store_true")
    flags.add_argument("--clear", action="store_true")
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for k in range(asked.fits):
            fit(Path(folder) / str(k), k, 8 if asked.same else 8 + k)
            if asked.clear:
                jax.clear_caches()
            if k == 0 or (k + 1) % asked.every == 0:
                show(f"{k + 1} fits")
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    show("after malloc_trim")
    jax.clear_caches()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    show("after jax.clear_caches and malloc_trim")
