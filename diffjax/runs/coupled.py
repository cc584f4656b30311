"""Pairs of noise and the sample that a deterministic sampler maps it to, stored as a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.arrays import keys_at, stream
from diffjax.config import ConfigError
from diffjax.files import write_arrays, write_text
from diffjax.generation import Job
from diffjax.io.writing import writing
from diffjax.samplers import initial

FILE, PARTS = "pairs.npz", "parts"
"""The data set, and the folder of batches that exists while it is generated."""
BLOCK = 1024


def check(job: Job) -> None:
    """Raise ConfigError for a job whose samples are no functions of their noise."""
    if job.plan.noisy:
        name = job.about["sampler"]["name"]
        raise ConfigError(
            f"--sampler={name}: adds noise, so that samples are no functions of their first noise; "
            f"allowed: ddim, heun, dpmpp_2m and other samplers of the ODE, without a corrector"
        )
    if job.form.ends:
        raise ConfigError("--workdir: its items have lengths, which pairs do not; allowed: others")


def pairs(job: Job, num: int, out: Path) -> Path:
    """Generate `num` pairs, and return the file in the folder `out` that holds them.

    The file is a data set for the source `array`: x in the type of stored items, y where there are
    labels, all other conditions, and the noise of each item as the condition `noise`, for
    `Denoising(pairing=stored)`. Finished batches are kept in the folder, so that an interrupted
    call resumes, with the same bytes as a result.
    """
    check(job)
    drawn = job.samples(num, out / PARTS)
    arrays = {"x": drawn.x, "cond_noise": noises(job, num)}
    arrays |= {"y" if k == "label" else f"cond_{k}": value for k, value in drawn.cond.items()}
    with writing(f"--out={out}"):
        write_arrays(out / FILE, arrays)
    return out / FILE


def noises(job: Job, num: int) -> np.ndarray:
    """Return the noise eps of samples 0, ..., num - 1, which start at sigma eps, (num, *shape)."""
    sde, start = job.denoise.sde, jnp.asarray(job.plan.start, jnp.float32)
    key = stream(job.seed, "sample")
    begin = jax.jit(lambda index: initial(sde, keys_at(key, index), job.form.shape, start)[0])
    blocks = [begin(first + jnp.arange(BLOCK)) for first in range(0, num, BLOCK)]
    return np.concatenate(blocks)[:num] / np.asarray(sde.sigma(start))


def claim(job: Job, out: Path, about: str = "pairs.json", **facts: Any) -> None:
    """Create the folder `out` and write a file by which another command recognises it.

    about: the name of the file, which holds the job and further `facts`. Raises ConfigError for a
    folder with other files, and for one with the samples of another job.
    """
    file, here = out / about, {"job": job.key, **job.about, **facts}
    here = json.loads(json.dumps(here))
    if out.exists() and not file.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out={out}: holds other files; needs a new or an empty folder")
    if file.exists() and _read(file).get("job") != job.key:
        raise ConfigError(
            f"--out={out}: holds samples of another network, sampler or seed; use another folder"
        )
    with writing(f"--out={out}"):
        out.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(here, indent=2) + "\n")


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, TypeError, ValueError):
        return {}
