"""Files of samples and trajectories, which `python -m diffjax.sample` writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from diffjax import builder, plot
from diffjax.config import ConfigError
from diffjax.data.kinds import Kind
from diffjax.files import check_place, ending
from diffjax.generation import Generated, Job
from diffjax.io.writing import writing
from diffjax.plot.paths import FRAMES
from diffjax.training.workdir import check_empty

Sign = Callable[[Path, Mapping[str, str]], None]
IMAGES, POINTS = 6, 500
"""Number of samples whose trajectory is drawn, of images and of points."""


def endings(kind: Kind) -> tuple[str, ...]:
    """Return the endings that `--out` supports for a kind of data; an empty one is a folder."""
    return (".png", ".npz", *kind.whole(), *([""] if kind.folder() else []))


def trajectory(out: Path, job: Job, num: int) -> None:
    """Draw the first of `num` samples after each row, x_t and the predicted x0, to a file."""
    num = min(num, POINTS if job.form.items.together else IMAGES)
    path = builder.refuse("--trajectory")(job.path)(num)
    if out.suffix.lower() == ".gif":
        with writing(out):
            plot.film(out, *path.decoded(job.decoding))
    else:
        picture = plot.trajectory(*path.thinned(FRAMES).decoded(job.decoding))
        with writing(out):
            plot.save(out, picture)
    print(f"wrote {out}")


def check(path: Path, known: tuple[str, ...], flag: str = "--out") -> None:
    """Raise ConfigError for a file that `write` cannot create, before the work is done."""
    if ending(path) not in known:
        shown = ", ".join(e or "none (a folder)" for e in known)
        raise ConfigError(f"{flag}={path}: unknown ending; known: {shown}")
    if not ending(path):  # old samples would be mistaken for new ones
        check_empty(path, flag)
    with writing(f"{flag}={path}"):
        check_place(path if ending(path) else path / "000000")


def check_items(path: Path, kind: Kind) -> None:
    """Raise ConfigError for a file of items that `write` cannot create, as `check` does."""
    check(path, endings(kind))
    if files := kind.whole().get(ending(path)):
        builder.refuse(f"--out={path}")(files.check)()


def suffix(class_name: str) -> str:
    """Return the part of a file name for a class, such as `_cat`.

    Its characters are allowed on every system.
    """
    plain = re.sub(r"[^\w.+-]+", "_", class_name)[:60].strip("_.")
    return f"_{plain}" if plain else ""


def write(path: Path, samples: Generated, sign: Sign | None = None) -> None:
    """Write samples to a picture, an archive, a table or a folder, by the ending of `path`.

    sign: called with each picture (.png) that is written, and its metadata.
    """
    replaces = path.is_file()
    kind, units, end = samples.form.items, dict(samples.form.units), ending(path)
    files = kind.whole().get(end) if end else kind.folder()
    shown = kind.joined(samples.x, samples.cond)
    with writing(f"--out={path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if end == ".png":
            plot.save(path, samples.picture(), samples.stamp())
            if sign:
                sign(path, samples.stamp())
        elif end == ".npz":
            arrays = [samples.x, *(a for a in (samples.label,) if a is not None)]
            others = {name: value for name, value in samples.cond.items() if name != "label"}
            others |= {k: np.array(v) for k, v in samples.turns.items() if k == "stopped"}
            with path.open("wb") as file:  # NumPy would add an ending to `.NPZ`
                np.savez(file, *arrays, allow_pickle=False, **others)
        elif files is None:
            known = ", ".join(endings(kind))
            raise ConfigError(f"--out={path}: the samples are {kind.noun}s; known endings: {known}")
        elif not files.each:
            files.write(path, shown, units, {})
        else:
            for k, item in enumerate(shown):
                name = "" if samples.label is None else samples.form.named(int(samples.label[k]))
                file = path / f"{k:06d}{suffix(name)}{files.ending}"
                files.write(file, item, units, samples.stamp(k))
                if sign and files.ending == ".png":
                    sign(file, samples.stamp(k))
    print(f"wrote {path}" + ", replacing an older file" * replaces)


def staged(path: Path, stage: int, several: bool = True) -> Path:
    """Return the path of a stage of a cascade, numbered from 0; that of a single stage is `path`.

    >>> staged(Path("way.gif"), 0), staged(Path("way"), 1)
    (PosixPath('way_stage_1.gif'), PosixPath('way_stage_2'))
    """
    return path.with_name(f"{path.stem}_stage_{stage + 1}{path.suffix}") if several else path
