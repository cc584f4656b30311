"""A job: samples of one network, made in one way, and kept on disk for every metric.

Sample k depends on (seed, k) and its conditions only: a killed command resumes where it stopped,
another metric takes the samples that there are, and a larger number adds to them.
"""

from __future__ import annotations

import functools
import json
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffjax.arrays import stream, taken
from diffjax.config import Config, ConfigError
from diffjax.data.form import Form
from diffjax.denoiser import Denoiser
from diffjax.devices.mesh import layout
from diffjax.devices.processes import first
from diffjax.files import write_arrays, write_text
from diffjax.generation.program import Generation, generate
from diffjax.io.trees import fingerprint
from diffjax.progress import Progress
from diffjax.samplers.plan import Plan, Sampling
from diffjax.samplers.run import Preview

Arrays = dict[str, np.ndarray]
FILED = {"label": "arr_1"}
"""Names of conditions in files, where other programs expect another one."""
PARTS = 10
"""Of the rows of a batch, after each of which progress is shown, unless somebody says otherwise."""
LONG = 100
"""Rows from which progress is shown within a batch."""
LINES = 60.0
"""Seconds between lines of progress where there is no terminal."""


class Generated(NamedTuple):
    """x (N, ...) as items of the form are stored; their conditions by name, (N, ...); network
    passes and seconds of each (N,)."""

    x: np.ndarray
    cond: Mapping[str, np.ndarray]
    passes: np.ndarray
    seconds: np.ndarray
    form: Form

    @property
    def label(self) -> np.ndarray | None:
        """(N,), or None where there is none."""
        return self.cond.get("label")

    def picture(self) -> np.ndarray:
        """All of them as a picture uint8 (H, W, 3), as their kind is shown."""
        return self.form.picture(self.x, self.label)

    def __repr__(self) -> str:
        what = f"{len(self.x)} samples of {self.x.shape[1:]} {self.x.dtype}"
        labels = "none" if self.label is None else len(np.unique(self.label))
        return f"Generated({what}, labels: {labels}, network passes: {self.passes.mean():g})"


class Trajectory(NamedTuple):
    """x, x0 (R, N, ...): the state and the predicted x0 after each row; t (R,); kind of data."""

    x: np.ndarray
    x0: np.ndarray
    t: np.ndarray
    kind: str


@dataclass(frozen=True)
class Job:
    """A trained network, and how it is sampled.

    form, config: those that the network was trained with. about: what the protocol says of both:
    config.sampling, trained, ema.
    cond: conditions by name in rows (K, ...), which the samples take in turn.
    """

    denoise: Denoiser
    plan: Sampling
    form: Form
    config: Config
    about: Mapping[str, Any]
    seed: int = 0
    batch_size: int = 256
    cond: Mapping[str, np.ndarray] = field(default_factory=dict)

    @functools.cached_property
    def weights(self) -> str:
        """The fingerprint of the parameters."""
        return fingerprint("", self.denoise.params)

    @functools.cached_property
    def key(self) -> str:
        """The name of the job: its sampler, and a fingerprint of all that its samples depend on."""
        config = {k: self.config[k] for k in ("sde", "parameterization", "network")}
        others = {name: rows for name, rows in self.cond.items() if name != "label"}
        turn = np.asarray(self.cond.get("label", ())).tolist()
        told = [dict(self.about), config, self.form.shape, self.seed, turn, self.weights]
        return f"{self.about['sampler']['name']}-{fingerprint(told, (self.plan, others))}"

    def __str__(self) -> str:
        rows, passes = self.plan.rows, self.plan.passes
        many = f"{rows} rows, {passes} network passes per sample" if rows else "by error"
        return (
            f"step {self.about['trained']}, ema {self.about['ema'] or '-'}, "
            f"{self.about['sampler']['name']}: {many}, guidance {shown(self.about['guidance'])}"
        )

    def __repr__(self) -> str:
        return f"Job({self})"

    def protocol(self, made: Generated) -> dict[str, Any]:
        """How they were made. passes: of one sample; the mean where they differ. seconds: of all,
        without those of the compiler."""
        passes = self.plan.passes or round(float(made.passes.mean()), 1)
        told = {"seed": self.seed, "num": len(made.x), "rows": self.plan.rows, "passes": passes}
        told |= {"weights": self.weights, "seconds": round(float(made.seconds.sum()), 3)}
        return dict(self.about) | told

    def samples(
        self,
        num: int,
        folder: Path | None = None,
        *,
        preview: Callable[[Preview], None] | None = None,
        every: int | None = None,
    ) -> Generated:
        """Samples 0, ..., num - 1: those in the folder, and the rest, made now and put there.

        A batch is a file of its own, named by its first sample, in the layout of `sample --out`
        and with what it cost. They are split over all devices of all processes. preview: is called
        after every so many rows (`every`; a tenth of them) with the samples on the way, as in
        `Generation`; those that are in the folder are not seen. ValueError for adaptive steps.
        """
        parts = stored(folder, num) if folder else []
        start = sum(len(part["arr_0"]) for part in parts)
        for part in self._batches(start, num, preview, every):
            if folder and first():
                self._keep(folder, start, part)
            start += len(part["arr_0"])
            parts.append(part)
        whole = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        cond = {name: whole[FILED.get(name, name)] for name in self.cond}
        return Generated(whole["arr_0"], cond, whole["passes"], whole["seconds"], self.form)

    def path(self, num: int) -> Trajectory:
        """How samples 0, ..., num - 1 come about. ValueError for steps that the error decides."""
        if not isinstance(plan := self.plan, Plan):
            raise ValueError("adaptive steps differ between samples; use another sampler")
        cond = {name: jnp.asarray(value) for name, value in taken(self.cond, num).items()}
        own = (stream(self.seed, "sample"), jnp.arange(num), cond)
        made = generate(self.denoise, plan, *own, shape=self.form.shape, path=True)
        assert made.path is not None
        x, x0 = map(np.asarray, made.path)
        return Trajectory(x, x0, plan.table.t, self.form.kind)

    def _keep(self, folder: Path, start: int, part: Arrays) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / "job.json", json.dumps(dict(self.about), indent=2) + "\n")
            write_arrays(folder / _file(start), part)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error

    def _batches(
        self,
        start: int,
        num: int,
        preview: Callable[[Preview], None] | None,
        every: int | None,
    ) -> Iterator[Arrays]:
        """Samples start, ..., num - 1 as they are made. Progress counts rows where it is shown
        within a batch."""
        if start >= num:
            return
        form, cond, devices = self.form, taken(self.cond, num), layout().mesh
        rows, quiet = self.plan.rows or 0, not first()
        every = every or max(1, -(-rows // PARTS))

        def look(seen: Preview) -> None:
            progress.advance((seen.row - 1) % every + 1)
            if preview:
                preview(seen)

        by_rows = preview is not None or rows >= LONG
        own = (self.seed, num, form.shape, cond, self.batch_size, devices, start)
        watch = {"preview": look, "every": every} if by_rows else {}
        made, done = Generation(self.denoise, self.plan, *own, **watch), start
        total, unit = (rows * len(made), "row") if by_rows else (num, form.items.noun)
        ready = 0 if by_rows else start
        began = last = time.monotonic()
        with Progress("sample", total, unit, ready, quiet=quiet, lines=LINES) as progress:
            for x in made:
                now, count = time.monotonic(), len(x)
                yield {
                    "arr_0": form.denormalise(x),
                    **{FILED.get(k, k): v[done : done + count] for k, v in cond.items()},
                    "passes": np.array(made.passes[-count:], np.int32),
                    "seconds": np.full(count, (now - last) / count),
                }
                progress.advance(0 if by_rows else count)
                done, last = done + count, time.monotonic()
        rate = (num - start) / (time.monotonic() - began)
        print(f"compiled in {made.compile_seconds:.1f} s, then {rate:.1f} {form.items.noun}s/s")


def stored(folder: Path, num: int) -> list[Arrays]:
    """The batches in a folder that follow each other from sample 0 on, cut at `num` samples.

    What cannot be read ends them: it is made again.
    """
    parts, count = [], 0
    while count < num and zipfile.is_zipfile(folder / _file(count)):
        try:
            with np.load(folder / _file(count)) as file:
                part = {k: file[k][: num - count] for k in file.files}
        except (OSError, ValueError, zipfile.BadZipFile, zlib.error):
            break
        parts.append(part)
        count += len(part["arr_0"])
    return parts


def _file(start: int) -> str:
    return f"{start:08d}.npz"


def shown(guidance: Any) -> str:
    """A guidance in a few words: `2`, or `2, rule apg, threshold dynamic`."""
    if not isinstance(guidance, Mapping):
        return f"{guidance:g}"
    name = lambda entry: entry["name"] if isinstance(entry, Mapping) else entry
    weight = guidance.get("weight", 1.0)
    rest = [f"{k} {name(v)}" for k, v in guidance.items() if k != "weight" and v is not None]
    return ", ".join([f"{weight:g}" if isinstance(weight, int | float) else str(weight), *rest])
