"""Does a network draw what a prompt says? The rank of the true image, by the length of training.

    python -m experiments.text.study pixels --run=runs/emoji_text
    python -m experiments.text.study latents --run=runs/emoji_latent_text
    python -m experiments.text.study pixels --run=runs/emoji --steps 200 --num=32

The config `emoji_text`, or `emoji_latent_text`, is trained to each of STEPS in turn. Samples are
then drawn for captions of three groups of images: held-out pairs of a concept and a style, pairs
that training has seen, and seen pairs by the list of their tags, a paraphrase. All images of the
style are sorted by their distance to the sample in pixels: the rank of the true image is 1 for a
network that draws it, and half their number for one that ignores its prompts. After the last step
the guidance weight is varied on held-out pairs, and PROMPTS are drawn and timed. Writes
pixels.json, or latents.json, of which what is there is neither trained nor measured again, and
pictures. After an interruption the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import cli, data, plot
from diffjax.config import Stopped, load, override
from diffjax.data.emoji import STYLES
from diffjax.data.source import Memory
from diffjax.evaluation.retrieval import ranks, summary
from diffjax.files import write_text
from diffjax.runs.launch import interrupted, launch
from diffjax.runs.trained import Trained
from diffjax.runs.trained import load as load_trained
from diffjax.training.workdir import last_step, provenance
from experiments.markdown import table

CONFIGS = {"pixels": "emoji_text", "latents": "emoji_latent_text"}
"""The config of each space in which a network draws."""
COMMAND = "experiments.text.study"
STEPS = {"pixels": (2000, 8000, 12_000), "latents": (2000, 4000)}
"""The steps after which each network is measured."""
GROUPS = {
    "held-out pairs": ("test", 0),
    "seen pairs": ("train", 0),
    "seen pairs, by tags": ("train", -1),
}
"""Groups of images: their split, and which of their captions is the prompt."""
WEIGHTS, WEIGHT = (1.0, 2.0, 3.0, 5.0), 3.0
NUM, ROWS, BATCH, SHOWN, WANTED = 325, 15, 65, 8, 40
"""Samples of a group, rows of the sampler, samples drawn together and shown, and the rank that was
wanted of held-out pairs."""
PROMPTS = (
    *("watermelon, twemoji style", "doughnut, fluent style", "carrot, twemoji style"),
    *("castle, noto style", "frog, twemoji style", "rose, noto style", "tiger, twemoji style"),
    *("purple heart, fluent style", "rocket, fluent style", "banana, noto style"),
    *("house, noto style", "Christmas tree, twemoji style", "snowman, twemoji style"),
    *("red circle, noto style", "volleyball, twemoji style", "fire, twemoji style"),
)
"""Captions of held-out pairs: no network has seen these concepts in these styles."""


def chosen(source: Memory, num: int, which: int) -> tuple[np.ndarray, list[str]]:
    """Return the indices of at most `num` items, evenly spread, and caption `which` of each."""
    index = np.linspace(0, len(source) - 1, min(num, len(source))).astype(int)
    return index, [captions[which] for captions in source.captions(index)]


def drawn(trained: Trained, prompts: Sequence[str], weight: float) -> np.ndarray:
    """Draw one sample for each prompt."""
    request: dict[str, Any] = {"prompt": [*prompts], "steps": ROWS, "guidance": weight}
    return trained.sample(len(prompts), batch_size=min(BATCH, len(prompts)), **request).x


def measured(
    trained: Trained, group: str, weight: float, num: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the ranks of true images in a group, and some of its true images above samples."""
    split, which = GROUPS[group]
    source, every = data.emoji(split), [data.emoji("train"), data.emoji("test")]
    index, prompts = chosen(source, num, which)
    x = drawn(trained, prompts, weight)
    rank = np.zeros(len(index), int)
    for style in range(len(STYLES)):
        of_style = source.labels()[index] == style
        candidates = np.concatenate([s.x[s.labels() == style] for s in every])
        flat = lambda a: a.reshape(len(a), -1)
        true = flat(source.x[index[of_style]])
        rank[of_style] = ranks(flat(x[of_style]), true, flat(candidates))
    spread = np.linspace(0, len(index) - 1, min(SHOWN, len(index))).astype(int)
    rows = {"true": source.x[index[spread]][None], "drawn": x[spread][None]}
    titles = [prompts[k].rpartition(",")[0][:18] for k in spread]
    picture = plot.strips([*rows.values()], [*rows], titles)
    return summary(rank) | {"count": len(index), "of": len(candidates)}, picture


def seconds_per_step(run: Path, batch: int) -> float:
    """Return the seconds of a training step at the median throughput of a run."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    rates = [line["images_per_s"] for line in lines if "images_per_s" in line]
    return batch / float(np.median(rates))


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    lines, rows = [], []
    for space in CONFIGS:
        if not (path := folder / f"{space}.json").exists():
            continue
        report = json.loads(path.read_text())
        for step, row in report["steps"].items():
            found = [f"{row['groups'][g]['median']:,.0f}" for g in GROUPS]
            tenth = [f"{row['groups'][g]['found']:.0%}" for g in GROUPS]
            images, cost = int(step) * report["batch"], int(step) * report["seconds_per_step"]
            lines.append([space, step, f"{images:,}", f"{cost:,.0f}", *found, *tenth])
        for weight, r in report["guidance"].items():
            quartiles = f"{r['low']:.0f} to {r['high']:.0f}"
            rows.append([space, weight, f"{r['median']:.0f}", quartiles, f"{r['found']:.0%}"])
    heads = ["space", "steps", "images", "seconds", *(f"{g}: median rank" for g in GROUPS)]
    ranks = table([*heads, *(f"{g}: first ten" for g in GROUPS)], lines)
    heads = ["space", "guidance weight", "median rank", "quartiles", "first ten"]
    return {"text-ranks": ranks, "text-guidance": table(heads, rows)}


class Report:
    """What is measured so far, in a file that each new part is written to at once."""

    def __init__(self, path: Path):
        self._path = path
        there = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.found: dict[str, Any] = {"steps": {}, "guidance": {}} | there

    def write(self) -> None:
        write_text(self._path, json.dumps(self.found | provenance(), indent=1) + "\n")


def study(space: str, run: Path, out: Path, steps: Sequence[int], num: int) -> None:
    """Train and measure what is not measured yet, in the order of the steps."""
    config, report = load(CONFIGS[space]), Report(out / f"{space}.json")
    batch = config["train"]["batch_size"]
    for step in steps:
        row = report.found["steps"].setdefault(str(step), {"groups": {}})
        if not (missing := [g for g in GROUPS if g not in row["groups"]]):
            continue
        if last_step(run) < step:
            launch(override(config, [f"train.steps={step}"]), run, command=(COMMAND,))
        trained = load_trained(run)
        if trained.step != step:
            raise SystemExit(f"{run}: is at step {trained.step}; needs {step}, or a new --run")
        report.found |= {"batch": batch, "seconds_per_step": seconds_per_step(run, batch)}
        for group in missing:
            row["groups"][group], picture = measured(trained, group, WEIGHT, num)
            name = group.replace(",", "").replace(" ", "_")
            plot.save(out / f"{space}_{name}.png", picture)
            print(step, group, row["groups"][group], flush=True)
            report.write()
    last = load_trained(run)
    if report.found.get("last") != last.step:  # what was measured of fewer steps
        report.found |= {"last": last.step, "guidance": {}}
        report.found.pop("prompts", None)
    for weight in WEIGHTS:
        if str(weight) not in report.found["guidance"]:
            found = measured(last, "held-out pairs", weight, num)[0]
            report.found["guidance"][str(weight)] = found
            print(weight, found, flush=True)
            report.write()
    if "prompts" not in report.found:
        began = time.monotonic()
        made = last.sample(len(PROMPTS), prompt=[*PROMPTS], guidance=WEIGHT)
        seconds = round(time.monotonic() - began, 1)
        report.found["prompts"] = {"count": len(PROMPTS), "seconds": seconds}
        plot.save(out / f"{space}_prompts.png", made.picture())
        report.write()


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument(
        "space", nargs="?", choices=[*CONFIGS], default="pixels", help="of the network"
    )
    flags.add_argument(
        "--run", type=Path, help="to train, or resume; by default that of the config"
    )
    flags.add_argument("--out", type=Path, default=Path("experiments/text"))
    flags.add_argument("--steps", type=cli.positive, nargs="+", help="by default STEPS")
    flags.add_argument("--num", type=cli.positive, default=NUM, help="samples of each group")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    try:
        run = asked.run or Path("runs", CONFIGS[asked.space])
        study(asked.space, run, asked.out, asked.steps or STEPS[asked.space], asked.num)
    except Stopped as stopped:
        return interrupted(stopped, COMMAND)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
