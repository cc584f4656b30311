"""Which digits do the shadows of a cube show, and how alike are cubes by SDS and VSD?

    python -m experiments.distill3d.study --out=experiments/distill3d
    python -m experiments.distill3d.study --steps=40 --cubes=2

The prior is the network of 8 x 8 digits of the zoo, with guidance. Each cube has 16 x 16 x 16
densities, and three digits are the targets of its shadows along three axes. A cube is right where
the classifier of real digits finds all three. Then eight cubes have the same targets, by SDS and by
VSD with the exact law of their shadows, and the spread of their shadows is compared with that of
samples of the network. The same two rules move particles in a plane with exact scores. Writes
distill3d.json, shadows.png, spread.png and turning.gif.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

import diffjax
from diffjax import analytic, cli, data, plot, schedules, sde
from diffjax.features.judge import fit
from diffjax.files import write_text
from diffjax.guidance import Guided, GuidedDenoiser
from diffjax.prediction import Denoise
from diffjax.training.workdir import provenance
from experiments.distill3d.distillation import direction, of_images, render
from experiments.markdown import table

FILE, COMMAND = "distill3d.json", ("experiments.distill3d.study",)
SIDE, SIZE, THICKNESS = 16, 8, 8.0
"""Densities along a side of a cube, pixels along a side of a shadow, and the absorption."""
WEIGHTS, WEIGHT = (1.0, 3.0, 10.0), 3.0
CUBES, STEPS, RATE, ALIKE = 10, 400, 0.05, 8
SAME = (7, 6, 2)
"""The targets of the cubes that have the same ones."""
MEAN, COV = (1.0, -0.5), ((1.0, 0.6), (0.6, 0.8))
PARTICLES, FALLS, FALL = 2000, 2000, 0.02
"""Particles in the plane, their steps and the size of a step."""

Cubes = Float[Array, "n d d d"]


@dataclass(frozen=True)
class Targets:
    """Cubes whose shadows have digits as their targets.

    prior: the network. digits: (N, 3), of the three shadows of each cube. weight: of guidance. law:
    whether the law of the shadows along an axis, over all cubes, is subtracted (VSD).
    """

    prior: Denoise
    digits: np.ndarray
    weight: float = WEIGHT
    law: bool = False

    def shadows(self, cubes: Cubes) -> Float[Array, "n 3 s s 1"]:
        """Return the shadows of cubes, whose densities are softplus of their values."""
        one = lambda cube: render(jax.nn.softplus(cube), SIZE, THICKNESS)
        return jax.vmap(one)(cubes)

    def against(self, shadows: Array, key: Key[Array, ""]) -> Array:
        """Return what shadows (N, 3, ...) move against."""
        guided = GuidedDenoiser(self.prior, Guided(), self.weight)
        targets = jnp.asarray(self.digits, jnp.int32)

        def axis(x: Array, digits: Array, key: Array) -> Array:
            law = of_images(x, self.prior.sde) if self.law else None
            return direction(guided, x, key, {"label": digits}, law)

        keys = jax.random.split(key, 3)
        parts = [axis(shadows[:, k], targets[:, k], keys[k]) for k in range(3)]
        return jnp.stack(parts, 1)

    def distilled(self, steps: int, seed: int = 0) -> Cubes:
        """Return the cubes after `steps` steps of Adam, from almost empty ones."""
        begin, rest = jax.random.split(jax.random.key(seed))
        optimizer = optax.adam(RATE)

        def step(state: Any, key: Array) -> tuple[Any, None]:
            cubes, moments = state
            shadows, back = jax.vjp(self.shadows, cubes)
            (gradient,) = back(self.against(shadows, key))
            change, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(cubes, change), moments), None

        @jax.jit
        def run(cubes: Cubes) -> Cubes:
            state = cubes, optimizer.init(cubes)
            return jax.lax.scan(step, state, jax.random.split(rest, steps))[0][0]

        return run(-3 + 0.1 * jax.random.normal(begin, (len(self.digits), *(SIDE,) * 3)))


def stored(x: Array) -> np.ndarray:
    """Return images in [-1, 1] as uint8."""
    return np.asarray(jnp.round(jnp.clip(127.5 * (x + 1), 0, 255)), np.uint8)


def drawn_digits(cubes: int) -> np.ndarray:
    """Return three different digits (N, 3) for each cube, all about equally often."""
    rng, chosen = np.random.default_rng(0), np.empty((0, 3), int)
    while len(chosen) < cubes:
        some = rng.permutation(10)[:9].reshape(3, 3)
        chosen = np.concatenate([chosen, some])
    return chosen[:cubes]


def spread(x: np.ndarray) -> float:
    """Return the root mean square distance of a value in two images of x (N, ...) uint8."""
    x = x.astype(np.float64)
    return float(np.sqrt(2 * len(x) / (len(x) - 1) * ((x - x.mean(0)) ** 2).mean()))


def gaussian(law: bool, particles: int, steps: int) -> np.ndarray:
    """Return particles (N, 2) that followed the exact score of a Gaussian, by SDS or VSD.

    With `law` the score of the Gaussian with mean and covariance of the particles is subtracted.
    """
    process = sde.VP(schedules.Cosine())
    prior = analytic.correlated(jnp.asarray(MEAN), np.asarray(COV)).flow_map(process)

    def step(x: Array, key: Array) -> tuple[Array, None]:
        var, basis = jnp.linalg.eigh(jnp.cov(x, rowvar=False))
        own = analytic.Correlated(x.mean(0), basis, jnp.maximum(var, 1e-9)).flow_map(process)
        return x - FALL * direction(prior, x, key, law=own if law else None), None

    begin = 0.3 * jax.random.normal(jax.random.key(0), (particles, 2)) - 1
    keys = jax.random.split(jax.random.key(1), steps)
    return np.asarray(jax.jit(lambda x: jax.lax.scan(step, x, keys)[0])(begin))


def turning(cube: Array, frames: int = 36) -> list[np.ndarray]:
    """Return shadows (H, W, 3) of a cube that turns once about its vertical axis."""
    density, middle = jax.nn.softplus(cube), (SIDE - 1) / 2
    place = jnp.stack(jnp.meshgrid(*[jnp.arange(SIDE) - middle] * 3, indexing="ij"))

    @jax.jit
    def frame(angle: Array) -> Array:
        c, s = jnp.cos(angle), jnp.sin(angle)
        a, b = c * place[1] - s * place[2], s * place[1] + c * place[2]
        turned = map_coordinates(density, [place[0] + middle, a + middle, b + middle], 1)
        return render(turned, SIDE, THICKNESS)[1, ..., 0]

    angles = jnp.linspace(0, 2 * jnp.pi, frames, endpoint=False)
    images = [stored(frame(angle)).repeat(12, 0).repeat(12, 1) for angle in angles]
    return [np.repeat(image[..., None], 3, -1) for image in images]


def measured(targets: Targets, steps: int, judge: Any, seed: int = 0) -> tuple[dict[str, Any], Any]:
    """Return what cubes show, and their values."""
    begin = time.process_time()
    cubes = targets.distilled(steps, seed).block_until_ready()
    seconds = time.process_time() - begin
    shadows = stored(targets.shadows(cubes))
    flat = shadows.reshape(-1, SIZE, SIZE, 1)
    right = judge.right(flat, targets.digits.reshape(-1)).reshape(-1, 3)
    found = {"shadows": int(right.sum()), "cubes": int(right.all(1).sum()), "of": len(cubes)}
    spreads = [spread(shadows[:, k]) for k in range(3)]
    return found | {"spread": spreads, "seconds": round(seconds, 1)}, cubes


def of_prior(trained: Any, digits: Sequence[int], num: int) -> list[float]:
    """Return the spread of guided samples of the network for each digit."""
    of = lambda digit: trained.sample(num, label=digit, guidance=WEIGHT, steps=30).x
    return [spread(of(digit)) for digit in digits]


def tables(folder: Path) -> dict[str, str]:
    """Return the tables of the README by name."""
    report = json.loads((folder / FILE).read_text())
    rows = [
        [
            weight,
            f"{r['shadows']} of {3 * r['of']}",
            f"{r['cubes']} of {r['of']}",
            f"{r['seconds']:.0f}",
        ]
        for weight, r in report["cubes"].items()
    ]
    made = {"distill3d-cubes": table(["weight", "shadows right", "cubes right", "CPU s"], rows)}
    rows = [
        [name, f"{r['cubes']} of {r['of']}", *(f"{value:.1f}" for value in r["spread"])]
        for name, r in report["alike"].items()
    ]
    rows.append(["samples of the network", "", *(f"{v:.1f}" for v in report["of_prior"])])
    names = [f"spread of the {digit}" for digit in SAME]
    made["distill3d-spread"] = table(["rule", "cubes right", *names], rows)
    flat = lambda a: ", ".join(f"{v:.3f}" for v in np.ravel(a))
    rows = [[name, flat(r["mean"]), flat(r["cov"])] for name, r in report["plane"].items()]
    rows.append(["data", flat(MEAN), flat(COV)])
    return made | {"distill3d-plane": table(["rule", "mean", "covariance"], rows)}


def run() -> int:
    """Run the study and return its exit code."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("--out", type=Path, default=Path("runs/distill3d"))
    flags.add_argument("--steps", type=cli.positive, default=STEPS, help="of each distillation")
    flags.add_argument("--cubes", type=cli.positive, default=CUBES, help="with digits of their own")
    flags.add_argument("--alike", type=cli.positive, default=ALIKE, help="with the same digits")
    asked = flags.parse_args()
    if asked.alike < 2:
        flags.error(f"--alike={asked.alike}: needs two or more")
    cli.set_up_jax()
    trained, judge = diffjax.load("digits"), fit(data.digits("train"))
    report: dict[str, Any] = {"about": provenance(), "steps": asked.steps, "cubes": {}, "alike": {}}
    targets = functools.partial(Targets, trained.denoise)
    digits = drawn_digits(asked.cubes)
    for weight in WEIGHTS:
        report["cubes"][f"{weight:g}"], cubes = measured(
            targets(digits, weight), asked.steps, judge
        )
        if weight == WEIGHT:
            shadows = stored(targets(digits).shadows(cubes))
            titles = [" ".join(map(str, d)) for d in digits]
            picture = plot.strips([shadows.swapaxes(0, 1)], ["shadows"], titles)
            plot.save(asked.out / "shadows.png", picture)
            plot.animation(asked.out / "turning.gif", turning(cubes[0]))
    same, rows = np.tile(SAME, (asked.alike, 1)), {}
    for name, law in (("SDS", False), ("VSD", True)):
        same_targets = targets(same, law=law)
        report["alike"][name], cubes = measured(same_targets, asked.steps, judge)
        rows[name] = stored(same_targets.shadows(cubes)).swapaxes(0, 1)
    report["of_prior"] = of_prior(trained, SAME, 100)
    picture = plot.strips([*rows.values()], [*rows], [str(k + 1) for k in range(asked.alike)])
    plot.save(asked.out / "spread.png", picture)
    report["plane"] = {}
    for name, law in (("SDS", False), ("VSD", True)):
        x = gaussian(law, PARTICLES, FALLS)
        report["plane"][name] = {"mean": x.mean(0).tolist(), "cov": np.cov(x.T).tolist()}
    write_text(asked.out / FILE, json.dumps(report, indent=1))
    for name, text in tables(asked.out).items():
        print(f"\n{name}\n{text}")
    return 0


if __name__ == "__main__":
    cli.main(run)
