"""Regenerate the studies that a CPU can make, in short settings.

    python -m experiments.results              # all that are not done
    python -m experiments.results toys ema     # these, from the start
    python -m experiments.results --tables     # fill the tables of READMEs and of docs/results.md

Each study gets a folder in --out with its output files, figures and log; what it printed last
stands in the log where it fails, and the others continue. Stopped or killed, the same command
resumes. results.md in that folder has all tables.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffjax.files import write_text

ROOT = Path(__file__).parents[1]
DONE = "done.json"
DIGITS = "{all}/digits/run"


@dataclass(frozen=True)
class Study:
    """commands: arguments of Python, with {out} for its folder and {all} for that of all studies.
    copies: files of {out} that its tables are read from, under the names of the study's own.
    minutes: about what it takes. needs: a variable of the environment without which it is left
    out; after: a study whose output it reads."""

    commands: Sequence[str]
    minutes: float
    copies: Mapping[str, str] | None = None
    needs: str = ""
    after: str = ""


def _likelihood(name: str, settings: str) -> tuple[str, ...]:
    """A short training, bound and likelihood of a few held-out digits."""
    run = f"{{out}}/{name}"
    return (
        f"-m diffjax.train --workdir={run} --config=configs/digits_vp.py --config.train.steps=200 "
        f"--config.train.checkpoint_every=100 --config.train.sample_every=200 {settings}",
        f"-m diffjax.evaluate --workdir={run} --metrics=vlb:samples=4",
        f"-m diffjax.evaluate --workdir={run} --metrics=bpd:num=8,steps=10 --batch-size=8",
    )


STUDIES = {
    "digits": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/digits_vp.py",
            "-m diffjax.evaluate --workdir={out}/run",
            "-m diffjax.sample --workdir={out}/run --num=60 --out={out}/samples.png",
        ),
        5,
        copies={"run/evaluation.json": "evaluation.json"},
    ),
    "toys": Study(
        ("-m experiments.toys.study --out={out} --steps 300 1000 --seeds=1 --num=2048",), 2
    ),
    "schedules": Study(
        (
            "-m experiments.schedules.study --out={out} --steps=300 --digits-steps=300 "
            "--seeds=1 --num=2048",
        ),
        2,
    ),
    "guidance": Study(
        ("-m experiments.guidance.study --out={out} --steps=500 --seeds=1 --num=2048",), 1
    ),
    "inverse": Study(
        (
            f"-m experiments.inverse.study --workdir={DIGITS} --out={{out}} --images=4 --num=5 "
            "--budget=40",
        ),
        12,
        after="digits",
    ),
    "particles": Study(
        ("-m experiments.particles.study --out={out} --particles 1 8 --total=8192 --steps=20",), 1
    ),
    "few_step": Study(
        (
            "-m experiments.few_step.study --out={out} --steps=300 "
            "--methods denoising PSD DMD 'N = 10'",
            "-m experiments.few_step.plane --out={out} --steps=100",
            f"-m experiments.few_step.digits --workdir={DIGITS} --runs={{out}}/runs --out={{out}} "
            "--steps=20 --methods CD",
        ),
        6,
        after="digits",
    ),
    "generative": Study(("-m experiments.generative.extra --out={out} --steps=20 --seeds=1",), 0.9),
    "adapters": Study(
        (
            "-m experiments.adapters.study --runs={out}/runs --out={out} --steps=20 "
            "--methods 'LoRA, rank 2' 'all weights'",
            "-m experiments.adapters.control --runs={out}/control --out={out} --steps=10 --num=40 "
            "--uses edges",
        ),
        7,
    ),
    "caching": Study(("-m experiments.caching.text --out={out}",), 1),
    "cascades": Study(
        (
            "-m experiments.cascades.study --runs={out}/runs --out={out} --short=20 --num=8 "
            "--steps=2",
        ),
        5,
    ),
    "latent": Study(
        (
            "-m experiments.latent.study --runs={out}/runs --out={out} --data emoji --steps=100 "
            "--num=100 --parts vae pixels latents measure",
        ),
        2,
    ),
    "text": Study(
        ("-m experiments.text.study --run={out}/run --out={out} --steps 20 --num=24",), 4
    ),
    "vocoder": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/vocoder.py "
            "--config.data.name=sounds:$SOUNDS --config.train.steps=20",
            "-m experiments.vocoder.study --run={out}/run --out={out} --num=8",
        ),
        3,
        needs="SOUNDS",
    ),
    "spoken": Study(
        (
            "-m experiments.spoken.bands --path=$SPOKEN --out={out}/bands.npz",
            "-m diffjax.train --workdir={out}/run --config=configs/spoken_bands.py "
            "--config.data.name=array:{out}/bands.npz --config.train.steps=20",
            "-m diffjax.train --workdir={out}/waves --config=configs/spoken.py "
            "--config.data.name=sounds:$SPOKEN --config.train.steps=20",
            "-m experiments.spoken.study --data=$SPOKEN --run={out}/run --waves={out}/waves "
            "--out={out} --num=20 --steps=2 --guidance 1 2",
        ),
        6,
        needs="SPOKEN",
    ),
    "discrete": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/digits_masked.py "
            "--config.train.steps=20",
            "-m experiments.discrete.study --runs {out}/run --out={out} --num=20",
        ),
        1.5,
    ),
    "lanes": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/series.py "
            "--config.train.steps=20",
            "-m experiments.lanes.study --run={out}/run --out={out} --num=40",
        ),
        2,
    ),
    "video": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/moving_digits.py "
            "--config.train.steps=20 --config.data.size=400 --config.network.channels=8 "
            "--config.network.multipliers=(1,) --config.network.attention=() "
            "--config.network.time_attention=(8,)",
            "-m experiments.video.study --run={out}/run --out={out} --num=4 --real=40",
        ),
        2.5,
    ),
    "joint": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/digits_joint.py "
            "--config.train.steps=20",
            "-m experiments.joint.study --run={out}/run --out={out} --num=20 --steps=5",
            "-m diffjax.train --workdir={out}/clips --config=configs/moving_digits_joint.py "
            "--config.train.steps=20 --config.data.size=400 --config.network.channels=8 "
            "--config.network.multipliers=(1,) --config.network.attention=() "
            "--config.network.time_attention=(8,)",
            "-m experiments.joint.clips --run={out}/clips --out={out} --num=4 --held-out=8 "
            "--real=40 --steps=3",
        ),
        4,
    ),
    "policies": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/maze.py "
            "--config.train.steps=20 --config.data.episodes=50",
            "-m experiments.policies.study --run={out}/run --regression={out}/run --out={out} "
            "--num=20",
            "-m diffjax.train --workdir={out}/plans --config=configs/maze_plans.py "
            "--config.train.steps=20 --config.data.episodes=50",
            "-m experiments.policies.planning --plans={out}/plans --policy={out}/run --out={out} "
            "--num=20",
        ),
        3,
    ),
    "distill3d": Study(
        ("-m experiments.distill3d.study --out={out} --steps=40 --cubes=2 --alike=2",), 1.5
    ),
    "diamonds": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/diamonds.py "
            "--config.data.path=$DIAMONDS --config.train.steps=100",
            "-m experiments.diamonds.study --run={out}/run --out={out} --num=2000 --steps 20",
        ),
        1,
        needs="DIAMONDS",
    ),
    "forecasts": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/lorenz96.py "
            "--config.train.steps=20",
            "-m experiments.forecasts.study --run={out}/run --out={out} --num=512",
        ),
        2,
    ),
    "wells": Study(
        (
            "-m experiments.wells.study --runs={out}/runs --out={out} --num=16 "
            "--changes train.steps=20 data.size=1000",
        ),
        2,
    ),
    "clouds": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/meshes.py "
            "--config.data.name=meshes:$MESHES --config.train.steps=20",
            "-m experiments.clouds.study --run={out}/run --path=$MESHES --out={out} --num=8",
            "-m diffjax.train --workdir={out}/completed --config=configs/meshes_completed.py "
            "--config.data.name=meshes:$MESHES --config.train.steps=20 --resume_from={out}/run "
            "--resume_partial",
            "-m experiments.clouds.completion --run={out}/completed --path=$MESHES --out={out} "
            "--num=8",
        ),
        2,
        needs="MESHES",
    ),
    "molecules": Study(
        (
            "-m experiments.molecules.study --path=$COMPONENTS --out={out}",
            "-m diffjax.train --workdir={out}/run --config=configs/molecules.py "
            "--config.data.path=$COMPONENTS --config.train.steps=20",
            "-m experiments.molecules.trained --run={out}/run --out={out} --num=20 "
            "--samplers ancestral:3",
            "-m diffjax.train --workdir={out}/graphs --config=configs/conformers.py "
            "--config.data.path=$COMPONENTS --config.train.steps=20",
            "-m experiments.molecules.conformers --run={out}/graphs --out={out} --num=8 --steps 3",
        ),
        4,
        needs="COMPONENTS",
    ),
    "watermark": Study(
        (
            f"-m experiments.watermark.study --workdir={DIGITS} --out={{out}} --name=digits "
            "--bits=8 --num=4",
        ),
        4,
        after="digits",
    ),
    "quantization": Study(
        (f"-m experiments.quantization.study --workdir={DIGITS} --out={{out}} --num=100",),
        3,
        after="digits",
    ),
    "samplers": Study(
        (
            f"experiments/samplers/quality.py --workdir={DIGITS} --out={{out}}/digits --num=60 "
            "--batch-size=60 --most=50 --samplers=ddim,dpmpp_2m,deis,ancestral",
            "experiments/samplers/exact.py --out={out} --only=ddim,heun,dpmpp_2m",
        ),
        4,
        after="digits",
    ),
    "tradeoffs": Study(
        (
            f"-m diffjax.evaluate --workdir={DIGITS} --sampler=ddim,dpmpp_2m --steps=5,10 "
            "--guidance=1,2.5 --num=200 --metrics=frechet,precision_recall,classifier",
        ),
        2,
        copies={"../digits/run/evaluation.json": "digits.json"},
        after="digits",
    ),
    "ema": Study(
        ("experiments/ema/study.py --workdir={out}/run --out={out} --steps=200 --seeds=1",), 6
    ),
    "augmentation": Study(
        ("experiments/augmentation/leak.py --out={out} --work={out} --steps=200 --num=200",), 6
    ),
    "likelihood": Study(
        (
            *_likelihood("plain", ""),
            *_likelihood(
                "weighted",
                "--config.loss.weight=elbo --config.loss.bound=True "
                "--config.loss.draw.name=likelihood --config.loss.draw.importance=True",
            ),
        ),
        5,
        copies={f"{name}/evaluation.json": f"{name}.json" for name in ("plain", "weighted")},
    ),
    "faults": Study(("experiments/faults/kills.py --out={out}/kills.json --kills=5",), 1),
    "benchmarks": Study(
        ("-m experiments.benchmarks.serving --out={out} --requests=8 --network=network.depth=1",),
        1,
    ),
    "cifar10_cpu": Study(
        (
            "-m diffjax.train --workdir={out}/run --config=configs/cifar_vp_small.py "
            "--config.train.steps=50 --config.train.checkpoint_every=50 "
            "--config.train.sample_every=50 --config.train.held_out_every=0",
            "-m diffjax.evaluate --workdir={out}/run --num=200 --guidance=1 --metrics=frechet "
            "--real=2000",
        ),
        5,
        copies={"run/evaluation.json": "evaluation.json"},
        needs="TFDS_DATA_DIR",
    ),
}


def run(name: str, study: Study, out: Path) -> str:
    """How it ended: done, or why not."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    log, began = folder / "log.txt", time.monotonic()
    environment = os.environ | {"MPLBACKEND": "Agg"}
    with log.open("w") as file:
        for command in study.commands:
            told = os.path.expandvars(command.format(out=folder, all=out))
            print(f"$ python {told}", file=file, flush=True)
            call = [sys.executable, *shlex.split(told)]
            ended = subprocess.run(call, cwd=ROOT, env=environment, stdout=file, stderr=file)
            if ended.returncode:
                return f"failed with exit code {ended.returncode}, see {log}"
    for source, target in (study.copies or {}).items():
        shutil.copy(folder / source, folder / target)
    seconds = round(time.monotonic() - began)
    write_text(folder / DONE, json.dumps({"commands": study.commands, "seconds": seconds}) + "\n")
    return f"done in {seconds // 60}:{seconds % 60:02d}"


def chosen(names: Sequence[str], out: Path, force: bool, studies: Mapping[str, Study]) -> list[str]:
    """What is to run; what is done already begins again where it is named, or with `force`."""
    done = {name for name in studies if (out / name / DONE).exists()}
    if not (names or force):
        return [name for name in studies if name not in done]
    for name in done & set(names or studies):
        shutil.rmtree(out / name)
    return list(names or studies)


def everything(
    names: Sequence[str], out: Path, force: bool, studies: Mapping[str, Study]
) -> list[str]:
    """Run the studies, and return the names of those that failed."""
    todo, failed = chosen(names, out, force, studies), []
    for name in [] if names else [n for n in studies if n not in todo]:
        print(f"{name}: done before", flush=True)
    for i, name in enumerate(todo, 1):
        study = studies[name]
        if study.needs and study.needs not in os.environ:
            print(f"[{i}/{len(todo)}] {name}: left out, needs {study.needs}", flush=True)
            continue
        print(f"[{i}/{len(todo)}] {name}, about {study.minutes:g} minutes ...", flush=True)
        if study.after and not (out / study.after / DONE).exists():
            ended = f"failed: needs {study.after}"
        else:
            ended = run(name, study, out)
        print(f"[{i}/{len(todo)}] {name}: {ended}", flush=True)
        failed += [name] if ended.startswith("failed") else []
    return failed


def gather(out: Path) -> None:
    """results.md of what is done."""
    from experiments.tables import STUDIES as TABLES

    parts = []
    for name, tables in TABLES.items():
        if (out / name / DONE).exists():
            told = json.loads((out / name / DONE).read_text())
            commands = "\n".join(f"python {c}" for c in told["commands"])
            parts.append(f"# {name}: {told['seconds']} s\n\n```text\n{commands}\n```\n")
            made = tables(out / name).items()
            parts += [f"## {title}\n\n{text.rstrip()}\n" for title, text in made]
            parts += [f"![{p.stem}]({name}/{p.name})\n" for p in sorted((out / name).glob("*.png"))]
    write_text(out / "results.md", "\n".join(parts))
    print(f"wrote {out / 'results.md'}")


def main(arguments: Sequence[str] | None = None, studies: Mapping[str, Study] = STUDIES) -> int:
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("names", nargs="*", help=f"of {', '.join(studies)}")
    flags.add_argument("--out", type=Path, default=Path("runs/results"))
    flags.add_argument("--force", action="store_true", help="those that are done, too")
    flags.add_argument("--tables", action="store_true", help="fill the tables of the documents")
    given = flags.parse_args(arguments)
    if unknown := set(given.names) - set(studies):
        flags.error(f"{', '.join(sorted(unknown))}: known: {', '.join(studies)}")
    if given.tables:
        from experiments.markdown import filled
        from experiments.tables import committed, documents

        made = committed()
        for path in documents():
            write_text(path, filled(path.read_text(), made))
        return 0
    out = given.out.resolve()
    failed = everything(given.names, out, given.force, studies)
    if studies is STUDIES:
        gather(out)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed) > 0


if __name__ == "__main__":
    raise SystemExit(main())
