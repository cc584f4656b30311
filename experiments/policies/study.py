"""Policies in a maze with forks: diffusion in few and many steps, and a regression.

    python -m experiments.policies.study --run=runs/maze --regression=runs/maze_regression

The runs are those of the config `maze`. The regression has the same network and the same training,
at t = 1 alone, where x_t is noise and the best prediction is the mean of the chunks of actions
given the observation; it acts by one step of DDIM. Each policy runs in the same NUM episodes.
`both ways` is the share of episodes, among those whose first move may be horizontal or vertical on
a shortest path, in which it is horizontal; a cell in a corridor, with a shortest path to either end
of it, is none of these. Writes policies.json, paths.png and success.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import cli, plot
from diffjax.arrays import stream
from diffjax.data.kinds import figures
from diffjax.environments import Environment, Episodes, Maze, demonstrate
from diffjax.environments.maze import State
from diffjax.evaluation.policies import policy, rollout, shares
from diffjax.files import write_text
from diffjax.intervals import wilson
from diffjax.runs.trained import Trained, load, resampled
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE = "policies.json"
STEPS, NUM, EXECUTE, SHOWN = (1, 2, 3, 5, 10, 20), 1000, 8, 40
MAZE = Maze()


@dataclass(frozen=True)
class Across(Maze):
    """The maze, always from the top left to the bottom right."""

    def reset(self, key: Any) -> State:
        goal = len(self.graph.centres) - 1
        state = super().reset(key)
        corner = jnp.asarray(self.graph.centres[0], jnp.float32)
        zero = jnp.zeros((), jnp.int32)
        return state._replace(position=corner, start=zero, goal=zero + goal)


def run(trained: Trained, where: Maze, num: int) -> Episodes:
    """Run episodes of the policy with the sampler of its config, and return all states."""
    keys = jax.random.split(stream(0, "study"), num)
    plan, length = trained.experiment.plan(trained.sde), trained.experiment.form.shape[0]
    more = {"shape": (length, 2), "execute": EXECUTE, "path": True}
    ended = rollout(trained.denoise, plan, where, keys, **more)
    return jax.tree.map(np.asarray, ended)


def horizontal(position: np.ndarray, start: np.ndarray, goal: np.ndarray) -> dict[str, Any]:
    """Return the share of horizontal first moves where one of each kind is on a shortest path.

    position: all places (T, N, 2). start, goal: the cells (N,). left: the share of these episodes
    that leave their first cell along a shortest path, which are those that count.
    """
    graph = MAZE.graph
    around = graph.neighbours[start]
    closer = graph.distance[around, goal[:, None]] < graph.distance[start, goal][:, None]
    apart = np.linalg.norm(position[:, :, None] - graph.centres, axis=-1)
    cells = apart.argmin(-1)  # (T, N)
    left = cells != start
    first = np.take_along_axis(cells, left.argmax(0)[None], 0)[0]
    move = (around == first[:, None]) & closer
    both = (closer[:, :2].sum(1) == 1) & (closer[:, 2:].sum(1) == 1)
    counted = both & left.any(0) & move.any(1)
    share = float(move[counted, :2].any(1).mean()) if counted.any() else 0.0
    left_share = float(counted.sum() / max(both.sum(), 1))
    return {"share": share, "interval": wilson(share, int(counted.sum())), "left": left_share}


def expert(where: Environment, num: int) -> dict[str, Any]:
    """Return the shares of success of the expert in the same episodes."""
    keys = jax.random.split(stream(0, "study"), num)
    shown = jax.tree.map(np.asarray, demonstrate(where, keys, steps=where.steps))
    start = jax.vmap(lambda key: where.reset(jax.random.fold_in(key, 0)))(keys)
    ended = Episodes(shown.success, jax.vmap(where.group)(start), shown.length)
    row = shares(ended, where.groups)
    if isinstance(where, Maze):
        place = np.moveaxis(shown.observations[..., :2], 1, 0)
        row["both ways"] = horizontal(place, np.asarray(start.start), np.asarray(start.goal))
    return row


def decision(trained: Trained, plan: Any, calls: int = 30) -> dict[str, float]:
    """Return the median of the seconds of a decision, or of a whole plan, compiled.

    It is for one observation.
    """
    form = trained.experiment.form
    shape, every = (form.shape[0], form.shape[1]), dict(form.units).get("every", 0)
    act = jax.jit(policy(trained.denoise, plan, MAZE, shape, every))
    seen, keys = jnp.zeros((1, MAZE.observation)), jax.random.split(jax.random.key(0), 1)
    times = []
    for _ in range(calls + 1):
        began = time.process_time(), time.perf_counter()
        act(seen, keys).block_until_ready()
        times.append((time.process_time() - began[0], time.perf_counter() - began[1]))
    cpu, wall = np.median(times[1:], 0)
    return {"cpu": float(cpu), "wall": float(wall)}


def measured(ended: Episodes) -> dict[str, Any]:
    """Return the shares of success and of horizontal first moves."""
    states = ended.states
    assert states is not None
    both = horizontal(states.position, states.start[0], states.goal[0])
    return shares(ended, MAZE.groups) | {"both ways": both}


def study(run_of: Path, regression: Path, out: Path, num: int) -> None:
    """Measure every policy, draw paths and write both pictures and the results."""
    trained, mean = load(run_of), load(regression)
    policies: dict[str, Callable[[], Trained]] = {
        f"diffusion, {n} steps": functools.partial(resampled, trained, {"steps": n}) for n in STEPS
    }
    policies["regression"] = lambda: mean
    report: dict[str, Any] = {"trained": trained.step, "episodes": num}
    report["rows"] = {"expert": expert(MAZE, num)}
    for name, make in policies.items():
        began = time.process_time()
        row = measured(run(made := make(), MAZE, num)) | {
            "decision": decision(made, made.experiment.plan(made.sde))
        }
        report["rows"][name] = row | {"seconds": round(time.process_time() - began, 1)}
        print(name, row, flush=True)
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    chosen = {"diffusion": trained, "regression": mean}
    drawn = {k: run(v, Across(), SHOWN) for k, v in chosen.items()}
    plot.save(out / "paths.png", paths(drawn))
    plot.save(out / "success.png", curve(report["rows"]))


def paths(drawn: dict[str, Episodes]) -> np.ndarray:
    """Return a picture of the maze with the paths of the expert and of each policy."""
    from matplotlib.figure import Figure

    keys = jax.random.split(stream(0, "study"), SHOWN)
    shown = jax.tree.map(np.asarray, demonstrate(Across(), keys, steps=64))
    panels = {"expert": (shown.observations[..., :2], shown.success)}
    for name, ended in drawn.items():
        assert ended.states is not None
        panels[name] = (ended.states.position.swapaxes(0, 1), ended.success)
    figure = Figure(figsize=(12, 3.4), dpi=100, layout="constrained")
    for axes, (name, (place, won)) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        walls(axes)
        for path, good in zip(place, won, strict=True):
            axes.plot(*path.T, color="tab:blue" if good else "tab:red", linewidth=0.8, alpha=0.6)
        axes.set(title=f"{name}: {int(won.sum())} of {len(won)}")
    return figures.drawn(figure)


def walls(axes: Any) -> None:
    """Draw the walls of the maze."""
    from matplotlib.patches import Rectangle

    side = MAZE.graph.side
    for x, y in MAZE.graph.walls - side / 2:
        axes.add_patch(Rectangle((x, y), side, side, color="0.6"))
    axes.set(xlim=(-1, 1), ylim=(-7 / 9, 7 / 9), aspect="equal", xticks=[], yticks=[])


def curve(rows: dict[str, Any]) -> np.ndarray:
    """Return a picture of success over the steps of the sampler, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for group in MAZE.groups:
        of = [rows[f"diffusion, {n} steps"] for n in STEPS]
        values = np.array([row[group] for row in of])
        ends = np.array([row["intervals"][group] for row in of]).T
        line = axes.errorbar(STEPS, values, np.abs(ends - values), marker="o", label=group)
        reached = rows["regression"][group]
        colour = line.lines[0].get_color()
        axes.axhline(reached, linestyle=":", color=colour, label=f"{group}, regression")
    axes.set(xscale="log", xlabel="steps of the sampler", ylabel="success", ylim=(0, 1.02))
    axes.set_xticks(STEPS, [str(n) for n in STEPS])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figures.drawn(figure)


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    percent = lambda value, ends: f"{value:.1%} ({ends[0]:.1%} to {ends[1]:.1%})"
    lines = [
        [
            name,
            *(percent(row[k], row["intervals"][k]) for k in ("success", *MAZE.groups)),
            percent(row["both ways"]["share"], row["both ways"]["interval"]),
            f"{1000 * row['decision']['cpu']:.1f}" if "decision" in row else "",
        ]
        for name, row in report["rows"].items()
    ]
    heads = ["", "success", *MAZE.groups, "horizontal first", "CPU ms of a decision"]
    return {"policies": table(heads, lines)}


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--run", type=Path, default=Path("runs/maze"))
    flags.add_argument("--regression", type=Path, default=Path("runs/maze_regression"))
    flags.add_argument("--out", type=Path, default=Path("experiments/policies"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="episodes of each policy")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.run, asked.regression, asked.out, asked.num)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
