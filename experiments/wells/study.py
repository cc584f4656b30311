"""How far is a trained network from the exact density of particles, with and without symmetry?

    python -m experiments.wells.study --runs=runs/wells --out=experiments/wells

Trains the config `dw4`, by the variational bound, with an equivariant network, and with a
transformer without positions, which commutes with permutations but not with rotations. Both have
the same steps and items. The
divergence KL(data || network) is exact: the mean of log p - log q over NUM held-out items, where p
is known and q is integrated along the ODE with the exact trace. Writes wells.json and a figure of
energies and distances. A finished training is not repeated.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

import diffjax
from diffjax import cli
from diffjax.data import dw4
from diffjax.data.particles import SYSTEMS
from diffjax.evaluation import Real, Samples, bpd
from diffjax.evaluation.energies import apart, energies
from diffjax.files import write_text
from diffjax.likelihood import TRACES, Ode
from diffjax.runs.subject import subject
from diffjax.training.workdir import provenance
from experiments.markdown import table

FILE, FIGURE, MADE, NUM, SAMPLES, STEPS = "wells.json", "wells.png", "samples.npy", 1024, 10_000, 40
SYSTEM = SYSTEMS["dw4"]
DIT = (
    "network={'name': 'dit', 'width': 64, 'depth': 4, 'heads': 4, 'patch': 1, 'positions': 'none'}"
)
LIKELIHOOD = (
    "sde.t_min=7e-3",
    "sde.t_max=0.95",
    "loss.weight={'name': 'elbo'}",
    "loss.draw={'name': 'likelihood', 'stratified': True}",
    "optimizer.schedule.length=5000",
    "train.steps=5000",
)
"""The variational bound as the loss, from times that are uniform in the log-SNR."""
NETWORKS = {
    "egnn": (*LIKELIHOOD, "network.radial=32", "network.reach=5.0"),
    "dit": (*LIKELIHOOD, DIT),
}


def trained(folder: Path, changes: tuple[str, ...]) -> tuple[Any, float]:
    """Return the trained network of a folder, and the CPU minutes of its training."""
    file, begin = folder / "cpu.json", time.process_time()
    network = diffjax.fit("dw4", folder, *changes)
    if not file.exists():
        write_text(file, json.dumps((time.process_time() - begin) / 60))
    return network, json.loads(file.read_text())


def measured(folder: Path, changes: tuple[str, ...], out: Path, num: int) -> dict[str, Any]:
    """Train one network; return its divergence, and the energies of its samples."""
    network, minutes = trained(folder, changes)
    sizes = jax.tree.map(lambda a: a.size, network.denoise.params["network"])
    found = bpd(subject(folder, batch_size=128), num, trace=TRACES["exact"], ode=Ode(steps=STEPS))
    made = np.asarray(network.sample(SAMPLES, batch_size=1000).x)
    np.save(folder / MADE, made)
    e = network.experiment
    compared = energies(Real(e.source, e.reading, SAMPLES, out), Samples(made, None))
    return {
        "parameters": int(sum(jax.tree.leaves(sizes))),
        "steps": network.step,
        "minutes": minutes,
        "kl": found["kl"],
        "error": found["kl_error"],
        "bits": found["bits"],
        "energies": compared,
    }


def nats(bits: float) -> float:
    """Return the NLL in nats, in the units of the literature, of bits per dimension."""
    return SYSTEM.rank * (bits * math.log(2) + math.log(SYSTEM.scale))


def tables(folder: Path) -> dict[str, str]:
    """Return the table of the README by name."""
    rows = json.loads((folder / FILE).read_text())["rows"]
    heads = ["network", "parameters", "steps", "CPU minutes", "KL, nats", "NLL, nats"]
    heads += ["KS of energies", "KS of distances", "median energy, kT"]
    keys = ("energy", "distances", "median")
    lines = [
        [
            name,
            f"{row['parameters']:,}",
            f"{row['steps']:,}",
            f"{row['minutes']:.1f}",
            f"{row['kl']:.3f} ± {row['error']:.3f}",
            f"{nats(row['bits']):.2f}",
            *(f"{row['energies'][k]:.3f}" for k in keys[:2]),
            f"{row['energies']['median']:.2f}",
        ]
        for name, row in rows.items()
    ]
    floor = next(iter(rows.values()))["energies"]
    last = [*(f"{floor[f'floor_{k}']:.3f}" for k in keys[:2]), f"{floor['floor_median']:.2f}"]
    lines.append(["training items", "", "", "", "0", "7.13", *last])
    return {"wells": table(heads, lines)}


def draw(runs: Path, path: Path, names: list[str]) -> None:
    """Draw the histograms of energies and of distances of held-out items and of samples."""
    held = dw4("test", SAMPLES).x
    sets = {"held out": held} | {n: np.load(runs / n / MADE) for n in names}
    figure = Figure(figsize=(10, 3.6), dpi=90, layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, (name, x) in enumerate(sets.items()):
        style: dict[str, Any] = {"density": True, "label": name, "color": ("grey", "C0", "C1")[k]}
        style |= {"histtype": "stepfilled", "alpha": 0.4} if not k else {"histtype": "step"}
        left.hist(SYSTEM.energy(x), np.linspace(-26.5, -8, 80), **style)
        right.hist(SYSTEM.scale * apart(SYSTEM, x).ravel(), np.linspace(1.2, 7.2, 100), **style)
    left.set(xlabel="energy, kT", ylabel="density")
    right.set(xlabel="distance of a pair, units of the literature")
    left.legend(frameon=False)
    figure.savefig(path)


def study(runs: Path, out: Path, num: int, changes: tuple[str, ...], only: list[str]) -> None:
    """Train and measure every network, write its results, and draw the figure."""
    for name, own in NETWORKS.items():
        if name in only:
            row = measured(runs / name, (*own, *changes), out, num)
            path = out / FILE
            stored = json.loads(path.read_text()) if path.exists() else {}
            rows = stored.get("rows", {}) | {name: row}
            write_text(path, json.dumps({"rows": rows} | provenance(), indent=1) + "\n")
            print(name, row, flush=True)
    draw(runs, out / FIGURE, [name for name in NETWORKS if (runs / name / MADE).exists()])


def main() -> int:
    """Run the study, print its table, and return the exit code."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=cli.Formatter)
    flags.add_argument("--runs", type=Path, required=True, help="folder of the trainings")
    flags.add_argument("--out", type=Path, default=Path("experiments/wells"))
    flags.add_argument("--num", type=cli.positive, default=NUM, help="items of the divergence")
    flags.add_argument("--changes", nargs="*", default=[], help="changes of both configs")
    flags.add_argument("--only", nargs="+", default=[*NETWORKS], choices=[*NETWORKS])
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    cli.set_up_jax()
    study(asked.runs, asked.out, asked.num, tuple(asked.changes), asked.only)
    print(*tables(asked.out).values(), sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
