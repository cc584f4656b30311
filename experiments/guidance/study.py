"""What do weight, interval, rules and references of guidance buy, and what do they cost?

    python -m experiments.guidance.study --out=experiments/guidance

Two moons that overlap, where p(x), p(x | class) and p(class | x) are known: samples guided by exact
scores, and by a small trained network, against the conditional law and against the tilted one,
p(x | class) p(class | x)^(w - 1). Writes plane.json and guidance.png into the folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffjax import cli
from diffjax.analytic import Mixture
from diffjax.files import write_text
from diffjax.guidance import APG, CFGZero, Guidance, Guided, OtherNetwork, Rescale
from diffjax.nets import NETWORKS
from diffjax.nets.conditions import Label
from diffjax.objectives import Denoising
from diffjax.parameterization import V
from diffjax.prediction import Prediction
from diffjax.progress import Progress
from diffjax.schedules import Cosine
from diffjax.sde import SDE, VP, levels
from diffjax.training.workdir import provenance
from experiments import plane
from experiments.markdown import number, over_seeds, table
from experiments.recipes import Training, recipe, train

NOISE = 0.25
WEIGHTS = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0)
INTERVAL = (0.2, 5.0)
"""Of sigma / alpha: where the rows marked `interval` are guided."""
GUIDED = 2.0
"""The weight at which rules and references are compared."""
PIXELS, EDGE = 600, 4.0
"""Of the grid on which tilted laws are drawn."""
SHOWN = ("exact, w = 1", "exact, w = 2", "exact, w = 5", "network, w = 1", "network, w = 2")
SHOWN_LAST = "network, autoguidance, w = 2"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Classes:
    """The exact denoiser of `data`, whose part k is of class `of[k]`; label -1: of all classes."""

    data: Mixture
    of: Any
    sde: SDE = field(default=plane.PROCESS, metadata={"static": True})

    def logs(self, x: Any, t: Any) -> Any:
        """log p(class, x_t), (B, classes)."""
        logp = self.data.components(self.sde, x, t)[0]
        own = [jnp.where(self.of[None] == c, logp, -jnp.inf) for c in (0, 1)]
        return jnp.stack([jax.nn.logsumexp(a, axis=1) for a in own], 1)

    def __call__(self, x: Any, t: Any, cond: Any = None, *, key: Any = None) -> Prediction:
        logp, x0, eps = self.data.components(self.sde, x, t)
        label = cond["label"][:, None] if cond else -1
        asked = (label < 0) | (self.of[None] == label)
        share = jax.nn.softmax(jnp.where(asked, logp, -jnp.inf), axis=1)
        mean = lambda views: jnp.einsum("bk,bk...->b...", share, views)
        return Prediction(mean(x0), mean(x0), mean(eps))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Labelled:
    """Draws of `data` with the class of their part."""

    data: Mixture
    of: Any

    def sample(self, key: Any, n: int) -> tuple[Any, Any]:
        x, part = self.data.sample(key, n)
        return x, self.of[part]


class Study:
    """The data, what is sampled, and what samples of class 0 are compared with."""

    def __init__(self, num: int, steps: int):
        self.num, self.data = num, plane.moons(NOISE, 32)
        self.of = jnp.arange(self.data.weight.size) // (self.data.weight.size // 2)
        self.exact = Classes(self.data, self.of)
        told = recipe(VP(Cosine(), t_max=0.995), V(), Denoising(), plane.deviation(self.data))
        self.made = {
            name: train(told, Labelled(self.data, self.of), 0, count, how)
            for name, count, how in (
                ("network", steps, Training(_mlp(48, 2), dropout=0.1)),
                ("weak", steps // 4, Training(_mlp(12, 1), dropout=0.1)),
            )
        }
        self.axis = (np.arange(PIXELS) + 0.5) / PIXELS * 2 * EDGE - EDGE
        points = np.stack(np.meshgrid(self.axis, self.axis, indexing="ij"), -1).reshape(-1, 2)
        self.logs = np.asarray(self.exact_logs(points), np.float64)
        draws = self.conditional(1)
        self.low = np.quantile(self.exact_logs(draws)[:, 0], 0.01)
        self.spread = np.sqrt(draws.var(axis=0).sum())

    def exact_logs(self, x: np.ndarray) -> np.ndarray:
        """log p(class, x) of the noised data at t_min, (N, 2), in parts that fit into memory."""
        t, ask = plane.PROCESS.t_min, jax.jit(self.exact.logs)
        parts = np.array_split(np.asarray(x, np.float32), max(1, len(x) // 4000))
        made = [ask(jnp.asarray(p), jnp.full(len(p), t)) for p in parts]
        return np.concatenate([np.asarray(a) for a in made])

    def conditional(self, seed: int) -> np.ndarray:
        """Exact draws of class 0."""
        own = Mixture(
            self.data.weight[self.of == 0] * 2,
            *(a[self.of == 0] for a in (self.data.mean, self.data.var)),
        )
        return plane.exact_draws(own, self.num, seed)

    def tilted(self, weight: float, seed: int) -> np.ndarray:
        """Draws of p(x | class 0) p(class 0 | x)^(weight - 1), up to a pixel of the grid."""
        rng = np.random.default_rng(seed)
        total = np.logaddexp(*self.logs.T)
        logp = weight * self.logs[:, 0] + (1 - weight) * total
        share = np.exp(logp - logp.max())
        index = rng.choice(len(share), self.num, p=share / share.sum())
        corner = np.stack(np.unravel_index(index, (PIXELS, PIXELS)), 1)
        return (corner + rng.random((self.num, 2))) / PIXELS * 2 * EDGE - EDGE

    def cells(self) -> Iterator[tuple[str, Any, Guidance, float, bool]]:
        """Name, denoiser, guidance, weight, and whether only the interval is guided."""
        network, plain = self.made["network"], Guided()
        for name, denoise in (("exact", self.exact), ("network", network)):
            for w in WEIGHTS:
                yield f"{name}, w = {w:g}", denoise, plain, w, False
            rules = {"rescale": Rescale(), "APG": APG(), "CFG-Zero": CFGZero()}
            for rule, entry in rules.items():
                yield f"{name}, {rule}, w = {GUIDED:g}", denoise, Guided(rule=entry), GUIDED, False
            for w in (GUIDED, 3.0):
                yield f"{name}, interval, w = {w:g}", denoise, plain, w, True
        for w in (1.5, GUIDED, 3.0):
            auto = Guided(reference=OtherNetwork(self.made["weak"]))
            yield f"network, autoguidance, w = {w:g}", network, auto, w, False
        yield "weak network, w = 1", self.made["weak"], plain, 1.0, False

    def samples(
        self, denoise: Any, guidance: Guidance, weight: float, inside: bool, seed: int
    ) -> np.ndarray:
        rows = plane.table()
        at = levels(plane.PROCESS, rows.t)
        ratio = at.sigma / at.alpha
        guided = (INTERVAL[0] < ratio) & (ratio <= INTERVAL[1]) if inside else ratio > 0
        rows = replace(rows, weight=np.where(guided, weight, 1.0))
        cond = {"label": jnp.zeros(self.num, jnp.int32)}
        return plane.samples(denoise, self.num, seed, table=rows, cond=cond, guidance=guidance)

    def measure(self, x: np.ndarray, weight: float, seed: int) -> dict[str, float]:
        logs = self.exact_logs(x)
        return {
            "right": float((logs[:, 0] > logs[:, 1]).mean()),
            "outside": float((logs[:, 0] < self.low).mean()),
            "spread": float(np.sqrt(x.var(axis=0).sum()) / self.spread),
            "to_conditional": plane.sliced(x, self.conditional(seed + 10)),
            "to_tilted": plane.sliced(x, self.tilted(weight, seed + 10)),
        }


def _mlp(width: int, depth: int) -> Any:
    return NETWORKS["mlp"](width=width, depth=depth, conditions=(Label(2),))


def fill(path: Path, num: int, steps: int, seeds: int) -> tuple[dict[str, Any], Study]:
    """All cells: the networks are trained in seconds, so that nothing is kept."""
    study, rows = Study(num, steps), {}
    cells = [*study.cells()]
    real = [study.measure(study.conditional(s + 20), 1.0, s) for s in range(seeds)]
    with Progress("guidance", len(cells), "cell") as progress:
        for name, denoise, guidance, weight, inside in cells:
            made = [study.samples(denoise, guidance, weight, inside, s) for s in range(seeds)]
            rows[name] = [study.measure(x, weight, s) for s, x in enumerate(made)]
            progress.advance(1)
    report = {"num": num, "steps": steps, "interval": INTERVAL, "real": real, "cells": rows}
    write_text(path, json.dumps(report | provenance()) + "\n")
    return report, study


COLUMNS = {
    "right": "right class",
    "outside": "outside",
    "spread": "spread",
    "to_conditional": "to p(x, given the class)",
    "to_tilted": "to the tilted law",
}


def tables(folder: Path) -> dict[str, str]:
    """Those of README.md, by name, from plane.json."""
    report = json.loads((folder / "plane.json").read_text())

    def line(name: str, rows: list[dict[str, float]]) -> list[str]:
        values = {c: [row[c] for row in rows] for c in COLUMNS}
        percent = lambda v: f"{100 * np.mean(v):.1f} %"
        spread = number(float(np.mean(values["spread"])))
        distances = (over_seeds(values[c], 2) for c in ("to_conditional", "to_tilted"))
        return [name, percent(values["right"]), percent(values["outside"]), spread, *distances]

    made = {}
    for name in ("exact", "network"):
        rows = {k: v for k, v in report["cells"].items() if k.startswith(name)}
        rows |= (
            {"weak network, w = 1": report["cells"]["weak network, w = 1"]}
            if name == "network"
            else {}
        )
        lines = [line(k.removeprefix(f"{name}, "), v) for k, v in rows.items()]
        lines.append(line("exact draws", report["real"]))
        made[f"guidance-{name}"] = table(["samples", *COLUMNS.values()], lines)
    return made


def draw(report: Mapping[str, Any], study: Study, path: Path) -> None:
    """Samples over the exact densities, and the distances against the weight."""
    figure = Figure(figsize=(16, 8), dpi=70, layout="constrained")
    panels = figure.subplots(2, 4)
    shown = [*SHOWN[:3], None, *SHOWN[3:], SHOWN_LAST, None]
    of = {name: (d, g, w, inside) for name, d, g, w, inside in study.cells()}
    density = np.exp(study.logs).reshape(PIXELS, PIXELS, 2)
    for axes, name in zip(panels.flat, shown, strict=True):
        if name is None:
            continue
        for c, colour in ((0, "Blues"), (1, "Oranges")):
            axes.contour(study.axis, study.axis, density[..., c].T, 5, cmap=colour, linewidths=0.8)
        denoise, guidance, weight, inside = of[name]
        x = study.samples(denoise, guidance, weight, inside, 0)[:1500]
        axes.plot(*x.T, ".", color="k", ms=1.5)
        axes.set(title=name, aspect="equal", xlim=(-2.2, 1.8), ylim=(-1.3, 2), xticks=[], yticks=[])
    for axes, kind in ((panels[0, 3], "to_conditional"), (panels[1, 3], "outside")):
        for name, style in (("exact", "o-"), ("network", "s--")):
            rows = [report["cells"][f"{name}, w = {w:g}"] for w in WEIGHTS[1:]]
            axes.plot(
                WEIGHTS[1:], [np.mean([r[kind] for r in row]) for row in rows], style, label=name
            )
        rows = {w: report["cells"][f"network, autoguidance, w = {w:g}"] for w in (1.5, 2.0, 3.0)}
        axes.plot(
            list(rows),
            [np.mean([r[kind] for r in row]) for row in rows.values()],
            "^:",
            label="network, autoguidance",
        )
        axes.axhline(
            np.mean([r[kind] for r in report["real"]]), color="0.5", ls=":", label="exact draws"
        )
        axes.set(xlabel="weight", title=COLUMNS[kind])
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--steps", type=int, default=1000, help="of training of the network")
    flags.add_argument("--num", type=int, default=4096, help="samples of a cell")
    flags.add_argument("--seeds", type=int, default=3, help="of samples")
    given = flags.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    report, study = fill(given.out / "plane.json", given.num, given.steps, given.seeds)
    draw(report, study, given.out / "guidance.png")
    for name, text in tables(given.out).items():
        print(f"\n{name}\n\n{text}")


if __name__ == "__main__":
    main()
