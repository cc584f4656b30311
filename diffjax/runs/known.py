"""Items of which samples keep known positions: forecasts, inpainting and plans to a goal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffjax.builder.lanes import check_trained, known_positions
from diffjax.config import ConfigError
from diffjax.runs.images import images
from diffjax.runs.starts import Begin
from diffjax.training.experiment import Experiment


def taken_from(
    experiment: Experiment,
    given: Any,
    known: Sequence[int] | None,
    start: Any = None,
    low: Any = None,
    watermark: Any = None,
) -> Begin | None:
    """Return the items (K, *shape), as the network sees them, and the positions that are known.

    The result is None for a request without them. given, known, start, low, watermark: as in
    `Trained.job`. Raises ConfigError for one of the first two without the other, for positions that
    items do not have, for a network that was trained with one time for each item, and beside other
    items to start from.
    """
    if given is None and known is None:
        return None
    if given is None or not len(known or ()):
        flag, other = ("--known", "--given") if given is None else ("--given", "--known")
        raise ConfigError(f"{flag}: needs {other} too, the positions that samples take from items")
    check_trained(experiment.loss, "--given")
    others = {"--from": start, "--low": low, "--watermark": watermark}
    if taken := [flag for flag, value in others.items() if value is not None]:
        raise ConfigError(f"--given: not with {taken[0]}; allowed: one of them")
    places = np.flatnonzero(known_positions(known or (), experiment.form.shape[0]))
    if len(places) == experiment.form.shape[0]:
        raise ConfigError(f"--known: holds all {len(places)} positions; needs one that is free")
    items = images(experiment, given, "--given")
    return Begin(items, known=tuple(places.tolist()))
