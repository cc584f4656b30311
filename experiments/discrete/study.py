"""How many bits per dimension does discrete diffusion need for digits in 17 levels?

    python -m experiments.discrete.study --runs runs/digits_masked runs/digits_uniform \\
        --out=experiments/discrete

The runs are those of the config `digits_masked`, with either process. The bound on all held-out
digits, given their labels, is the mean over DRAWS stratified sets of times, beside independent
pixels with the frequencies of the training digits. A classifier of real digits says how many of
NUM samples show the class that was asked for. Writes discrete.json and samples of each run.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli, plot
from diffjax.data import digits
from diffjax.discrete import tokens
from diffjax.evaluation.samples import Real, Samples
from diffjax.evaluation.scores import classifier
from diffjax.files import write_text
from diffjax.objectives import Context, Discrete
from diffjax.runs.trained import Trained, load
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, LEVELS, DRAWS, NUM, SHOWN = "discrete.json", 17, 32, 500, 60
INDEPENDENT = "independent pixels"


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
    """Return the bound on test digits in bits per dimension, and the error of its times."""
    loss, denoise = trained.experiment.loss, trained.denoise
    assert isinstance(loss, Discrete)
    items = digits("test")
    assert items.label is not None
    x = jnp.asarray(items.x, jnp.float32) / 127.5 - 1
    batch = {"x": x, "cond": {"label": jnp.asarray(items.label)}}

    @jax.jit
    def once(key: Any) -> Any:
        whole = loss.before_split(batch, jax.random.fold_in(key, 1))
        context = Context(denoise.model, denoise.params, whole, key, evaluating=True)
        return loss(context)[0] / math.log(2)

    bits = np.array([once(key) for key in jax.random.split(jax.random.key(0), DRAWS)])
    return float(bits.mean()), float(bits.std(ddof=1) / math.sqrt(DRAWS))


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    lines = [
        [
            name,
            str(row.get("step", "")),
            f"{row['bits']:.3f}" + (f" ± {row['error']:.3f}" if "error" in row else ""),
            *(f"{row[k]:.1%}" if k in row else "" for k in ("ancestral", "first_hitting")),
        ]
        for name, row in report["rows"].items()
    ]
    heads = ["", "steps", "bits per dimension", "class, ancestral", "class, first_hitting"]
    return {"discrete": table(heads, lines)}


def study(runs: list[Path], out: Path, num: int) -> None:
    """Measure independent pixels and each run."""
    rows: dict[str, Any] = {INDEPENDENT: {"bits": independent()}}
    for run in runs:
        trained = load(run)
        e, name = trained.experiment, type(trained.experiment.loss.process).__name__.lower()
        bits, error = bound(trained)
        row = rows[f"{name} diffusion"] = {"step": trained.step, "bits": bits, "error": error}
        real = Real(e.source, e.reading, 50_000, out)
        for sampler in ("ancestral", *["first_hitting"] * (name == "masked")):
            made = trained.sample(num, sampler=sampler, steps=64, batch_size=100)
            found = classifier(real, Samples(made.x, made.label), resamples=0)
            row[sampler] = found["agreement"]
            assert made.label is not None
            plot.save(out / f"{name}.png", plot.samples(made.x[:SHOWN], made.label[:SHOWN]))
        print(name, row, flush=True)
    write_text(out / FILE, json.dumps({"rows": rows} | provenance(), indent=1) + "\n")


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--runs", nargs="+", type=Path, required=True, help="trained runs")
    flags.add_argument("--out", type=Path, default=Path("experiments/discrete"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="samples of each sampler")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.runs, asked.out, asked.num)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
