"""Random kill -9 during a training: does it end as if nobody had touched it?

python experiments/faults/kills.py --out=experiments/faults/kills.json [--kills=100] [--seed=0]

Two runs of one config: one is left alone, the other is killed again and again, in start-up or a
random number of steps later, each time at a random moment. Compared are a hash of the whole last
state (parameters, averages, optimizer, counters) and every line of metrics.jsonl, those of steps
that were made again included. Each launch is the command in a process of its own, forked from one
that has only imported. Three kills are a test.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from diffjax import builder, cli, train
from diffjax.files import write_text
from diffjax.training import loop  # noqa: F401  (imported before any launch)
from diffjax.training.log import SPEEDS
from diffjax.training.workdir import load_state, provenance, read_config

STEPS, CHECKPOINT = 600, 10
IN_START = 0.3
"""Share of the kills that come before the first step."""
SETTINGS = {
    "network.width": 32,
    "network.depth": 1,
    "train.batch_size": 64,
    "train.steps": STEPS,
    "train.log_every": 1,
    "train.checkpoint_every": CHECKPOINT,
    "train.sample_every": 10**9,
    "train.samples": 50,
    "train.writers": "()",
}


def launch(workdir: Path) -> int:
    """Begin the training in a new process, with its output in a file; its id."""
    if process := os.fork():
        return process
    with (workdir.parent / "output.txt").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    flags = [f"--config.{name}={value}" for name, value in SETTINGS.items()]
    sys.argv = ["train", "--config=moons_vp", f"--workdir={workdir}", *flags]
    try:
        cli.main(train.run)
    except SystemExit as ended:
        os._exit(int(ended.code or 0))
    finally:
        os._exit(99)


def alone(workdir: Path) -> float:
    """Train to the end; the seconds that it takes."""
    began = time.monotonic()
    _, status = os.waitpid(launch(workdir), 0)
    assert status == 0, (workdir.parent / "output.txt").read_text()
    return time.monotonic() - began


def rows(workdir: Path) -> list[dict]:
    """Whole lines of metrics.jsonl, without the speed."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [{k: v for k, v in json.loads(s).items() if k not in SPEEDS} for s in lines]


def digest(workdir: Path) -> str:
    """SHA-256 of all leaves of the newest state."""
    state = load_state(builder.experiment(read_config(workdir)), workdir)
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def killed(workdir: Path, start_up: float, moment: float, more: int) -> tuple[str, float]:
    """Launch and kill: `moment` of a start-up in, or after `more` steps and a moment.

    Where that was, and the seconds to the first step.
    """
    output, began = workdir.parent / "output.txt", time.time()
    output.write_text("")
    process = launch(workdir)
    made = lambda: output.read_text().count("train ") - 1  # "train step compiled" is the first
    where = "start-up"
    if more == 0:
        time.sleep(moment * start_up)
    else:
        while made() < 1:
            time.sleep(0.005)
        start_up = time.time() - began
        while made() < more:
            time.sleep(0.005)
        time.sleep(moment * 0.1)
        folders = [p for p in (workdir / "checkpoints").iterdir() if p.is_dir()]
        half = [p for p in folders if not (p / "commit_success.txt").exists()]
        saving = any(p.stat().st_ctime > began + start_up for p in half)
        where = "in a save" if saving else "between saves"
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, output.read_text()
    return where, start_up


def study(folder: Path, kills: int, rng: random.Random) -> dict:
    whole, run = folder / "whole", folder / "run"
    seconds = {"whole": alone(whole)}
    wanted = {row["step"]: row for row in rows(whole)}
    assert len(wanted) == STEPS
    began, where, lines, different = time.monotonic(), [], 0, 0
    start_up = seconds["whole"] / 2
    most = 2 * (STEPS // int(kills * (1 - IN_START) + 1) + CHECKPOINT // 2)
    for k in range(kills):
        left = STEPS - len(rows(run)) - CHECKPOINT
        more = 0 if rng.random() < IN_START else min(rng.randint(1, most), left)
        place, start_up = killed(run, start_up, rng.random(), max(more, 0))
        where.append(place)
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
    write_text(given.out, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    sys.exit(
        not (found["states_equal"] and found["lines_complete"] and not found["lines_different"])
    )
