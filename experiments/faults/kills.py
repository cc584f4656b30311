"""Random kill -9 during a training: does it end as if nobody had touched it?

python experiments/faults/kills.py --out=experiments/faults/kills.json [--kills=100] [--seed=0]

Two runs of one config: one is left alone, the other is killed again and again, in start-up or a
random number of steps later, each time at a random moment. Compared are a hash of the whole last
state (parameters, averages, optimizer, counters) and every line of metrics.jsonl, those of steps
that were made again included. The data pass with flips through a U-Net with dropout.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from diffjax import build
from diffjax.training.workdir import load_state, provenance, read_config, write_atomically

STEPS, CHECKPOINT = 600, 5
IN_START = 0.3
"""Share of the kills that come before the first step."""
SETTINGS = {
    "network.channels": 8,
    "network.multipliers": "(1,)",
    "network.heads": 2,
    "network.attention": "()",
    "network.dropout": 0.1,
    "data.flip": True,
    "train.batch_size": 64,
    "train.steps_per_dispatch": 1,
    "train.steps": STEPS,
    "train.log_every": 1,
    "train.checkpoint_every": CHECKPOINT,
    "train.sample_every": 10**9,
    "train.writers": "()",
}


def command(workdir: Path) -> list[str]:
    flags = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    line = [sys.executable, "-m", "diffjax.train", "--config=digits_vp", f"--workdir={workdir}"]
    return [*line, *flags]


def rows(workdir: Path) -> list[dict]:
    """Whole lines of metrics.jsonl, without the speed."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [{k: v for k, v in json.loads(s).items() if k != "images_per_s"} for s in lines]


def digest(workdir: Path) -> str:
    """SHA-256 of all leaves of the newest state."""
    state = load_state(build.experiment(read_config(workdir)), workdir)
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def killed(workdir: Path, moment: float, more: int) -> str:
    """Launch and kill: `moment` of a start-up in, or `more` lines on and a moment later."""
    before, began = len(rows(workdir)), time.monotonic()
    with (workdir.parent / "stderr.txt").open("w") as log:
        process = subprocess.Popen(command(workdir), stdout=subprocess.DEVNULL, stderr=log)
    if more == 0:
        time.sleep(moment * killed.start_up)
        where = "start-up"
    else:
        at = before - before % CHECKPOINT  # what a new launch goes on from
        while len(rows(workdir)) < at + more:
            assert process.poll() is None, (workdir.parent / "stderr.txt").read_text()
            time.sleep(0.01)
        killed.start_up = min(killed.start_up, time.monotonic() - began)
        time.sleep(moment * 0.2)
        written = list((workdir / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
        marked = {p.parent.name for p in (workdir / "checkpoints").glob("*/commit_success.txt")}
        folders = {p.name for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal()}
        where = "in a save" if written or folders - marked else "between saves"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, (workdir.parent / "stderr.txt").read_text()
    return where


killed.start_up = 10.0


def alone(workdir: Path) -> float:
    began = time.monotonic()
    subprocess.run(command(workdir), check=True, stdout=subprocess.DEVNULL, timeout=3600)
    return time.monotonic() - began


def study(folder: Path, kills: int, rng: random.Random) -> dict:
    whole, run = folder / "whole", folder / "run"
    seconds = {"whole": alone(whole)}
    wanted = {row["step"]: row for row in rows(whole)}
    assert len(wanted) == STEPS
    began, where, lines, different = time.monotonic(), [], 0, 0
    most = 2 * (STEPS // int(kills * (1 - IN_START) + 1) + CHECKPOINT // 2)
    for k in range(kills):
        left = STEPS - len(rows(run)) - CHECKPOINT
        more = 0 if rng.random() < IN_START else min(rng.randint(1, most), left)
        where.append(killed(run, rng.random(), max(more, 0)))
        made = rows(run)
        lines += len(made)
        different += sum(row != wanted[row["step"]] for row in made)
        print(f"kill {k + 1} {where[-1]}, step {len(made)}", file=sys.stderr, flush=True)
    alone(run)
    seconds["killed"] = time.monotonic() - began
    made = rows(run)
    hashes = digest(whole), digest(run)
    return {
        "kills": {name: where.count(name) for name in sorted(set(where))},
        "steps": STEPS,
        "checkpoint_every": CHECKPOINT,
        "launches": len((run / "launches.jsonl").read_text().splitlines()),
        "state_sha256": hashes,
        "states_equal": hashes[0] == hashes[1],
        "lines_seen": lines + len(made),
        "lines_different": different + sum(row != wanted[row["step"]] for row in made),
        "lines_complete": [row["step"] for row in made] == sorted(wanted),
        "seconds": {name: round(value) for name, value in seconds.items()},
        **provenance(),
    }


if __name__ == "__main__":
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--kills", type=int, default=100)
    flags.add_argument("--seed", type=int, default=0)
    given = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = study(Path(folder), given.kills, random.Random(given.seed))
    write_atomically(given.out, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    sys.exit(
        not (found["states_equal"] and found["lines_complete"] and not found["lines_different"])
    )
