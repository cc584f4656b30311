"""How near do few-step methods come to the exact map of a mixture, and to its distribution?

    python -m experiments.few_step.study --out=experiments/few_step

The data are a mixture of two Gaussians in one dimension, whose flow map is known by its quantiles.
Each method trains a network of the same size for 4,000 steps; DMD and SiD train the generator for
2,000 steps, with an exact teacher and five steps of the critic for each, from the weights of the
denoiser. DDIM and DPM-Solver++(2M) sample that denoiser at equal NFE. Consistency training is also
compared with its fixed point on Gaussian data. Writes few_step.json, of which what is there is not
trained again, and few_step.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from diffjax import analytic, cli, grids, samplers
from diffjax.analytic import Mixture
from diffjax.arrays import expand, stream
from diffjax.denoiser import Denoiser, Model
from diffjax.draws import LogNormal, Uniform
from diffjax.files import write_text
from diffjax.nets import NETWORKS, Network
from diffjax.nets.conditions import To
from diffjax.objectives import (
    DIVERGENCES,
    MAP_RULES,
    PAIRS,
    VELOCITIES,
    Denoising,
    DistributionMatching,
    FlowMap,
    Objective,
)
from diffjax.objectives.pairs import Neighbours
from diffjax.parameterization import X0, Edm, Velocity, t, time_999
from diffjax.progress import Progress
from diffjax.samplers.conformance import CENTRE, SPREAD, WEIGHT
from diffjax.schedules import Karras, Logit
from diffjax.sde import VE, Flow
from diffjax.training.ema import Power
from diffjax.training.optimizer import adam, constant, linear, optimizer
from diffjax.training.step import Moving, make_step
from diffjax.training.workdir import provenance
from experiments.markdown import over_seeds, table

BATCH, NUM = 512, 2048
NFE = (1, 2, 4, 8)
CRITIC_STEPS = 5


def network() -> Network:
    return NETWORKS["mlp"](width=96, depth=3, conditions=(To(),))


FLOW = Flow(Logit(), t_min=1e-3, t_max=1.0)  # x_t = (1 - t) x0 + t eps
MODEL = Model(FLOW, Velocity(c_noise=t), network())
STEEP = Model(FLOW, Velocity(c_noise=time_999), network())
MIXTURE = Mixture(
    *(jnp.asarray(a, jnp.float32) for a in (WEIGHT, CENTRE[:, None], SPREAD[:, None]))
)
KARRAS = VE(Karras(), t_min=1e-6)  # sigma from 0.002 to 80
KARRAS_MODEL = Model(KARRAS, Edm(sigma_data=0.5), network())
GAUSSIAN = analytic.gaussian(jnp.zeros(1), jnp.full(1, 0.25))


def exact_denoiser(params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None) -> Any:
    """The exact E[x0 | x_t] of the mixture, as a network without parameters."""
    x = x / expand(TEACHER_FRAME.c_in(FLOW, c_noise), x)
    return MIXTURE.denoiser(FLOW)(x, c_noise).x0


TEACHER_FRAME = X0(c_noise=t)
TEACHER = Model(FLOW, TEACHER_FRAME, Network(lambda *_, **__: {}, exact_denoiser))


def flow_map(rule: str, velocity: str = "conditional", pair: str = "ordered", **settings: Any):
    """FlowMap with entries of its catalogues by name."""
    return FlowMap(
        rule=MAP_RULES[rule](**settings.pop("rule_settings", {})),
        velocity=VELOCITIES[velocity](),
        pair=PAIRS[pair](**settings.pop("pair_settings", {})),
        draw=Uniform(importance=False),
        **settings,
    )


def matching(divergence: str) -> Objective:
    return DistributionMatching(
        teacher=TEACHER, divergence=DIVERGENCES[divergence](), critic_steps=CRITIC_STEPS
    )


class Method(NamedTuple):
    """An objective with the model that it trains.

    clip: the largest norm of the gradient. falls: whether the rate falls linearly to 0.
    """

    objective: Objective
    model: Model = MODEL
    clip: float | None = None
    falls: bool = False


ECT = flow_map(
    "discrete",
    pair="ratio",
    pair_settings={"first": 6, "most": 6},
    rule_settings={"gap": False},
    diagonal=0.0,
)
METHODS = {
    "LSD": Method(flow_map("lagrangian", "own")),
    "PSD": Method(flow_map("semigroup")),
    "shortcut": Method(flow_map("semigroup", pair="dyadic", diagonal=0.75)),
    "MeanFlow": Method(flow_map("eulerian")),
    "iMF": Method(flow_map("eulerian", "own")),
    "ECT, k = 6": Method(ECT),
    "MeanFlow, p = 1": Method(flow_map("eulerian", self_weight=1.0)),
    "MeanFlow, clipped": Method(flow_map("eulerian"), clip=1.0),
    "MeanFlow, clipped, label 999 t": Method(flow_map("eulerian"), STEEP, clip=1.0),
    "denoising": Method(Denoising()),
    "DMD": Method(matching("kl")),
    "SiD": Method(matching("fisher")),
}


def consistency(intervals: int) -> Objective:
    return FlowMap(
        rule=MAP_RULES["discrete"](gap=False),
        pair=Neighbours(first=intervals),
        draw=LogNormal(mean=-1.1, std=2.0),
        diagonal=0.0,
    )


CONSISTENCY = {f"N = {n}": Method(consistency(n), KARRAS_MODEL, falls=True) for n in (10, 40)}
"""Consistency training on Gaussian data, by the intervals of its grid."""


@functools.partial(jax.jit, static_argnames=("method", "steps"))
def train(method: Method, data: Any, params: Any, *, seed: int, steps: int) -> Any:
    """The power-function average of the parameters after `steps` of Adam on new draws.

    data: a pytree with `sample(key, n)`, which returns items first. params: the initial ones.
    """
    objective, model, clip, falls = method
    schedule = linear(length=steps, final=0.0) if falls else constant()
    key, descent = stream(seed, "items"), optimizer(adam, 1e-3, 200, schedule, clip=clip)
    step = make_step(model, objective, descent, {"power": Power(0.1)}, seed)
    beside = {name: params["network"] for name in objective.companions}
    held = {name: {"network": {}} for name in objective.loads}

    def one(index: Any, moving: Moving) -> Moving:
        batch = {"x": data.sample(jax.random.fold_in(key, index), BATCH)[0]}
        return step(moving.holding(held), batch)[0].moving

    state = Moving(
        step=jnp.zeros((), jnp.int32),
        params=params | beside,
        ema={"power": params},
        optimizer=descent.init(params | beside),
        loss=objective.init_state(model),
    )
    return jax.lax.fori_loop(0, steps, one, state).ema["power"]


def start(sigma: float = 1.0) -> jax.Array:
    """NUM quantiles of the prior, (NUM, 1)."""
    return sigma * jax.scipy.stats.norm.ppf((jnp.arange(NUM) + 0.5) / NUM)[:, None]


@functools.cache
def exact() -> np.ndarray:
    """X_{1->0} of the quantiles of the prior, which are those of the data, (NUM,)."""
    x, one = start(), jnp.ones(NUM)
    lead = MIXTURE.flow_map(FLOW)
    return np.asarray(jax.jit(lambda x: lead(x, one, to=0 * one).x0)(x)).ravel()


def sampled(denoise: Denoiser, sampler: str, steps: int) -> np.ndarray:
    """Samples from the quantiles of the prior, in equal steps from t = 1 to 0, (NUM,)."""
    table = samplers.SAMPLERS[sampler](FLOW, grids.nested(FLOW, steps))
    keys = jax.random.split(jax.random.key(0), NUM)
    return np.asarray(samplers.run(denoise, table, start(), keys).x).ravel()


def rms(x: np.ndarray) -> float:
    return float(f"{np.sqrt(np.mean(x**2)):.4g}")


def distances(denoise: Denoiser, sampler: str, steps: tuple[int, ...] = NFE) -> dict[str, Any]:
    """By NFE: "map", the RMS distance of samples to the exact map, and "w2", to the data in W2."""
    x = {str(n): sampled(denoise, sampler, n) for n in steps}
    return {
        "map": {n: rms(x[n] - exact()) for n in x},
        "w2": {n: rms(np.sort(x[n]) - np.sort(exact())) for n in x},
    }


def deviation(params: Any, intervals: int) -> dict[str, float]:
    """Deviation of one-step samples over that of the data, with that of DDIM on the same grid."""
    sigma = float(KARRAS.sigma(jnp.asarray(KARRAS.t_max)))
    table = samplers.SAMPLERS["flow_map"](KARRAS, grids.uniform(KARRAS, 1))
    keys = jax.random.split(jax.random.key(0), NUM)
    x = samplers.run(Denoiser(KARRAS_MODEL, params), table, start(sigma), keys).x
    ddim = samplers.SAMPLERS["ddim"](KARRAS, grids.uniform(KARRAS, intervals + 1))
    _, var = samplers.moments(ddim, KARRAS, 0.0, 0.25)
    scale = 0.5 * float(jnp.std(start()))
    return {
        "trained": round(float(jnp.std(x)) / scale, 4),
        "exact": round(2 * float(var) ** 0.5, 4),
    }


@functools.cache
def trained(name: str, seed: int, steps: int) -> Any:
    """The parameters of one method; those of DMD and SiD begin with the denoiser's."""
    method = (METHODS | CONSISTENCY)[name]
    data = GAUSSIAN if name in CONSISTENCY else MIXTURE
    if method.objective.companions:
        params, count = trained("denoising", seed, steps), CRITIC_STEPS * steps // 2
    else:
        params, count = method.model.init(stream(seed, "init"), jnp.zeros((2, 1))), steps
    return train(method, data, params, seed=seed, steps=count)


def measured(name: str, params: Any) -> dict[str, Any]:
    """What the file says of a method, besides its cost."""
    if name in CONSISTENCY:
        return {"deviation": deviation(params, int(name.removeprefix("N = ")))}
    method = METHODS[name]
    denoise = Denoiser(method.model, params)
    if name == "denoising":
        return {k: distances(denoise, k) for k in ("ddim", "dpmpp_2m")}
    if method.objective.companions:
        return {"generator": distances(denoise, "ddim", (1,))}
    steps = (1,) if method is METHODS["ECT, k = 6"] else NFE  # it learns the way to the data alone
    return {"flow_map": distances(denoise, "flow_map", steps)}


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
                began = time.process_time()
                params = jax.block_until_ready(trained(name, seed, steps))
                entry = {"cpu_seconds": round(time.process_time() - began)}
                runs.append(entry | measured(name, params))
                write_text(path, json.dumps(about | {"methods": rows}, indent=1) + "\n")
            progress.advance(1)
    return about | {"methods": rows}


def lines(report: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
    """Distances to the exact map, or in W2 for generators, by method and NFE: one of each seed."""
    shown: dict[str, dict[str, list[float]]] = {}
    for name, runs in report["methods"].items():
        for sampler in [k for k in runs[0] if k not in ("cpu_seconds", "deviation")]:
            alone = sampler == "generator"
            label = f"{sampler} of the denoiser" if name == "denoising" else name
            each = [run[sampler]["w2" if alone else "map"] for run in runs]
            shown[f"{label}, W2" if alone else label] = {n: [v[n] for v in each] for n in each[0]}
    return shown


def tables(folder: Path) -> dict[str, str]:
    """The tables of the README by name."""
    report = json.loads((folder / "few_step.json").read_text())
    cells = lambda values: [over_seeds(values[n]) if n in values else "" for n in map(str, NFE)]
    rows = []
    for name, runs in report["methods"].items():
        if name in CONSISTENCY:
            each = [run["deviation"] for run in runs]
            rows.append([name, *(over_seeds([e[k] for e in each]) for k in ("trained", "exact"))])
    seconds = [
        [name, f"{np.mean([run['cpu_seconds'] for run in runs]):.0f}"]
        for name, runs in report["methods"].items()
    ]
    by_name = {
        "few-step": table(
            ["NFE", *map(str, NFE)], [[k, *cells(v)] for k, v in lines(report).items()]
        ),
        "few-step-cost": table(["method", "CPU seconds of training"], seconds),
    }
    if rows:
        by_name["few-step-consistency"] = table(["grid", "trained", "closed form"], rows)
    return by_name


def draw(report: dict[str, Any], path: Path) -> None:
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=matplotlib.colormaps["tab20"](np.arange(20)))
    for name, values in lines(report).items():
        style = {"linestyle": "--" if "denoiser" in name else "-"}
        style["marker"] = "D" if "W2" in name else "o"
        nfe = [int(n) for n in values]
        axes.loglog(nfe, [np.mean(v) for v in values.values()], label=name, **style)
    axes.set_xticks(NFE, map(str, NFE))
    axes.minorticks_off()
    axes.set_xlabel("network evaluations (NFE)")
    axes.set_ylabel("RMS distance to the exact map")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--out", type=Path, default=Path("experiments/few_step"))
    flags.add_argument("--steps", type=cli.positive, default=4000, help="of training")
    flags.add_argument("--seeds", type=cli.positive, default=1)
    names = [*METHODS, *CONSISTENCY]
    flags.add_argument("--methods", nargs="+", choices=names, default=names)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    report = fill(asked.out / "few_step.json", asked.steps, asked.seeds, asked.methods)
    draw(report, asked.out / "few_step.png")
    for name, text in tables(asked.out).items():
        print(f"{name}\n{text}")


if __name__ == "__main__":
    main()
