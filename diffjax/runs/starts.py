"""Items from which samples start, for image-to-image translation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diffjax import builder
from diffjax.checks import finite, within
from diffjax.codecs import Decoding
from diffjax.config import ConfigError
from diffjax.data.form import Form
from diffjax.evaluation.elsewhere import items
from diffjax.files import ending, read_arrays
from diffjax.training.experiment import Experiment

STRENGTH = 0.6
"""Default share of the sampling steps that is performed from the given items."""


class Begin(NamedTuple):
    """What samples begin with; see `generation.Job`."""

    start: np.ndarray | None = None
    strength: float = 1.0
    known: tuple[int, ...] = ()


def starting(
    experiment: Experiment,
    start: Any,
    strength: float | None = None,
    decoding: Decoding | None = None,
) -> tuple[np.ndarray | None, float]:
    """Return the items from which samples start, and the strength.

    The items are (K, *shape), in the range of the network. The result is None and 1 where samples
    start from the prior. start, strength: as in `Trained.job`. Raises ConfigError for items of
    another form, for a strength outside (0, 1], and for the adaptive sampler, which has no steps to
    skip. decoding: by default that of the experiment; `start` holds its stored items, such as
    images for latents with a codec.
    """
    if start is None:
        if strength is not None:
            raise ConfigError(f"--strength={strength}: applies to --from, which is missing")
        return None, 1.0
    strength = STRENGTH if strength is None else strength
    builder.refuse("--strength")(finite)(strength=strength)
    builder.refuse("--strength")(within)(0, 1, "(]", strength=strength)
    if experiment.config["sampling"].get("sampler", {}).get("name") == "adaptive":
        raise ConfigError(
            "--from: the sampler adaptive has no steps of which --strength is a share; allowed: "
            "the other samplers"
        )
    decoding = decoding or experiment.decoding
    if decoding.form.excites:
        raise ConfigError(
            "--from: samples begin as excitations of sounds (config.data.excitation), which a file "
            "of sounds does not hold; allowed: --control, whose levels the samples follow"
        )
    return decoding.encode(stored(start, decoding.stored)), strength


def stored(start: Any, form: Form, flag: str = "--from") -> np.ndarray:
    """Return the items at `start`, a path or an array, in their stored type, (K, *shape).

    flag: the flag that names them, for messages. Raises ConfigError for items of another form.
    """
    is_path = isinstance(start, str | Path)
    refuse = builder.refuse(f"{flag}={start}" if is_path else flag)
    return refuse(rows)(refuse(read)(Path(start), form) if is_path else start, form)


def read(path: Path, form: Form) -> np.ndarray:
    """Read the items in a file or a folder, in their stored type: (K, *shape) or *shape.

    For images of another size, the shorter side is resized to that of the network and the centre is
    kept, as config.data.size does it. Raises ValueError where the path holds no such items.
    """
    if path.is_dir():
        return items(path, form, fit=True)
    if not path.is_file():
        raise ValueError(f"no such file or folder of {form.items.noun}s")
    if ending(path) in (".npy", ".npz"):
        arrays = read_arrays(path)
        if len(arrays) > 1 and "arr_0" not in arrays:
            raise ValueError(f"holds {', '.join(arrays)}; needs arr_0")
        return arrays["arr_0"] if "arr_0" in arrays else next(iter(arrays.values()))
    if read := form.reader(path):
        return read(path)
    if ending(path) in form.items.whole():
        raise ValueError(f"{ending(path)} only shows {form.items.noun}s; needs another ending")
    return items(path, form, fit=True)


def rows(values: Any, form: Form) -> np.ndarray:
    """Return stored items as an array (K, *shape); raise ValueError for items of another form."""
    x = np.asarray(values)
    if x.dtype == np.float64:
        x = x.astype(np.float32)
    x = x[None] if x.ndim == len(form.shape) else x
    if x.shape[1:] != form.shape or not len(x) or str(x.dtype) not in form.items.dtypes:
        needs = ", ".join(map(str, form.shape))
        kinds = " or ".join(form.items.dtypes)
        has = f"is {x.dtype} of shape {np.shape(values)}"
        raise ValueError(f"{has}; needs {kinds} of shape ({needs}), or several such items")
    form.items.check_values(x)
    return x
