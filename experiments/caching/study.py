"""Is reusing parts of a network better than fewer rows of a better sampler, at equal cost?

    python -m diffjax.train --config=configs/emoji_text.py --workdir=runs/emoji
    python -m experiments.caching.study --workdir=runs/emoji --out=experiments/caching

Prompts are drawn by a DiT from fixed noise, with guidance, and compared with the limit of many rows
from the same noise. The unit of cost is one guided row, a conditional and an unconditional pass
through all blocks. Block caching runs the first blocks in each row and the others in every second
row; in between it reuses what the others have added. Guidance caching reuses the direction of
guidance in every second row (`guidance.Cached`). Reusing the whole output in every second row of
DDIM is DDIM on every second time, exactly (tests/test_caching_study.py), so that it needs no row of
its own. Writes caching.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import pytree, stream
from diffjax.files import write_text
from diffjax.generation.program import generate
from diffjax.guidance.base import Around, Guidance, everywhere
from diffjax.guidance.query import Answer, Memory, Query, Weight
from diffjax.nets.dit import KEYS, DiT
from diffjax.runs.trained import Trained, load
from diffjax.samplers.plan import Plan
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, SEED, LIMIT = "caching.json", 0, ("unipc", 150)
WEIGHT, BUDGETS, KEPT = 3.0, (6, 12, 24), (2, 3)
"""The weight of guidance, guided rows to spend, and numbers of blocks that run in every row."""
ROWS = 36
"""The largest number of rows beside those of the limit."""
PROMPTS = (
    *("red apple, noto style", "cat, fluent style", "blue book, twemoji style"),
    *("green heart, noto style", "sun, fluent style", "tree, twemoji style"),
    *("pizza, noto style", "fish, fluent style"),
)


class Cut(DiT):
    """A DiT whose last blocks either run, and keep what they add, or add what they kept.

    kept: the number of first blocks, which run always. fresh: whether the others run.
    """

    kept: int = 1
    fresh: bool = True

    def _blocks(self, h: Any, tokens: Any, *context: Any, extra: Any = None) -> Any:
        streams, _ = self._loop("begin", self.kept, (h, tokens), None, *context)
        x = streams[0]
        added = self.variable("cache", "added", lambda: jnp.zeros_like(x))
        if self.fresh:
            depth = self.depth - self.kept
            streams, _ = self._loop("rest", depth, streams, None, *context)
            added.value = streams[0] - x
        return x + added.value


@pytree
@dataclass(frozen=True)
class Blocks(Around):
    """Guidance whose network runs all blocks in every second row, and the first ones in each.

    A static schedule: the row decides, so that all samples of a batch run the same blocks. module:
    of the network. parts: the passes of a guided row, each of the batch.
    """

    inside: Guidance
    module: Any = field(metadata={"static": True})
    kept: int = field(metadata={"static": True})
    tokens: int = field(metadata={"static": True})
    every: int = field(default=2, metadata={"static": True})
    parts: int = field(default=2, metadata={"static": True})

    def init(self, x: Any) -> Memory:
        width = self.module.settings.width
        added = jnp.zeros((len(x), self.parts, self.tokens, width), x.dtype)
        return jnp.zeros(len(x), jnp.int32), added, self.inside.init(x)

    def __call__(self, query: Query, weight: Weight, memory: Memory) -> Answer:
        row, added, inner = memory

        def ask(fresh: bool) -> tuple[Any, Any, Any]:
            before = added.swapaxes(0, 1).reshape(-1, *added.shape[2:])
            denoise, after = self._by(cast(Any, query.denoise), before, fresh)
            answer, memory = self.inside(query.by(denoise), weight, inner)
            new = after[0].reshape(self.parts, len(query.x), *added.shape[2:])
            return answer, new.swapaxes(0, 1), memory

        due = everywhere(row % self.every == 0)
        answer, new, inner = jax.lax.cond(due, lambda: ask(True), lambda: ask(False))
        return answer, (row + 1, new, inner)

    def _by(self, denoise: Any, added: Any, fresh: bool) -> tuple[Any, list[Any]]:
        """Return the denoiser with such a network, and the list to which it adds its memory."""
        own = {name: getattr(self.module, name) for name in NAMES}
        module, after = Cut(**own, kept=self.kept, fresh=fresh), []

        def apply(params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None) -> Any:
            stacks = [k for k in params if k in ("blocks", f"blocks{KEYS}")]
            halves = {
                name.replace("blocks", half): jax.tree.map(lambda a, at=at: a[at], params[name])
                for name in stacks
                for half, at in (("begin", slice(self.kept)), ("rest", slice(self.kept, None)))
            }
            own = {k: v for k, v in params.items() if k not in stacks} | halves
            state = {"params": own, "cache": {"added": added}}
            out, changed = module.apply(state, x, c_noise, cond, mutable=["cache"])
            after.append(changed["cache"]["added"])
            return out

        network = replace(denoise.model.network, apply=apply)
        return replace(denoise, model=replace(denoise.model, network=network)), after


NAMES = tuple(name for name in DiT.__dataclass_fields__ if name not in ("parent", "name"))


def cost(kept: int, depth: int, rows: int) -> float:
    """Return the cost of block caching in every second row, in rows; patches are not counted.

    >>> cost(2, 6, 9)
    6.333333333333333
    """
    fresh = -(-rows // 2)
    return fresh + (rows - fresh) * kept / depth


def rows_for(budget: int, cost_of: Callable[[int], float]) -> int:
    """Return the largest number of rows whose cost is not above the budget."""
    return max(n for n in range(1, 4 * budget) if cost_of(n) <= budget + 1e-9)


class Study:
    """Samples of one run, from fixed noise for fixed prompts."""

    def __init__(self, trained: Trained):
        self.trained = trained
        self.form = trained.experiment.form
        self.module = cast(Any, trained.denoise).model.network.apply.module
        self.limit = self.samples(*LIMIT)

    def plan(self, sampler: str, rows: int, **guidance: Any) -> tuple[Plan, Any]:
        guided = {"weight": WEIGHT, **guidance}
        job = self.trained.job(prompt=list(PROMPTS), sampler=sampler, steps=rows, guidance=guided)
        return cast(Plan, job.plan), job.cond

    def samples(self, sampler: str, rows: int, kept: int = 0, **guidance: Any) -> np.ndarray:
        """Return the samples (B, H, W, C) of a sampler. kept: first blocks of block caching."""
        plan, cond = self.plan(sampler, rows, **guidance)
        if kept:
            tokens = (self.form.shape[0] // self.module.patch) ** 2
            inside = plan.guidance.steady()
            plan = replace(plan, guidance=Blocks(inside, self.module, kept, tokens))
        # Tables of one length are one program.
        plan = replace(plan, table=plan.table.pad(max(rows, ROWS)))
        cond = {k: jnp.asarray(v) for k, v in cond.items()}
        key, index = stream(SEED, "sample"), jnp.arange(len(PROMPTS))
        denoise = self.trained.denoise
        return np.asarray(generate(denoise, plan, key, index, cond, shape=self.form.shape).x)

    def error(self, samples: np.ndarray) -> float:
        """Return the root mean square of the difference from the limit, in grey levels."""
        return float(np.sqrt(np.mean((samples - self.limit) ** 2)) * 127.5)

    def methods(self) -> dict[str, dict[str, Any]]:
        """Return the rows and the error of each method, by budget."""
        depth, found = self.module.depth, {}
        for budget in BUDGETS:
            for sampler in ("ddim", "dpmpp_2m", "unipc"):
                found[f"{sampler} {budget}"] = (budget, self.samples(sampler, budget))
            for sampler in ("ddim", "dpmpp_2m"):
                rows = rows_for(budget, lambda n: 0.5 * n + 0.5 * -(-n // 2))
                cached = {"name": "cached", "every": 2}
                x = self.samples(sampler, rows, reference=cached)
                found[f"{sampler}, guidance every second row {budget}"] = (rows, x)
                for kept in KEPT:
                    rows = rows_for(budget, lambda n, k=kept: cost(k, depth, n))
                    x = self.samples(sampler, rows, kept)
                    name = f"{sampler}, {kept} of {depth} blocks every row"
                    found[f"{name} {budget}"] = (rows, x)
        return {k: {"rows": rows, "error": self.error(x)} for k, (rows, x) in found.items()}


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README, none without the file: short settings leave it out."""
    if not (folder / FILE).exists():
        return {}
    report = json.loads((folder / FILE).read_text())
    cells: dict[str, list[str]] = {}
    for key, row in report["methods"].items():
        name, _, _ = key.rpartition(" ")
        cells.setdefault(name, []).append(f"{row['error']:.2f} ({row['rows']} rows)")
    heads = ["sampler and cache", *(f"cost of {n} guided rows" for n in report["about"]["budgets"])]
    return {"caching": table(heads, [[name, *cells[name]] for name in sorted(cells)])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    study = Study(load(args.workdir))
    about = {"budgets": BUDGETS, "weight": WEIGHT, "limit": LIMIT, "step": study.trained.step}
    limit = study.error(study.samples("dpmpp_2m", LIMIT[1]))
    report = {"about": about, **provenance(), "of the limit": limit, "methods": study.methods()}
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / FILE, json.dumps(report, indent=1) + "\n")
    print(tables(args.out)["caching"])


if __name__ == "__main__":
    main()
