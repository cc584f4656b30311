"""Draw pictures of a noising process and of samplers, before anything is trained.

    python -m diffjax.tools.plot schedules linear cosine sigmoid:tau=0.7
    python -m diffjax.tools.plot schedules --config=configs/cifar_vp.py
    python -m diffjax.tools.plot forward linear cosine --data=digits
    python -m diffjax.tools.plot forward --config=configs/cifar_vp.py
    python -m diffjax.tools.plot sampler dpmpp_2m:exact=True --steps=12

`schedules` draws alpha, sigma, log-SNR, g^2 (beta, in VP) and SNR over t in one figure, by default
of all schedules. `forward` draws real images at increasing times, one row per schedule and image.
Both commands warn where the signal is lost early, since training at later times sees mostly noise.
`sampler` draws the composition of each network input of a sampler, and prints its table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli, config
from diffjax.config import ConfigError, parse

if TYPE_CHECKING:
    import numpy as np

    from diffjax.sde import SDE

LOST = 0.01
"""SNR below which a small image counts as noise."""
EARLY = 0.8
"""Time before which a loss of the signal causes a warning."""


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("tools.plot", __doc__)
    commands = flags.add_subparsers(dest="command", required=True)
    for name, text in (
        ("schedules", "draw curves over time"),
        ("forward", "draw images with increasing noise"),
    ):
        one = commands.add_parser(name, help=text, formatter_class=cli.Formatter)
        one.add_argument("names", nargs="*", metavar="SCHEDULE", help="name[:argument=value,...]")
        one.add_argument("--sde", default="vp", help="frame of the schedules: vp, ve, sub_vp, flow")
        one.add_argument("--config", help="draw the process of this config as well")
        one.add_argument(
            "--out", type=cli.path, default=Path(f"{name}.png"), help="PNG file to write"
        )
        if name == "forward":
            one.add_argument("--data", help="as config.data.name (default: of --config, or digits)")
            one.add_argument("--num", type=cli.positive, default=2, help="images per schedule")
            shown = "0.02,0.1,0.2,0.4,0.6,0.8,0.9,1"
            one.add_argument("--times", type=times, default=shown, help="times of the columns")
            one.add_argument("--seed", type=cli.seed, default=0, help="seed of images and noise")
    one = commands.add_parser(
        "sampler", help="draw the table of a sampler", formatter_class=cli.Formatter
    )
    one.add_argument("sampler", metavar="SAMPLER", help="name[:argument=value,...]")
    one.add_argument("--config", default="digits_vp", help="config of the process")
    one.add_argument("--grid", default="uniform", help="time grid, name[:argument=value,...]")
    one.add_argument("--steps", type=cli.positive, default=10, help="steps of the time grid")
    one.add_argument("--out", type=cli.path, default=Path("sampler.png"), help="PNG file to write")
    return flags


def run() -> int:
    asked = cli.read(flags())
    if asked.out.suffix != ".png":
        raise ConfigError(f"--out={asked.out}: unknown ending; known: .png")

    from diffjax import plot

    base = config.load(asked.config) if asked.config else None
    if asked.command == "sampler":
        return write(asked.out, sampler(asked))
    noising = processes(asked.names, asked.sde, base)
    picture = (
        plot.curves(noising) if asked.command == "schedules" else forward(noising, asked, base)
    )
    for label, sde in noising.items():
        warn(label, sde)
    return write(asked.out, picture)


def write(path: Path, picture: np.ndarray) -> int:
    """Write a PNG file and return the exit code; raise ConfigError where it cannot be written."""
    from diffjax import plot
    from diffjax.io.writing import writing

    with writing(f"--out={path}"):
        plot.save(path, picture)
    print(f"wrote {path}")
    return 0


def sampler(asked: argparse.Namespace) -> np.ndarray:
    """Draw the unrolled map of a sampler, and print its table."""
    from diffjax import builder, plot

    sde = builder.construct_sde(config.load(asked.config)["sde"], "config.sde")
    spec = {"sampler": parse(asked.sampler), "grid": parse(asked.grid), "steps": asked.steps}
    table = builder.construct_table(spec, sde, "sampling")
    print(table)
    return plot.table(table)


def times(text: str) -> list[float]:
    """Parse times in [0, 1], separated by commas."""
    values = [float(item) for item in text.split(",")]
    if bad := [t for t in values if not 0 <= t <= 1]:
        raise argparse.ArgumentTypeError(f"{bad[0]:g}: needs 0 <= t <= 1")
    return values


def processes(names: list[str], frame: str, base: config.Config | None) -> dict[str, SDE]:
    """Return the requested processes by label; all schedules if none is requested."""
    from diffjax import builder

    noising: dict[str, SDE] = {}
    if base:
        noising["config"] = builder.construct_sde(base["sde"], "config.sde")
    for name in names or ([] if base else builder.SCHEDULES):
        spec = {"name": frame, "t_min": 1e-5, "schedule": parse(name)}
        try:
            noising[name] = builder.construct_sde(spec, "process")
        except ConfigError as error:
            if names:
                raise
            print(f"left out: {error}", file=sys.stderr)
    return noising


def warn(label: str, sde: SDE) -> None:
    """Print a warning, with a remedy, if the signal is lost early."""
    import numpy as np

    from diffjax.sde import levels

    at = levels(sde, np.linspace(sde.t_max, sde.t_min, 1001)[:-1])
    lost = at.t[2 * at.lam < np.log(LOST)]
    if len(lost) and lost[-1] < EARLY:
        print(
            f"warning: {label}: the SNR is below {LOST:g} from t = {lost[-1]:.2f} on, so "
            f"{1 - lost[-1] / sde.t_max:.0%} of the times teach little about small images; try "
            f"schedule.name=shifted (by > 0), or a draw that favours smaller t",
            file=sys.stderr,
        )


def forward(
    noising: dict[str, SDE], asked: argparse.Namespace, base: config.Config | None
) -> np.ndarray:
    """Draw real images at the requested times, with equal images and noise for every process."""
    import jax.numpy as jnp
    import numpy as np

    from diffjax import builder, plot
    from diffjax.data import load
    from diffjax.runs.subject import data_section

    spec: dict[str, Any] = dict(base["data"]) if base and not asked.data else {}
    spec = spec or dict(data_section(asked.data or "digits"))
    opened, reading = builder.construct_data(spec, "--data")
    source = opened("train")
    decoding = builder.construct_decoding(reading.codec, source.form, "config.data.codec")
    if decoding.stored.kind != "image":
        kind, shape = source.form.kind, source.form.shape
        raise ConfigError(
            f"--data: {kind} items {shape}; forward needs images, or latents with data.codec"
        )
    index = np.random.default_rng(asked.seed).permutation(len(source))[: asked.num]
    x0 = np.asarray(source.form.items.normalise(jnp.asarray(load(source, index).x)))
    return plot.noised(noising, x0, asked.times, asked.seed, decoding.decode)


if __name__ == "__main__":
    cli.main(run)
