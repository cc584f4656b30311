"""How many particles correct a guidance? Gaussian data, where the posterior is known.

python -m experiments.particles.study --out=experiments/particles
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import analytic, grids, inverse, samplers, schedules, sde
from experiments.markdown import table

MEAN, VAR, Y = 0.7, 0.25, 1.5
PROPOSALS = ("Plain()", "Twisted()", "AsGuided(Tilted(potential))")


def measure(name: str, std: float, particles: int, total: int, steps: int) -> dict[str, Any]:
    """Error of the mean in posterior standard deviations, and ratio of the variance to the exact
    one, of all particles; the mean estimate of p(y) over the exact one, and its standard error."""
    vp = sde.VP(schedules.Linear())
    denoise = analytic.gaussian(jnp.full(1, MEAN), jnp.full(1, VAR)).denoiser(vp)
    rows = samplers.ancestral(vp, grids.logsnr_uniform(vp, steps))
    measurement = inverse.Measurement(jnp.full((1, 1), Y), inverse.Scale(1.0), std)
    potential = inverse.Observation(measurement)  # assumes data of variance 1 on the way
    proposal = {
        "Plain()": inverse.Plain(),
        "Twisted()": inverse.Twisted(),
        "AsGuided(Tilted(potential))": inverse.AsGuided(inverse.Tilted(potential)),
    }[name]
    keys = jax.random.split(jax.random.key(particles), total // particles)
    x, keys = inverse.swarm(vp, keys, particles, (1,))
    result = inverse.steer(denoise, rows, x, keys, potential, proposal=proposal)
    mean, var = samplers.moments(rows, vp, MEAN, VAR)
    exact = mean + var / (var + std**2) * (Y - mean), var * std**2 / (var + std**2)
    evidence = np.exp(-0.5 * (Y - mean) ** 2 / (var + std**2)) / np.sqrt(2 * np.pi * (var + std**2))
    values = np.asarray(result.x[..., 0], np.float64)
    weights = np.asarray(result.weight, np.float64) / len(values)
    ours = (weights * values).sum()
    ratios = np.exp(np.asarray(result.log_z, np.float64)) / evidence
    return {
        "proposal": name,
        "std": std,
        "particles": particles,
        "mean": (ours - exact[0]) / np.sqrt(exact[1]),
        "variance": (weights * (values - ours) ** 2).sum() / exact[1],
        "evidence": ratios.mean(),
        "error": ratios.std() / np.sqrt(len(ratios)),
        "effective": float(result.ess[-1].mean()),
    }


def tables(folder: Path) -> dict[str, str]:
    """One line per noise of the measurement and proposal, one column per number of particles."""
    rows = json.loads((folder / "particles.json").read_text())
    counts = sorted({row["particles"] for row in rows})
    lines: dict[str, list[str]] = {}
    for row in rows:
        shown = f"{row['mean']:+.2f}, {row['variance']:.2f}"
        lines.setdefault(f"std {row['std']:g}, `{row['proposal']}`", []).append(shown)
    head = ["measurement, proposal", *(f"K = {k}" for k in counts)]
    return {"particles": table(head, [[name, *cells] for name, cells in lines.items()])}


def run() -> int:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--particles", type=int, nargs="+", default=[1, 4, 16, 64])
    flags.add_argument("--total", type=int, default=32768)
    flags.add_argument("--steps", type=int, default=50)
    asked = flags.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    settings = [(p, s, k) for s in (0.5, 0.1) for p in PROPOSALS for k in asked.particles]
    rows = [measure(*setting, asked.total, asked.steps) for setting in settings]
    (asked.out / "particles.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(tables(asked.out)["particles"])
    return 0


if __name__ == "__main__":
    raise SystemExit(run())
