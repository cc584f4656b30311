"""Samples of a network, stored with their conditions as its prior, for training it further."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from diffjax.builder import refuse
from diffjax.config import ConfigError
from diffjax.data.dreambooth import ABOUT, FILE, suited
from diffjax.files import write_arrays
from diffjax.generation import Job
from diffjax.io.writing import writing
from diffjax.runs.coupled import PARTS, claim


def prior(job: Job, num: int, out: Path) -> Path:
    """Generate `num` samples with their labels and prompts, and return the folder `out`.

    The folder is a `prior` of the source `dreambooth`. Finished batches are kept in it, so that an
    interrupted call resumes, with the same bytes as a result. Raises ConfigError for samples that
    are no images, for a network that takes other conditions, and for a folder with other files or
    with samples of another job.
    """
    stored = job.decoding.stored
    if stored.kind != "image" or stored.dtype != "uint8":
        has = f"{stored.kind} items of {stored.dtype}"
        raise ConfigError(f"--workdir: generates {has}; a prior needs images of uint8")
    refuse("--workdir")(suited)(job.form)
    claim(job, out, ABOUT, form=job.form.as_json())
    drawn = job.samples(num, out / PARTS)
    arrays = {"x": drawn.x} | ({} if drawn.label is None else {"y": drawn.label})
    arrays |= {"prompt": np.array(drawn.prompts)} if drawn.prompts else {}
    with writing(f"--out={out}"):
        write_arrays(out / FILE, arrays)
    return out
