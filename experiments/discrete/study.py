"""How many bits per dimension do masked and uniform diffusion need for digits in 17 levels?

    python -m experiments.discrete.study --runs runs/digits_masked --out=experiments/discrete

Measures the bound of trained runs on all test digits, with their labels, as the mean over `DRAWS`
stratified sets of times, beside independent pixels with the frequencies of the training digits.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.data import digits
from diffjax.discrete import tokens
from diffjax.files import write_text
from diffjax.objectives import Context, Discrete
from diffjax.runs.trained import Trained, load

LEVELS, DRAWS = 17, 32


def pixels(split: str) -> np.ndarray:
    """Return the tokens (N, 64) of a split."""
    x = digits(split).x.reshape(-1, 64).astype(np.float32) / 127.5 - 1
    return np.asarray(tokens(jnp.asarray(x), LEVELS))


def independent() -> float:
    """Return the bits per dimension of test digits under independent pixels, with counts + 1/2."""
    train, test = pixels("train"), pixels("test")
    counts = np.stack([np.bincount(train[:, i], minlength=LEVELS) for i in range(64)]) + 0.5
    p = counts / counts.sum(1, keepdims=True)
    return float(-np.log2(p[np.arange(64)[None], test]).mean())


def bound(trained: Trained) -> tuple[float, float]:
    """Return the bound on test digits in bits per dimension, and its standard error."""
    loss, denoise = trained.experiment.loss, trained.denoise
    assert isinstance(loss, Discrete)
    items = digits("test")
    assert items.label is not None
    x = jnp.asarray(items.x, jnp.float32) / 127.5 - 1
    batch = {"x": x, "cond": {"label": jnp.asarray(items.label)}}

    @jax.jit
    def once(key):
        whole = loss.before_split(batch, jax.random.fold_in(key, 1))
        context = Context(denoise.model, denoise.params, whole, key, evaluating=True)
        return loss(context)[0] / math.log(2)

    bits = np.array([once(key) for key in jax.random.split(jax.random.key(0), DRAWS)])
    return float(bits.mean()), float(bits.std(ddof=1) / math.sqrt(DRAWS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = [{"model": "independent pixels", "bits": independent()}]
    for run in args.runs:
        trained = load(run)
        bits, error = bound(trained)
        name = f"{type(trained.experiment.loss.process).__name__.lower()} diffusion"
        rows.append({"model": name, "step": trained.step, "bits": bits, "error": error})
        print(rows[-1], flush=True)
    write_text(args.out / "discrete.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
