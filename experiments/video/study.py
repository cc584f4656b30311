"""Videos of moving digits: whole clips by several orders of lanes, and clips continued.

    python -m experiments.video.study --run=runs/moving_digits --out=experiments/video

The run is that of the config `moving_digits`. Its network makes whole clips by several orders of
lanes and several weights of guidance by the class, which metrics of clips compare with held-out
ones. Then it continues the first 4 frames of held-out clips to 8 by lanes and by replacement, and
by lanes to 32 frames, 4 at a time, always given the last 4, without the label and guided by it. The
judge, a classifier of frames, is fitted to frames of the training split. Writes video.json,
samples.png, samples.gif and continued.png.
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

from diffjax import cli, data, inverse, plot, samplers
from diffjax.arrays import stream
from diffjax.data.kinds import drawing
from diffjax.data.kinds.films import sheet
from diffjax.data.pipeline import Reading
from diffjax.evaluation import Real, Samples
from diffjax.evaluation.clips import (
    centres,
    fitted,
    judge_of_frames,
    motion,
    one_class,
    paths,
    predicted,
    shuffled,
    throughout,
)
from diffjax.features.judge import Judge
from diffjax.files import write_text
from diffjax.runs.trained import Trained, load
from diffjax.samplers.plan import Plan
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, TRANSFORMER = "video.json", "transformer.json"
"""The report, and that of the same study with a factorised transformer, where there is one."""
WHOLE = (*(("full", weight) for weight in (1.0, 2.0, 3.0, 4.0)), ("pyramid:delay=2", 2.0))
"""Orders of lanes of whole clips, and weights of guidance."""
GUIDED = 3.0
"""The weight of guidance of clips in pictures, and of continuations that are given the label."""
STEPS, KNOWN, LONG, SHOWN = 20, 4, 32, 8
"""Steps of each lane, given frames, frames of a continuation, and clips of a picture."""
ROOM, BATCH = 8.0, 50


def whole(trained: Trained, real: Real, run: Path, num: int, out: Path) -> dict[str, Any]:
    """Make whole clips by each order of lanes and weight of guidance and return their metrics.

    Samples are stored in the run, so that an interrupted study resumes.
    """
    rows = {}
    for order, weight in WHOLE:
        name, began = f"{order}, guidance {weight:g}", time.process_time()
        job = trained.job(lanes=order, guidance=weight, steps=STEPS, batch_size=BATCH)
        made = job.samples(num, run / "evaluation" / job.key)
        of = Samples(made.x, made.label)
        rows[name] = {
            "passes": job.plan.passes,
            "cpu_seconds": round(time.process_time() - began, 1),
            "one_class": one_class(real, of),
            "paths": paths(real, of),
            "motion": motion(real, of),
        }
        print(name, rows[name], flush=True)
        if (order, weight) == ("full", GUIDED):
            first = made.x[: 2 * SHOWN]
            plot.save(out / "samples.png", real.test.form.items.picture(first))
            plot.animation(out / "samples.gif", [*sheet(first)])
    return rows


def continued(
    trained: Trained, run: Path, x: np.ndarray, frames: int, label: np.ndarray | None = None
) -> np.ndarray:
    """Continue clips (N, T, ...) to a number of frames by lanes, given the last KNOWN ones.

    label: the classes (N,), by which the continuation is guided, or None for no label.
    """
    length, num = trained.experiment.form.shape[0], len(x)
    for k in range((frames - x.shape[1]) // (length - KNOWN)):
        blank = np.zeros((num, length - KNOWN, *x.shape[2:]), x.dtype)
        given = np.concatenate([x[:, -KNOWN:], blank], 1)
        settings: dict[str, Any] = {"known": range(KNOWN), "steps": STEPS, "batch_size": BATCH}
        if label is None:
            settings |= {"cond": {"label": None}, "guidance": 1.0}
        else:
            settings |= {"label": label.tolist(), "guidance": GUIDED}
        job = trained.job(seed=k, given=given, **settings)
        made = job.samples(num, run / "evaluation" / job.key).x
        x = np.concatenate([x, made[:, KNOWN:]], 1)
    return x


def replaced(trained: Trained, x: np.ndarray) -> np.ndarray:
    """Continue the first KNOWN frames of clips (N, T, ...) by replacement, with equal rows."""
    shape, form = x.shape[1:], trained.experiment.form
    seen = jnp.asarray(form.items.normalise(jnp.asarray(x)))
    there = np.zeros((shape[0], 1, 1, 1), bool)
    there[:KNOWN] = True
    known = jnp.asarray(np.broadcast_to(there, shape))[None]
    operator = inverse.Mask(known)
    measured = inverse.Measurement(operator(seen), operator)
    plan = trained.job(steps=STEPS, guidance=1.0).plan
    assert isinstance(plan, Plan)
    keys = jax.random.split(stream(0, "replacement"), len(x))
    z, keys = samplers.initial(trained.sde, keys, shape)
    cond = {"label": jnp.full(len(x), -1, jnp.int32)}
    guidance = inverse.Replacement(measured)
    run = functools.partial(samplers.sample, trained.denoise, plan.table, guidance=guidance)
    return form.denormalise(np.asarray(jax.jit(run)(z, keys, cond=cond)))


def judged(judge: Judge, x: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Return what a judge of frames and the fit of paths say of clips that begin as real ones."""
    classes = predicted(judge, x)
    right = classes == label[:, None]
    residual = fitted(centres(x), ROOM).residual
    return {
        "kept_at_the_end": float(right[:, -1].mean()),
        "kept_throughout": float(right.all(1).mean()),
        "one_class": float(throughout(classes).mean()),
        "residual": float(np.sqrt((residual**2).mean())),
        "median_residual": float(np.median(residual)),
    }


def study(run: Path, out: Path, num: int, real_items: int) -> dict[str, Any]:
    """Make clips, continue others, and measure both."""
    trained = load(run)
    reading = Reading(kind="video", labels=True)
    source = functools.partial(data.moving_digits, size=real_items)
    real = Real(source, reading, real_items, run / "evaluation")
    judge = judge_of_frames(real)
    report: dict[str, Any] = {"step": trained.step, "clips": num, "steps": STEPS}
    report["motion_of_all_held_out"] = motion(real, Samples(real.test.x, None))
    report["whole"] = whole(trained, real, run, num, out)
    index = np.arange(num)
    longer = data.moving_digits("test", size=num, frames=LONG)
    x, label = longer[index]["x"], longer.labels()
    length = trained.experiment.form.shape[0]
    film = continued(trained, run, x[:, :KNOWN], LONG)
    told = continued(trained, run, x[:, :KNOWN], LONG, label)
    clips = {
        "real": x[:, :length],
        "real, out of order": shuffled(x[:, :length]),
        "lanes": film[:, :length],
        "replacement": replaced(trained, x[:, :length]),
        "real, 32 frames": x,
        "lanes, 32 frames": film,
        "lanes guided by the label, 32 frames": told,
    }
    report["continued"] = {name: judged(judge, of, label) for name, of in clips.items()}
    report["kept_by_frame"] = {
        name: (predicted(judge, of) == label[:, None]).mean(0).round(4).tolist()
        for name, of in {"real": x, "lanes": film, "label": told}.items()
    }
    print(json.dumps(report["continued"], indent=1), flush=True)
    rows = np.stack([of[:SHOWN, ::2] for of in (x, film, told)], 1)
    strips = drawing.beside(rows.reshape(-1, *rows.shape[2:]))
    plot.save(out / "continued.png", plot.grid(strips, columns=1, tile=32))
    write_text(out / FILE, json.dumps(report | provenance(), indent=1) + "\n")
    return report


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    files = {"": FILE, ", transformer": TRANSFORMER}
    reports = {
        name: json.loads((folder / file).read_text())
        for name, file in files.items()
        if (folder / file).exists()
    }
    share = lambda value: f"{100 * value:.1f} %"
    first = next(iter(reports[""]["whole"].values()))
    lines = [
        [
            *(order + name, str(row["passes"])),
            *(share(row["one_class"][k]) for k in ("share", "frames")),
            *(f"{row['paths'][k]:.3f}" for k in ("residual", "speed")),
            *(f"{row['motion'][k]:.1f}" for k in ("frames", "ratio")),
        ]
        for name, report in reports.items()
        for order, row in report["whole"].items()
    ]
    for clips, kind in (("held-out clips", "real"), ("held-out clips, out of order", "shuffled")):
        lines.append(
            [
                *(clips, "", share(first["one_class"]["real"]), ""),
                *(f"{first['paths'][f'{kind}_{k}']:.3f}" for k in ("residual", "speed")),
                *("", f"{first['motion'][kind]:.1f}"),
            ]
        )
    heads = ["clips", "passes", "one class", "frames of the class", "residual, pixels"]
    heads += ["W1 of speeds", "frames / floor", "changes / floor"]
    rows = [
        [
            clips + name,
            *(share(row[k]) for k in ("kept_at_the_end", "kept_throughout")),
            *(f"{row[k]:.3f}" for k in ("residual", "median_residual")),
        ]
        for name, report in reports.items()
        for clips, row in report["continued"].items()
        if not name or not clips.startswith("real")
    ]
    after = [
        "clips",
        "class in the last frame",
        "class in all frames",
        "residual, pixels",
        "median",
    ]
    return {"video": table(heads, lines), "video_continued": table(after, rows)}


def main() -> int:
    """Run the study, print its tables, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--run", type=Path, required=True, help="workdir of the config")
    flags.add_argument("--out", type=Path, required=True, help="folder of video.json")
    flags.add_argument("--num", type=cli.positive, default=50, help="clips of each kind")
    flags.add_argument("--real", type=cli.positive, default=2000, help="real clips of each split")
    asked = flags.parse_args()
    cli.set_up_jax()
    asked.out.mkdir(parents=True, exist_ok=True)
    study(asked.run, asked.out, asked.num, asked.real)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
