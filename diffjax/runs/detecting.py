"""Detection of watermarks: the initial noise of images, by the network that made them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diffjax import builder, checks
from diffjax.arrays import keys_at, stream, taken
from diffjax.config import ConfigError
from diffjax.data.walk import endings, walk
from diffjax.denoiser import Denoiser
from diffjax.devices.mesh import layout
from diffjax.progress import Progress
from diffjax.runs.requests import requested, without_text
from diffjax.runs.restoring import absent
from diffjax.runs.starts import stored
from diffjax.runs.trained import Trained
from diffjax.samplers import ddim, sample
from diffjax.watermark import Nonce


class Suspect(NamedTuple):
    """Images of one file: their name, stored items (K, ...), and the nonce of its metadata."""

    name: str
    items: np.ndarray
    nonce: Nonce | None


def initial_noise(
    trained: Trained,
    items: np.ndarray,
    *,
    steps: int = 50,
    label: Any = None,
    prompt: Any = None,
    batch_size: int = 64,
) -> Float[np.ndarray, "n *d"]:
    """Return the noise (N, *shape) from which an ODE sampler leads to stored items (N, ...).

    It is DDIM in the other direction, over the grid of the run without its last step: `steps`
    network passes, without guidance. label, prompt: of all items; by default missing, where the
    network was trained with missing conditions. A codec of latents encodes images first. Raises
    ConfigError for conditions that the network needs and that are not given.
    """
    e = trained.experiment
    if e.reading.enlarged is not None:
        raise ConfigError("--workdir: the run enlarges smaller items, which a detector lacks")
    x0, cond = e.decoding.encode(items), _conditions(trained, label, prompt)
    grid = builder.construct_grid(trained.config["sampling"]["grid"], "config.sampling.grid")
    times = np.asarray(grid(trained.sde, steps + 1))[:-1]
    parts = []
    with Progress("invert", len(x0), "item") as progress:
        for index, count in layout().batches(len(x0), min(batch_size, len(x0))):
            rows = {name: jnp.asarray(v) for name, v in taken(cond, len(index)).items()}
            parts.append(np.asarray(inverted(trained.denoise, x0[index], times, rows))[:count])
            progress.advance(count)
    return np.concatenate(parts)


def inverted(denoise: Denoiser, x0: Any, times: np.ndarray, cond: Any = None) -> Any:
    """Return the states (B, ...) at times[0] from which DDIM leads to x0 at times[-1] > 0.

    times: decreasing. The prediction at the end of a step stands for that at its begin, so the
    result differs from the exact inverse by first-order errors in the steps.
    """
    start = denoise.sde.alpha(jnp.asarray(times[-1])) * jnp.asarray(x0)
    table = ddim(denoise.sde, times[::-1])
    keys = keys_at(stream(0, "invert"), jnp.arange(len(start)))  # of no effect: an ODE
    return sample(denoise, table, start, keys, cond=cond)


def _conditions(trained: Trained, label: Any, prompt: Any) -> dict[str, np.ndarray]:
    """Return the conditions of one item, (1, ...) by name."""
    e = trained.experiment
    empty = without_text(e) if e.form.texts and prompt is None else {}
    missing = {name: None for name in absent(e, label) if name not in empty} | empty
    if label is None and "label" in e.form.names and "label" not in missing:
        raise ConfigError(
            "--label: the class of the images; the network was not trained without one"
        )
    if prompt is not None:
        missing = {name: None for name in missing if name not in e.form.texts}
    prompts = () if prompt is None else (prompt,)
    return taken(requested(e, label, missing, prompts=prompts), 1)


def suspects(trained: Trained, image: Path) -> list[Suspect]:
    """Return the images of a file, or of each file in a folder, with what their metadata state.

    Raises ConfigError for files without images of the form of the run, and for a picture of several
    samples.
    """
    form, flag = trained.experiment.decoding.stored, "--image"
    if not image.is_dir():
        if several(image):
            raise ConfigError(f"{flag}={image}: shows several samples; needs one image or a folder")
        return [Suspect(image.name, stored(image, form, flag), stated(image))]
    inside = builder.refuse(f"{flag}={image}")(walk)(image, endings()).inside
    if not inside:
        raise ConfigError(f"{flag}={image}: no images in it")
    paths = [image / p for p in inside]
    return [Suspect(str(p.relative_to(image)), stored(p, form, flag), stated(p)) for p in paths]


def several(path: Path) -> bool:
    """Return whether the metadata of a picture state the number of samples that it shows."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return "num" in picture.info
    except OSError:
        return False


def stated(path: Path) -> Nonce | None:
    """Return the seed and the number of a sample that the metadata of its picture state."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            text = picture.info
            seed, index = (checks.seed(json.loads(text[n]), n) for n in ("seed", "index"))
            return seed, index
    except (OSError, KeyError, ValueError, TypeError, RecursionError):
        return None


def candidates(stated: Nonce | None, seeds: Sequence[int], numbers: range) -> list[Nonce]:
    """Return the nonces to try: those of the metadata alone where they exist.

    seeds, numbers: of all candidates where there are no metadata.

    >>> candidates(None, [3], range(2)), candidates((5, 1), [3], range(2))
    ([(3, 0), (3, 1)], [(5, 1)])
    """
    return [stated] if stated else [(seed, k) for seed in seeds for k in numbers]
