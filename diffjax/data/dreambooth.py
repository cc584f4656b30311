"""The source `dreambooth:<path>`: a few images of your own among samples of the network itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from diffjax.checks import at_least, finite
from diffjax.data.conditions import WEIGHT
from diffjax.data.folder import folder
from diffjax.data.form import Form, from_json
from diffjax.data.source import Memory, check_split, load, part
from diffjax.files import read_arrays

FILE, ABOUT = "prior.npz", "prior.json"
"""The samples of a prior, and the file that states the form of the data of their network."""


def dreambooth(
    split: str,
    path: str = "",
    prior: str = "",
    label: int | None = None,
    prompt: str = "",
    weight: float = 1.0,
    share: float = 0.5,
    holdout: float = 0.0,
) -> Memory:
    """Read the images in a folder beside the prior of a network (arXiv:2208.12242, sec. 3).

    The images in `path` are resized and cropped to the size of the samples. Each occurs so many
    times that they are about a `share` of all items, in (0, 1). Each item has a `weight` in the
    loss: 1 for one of the images in `path`, and `weight` >= 0 for a sample, so that the loss is
    E[own] + weight E[prior] up to a factor if share = 0.5 (eq. 2 there). The split "test" is the
    share `holdout` of the samples.

    prior: a folder that `tools.prior` wrote. label: the class of the images in `path`, for a
    network that takes classes. prompt: their caption, for a network that takes captions; by default
    those of the metadata in the folder. Raises ValueError for a folder without images, for a prior
    that does not exist, and for a label or a caption that the network does not take or lacks.

    >>> dreambooth("train", "pictures", prior="nowhere")
    Traceback (most recent call last):
    ValueError: prior='nowhere': no prior.npz in it; diffjax.tools.prior writes one
    """
    check_split(split, "dreambooth")
    if not 0 < share < 1:
        raise ValueError(f"share={share}: needs 0 < share < 1")
    finite(weight=weight)
    at_least(0, weight=weight)
    form, samples = read(prior)
    check(form, label, prompt)
    kept = np.array(part([str(i) for i in range(len(samples["x"]))], split, holdout))
    samples = {name: values[kept] for name, values in samples.items()}
    own = load(folder("train", path, size=form.shape[0], channels=form.shape[-1], holdout=0.0))
    times = max(1, round(share / (1 - share) * len(kept) / len(own)))
    index = np.repeat(np.arange(len(own)), times if split == "train" else 0)
    texts = []
    if form.texts:
        captions = [[prompt]] * len(own) if prompt else own.captions(np.arange(len(own)))
        if not all(captions):
            raise ValueError(f"prompt='': {path} has no captions; needs a text for its images")
        texts = [captions[i] for i in index] + [[text] for text in samples["prompt"].tolist()]
    counted = np.concatenate([np.ones(len(index)), np.full(len(kept), weight)])
    labels = None
    if form.classes:
        labels = np.concatenate([np.full(len(index), label), samples["y"]]).astype(np.int32)
    return Memory(
        np.concatenate([own.x[index], samples["x"]]),
        labels,
        form.classes,
        "image",
        {WEIGHT: counted.astype(np.float32)},
        form.units,
        form.class_names,
        texts,
    )


def read(prior: str) -> tuple[Form, dict[str, np.ndarray]]:
    """Return the form of the data of a network, and its samples x (N, H, W, C), y and prompt.

    Raises ValueError for a folder that `tools.prior` did not write, or did not finish.
    """
    place = Path(prior).expanduser()
    if not prior or not (place / FILE).is_file():
        raise ValueError(f"prior={prior!r}: no {FILE} in it; diffjax.tools.prior writes one")
    try:
        form = from_json(json.loads((place / ABOUT).read_text())["form"])
        samples = read_arrays(place / FILE)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"prior={prior}: cannot be read ({error})") from error
    needed = ["x", *(["y"] if form.classes else []), *(["prompt"] if form.texts else [])]
    if lacking := [name for name in needed if name not in samples]:
        raise ValueError(f"prior={prior}: {FILE} lacks {lacking[0]}; write it again")
    return form, samples


def check(form: Form, label: int | None, prompt: str) -> None:
    """Raise ValueError where the images cannot have the conditions of a network's data."""
    suited(form)
    if form.classes and (label is None or not 0 <= label < form.classes):
        raise ValueError(f"label={label}: needs a class of the network, 0 to {form.classes - 1}")
    if not form.classes and label is not None:
        raise ValueError(f"label={label}: the network takes no classes; leave it out")
    if prompt and not form.texts:
        raise ValueError(f"prompt={prompt!r}: the network takes no captions; leave it out")


def suited(form: Form) -> None:
    """Raise ValueError for a network that takes conditions besides a label and a caption."""
    if others := [name for name in form.names if name not in ("label", *form.texts)]:
        raise ValueError(f"the network takes {others[0]!r}, which your images lack")
