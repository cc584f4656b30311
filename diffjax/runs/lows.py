"""Smaller items that a network enlarges: those of a request, of a file, or held-out ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diffjax import builder
from diffjax.config import ConfigError
from diffjax.data.enlarged import Enlarged
from diffjax.data.form import Form
from diffjax.data.images import decode
from diffjax.data.pipeline import centred
from diffjax.data.walk import endings, walk
from diffjax.denoiser import Denoiser
from diffjax.files import ending, read_arrays
from diffjax.generation.low import Low
from diffjax.generation.tiled import Tiled
from diffjax.runs.requests import Turns, requested
from diffjax.training.experiment import DEFAULTS, Experiment

UNTRAINED = (
    "--low, --tau: the network was trained without config.data.enlarged, so it enlarges nothing; "
    "allowed: runs with it"
)
LATER = object()
"""In place of items: those of an earlier stage, which do not exist yet."""


def lows(
    experiment: Experiment,
    low: Any,
    tau: float | Sequence[float] | None,
    *,
    index: Sequence[int] = (),
    seeds: int = 1,
) -> Low | None:
    """Return the smaller items that the samples of a run enlarge, None for a run without any.

    low: stored items (K, *shape), in the sides of training or larger, the path of such a file or
    folder, LATER, or None for held-out items made smaller, of which sample number k has item k;
    index and seeds are then as in `requests.requested`. tau: noise levels, by default the least one
    of training. Raises ConfigError for items of another form, for a level outside of those of
    training, and for a run that enlarges nothing.
    """
    e, enlarged = experiment, experiment.reading.enlarged
    if enlarged is None:
        if not (tau is None and (low is None or low is LATER)):
            raise ConfigError(UNTRAINED)
        return None
    form = builder.refuse("config.data.enlarged")(enlarged.small)(e.form)
    if low is LATER:
        items = np.zeros((0, *form.shape), form.dtype)
    elif low is None:
        items = held_out(e, enlarged, form)
        items = items[np.mod(index, len(items))] if index else items.repeat(seeds, 0)
    else:
        items = read(low, form)
    levels = np.atleast_1d(np.asarray(enlarged.levels[0] if tau is None else tau, np.float64))
    if levels.ndim != 1 or not levels.size:
        raise ConfigError(f"--tau={tau}: needs one noise level, or several")
    sized = builder.refuse("--low")(sides)(items, form)
    return builder.refuse("--tau")(Low)(items, sized, enlarged, tuple(levels.tolist()))


def held_out(experiment: Experiment, enlarged: Enlarged, form: Form) -> np.ndarray:
    """Return the first held-out items, made smaller, in their stored type; form: that of these."""
    e = experiment
    try:
        source = e.unseen
        items = source[np.arange(min(len(source), DEFAULTS))]
    except ConfigError as error:
        raise ConfigError(
            f"--low: not set, and the default, held-out items made smaller, fails: {error}"
        ) from error
    x = centred(items, e.reading, source.form)["x"]
    small = enlarged.reduce(np.asarray(form.items.normalise(x)), e.form)
    return form.denormalise(small)


def sides(items: np.ndarray, form: Form) -> Form:
    """Return the form of smaller items, with the sides that they have.

    Raises ValueError for other items than those of the form, or larger ones.
    """
    shape, axes = items.shape[1:], [len(form.shape) + axis for axis in form.items.window]
    fits = len(shape) == len(form.shape) and all(
        n >= m if axis in axes else n == m
        for axis, (n, m) in enumerate(zip(shape, form.shape, strict=False))
    )
    if not fits or str(items.dtype) not in form.items.dtypes:
        raise ValueError(
            f"the items are {items.dtype} of shape {shape}; needs {' or '.join(form.items.dtypes)} "
            f"of shape {form.shape}, or of larger sides"
        )
    return replace(form, shape=shape, dtype=str(items.dtype))


def read(low: Any, form: Form) -> np.ndarray:
    """Return the smaller items of a request, in their stored type, (K, ...).

    low: an array of one item or of several, the path of a file of arrays, of an image, or of a
    folder of images. form: that of training, for the number of axes and channels; images keep
    their size. Raises ConfigError for what cannot be read.
    """
    if isinstance(low, str | Path):
        x = builder.refuse(f"--low={low}")(_file)(Path(low), form)
    else:
        x = np.asarray(low)
    x = x.astype(np.float32) if x.dtype == np.float64 else x
    return x[None] if x.ndim == len(form.shape) else x


def rows_of(experiment: Experiment, low: Any) -> np.ndarray:
    """Return the smaller items at `low` for a run, (K, ...); see `read`.

    Raises ConfigError for a run that enlarges nothing.
    """
    if experiment.reading.enlarged is None:
        raise ConfigError(UNTRAINED)
    form = builder.refuse("config.data.enlarged")(experiment.reading.enlarged.small)
    return read(low, form(experiment.form))


def _file(path: Path, form: Form) -> np.ndarray:
    if ending(path) in (".npy", ".npz"):
        arrays = read_arrays(path)
        if len(arrays) > 1 and "arr_0" not in arrays:
            raise ValueError(f"holds {', '.join(arrays)}; needs arr_0")
        return arrays["arr_0"] if "arr_0" in arrays else next(iter(arrays.values()))
    if form.kind != "image":
        raise ValueError(f"{form.items.noun}s are read from .npy and .npz files")
    files = [path / p for p in walk(path, endings()).inside] if path.is_dir() else [path]
    if not files:
        raise ValueError("no images in it")
    from PIL import Image

    def opened(file: Path) -> np.ndarray:
        try:
            return decode(lambda: Image.open(file), 0, form.shape[-1])[0]
        except Exception as error:  # a damaged file of any format
            raise ValueError(f"{file.name}: unreadable ({error})") from error

    images = [opened(file) for file in files]
    if len({image.shape for image in images}) > 1:
        raise ValueError("the images have several sizes; needs one, or one command for each size")
    return np.stack(images)


def conditioned(
    experiment: Experiment,
    low: Any,
    tau: float | Sequence[float] | None,
    label: Any,
    cond: Mapping[str, Any],
    turns: Turns,
) -> tuple[Low | None, dict[str, np.ndarray]]:
    """Return the smaller items of a request as `lows`, and its other conditions as `requested`.

    With smaller items of the request, other conditions are missing by default: those of held-out
    items do not belong to them.
    """
    of = {"index": turns.index, "seeds": np.size(turns.seed)}
    small = lows(experiment, low, tau, **of)
    form, enlarged = experiment.form, experiment.reading.enlarged
    own = enlarged.names if enlarged else ()
    if low is not None:
        set_by = (*own, *(form.texts if turns.prompts else ()))
        names = [s.name for s in form.conditions if s.kind != "length" and s.name not in set_by]
        cond = {k: None for k in names if k != "label" or label is None} | dict(cond)
    return small, requested(experiment, label, cond, prompts=turns.prompts, without=own, **of)


def larger(denoise: Denoiser, form: Form, low: Low | None) -> tuple[Denoiser | Tiled, Form]:
    """Return the denoiser in tiles, and the form of samples, where smaller items are larger.

    Both are unchanged where the items have the sides of training.
    """
    if low is None:
        return denoise, form
    axes = form.items.window
    shape = [*form.shape]
    for axis in axes:
        shape[axis] = low.form.shape[axis] * low.enlarged.factor
    if tuple(shape) == form.shape:
        return denoise, form
    maps = tuple(spec.name for spec in form.conditions if spec.kind == "map")
    tiled = Tiled(denoise, tuple(form.shape[axis] for axis in axes), axes, maps)
    return tiled, replace(form, shape=tuple(shape))
