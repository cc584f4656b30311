"""How near do flow maps come to the exact map of a mixture, in one step and in several?

    python -m experiments.few_step.study --out=experiments/few_step

A mixture of two Gaussians in one dimension, of which the flow map is known by its quantiles. Each
method of `FlowMap` trains the same small network for the same number of steps; beside them DDIM and
DPM-Solver++(2M) of a denoiser of the same size, at equal NFE. Writes few_step.json, of which what
is there is not trained again, and few_step.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from diffjax import cli, grids, samplers
from diffjax.analytic import Mixture
from diffjax.arrays import stream
from diffjax.denoiser import Denoiser, Model
from diffjax.files import write_text
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import To
from diffjax.objectives import MAP_RULES, PAIRS, VELOCITIES, Context, Denoising, FlowMap, Objective
from diffjax.parameterization import Velocity
from diffjax.progress import Progress
from diffjax.samplers.conformance import CENTRE, SPREAD, WEIGHT
from diffjax.schedules import Logit
from diffjax.sde import Flow
from diffjax.training.ema import Power, update
from diffjax.training.optimizer import adam, optimizer
from diffjax.training.workdir import provenance
from experiments.markdown import over_seeds, table

SDE = Flow(Logit(), t_min=1e-3, t_max=1.0)  # x_t = (1 - t) x0 + t eps
DATA = Mixture(*(jnp.asarray(a, jnp.float32) for a in (WEIGHT, CENTRE[:, None], SPREAD[:, None])))
BATCH, NUM = 512, 2048
NFE = (1, 2, 4, 8)


def flow_map(rule: str, velocity: str = "conditional", pair: str = "ordered", **settings: Any):
    """FlowMap with entries of its catalogues by name."""
    return FlowMap(
        rule=MAP_RULES[rule](**settings.pop("rule_settings", {})),
        velocity=VELOCITIES[velocity](),
        pair=PAIRS[pair](**settings.pop("pair_settings", {})),
        **settings,
    )


METHODS: dict[str, Objective] = {
    "LSD": flow_map("lagrangian", "own"),
    "PSD": flow_map("semigroup"),
    "shortcut": flow_map("semigroup", pair="dyadic", diagonal=0.75),
    "MeanFlow": flow_map("eulerian"),
    "MeanFlow, p = 1": flow_map("eulerian", self_weight=1.0),
    "iMF": flow_map("eulerian", "own"),
    "consistency training, N = 64": flow_map(
        "discrete",
        pair="neighbours",
        pair_settings={"first": 64},
        rule_settings={"gap": False},
        diagonal=0.0,
    ),
    "denoising": Denoising(),
}


def model() -> Model:
    network = NETWORKS["mlp"](width=96, depth=3, conditions=(To(),))
    return Model(SDE, Velocity(sigma_data=1.0), network)


@functools.partial(jax.jit, static_argnames=("objective", "steps"))
def train(objective: Objective, seed: int, steps: int) -> Any:
    """The power-function average of the parameters after `steps` of Adam on new draws."""
    what, key = model(), stream(seed, "train")
    descent, average = optimizer(adam, 1e-3, 200), Power(0.1)

    def step(index: Any, state: Any) -> Any:
        params, averaged, moments, loss_state = state
        pick, draw = jax.random.split(jax.random.fold_in(key, index))
        batch = {"x": DATA.sample(pick, BATCH)[0]}

        def loss(params: Any) -> Any:
            value, _, new = objective(Context(what, params, batch, draw, loss_state, index))
            return value, new

        grads, new = jax.grad(loss, has_aux=True)(params)
        updates, moments = descent.update(grads, moments, params)
        params = optax.apply_updates(params, updates)
        return params, update(averaged, params, average(index, BATCH)), moments, new

    params = what.init(key, jnp.zeros((2, 1)))
    state = params, params, descent.init(params), objective.init_state(what)
    return jax.lax.fori_loop(0, steps, step, state)[1]


def start() -> jax.Array:
    """NUM quantiles of the prior, (NUM, 1)."""
    return jax.scipy.stats.norm.ppf((jnp.arange(NUM) + 0.5) / NUM)[:, None]


@functools.cache
def exact() -> np.ndarray:
    """X_{1->0} of the quantiles, (NUM,)."""
    x, one = start(), jnp.ones(NUM)
    lead = DATA.flow_map(SDE)
    return np.asarray(jax.jit(lambda x: lead(x, one, to=0 * one).x0)(x)).ravel()


def distances(params: Any, sampler: str) -> dict[str, float]:
    """Root mean square distance of samples to the exact map, by NFE."""
    denoise, keys = Denoiser(model(), params), jax.random.split(jax.random.key(0), NUM)
    found = {}
    for steps in NFE:
        rows = samplers.SAMPLERS[sampler](SDE, grids.uniform(SDE, steps))
        x = np.asarray(samplers.run(denoise, rows, start(), keys).x).ravel()
        found[str(steps)] = float(f"{np.sqrt(np.mean((x - exact()) ** 2)):.4g}")
    return found


def fill(path: Path, steps: int, seeds: int, methods: list[str]) -> dict[str, Any]:
    """Every method and seed that the file does not have."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    rows = stored.get("methods", {}) if stored.get("steps") == steps else {}
    about = {"steps": steps, "batch": BATCH, **provenance()}
    todo = [(name, seed) for name in methods for seed in range(seeds)]
    with Progress("few_step", len(todo), "run") as progress:
        for name, seed in todo:
            runs = rows.setdefault(name, [])
            if len(runs) <= seed:
                began = time.monotonic()
                params = jax.block_until_ready(train(METHODS[name], seed, steps))
                seconds = round(time.monotonic() - began, 1)
                entry: dict[str, Any] = {"seconds": seconds}
                if name == "denoising":
                    entry |= {k: distances(params, k) for k in ("ddim", "dpmpp_2m")}
                else:
                    entry["flow_map"] = distances(params, "flow_map")
                runs.append(entry)
                write_text(path, json.dumps(about | {"methods": rows}, indent=1) + "\n")
            progress.advance(1)
    return about | {"methods": rows}


def lines(report: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Distances by what is drawn as a line, and NFE: one of each seed."""
    found: dict[str, dict[str, list[float]]] = {}
    for name, runs in report["methods"].items():
        for sampler in [k for k in runs[0] if k != "seconds"]:
            label = name if sampler == "flow_map" else f"{sampler} of the denoiser"
            found[label] = {n: [run[sampler][n] for run in runs] for n in runs[0][sampler]}
    return found


def markdown(report: dict[str, Any]) -> str:
    rows = {
        name: [over_seeds(values[str(n)]) for n in NFE] for name, values in lines(report).items()
    }
    return table(["NFE", *map(str, NFE)], [[name, *cells] for name, cells in rows.items()])


def draw(report: dict[str, Any], path: Path) -> None:
    figure = Figure((6, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in lines(report).items():
        style = "--" if "denoiser" in name else "-"
        axes.loglog(NFE, [np.mean(values[str(n)]) for n in NFE], style, marker="o", label=name)
    axes.set_xticks(NFE, map(str, NFE))
    axes.minorticks_off()
    axes.set_xlabel("network evaluations (NFE)")
    axes.set_ylabel("RMS distance to the exact map")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/few_step"))
    flags.add_argument("--steps", type=cli.positive, default=4000, help="of training")
    flags.add_argument("--seeds", type=cli.positive, default=1)
    flags.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    given = flags.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    report = fill(given.out / "few_step.json", given.steps, given.seeds, given.methods)
    draw(report, given.out / "few_step.png")
    print(markdown(report))


if __name__ == "__main__":
    main()
