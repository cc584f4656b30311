"""Pictures of samples while they are generated."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffjax import plot
from diffjax.arrays import taken
from diffjax.config import ConfigError
from diffjax.devices.processes import first
from diffjax.generation import Job
from diffjax.io.writing import writing
from diffjax.samplers.run import Preview


class Previews:
    """A writer of pictures of the predicted x0 of the first batch, while the device continues.

    path: a folder for the pictures row_0005.png, ... of rows 5, ..., or a .gif, which is written
    after the last row. num: the number of samples. every: the number of rows between two pictures.
    Raises ConfigError for a sampler without rows, and for `every` beyond its number of rows.

        previews = Previews(trained.job(), 16, Path("way.gif"), every=5)
        trained.sample(16, preview=previews, every=5)
    """

    def __init__(self, job: Job, num: int, path: Path, every: int | None = None):
        rows = job.plan.rows
        if rows is None or job.plan.tableless:
            raise ConfigError(
                f"--previews={path}: {job.plan.tableless}; previews need the rows of a table"
            )
        if every and every > rows:
            raise ConfigError(f"--every={every}: the sampler has {rows} rows; needs at most {rows}")
        self.place, self._decoding, self.count = path, job.decoding, 0
        self._cond = taken(job.cond, num)
        self._frames: list[np.ndarray] = []
        self._is_first_batch = True

    def __call__(self, seen: Preview) -> None:
        if not self._is_first_batch:
            return
        self._is_first_batch = seen.row < seen.rows
        x0 = self._decoding(np.asarray(seen.x0))  # by the devices of all processes
        if not first():
            return
        self.count += 1
        cond, stored = {k: v[: len(x0)] for k, v in self._cond.items()}, self._decoding.stored
        picture = stored.picture(stored.items.joined(x0, cond), cond.get("label"))
        with writing(self.place):
            if self.place.suffix != ".gif":
                plot.save(self.place / f"row_{seen.row:04d}.png", picture)
                return
            self._frames.append(picture)
            if not self._is_first_batch:
                plot.animation(self.place, self._frames)
