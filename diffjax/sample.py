"""Sample from a trained run, or from a converted checkpoint.

    python -m diffjax.sample --workdir=runs/digits --num=64
    python -m diffjax.sample --workdir=runs/digits --sampler=dpmpp_2m --steps=20 --guidance=1.5 \\
        --label=3 --out=threes.npz
    python -m diffjax.sample --workdir=runs/moons --trajectory=moons.gif

Sample k depends on (seed, k) and its conditions only, not on --num or --batch-size. Labels are 0,
1, ... in turn, unless --label says which; other conditions are those of held-out item k, unless
--cond says what. Flags that are not given keep the config's value.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.data.kinds import Kind
    from diffjax.generation import Generated, Job
    from diffjax.runs.trained import Trained


IMAGES, POINTS = 6, 500
"""Samples whose trajectory is drawn."""


def classes(text: str) -> list[int]:
    return [int(item) for item in text.split(",")]


def condition(text: str) -> tuple[str, Any]:
    """`NAME=VALUE`: a name, and a number, lists, None for null, or the path of a file."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise argparse.ArgumentTypeError(f"{text}: needs NAME=VALUE or NAME=FILE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def flags() -> argparse.ArgumentParser:
    flags = cli.parser("sample", __doc__)
    flags.add_argument("--num", type=cli.positive, default=64, help="number of samples")
    flags.add_argument("--label", type=classes, help="class, or classes in turn: 3 or 0,1,2 (all)")
    flags.add_argument(
        "--cond",
        type=condition,
        action="append",
        metavar="NAME=VALUE|FILE",
        help="a condition: a number, a list, null for missing; or an .npy or .npz file with a row "
        "per sample, or one for all; may be repeated (of held-out items)",
    )
    flags.add_argument(
        "--out",
        type=Path,
        action="append",
        help=".png: one picture; .npz: arr_0 (N, ...), uint8 of images, and labels arr_1; .csv of "
        "points and vectors; else a folder of a file per sample: .png, .wav, .gif, .npy, as the "
        "kind of data is written; may be repeated (WORKDIR/samples.png)",
    )
    flags.add_argument(
        "--trajectory",
        type=Path,
        help=".png or .gif: how the first samples come about, x_t and the predicted x0 by row",
    )
    cli.sampling_flags(flags)
    cli.cluster_flags(flags)
    return flags


def run() -> int:
    given = cli.read(flags())
    given.out = given.out or [given.workdir / "samples.png"]

    from diffjax.devices.processes import first
    from diffjax.training.workdir import read_config, read_form

    cli.start(given)
    read_config(given.workdir)  # a wrong workdir is refused before any folder is made
    kind = read_form(given.workdir).items
    for path in given.out:
        check(path, endings(kind))
    if given.trajectory:
        check(given.trajectory, (".png", ".gif"), "--trajectory")
    made = generate(given)
    for path in given.out if first() else ():
        write(path, made)
        print(f"wrote {path}")
    return 0


def endings(kind: Kind) -> tuple[str, ...]:
    """What `--out` may end in for a kind of data; none for a folder."""
    return (".png", ".npz", *kind.whole(), *([""] if kind.folder() else []))


def prepare(given: argparse.Namespace) -> Trained:
    """What the flags ask for: the trained network, and how it is sampled."""
    from diffjax.runs.trained import load

    return load(given.workdir, cli.sampling(given))


def generate(given: argparse.Namespace) -> Generated:
    """The samples that the flags ask for."""
    from diffjax.devices.processes import first

    trained = prepare(given)
    asked = trained.job(given.seed, given.label, given.batch_size, cond=wanted(given))
    if given.trajectory and first():
        trajectory(given, asked)
    print(asked)
    made = asked.samples(given.num)
    if asked.plan.passes is None:
        print(f"network passes per sample: {min(made.passes)} to {max(made.passes)}")
    return made


def wanted(given: argparse.Namespace) -> dict[str, Any]:
    """The conditions that flags say. A file has a row per sample, or one for all."""
    from diffjax.data import conditions

    values: dict[str, Any] = {}
    for name, value in given.cond or ():
        if name in values:
            raise ConfigError(f"--cond={name}: is said twice")
        values[name] = value
        if isinstance(value, str):
            try:
                values[name] = conditions.read(Path(value), name, given.num)
            except ValueError as error:
                raise ConfigError(f"--cond={error}") from error
    return values


def trajectory(given: argparse.Namespace, asked: Job) -> None:
    """Draw the first samples after each row: x_t and the predicted x0."""
    from diffjax import builder, plot

    num = min(given.num, POINTS if asked.form.items.together else IMAGES)
    path, out = builder.refuse("--trajectory")(asked.path)(num), given.trajectory
    try:
        if out.suffix.lower() == ".gif":
            plot.film(out, *path)
        else:
            plot.save(out, plot.trajectory(*path))
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written ({error.strerror})") from error
    print(f"wrote {out}")


def check(path: Path, known: tuple[str, ...], flag: str = "--out") -> None:
    """Refuse a file that `write` cannot make, before the work is done."""
    from diffjax.files import check_writable, ending, reason
    from diffjax.training.workdir import check_empty

    if ending(path) not in known:
        shown = ", ".join(e or "none for a folder" for e in known)
        raise ConfigError(f"{flag}={path}: known endings: {shown}")
    if not ending(path):  # old samples would be taken for new ones
        check_empty(path)
    folder = path.parent if ending(path) else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(path if ending(path) else path / "000000")
    except OSError as error:
        raise ConfigError(f"{flag}={path}: cannot be written ({reason(error)})") from error


def write(path: Path, made: Generated) -> None:
    """Write samples to a picture, an archive, a table or a folder, by the ending of `path`."""
    import numpy as np

    from diffjax import plot
    from diffjax.files import ending, reason

    kind, units, end = made.form.items, dict(made.form.units), ending(path)
    files = kind.whole().get(end) if end else kind.folder()
    try:
        if end == ".png":
            plot.save(path, made.picture())
        elif end == ".npz":
            arrays = [made.x, *(a for a in (made.label,) if a is not None)]
            others = {name: value for name, value in made.cond.items() if name != "label"}
            with path.open("wb") as file:  # NumPy would add an ending to `.NPZ`
                np.savez(file, *arrays, allow_pickle=False, **others)
        elif files is None:
            known = ", ".join(endings(kind))
            raise ConfigError(f"--out={path}: the samples are {kind.noun}s; known endings: {known}")
        elif not files.each:
            files.write(path, made.x, units)
        else:
            for k, item in enumerate(made.x):
                files.write(path / f"{k:06d}{files.ending}", item, units)
    except OSError as error:
        raise ConfigError(f"--out={path}: cannot be written ({reason(error)})") from error


if __name__ == "__main__":
    cli.main(run)
