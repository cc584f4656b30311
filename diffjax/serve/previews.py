"""Previews of a network of latents: a sketch, fitted once and kept with the run."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np

from diffjax.codecs.sketch import Sketch, sketch
from diffjax.files import reason, write_text
from diffjax.generation import Engine, Job

FILE = "sketch.json"
"""The file in the folder of a run that keeps its sketch."""
NUM = 4
"""Number of samples to which a sketch is fitted."""


def sketched(engine: Engine, job: Job, latents: Job, folder: Path | None) -> Sketch | None:
    """Return the sketch of the latents of a run, None for a network without a codec.

    It is read from the folder, or else fitted to a few samples and written there; a folder that
    cannot be written keeps none. job: decodes what `latents`, a job that does not, generates.
    """
    if job.codec is None:
        return None
    if folder and (known := read(folder / FILE, job.codec.fingerprint)):
        return known
    one = lambda k: engine.submit(replace(latents, index=(k,)), 1)[0].result()
    z = np.stack([one(k) for k in range(NUM)])  # in turn, for few samples may wait
    try:
        found = sketch(z, job.decoding.decode(z))
    except ValueError as error:
        logging.warning("previews are decoded: %s", error)
        return None
    if folder:
        facts = {"codec": job.codec.fingerprint, "matrix": found.matrix.tolist()}
        try:
            write_text(folder / FILE, json.dumps(facts) + "\n")
        except OSError as error:
            logging.warning("%s: not written (%s)", folder / FILE, reason(error))
    return found


def read(path: Path, fingerprint: str) -> Sketch | None:
    """Return the sketch in a file, None where it is missing, damaged or of another codec."""
    try:
        facts = json.loads(path.read_text())
        matrix = np.asarray(facts["matrix"], np.float64)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Sketch(matrix) if facts.get("codec") == fingerprint and matrix.ndim == 2 else None
