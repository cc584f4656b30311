"""Does a text-to-image network draw in a style that it learns from ten drawings?

    python -m experiments.adapters.style --base=runs/emoji --runs=runs/style \\
        --out=experiments/adapters

From a run of `emoji_text`, the config `emoji_style` learns the style `duotone` from ten drawings:
by the vector of one new word alone, and by the word together with an adapter of rank 8. PROMPTS
concepts that are not among the ten are then drawn in the new style, and in an old one. Reports the
mean distance of a pixel to the line between the two colours of the style, in grey levels, and how
far the drawings in the old style are from those of the first network with the same noise. Writes
style.json and style.png. The same command resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax import cli, data, plot
from diffjax.config import Stopped, load, override
from diffjax.data.emoji import DARK, LIGHT
from diffjax.files import write_text
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.trained import Trained
from diffjax.runs.trained import load as load_trained
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import table

FILE, COMMAND, NEW, OLD = "style.json", "experiments.adapters.style", "duotone", "noto"
PROMPTS, SHOWN, STEPS, SEED = 48, 8, 30, 0
FIRST = "first network"
WAYS = {
    "the word": ("adapter=rows:where=words_text", "optimizer.learning_rate=0.005"),
    "word and LoRA, rank 8": (),
}


def concepts() -> list[str]:
    """Return the names of the concepts of the prompts, which are none of the ten."""
    source = data.emoji("test", drawn=NEW)
    chosen = np.linspace(0, len(source) - 1, PROMPTS).astype(int)
    return [row[0].rpartition(",")[0] for row in source.captions(chosen)]


def off_line(x: np.ndarray) -> float:
    """Return the mean distance of the pixels of uint8 images to the line between the two colours.

    >>> round(off_line(np.array([[[DARK, LIGHT, [38, 50, 114]]]], np.uint8)), 1)
    2.7
    """
    begin = np.array(DARK, np.float64)
    along = np.array(LIGHT, np.float64) - begin
    moved = x.reshape(-1, 3) - begin
    share = np.clip(moved @ along / (along @ along), 0, 1)[:, None]
    return float(np.linalg.norm(moved - share * along, axis=1).mean())


def drawn(trained: Trained, style: str) -> np.ndarray:
    """Draw the concepts in a style."""
    prompts = [f"{name}, {style} style" for name in concepts()]
    request = {"prompt": prompts, "steps": STEPS, "guidance": 3.0, "seed": SEED}
    return trained.sample(PROMPTS, batch_size=PROMPTS, **request).x


def trained_by(way: str, base: Path, runs: Path, steps: int | None) -> tuple[Path, int]:
    """Train a way of the style, unless it is done, and return its run and its CPU seconds."""
    changes = (*WAYS[way], f"data.vocabulary={base}")
    if steps:
        lengths = ("steps", "log_every", "checkpoint_every", "sample_every")
        changes = (*changes, *(f"train.{name}={steps}" for name in lengths))
    config, run = override(load("emoji_style"), changes), runs / way.replace(" ", "_")
    began = time.process_time()
    if last_step(run) < config["train"]["steps"]:
        launch(config, run, resume_from=base, command=(COMMAND,))
    return run, round(time.process_time() - began)


def measured(
    trained: Trained, before: np.ndarray | None, new: str
) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Return the measures of a network, and its drawings in the style `new` and in the old one.

    before: the drawings of the first network in the old style, None for that network itself.
    """
    fresh, old = drawn(trained, new), drawn(trained, OLD)
    apart = 0.0 if before is None else float(np.abs(old.astype(int) - before).mean())
    row = {"new": round(off_line(fresh), 2), "old": round(off_line(old), 2)}
    return row | {"apart": round(apart, 2)}, [fresh, old]


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    if not (folder / FILE).exists():
        return {}
    report = json.loads((folder / FILE).read_text())
    lines = []
    for name, row in report["ways"].items():
        cost = [f"{row.get('parameters', 0):,}", str(row.get("cpu_seconds", 0))]
        off = f"{row['new']:.1f}", f"{row['old']:.1f}", f"{row['apart']:.1f}"
        lines.append([name, *off, *cost])
    lines.append(["drawings of the style", f"{report['real']:.1f}", "", "", "", ""])
    heads = ["network", "new style: off the two colours", "old style: off them"]
    heads += ["old style: off the first network", "trained parameters", "CPU seconds"]
    return {"adapters-style": table(heads, lines)}


def study(base: Path, runs: Path, out: Path, steps: int | None = None) -> None:
    """Train, measure and draw all ways."""
    first = load_trained(base)
    row, pictures = measured(first, None, OLD)
    rows, shown, before = {FIRST: row}, {f"{FIRST}: {OLD}": pictures[1]}, pictures[1]
    for way in WAYS:
        run, seconds = trained_by(way, base, runs, steps)
        row, (fresh, old) = measured(load_trained(base, adapters=run), before, NEW)
        shown |= {f"{way}: {NEW}": fresh, f"{way}: {OLD}": old}
        own = load_trained(run).denoise.params["network"]["adapter"]
        count = sum(a.size for a in jax.tree.leaves(own))
        rows[way] = row | {"parameters": count, "cpu_seconds": seconds}
        print(way, rows[way], flush=True)
    source = data.emoji("test", drawn=NEW)
    real = source.x[np.linspace(0, len(source) - 1, PROMPTS).astype(int)]
    shown |= {f"drawings: {NEW}": real}
    report = {"base_steps": first.step, "prompts": PROMPTS, "real": round(off_line(real), 2)}
    report |= {**provenance(), "ways": rows}
    write_text(out / FILE, json.dumps(report, indent=1) + "\n")
    lines = [x[None, :SHOWN] for x in shown.values()]
    plot.save(
        out / "style.png", plot.strips(lines, [*shown], [name[:14] for name in concepts()[:SHOWN]])
    )


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--base", type=Path, default=Path("runs/emoji"), help="run of emoji_text")
    flags.add_argument("--runs", type=Path, default=Path("runs/style"), help="of the ways")
    flags.add_argument("--out", type=Path, default=Path("experiments/adapters"))
    flags.add_argument("--steps", type=cli.positive, help="of each training")
    asked = flags.parse_args()
    for folder in (asked.out, asked.runs):
        folder.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    try:
        study(asked.base, asked.runs, asked.out, asked.steps)
    except Stopped as stopped:
        return interrupted(stopped, COMMAND)
    print(tables(asked.out)["adapters-style"])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
