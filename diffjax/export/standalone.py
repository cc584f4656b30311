"""Run the program in this folder, with jax, safetensors and flatbuffers alone.

python run.py --num=16 --seed=0 --out=samples.npz
python run.py --num=16 --set label=3 --set guidance=2

from run import load
outputs = load()(seed=..., index=...)  # the inputs that export.json lists, each (B, ...)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

PROGRAM, WEIGHTS, ABOUT = "program.stablehlo", "weights.safetensors", "export.json"


def load(folder: str | Path = Path(__file__).parent) -> Callable[..., dict[str, Any]]:
    """Return the program in a folder as a function of its inputs, arrays (B, ...) by name."""
    folder = Path(folder)
    program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    weights = jax.device_put(load_file(folder / WEIGHTS))

    def call(**inputs: Any) -> Any:
        return program.call(weights, inputs)

    return call


def inputs(about: dict[str, Any], num: int, seed: int, given: dict[str, float]) -> dict[str, Any]:
    """Return inputs of `num` samples: noise, times from the last to the first, and values given.

    Conditions that are not given have the values of one example, which export.json holds.
    """
    rng = np.random.default_rng(seed)
    low, high = about["times"]
    made: dict[str, Any] = {"seed": np.full(num, seed), "index": np.arange(num)}
    made |= {"t": np.linspace(high, low, num)}
    values = {}
    for name, entry in about["inputs"].items():
        shape = (num, *entry["shape"][1:])
        value = given.get(name, made.get(name, entry.get("example", 0)))
        value = rng.normal(size=shape) if name == "x" else value
        value = np.asarray(value)
        value = value.reshape(value.shape + (1,) * (len(shape) - value.ndim))
        values[name] = np.broadcast_to(value, shape).astype(entry["dtype"])
    return values


def condition(text: str) -> tuple[str, float]:
    """Parse `NAME=NUMBER`."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: needs NAME=NUMBER") from error


def main() -> None:
    """Run the program with flags."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    flags.add_argument("--num", type=int, help="number of samples (default: 16, or the only one)")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument(
        "--set", type=condition, action="append", default=[], help="NAME=NUMBER, a condition"
    )
    flags.add_argument("--out", default="samples.npz", help="file of the outputs")
    asked = flags.parse_args()
    about = json.loads((Path(__file__).parent / ABOUT).read_text())
    given, shape = dict(asked.set), next(iter(about["inputs"].values()))["shape"]
    only = shape[0] if isinstance(shape[0], int) else None
    num = asked.num or only or 16
    if num < 1 or num != (only or num):
        flags.error(f"--num={num}: the program takes {only or 'one or more'} samples")
    if not 0 <= asked.seed < 2**32:
        flags.error(f"--seed={asked.seed}: needs 0 <= seed < 2**32")
    if unknown := set(given) - set(about["inputs"]):
        flags.error(f"--set {min(unknown)}: unknown; known: {', '.join(about['inputs'])}")
    outputs = load()(**inputs(about, num, asked.seed, given))
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in outputs.items()}
    np.savez(asked.out, **arrays)
    print(f"wrote {asked.out}: " + ", ".join(f"{k} {v.shape}" for k, v in outputs.items()))


if __name__ == "__main__":
    main()
