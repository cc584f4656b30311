"""One network for the joint distribution of clips and classes: which of its four laws hold?

    python -m diffjax.train --config=configs/moving_digits_joint.py --workdir=runs/joint_clips \\
        --resume_from=zoo:moving_digits --resume_partial
    python -m experiments.joint.clips --run=runs/joint_clips --out=experiments/joint

Classes are drawn for held-out clips of moving digits, clips for classes, both together or one after
the other, and clips alone, whose cards stay noise. The classes of held-out clips are known; what
clips show is read by the judge of frames, and their paths are compared with ones that bounce, as in
experiments/video. Clips of classes are also guided by the network's own marginal. Writes clips.json
and clips.png.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import diffjax
from diffjax import cli, data, plot
from diffjax.data.joint_clips import Card
from diffjax.evaluation import Real
from diffjax.evaluation.clips import judge_of_frames, predicted
from diffjax.files import write_text
from diffjax.training.workdir import provenance
from experiments.joint.study import Laws, stored
from experiments.markdown import table
from experiments.video.study import judged

FILE, PICTURE = "clips.json", "clips.png"
NUM, HELD_OUT, REAL, STEPS, BATCH = 100, 500, 2000, 20, 50
"""Clips of each law, held-out clips whose classes are drawn, real clips of each split, steps of the
sampler, and samples at once."""
WEIGHTS = (1.0, 2.0, 3.0)
"""Weights of guidance by the network's own marginal."""
LAWS = {
    "class of a clip": "label of an image",
    "clip of a class": "image of a label",
    "both": "both",
    "both, the class first": "both, the label first",
    "clip alone": "image alone",
}
"""The laws of clips by the names of those of images."""
SHOWN = 2
"""Samples of each law in the picture."""


def measured(
    laws: Laws, judge: Any, clips: data.Memory, num: int
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the numbers of all laws, and the clips with cards of each.

    clips: held-out ones, whose classes are drawn. num: the number of samples of the other laws.
    """
    card, rows, shown = laws.pair, {}, {}
    asked = np.arange(num) % card.classes
    blank = card.pack(np.zeros((num, *card.shape)), asked)

    def one(name: str, law: str, items: np.ndarray, weight: float = 1.0) -> np.ndarray:
        begin = time.process_time()
        x = laws.draw(LAWS[law], items, weight)
        rows[name] = {"count": len(x), "seconds": round(time.process_time() - begin, 1)}
        shown[name] = stored(x[:SHOWN])
        return x

    known = card.pack(clips.x / 127.5 - 1, np.zeros(len(clips), int))
    x = one("class of a clip", "class of a clip", known)
    rows["class of a clip"]["right"] = float((card.labels(x) == clips.label).mean())
    print(json.dumps(rows), flush=True)
    for name, law, weight in (
        *((_guided(weight), "clip of a class", weight) for weight in WEIGHTS),
        *((law, law, 1.0) for law in ("both", "both, the class first", "clip alone")),
    ):
        x = one(name, law, blank, weight)
        label = asked if law == "clip of a class" else card.labels(x)
        found = judged(judge, stored(card.images(x)), label)
        left = ("kept_at_the_end", "kept_throughout") if law == "clip alone" else ()
        rows[name] |= {k: v for k, v in found.items() if k not in left}
        print(name, rows[name], flush=True)
    return rows, shown


def _guided(weight: float) -> str:
    return "clip of a class" + ("" if weight == 1 else f", weight {weight:g}")


def of_judge(judge: Any, clips: data.Memory) -> dict[str, float]:
    """Return what the judge of frames says of held-out clips.

    `right` is the share of clips whose class most of their frames have.
    """
    seen = predicted(judge, clips.x)
    most = np.array([np.bincount(row).argmax() for row in seen])
    found = judged(judge, clips.x, clips.labels())
    return {"count": len(clips), "right": float((most == clips.label).mean())} | found


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    report = json.loads((folder / FILE).read_text())
    share = lambda row, key: f"{100 * row[key]:.1f} %" if key in row else ""
    pixels = lambda row, key: f"{row[key]:.3f}" if key in row else ""
    rows = [
        [
            *(name, f"{row['count']:,}"),
            *(share(row, key) for key in ("right", "kept_throughout", "one_class")),
            *(pixels(row, key) for key in ("residual", "median_residual")),
            f"{row['seconds']:.0f}" if "seconds" in row else "",
        ]
        for name, row in (report["laws"] | {"held-out clips": report["real"]}).items()
    ]
    heads = ["law", "clips", "class right", "the class in all frames", "one class in all frames"]
    return {"joint_clips": table([*heads, "residual, pixels", "median", "CPU s"], rows)}


def main() -> int:
    """Run the study and return its exit code."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--run", type=cli.path, required=True, help="a run of moving_digits_joint")
    flags.add_argument("--out", type=Path, default=Path("runs/joint_clips"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="samples of each law")
    flags.add_argument("--held-out", type=cli.positive, default=HELD_OUT, help="clips to classify")
    flags.add_argument("--real", type=cli.positive, default=REAL, help="real clips of each split")
    flags.add_argument("--steps", type=cli.positive, default=STEPS, help="steps of the sampler")
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    trained = diffjax.load(asked.run)
    frames, *frame = trained.experiment.form.shape
    card = Card((frames - 1, *frame), classes=10)
    source = functools.partial(data.moving_digits, size=asked.real, frames=frames - 1)
    reading, folder = data.Reading(kind="video", labels=True), asked.run / "evaluation"
    real = Real(source, reading, asked.real, folder)
    judge, held_out = judge_of_frames(real), data.load(real.test, np.arange(asked.held_out))
    laws = Laws(trained, card, asked.steps, BATCH)
    rows, shown = measured(laws, judge, held_out, asked.num)
    about = provenance() | {"step": trained.step, "steps": asked.steps}
    found = {"laws": rows, "real": of_judge(judge, held_out)}
    write_text(asked.out / FILE, json.dumps(about | found, indent=1) + "\n")
    titles = [*(str(k) for k in range(1, frames)), "card"]
    plot.save(asked.out / PICTURE, plot.strips([*shown.values()], [*shown], titles))
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n{text}")
    return 0


if __name__ == "__main__":
    cli.main(main)
