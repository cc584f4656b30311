"""Plans of whole episodes in the maze, guided and not, and the policy that pushes a block.

    python -m experiments.policies.planning --plans=runs/maze_plans --policy=runs/maze

The runs are those of the configs `maze_plans`, `maze` and `push`. A plan is sampled given its first
and its last row, as known lanes, and its actions are executed: all of them, or some before the next
plan. All run in the same NUM episodes as the expert and the policy. Guidance by a value, the
gradient of an exact expected toll for being near the middle of the maze, changes the plans alone.
Writes planning.json and plans.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli, plot
from diffjax.arrays import pytree, stream
from diffjax.data.kinds import figures
from diffjax.environments import Environment, Episodes, Push
from diffjax.evaluation.policies import rollout, shares
from diffjax.files import write_text
from diffjax.intervals import wilson
from diffjax.inverse.potentials import Tilted
from diffjax.runs.trained import Trained, load, resampled
from diffjax.samplers.plan import Plan, Sampling
from diffjax.training.workdir import provenance
from experiments.markdown import table
from experiments.policies.study import MAZE, Across, decision, expert, horizontal, walls

FILE, NUM, SHOWN = "planning.json", 1000, 40
ROWS = ((10, 0), (20, 0), (10, 16), (10, 8), (10, 4))
"""Steps of the sampler, and the actions executed before the next plan, 0 for all."""
TOLLS, GUIDED = (0.0, 1.0, 3.0, 10.0), (10, 4)
WIDTH = 0.5
"""The tolls, the steps of the sampler and the actions before the next plan; the width of the toll,
in cells."""


@pytree
@dataclasses.dataclass(frozen=True)
class Toll:
    """The potential of a toll for being near a place: -scale sum over rows of E exp(-d^2 / 2 s^2).

    The expectation is over places that are normal around the predicted ones, with the variance
    rho^2 / (1 + rho^2) that values of variance 1 have at this noise.
    """

    scale: Any
    place: Any
    size: float = dataclasses.field(metadata={"static": True})

    def __call__(self, x0: Any, rho: Any, /) -> Any:
        own = (WIDTH * self.size) ** 2
        wide = own + rho**2 / (1 + rho**2)
        away = jnp.square(x0[..., :2] - self.place[None, None]).sum(-1)
        return -self.scale * (own / wide * jnp.exp(-away / (2 * wide))).sum(-1)


def planned(trained: Trained, steps: int, toll: float = 0.0) -> tuple[Trained, Sampling]:
    """Return the run with so many steps, and its plan of sampling, guided by a toll if there is."""
    trained = resampled(trained, {"steps": steps})
    e = trained.experiment
    plan = e.plan(trained.sde, known=(0, e.form.shape[0] - 1))
    if toll:
        assert isinstance(plan, Plan)
        middle = jnp.asarray(MAZE.graph.centres[_middle()] / MAZE.scale, jnp.float32)
        value = Toll(jnp.asarray(toll), middle, MAZE.graph.side / MAZE.scale)
        plan = dataclasses.replace(plan, guidance=Tilted(value, plan.guidance))
    return trained, plan


def _middle() -> int:
    return int(np.abs(MAZE.graph.centres).sum(1).argmin())


def run(
    trained: Trained, plan: Any, where: Environment, num: int, execute: int, name: str = "study"
) -> Episodes:
    """Run episodes of a policy or of whole plans, and return all states."""
    form = trained.experiment.form
    every = dict(form.units).get("every", 0)
    more = {"shape": form.shape, "every": every, "path": True}
    more |= {"execute": execute or (form.shape[0] - 1) * every}
    keys = jax.random.split(stream(0, name), num)
    return jax.tree.map(np.asarray, rollout(trained.denoise, plan, where, keys, **more))


def measured(ended: Episodes) -> dict[str, Any]:
    """Return the shares of success, of horizontal first moves, and of a choice past the middle."""
    states = ended.states
    assert states is not None
    row = shares(ended, MAZE.groups)
    row["both ways"] = horizontal(states.position, states.start[0], states.goal[0])
    return row | {"middle": _passed(states)}


def _passed(states: Any) -> dict[str, Any]:
    """Return the share of episodes past the middle, where some of the shortest paths are."""
    graph, start, goal, middle = MAZE.graph, states.start[0], states.goal[0], _middle()
    way = graph.distance[start, middle] + graph.distance[middle, goal]
    through = graph.paths[start, middle] * graph.paths[middle, goal]
    shortest = way == graph.distance[start, goal]
    choice = shortest & (through < graph.paths[start, goal]) & (start != middle) & (goal != middle)
    near = np.linalg.norm(states.position - graph.centres[middle], axis=-1) < graph.side / 2
    share = float(near.any(0)[choice].mean()) if choice.any() else 0.0
    return {"share": share, "interval": wilson(share, int(choice.sum()))}


def study(plans: Path, chunks: Path, push: Path | None, out: Path, num: int) -> None:
    """Measure all rows, draw plans and write the results."""
    trained, other = load(plans), load(chunks)
    rows: dict[str, Any] = {"expert": expert(MAZE, num)}
    rows["policy"] = measured(run(other, other.experiment.plan(other.sde), MAZE, num, 8))
    for steps, execute in ROWS:
        one, plan = planned(trained, steps)
        name = f"plans, {steps} steps, {f'again after {execute}' if execute else 'once'}"
        row = measured(run(one, plan, MAZE, num, execute))
        rows[name] = row | {"decision": decision(one, plan)}
        print(name, rows[name], flush=True)
    tolls = {}
    for toll in TOLLS:
        tolls[f"{toll:g}"] = measured(run(*planned(trained, GUIDED[0], toll), MAZE, num, GUIDED[1]))
        print("toll", toll, tolls[f"{toll:g}"], flush=True)
    report = {"trained": trained.step, "episodes": num, "rows": rows, "tolls": tolls}
    if push:
        pushed = load(push)
        ended = run(pushed, pushed.experiment.plan(pushed.sde), Push(), num, 8)
        report["push"] = {"expert": expert(Push(), num), "policy": shares(ended, Push.groups)}
        print(report["push"], flush=True)
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    plot.save(out / "plans.png", picture(trained))


def picture(trained: Trained) -> np.ndarray:
    """Draw episodes from corner to corner by whole plans, without and with the largest toll."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.4), dpi=100, layout="constrained")
    for axes, toll in zip(figure.subplots(1, 2), (0.0, TOLLS[-1]), strict=True):
        ended = run(*planned(trained, GUIDED[0], toll), Across(), SHOWN, GUIDED[1])
        assert ended.states is not None
        walls(axes)
        for path, good in zip(ended.states.position.swapaxes(0, 1), ended.success, strict=True):
            axes.plot(*path.T, color="tab:blue" if good else "tab:red", linewidth=0.8, alpha=0.6)
        name = f"toll of {toll:g} in the middle" if toll else "plans"
        axes.set(title=f"{name}: {int(ended.success.sum())} of {SHOWN}")
    return figures.drawn(figure)


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    report = json.loads((folder / FILE).read_text())
    percent = lambda value, ends: f"{value:.1%} ({ends[0]:.1%} to {ends[1]:.1%})"
    of = lambda row, k: percent(row[k], row["intervals"][k])
    both = lambda row, k: percent(row[k]["share"], row[k]["interval"])
    groups = ("success", *MAZE.groups)
    lines = [
        [
            name,
            *(of(row, k) for k in groups),
            both(row, "both ways"),
            _steps(row),
            f"{1000 * row['decision']['cpu']:.0f}" if "decision" in row else "",
        ]
        for name, row in report["rows"].items()
    ]
    heads = ["", *groups, "horizontal first", "steps", "CPU ms of a plan"]
    tolls = [
        [toll, of(row, "success"), both(row, "middle"), _steps(row)]
        for toll, row in report["tolls"].items()
    ]
    made = {
        "planning": table(heads, lines),
        "tolls": table(["toll", "success", "past the middle", "steps"], tolls),
    }
    if "push" in report:
        of_push = [
            [name, *(of(row, k) for k in ("success", *Push.groups)), _steps(row)]
            for name, row in report["push"].items()
        ]
        made["push"] = table(["", "success", *Push.groups, "steps"], of_push)
    return made


def _steps(row: dict[str, Any]) -> str:
    """Return the mean number of steps to the goal, empty where no episode reaches it."""
    return "" if row["length"] is None else f"{row['length']:.1f}"


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--plans", type=Path, default=Path("runs/maze_plans"))
    flags.add_argument("--policy", type=Path, default=Path("runs/maze"))
    flags.add_argument("--push", type=Path, help="the run that pushes a block (default: none)")
    flags.add_argument("--out", type=Path, default=Path("experiments/policies"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="episodes of each row")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.plans, asked.policy, asked.push, asked.out, asked.num)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
