"""Inception-v3 of the Frechet inception distance beside pytorch-fid's, on CPU.

    python experiments/benchmarks/features.py --torch=/path/to/python

Both turn the same 256 random uint8 images of 32 x 32 into 2,048 features, resized as pytorch-fid
does it, by random weights of a file in its format. The sides take turns, so that a noisy machine
hurts both. torch lives in another environment (with pytorch-fid).
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.features.inception import inception
from diffjax.features.inception_names import convert
from diffjax.io.reading import read

HERE = Path(__file__).parent


class Torch:
    """pytorch-fid in a process of another environment, with the weights that it drew there."""

    def __init__(self, python: str, folder: Path, batch: int, threads: int):
        command = [python, HERE / "features_torch.py", folder, str(batch), str(threads)]
        # Threads that spin while they wait hurt torch where others use the machine too.
        calm = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=calm, **pipes)
        self.read()

    def read(self) -> Any:
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line[len("answer ") :])
        raise RuntimeError("torch stopped")

    def run(self) -> list[float]:
        """Seconds, and seconds of all cores together."""
        assert self.process.stdin
        print("run", file=self.process.stdin, flush=True)
        return self.read()

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class Ours:
    def __init__(self, folder: Path, x: np.ndarray, batch: int):
        net = inception("pytorch")
        self.parts = [jnp.asarray(x[i : i + batch]) for i in range(0, len(x), batch)]
        self.params = jax.device_put(convert(read(folder / "weights.pth").tensors))
        began = time.perf_counter()
        run = jax.jit(lambda params, x: net.apply(params, x)["pool"])
        self.program = run.lower(self.params, self.parts[0]).compile()
        print(f"compiled in {time.perf_counter() - began:.1f} s")

    def features(self) -> np.ndarray:
        return np.concatenate([np.asarray(self.program(self.params, part)) for part in self.parts])

    def run(self) -> list[float]:
        """Seconds, and seconds of all cores together."""
        began, busy = time.perf_counter(), time.process_time()
        self.features()
        return [time.perf_counter() - began, time.process_time() - busy]


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--torch", required=True, help="the Python that has torch and pytorch-fid")
    flags.add_argument("--images", type=int, default=256)
    flags.add_argument("--batch", type=int, default=32, help="images at once, a divisor")
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--threads", type=int, default=2, help="of torch")
    given = flags.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = np.random.default_rng(0).integers(0, 256, (given.images, 32, 32, 3), np.uint8)
        np.save(folder / "x.npy", x)
        theirs = Torch(given.torch, folder, given.batch, given.threads)
        ours = Ours(folder, x, given.batch)
        theirs.run()
        pool = np.load(folder / "pool.npy")
        apart = np.abs(ours.features() - pool).max() / np.abs(pool).max()
        print(f"largest difference of features {apart:.1e} of the largest feature")
        seconds = np.array([[ours.run(), theirs.run()] for _ in range(given.rounds)])
        theirs.close()
    for i, kind in enumerate(("by the clock", "by time of all cores")):
        ours, torch = seconds[:, 0, i], seconds[:, 1, i]
        for label, of in (("median", np.median), ("best", np.min)):
            a, b = of(ours), of(torch)
            print(f"{kind}, {label}: diffjax {a:.2f} s, torch {b:.2f} s, {b / a:.2f} times as fast")
        print(f"{kind}, median of the ratios of pairs: {np.median(torch / ours):.2f}")


if __name__ == "__main__":
    main()
