"""GAN, VAE, flow, autoregressive model and diffusion at equal training FLOPs.

    python -m experiments.generative.study --out=experiments/generative [--short]
    TFDS_DATA_DIR=... python -m experiments.generative.study --data thumbnails \\
        --out=experiments/generative --picture=thumbnails.png

For each data set and family: four trials of declared settings at the smallest budget, chosen by one
criterion of samples, and then, at each budget, three fresh seeds with the best. A budget is the
FLOPs of all products in the whole step, gradients of gradients included. Writes a file for each
data set, with every trial and cell, and a picture. What is in a file is not made again.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli
from diffjax.arrays import stream
from diffjax.files import write_arrays, write_text
from diffjax.nets.costs import count, flops
from diffjax.training.ema import Power, update
from diffjax.training.workdir import provenance
from experiments.generative.data import DATA
from experiments.generative.diffusion import Diffusion, Map
from experiments.generative.flow import RealNvp
from experiments.generative.gan import Gan
from experiments.generative.made import Made
from experiments.generative.report import draw, score, tables
from experiments.generative.trunk import Task, Trial
from experiments.generative.vae import Vae

FAMILIES: Mapping[str, Any] = {
    "GAN": Gan,
    "VAE": Vae,
    "flow": RealNvp,
    "autoregressive": Made,
    "diffusion": Diffusion,
    "flow map": Map,
}
SEEDS, TRIAL_SEED = (0, 1, 2), 100
WARMUP, AVERAGE = 100, Power(0.1)
SPIKE = 10.0
"""Running deviations above the running mean of the loss from which on a step is a spike."""


def sized(family: Any, task: Task) -> Any:
    """Return the family with the width, a multiple of 2, whose sampling parameters are nearest."""

    def parameters(width: int) -> int:
        model = family(task, width)
        params = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
        return count(model.sampling(params))

    low, high = 4, 512
    while high - low > 2:
        middle = (low + high) // 4 * 2
        low, high = (middle, high) if parameters(middle) < task.parameters else (low, middle)
    gap = lambda width: abs(parameters(width) - task.parameters)
    return family(task, min(low, high, key=gap))


class State(NamedTuple):
    """params, their average, the optimizer, and what is watched.

    mean, square: running moments of the loss. spikes: steps whose loss jumped.
    """

    params: Any
    average: Any
    moments: Any
    mean: jax.Array
    square: jax.Array
    spikes: jax.Array


@functools.partial(jax.jit, static_argnames="family")
def train(family: Any, items: Any, seed: Any, steps: Any, trial: Trial) -> State:
    """Train for `steps` steps on items in an order that is the same for all families."""
    key, order = stream(seed, "train"), stream(seed, "items")
    params = family.init(jax.random.fold_in(key, 0))
    zero = jnp.zeros(())
    state = State(params, params, family.moments(params), zero, zero, jnp.zeros((), jnp.int32))

    def step(index: Any, state: State) -> State:
        x = items.sample(jax.random.fold_in(order, index), family.task.batch)[0]
        rate = trial.rate * jnp.minimum(1.0, (index + 1) / WARMUP)
        noise = jax.random.fold_in(key, index + 1)
        params, moments, loss = family.train_step(
            state.params, state.moments, x, noise, trial._replace(rate=rate)
        )
        average = update(state.average, params, AVERAGE(index, family.task.batch))
        share = jnp.maximum(0.02, 1 / (index + 1.0))
        deviation = jnp.sqrt(jnp.maximum(state.square - state.mean**2, 1e-12))
        jump = (index > WARMUP) & ~(loss - state.mean < SPIKE * deviation)
        mean = (1 - share) * state.mean + share * loss
        square = (1 - share) * state.square + share * loss**2
        return State(params, average, moments, mean, square, state.spikes + jump)

    return jax.lax.fori_loop(0, steps, step, state)


def step_flops(family: Any) -> int:
    """Return the FLOPs of all products of a training step."""

    def step(key: Any, x: Any) -> Any:
        params = family.init(key)
        return params, family.moments(params)

    task = family.task
    x = jax.ShapeDtypeStruct((task.batch, task.size), jnp.float32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, moments = jax.eval_shape(step, key, x)
    one = lambda *of: family.train_step(*of, Trial(1e-3, 1.0))
    return flops(jax.make_jaxpr(one)(params, moments, x, key).jaxpr)


@functools.partial(jax.jit, static_argnames=("family", "num", "steps"))
def sample(family: Any, params: Any, seed: Any, num: int, steps: int) -> jax.Array:
    return family.sample(params, stream(seed, "samples"), num, steps)


def sampling_cost(family: Any, num: int, steps: int) -> dict[str, float]:
    """Return FLOPs and CPU milliseconds of a sample, drawn `num` at a time."""
    params = jax.jit(family.init)(jax.random.key(0))
    draw = lambda seed: jax.block_until_ready(sample(family, params, seed, num, steps))
    total = flops(jax.make_jaxpr(lambda p: family.sample(p, jax.random.key(0), num, steps))(params))
    draw(0)
    began = time.process_time()
    draw(1)
    seconds = time.process_time() - began
    return {"flops": total / num, "ms": round(1000 * seconds / num, 5)}


@functools.partial(jax.jit, static_argnames="family")
def nll(family: Any, params: Any, x: jax.Array) -> jax.Array:
    return family.nll(params, x, jax.random.key(7))


class Study:
    """A data set, its file, and the budgets and seeds."""

    def __init__(self, name: str, out: Path, runs: Path, short: bool):
        self.name, self.runs, self.path = name, runs, out / f"{name}.json"
        self.data = DATA[name](runs)
        self.seeds = SEEDS[:1] if short else SEEDS
        budgets = [b / 20 for b in self.data.budgets[:1]] if short else [*self.data.budgets]
        stored = json.loads(self.path.read_text()) if self.path.exists() else {}
        fresh: dict[str, Any] = {"budgets": budgets, "families": {}}
        same = stored.get("budgets", [])[:1] == budgets[:1]  # trials are made at the smallest
        self.report: dict[str, Any] = stored | {"budgets": budgets} if same else fresh

    def write(self) -> None:
        write_text(self.path, json.dumps(self.report | provenance(), indent=1) + "\n")

    def run(self, names: Sequence[str]) -> None:
        """Make all trials and cells that the file does not have, small budgets first."""
        if "reference" not in self.report:
            self.report["reference"] = self.data.reference()
            self.write()
        models = {n: sized(FAMILIES[n], self.data.task) for n in names if allowed(n, self.data)}
        for label, family in models.items():
            self.trials(label, family)
        for budget in self.report["budgets"]:
            for label, family in models.items():
                self.cells(label, family, budget)

    def trials(self, label: str, family: Any) -> None:
        row = self.report["families"].setdefault(label, {"trials": [], "cells": {}})
        if "step_flops" not in row:
            row |= self.about(family, self.data.num)
        for trial in family.trials[len(row["trials"]) :]:
            cell = self.cell(family, trial, self.report["budgets"][0], TRIAL_SEED)
            row["trials"].append(trial._asdict() | cell)
            self.write()

    def cells(self, label: str, family: Any, budget: float) -> None:
        """Train all seeds at a budget with the best trial."""
        row = self.report["families"][label]
        best = min(row["trials"], key=lambda made: score(made, self.data.criterion))
        for seed in self.seeds:
            if (place := f"{budget:g} {seed}") not in row["cells"]:
                last = (budget, seed) == (self.report["budgets"][-1], 0)
                trial = Trial(best["rate"], best["knob"])
                row["cells"][place] = self.cell(family, trial, budget, seed, label * last)
                self.write()
                print(f"{self.name}, {label}, {place}: {row['cells'][place]}", flush=True)

    def about(self, family: Any, num: int) -> dict[str, Any]:
        shapes = jax.eval_shape(family.init, jax.eval_shape(lambda: jax.random.key(0)))
        costs = {str(n): sampling_cost(family, num, n) for n in family.steps}
        return {
            "width": family.width,
            "sampling_parameters": count(family.sampling(shapes)),
            "parameters": count(shapes),
            "step_flops": step_flops(family),
            "sampling": costs,
        }

    def cell(
        self, family: Any, trial: Trial, budget: float, seed: int, shown: str = ""
    ) -> dict[str, Any]:
        """Train at a budget and return what is measured. shown: a name to keep samples under."""
        data = self.data
        steps, began = max(1, round(budget / step_flops(family))), time.process_time()
        state = jax.block_until_ready(train(family, data.items, seed, steps, trial))
        seconds = round(time.process_time() - began, 2)
        row: dict[str, Any] = {"steps": steps, "cpu_seconds": seconds, "spikes": int(state.spikes)}
        finite = all(bool(jnp.isfinite(a).all()) for a in jax.tree.leaves(state.average))
        if not finite:
            return row | {"failed": True, "samples": {}}
        drawn = {n: sample(family, state.average, seed, data.num, n) for n in family.steps}
        row["samples"] = {str(n): data.measure(np.asarray(x)) for n, x in drawn.items()}
        if family.nll is not None:
            row |= data.likelihood(np.asarray(nll(family, state.average, data.held_out)))
        if shown:
            kept = {f"{n}": np.asarray(x) for n, x in drawn.items()}
            write_arrays(self.runs / f"{data.task.name}-{shown}.npz", kept)
        return row | {"failed": data.failed(row["samples"][str(family.steps[-1])])}


def allowed(label: str, data: Any) -> bool:
    """Return whether a family takes the data: the autoregressive model needs levels."""
    return label != "autoregressive" or data.task.levels > 0


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/generative"))
    flags.add_argument("--runs", type=Path, default=Path("runs/generative"), help="of samples")
    flags.add_argument("--data", nargs="+", choices=[*DATA], default=["gaussians", "digits"])
    flags.add_argument("--picture", default="samples.png", help="name of the picture in --out")
    flags.add_argument("--families", nargs="+", choices=[*FAMILIES], default=[*FAMILIES])
    flags.add_argument("--short", action="store_true", help="a small budget, one seed")
    asked = flags.parse_args()
    for folder in (asked.out, asked.runs):
        folder.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    for name in asked.data:
        Study(name, asked.out, asked.runs, asked.short).run(asked.families)
    draw([*FAMILIES], asked.runs, asked.out / asked.picture, asked.data)
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
