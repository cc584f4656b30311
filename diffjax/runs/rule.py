"""The normalisation of the latents of an autoencoder that is trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import numpy as np

from diffjax.arrays import Params
from diffjax.builder.codec import RULE
from diffjax.codecs import Codec
from diffjax.codecs.statistics import statistics
from diffjax.data.pipeline import select
from diffjax.devices.mesh import layout
from diffjax.devices.processes import first
from diffjax.files import write_text
from diffjax.io.writing import writing
from diffjax.nets import Autoencoder
from diffjax.training.experiment import Experiment
from diffjax.training.workdir import last_step

MOST = 10_000
"""Largest number of training images whose latents define the normalisation."""


def outdated(experiment: Experiment, workdir: Path) -> bool:
    """Return whether a run needs a new normalisation, and remove an old one before more steps.

    An old one would be that of other weights.
    """
    file = workdir / RULE
    if last_step(workdir) >= experiment.train.steps:
        return not file.exists()
    if first():
        file.unlink(missing_ok=True)
    return True


def copy_rule(source: Path, out: Path) -> None:
    """Copy the normalisation of a run or an export, if it has one, to another export."""
    if first() and (source / RULE).exists():
        with writing(f"--out={out}"):
            write_text(out / RULE, (source / RULE).read_text())


def write_rule(experiment: Experiment, params: Params, workdir: Path) -> None:
    """Write mean and deviation per channel of the latents of training images to `workdir`.

    With them the latents of the run, as a codec, have the mean 0 and the deviation 1. params: the
    averaged parameters, of the average that comes first by name. At most 10,000 images are encoded,
    spread evenly over the training split.
    """
    e = experiment
    items = select(e.source("train"), e.reading, MOST)
    images = lambda index: np.asarray(e.form.items.normalise(items[index]["x"]))
    codec = Codec(layout().whole(params["network"]), network=cast(Autoencoder, e.model.network))
    latents = statistics(codec, images, len(items), e.train.batch_size)
    rule = {"centre": latents.centre.tolist(), "scale": latents.scale.tolist(), "std": 1.0}
    if first():
        with writing(f"--workdir={workdir}"):
            write_text(workdir / RULE, json.dumps(rule) + "\n")
