"""Results of a job: samples with their costs, or trajectories."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import diffjax
from diffjax.codecs import Decoding
from diffjax.data.form import Form
from diffjax.filters import Filter, filtered


class Generated(NamedTuple):
    """Generated samples with their conditions and costs.

    x (N, ...): items in the form in which their data is stored, NaN beyond the length of an item.
    cond: conditions by name, (N, ...). passes, seconds (N,): network passes and seconds of each
    sample. turns: seeds, numbers, prompts and weights that samples take in turn, by name, as in
    `Job.listed`. facts: entries of the protocol that all samples share.

    >>> form, one = Form("points", (2,)), np.ones(3)
    >>> Generated(np.zeros((3, 2), np.float32), {}, passes=20 * one, seconds=0.1 * one, form=form)
    Generated(3 samples of (2,) float32, labels: none, network passes: 20)
    """

    x: np.ndarray
    cond: Mapping[str, np.ndarray]
    passes: np.ndarray
    seconds: np.ndarray
    form: Form
    turns: Mapping[str, Sequence[Any]] = MappingProxyType({})
    facts: Mapping[str, Any] = MappingProxyType({})

    @property
    def label(self) -> np.ndarray | None:
        """The class labels (N,), or None where there are none."""
        return self.cond.get("label")

    @property
    def prompts(self) -> tuple[str, ...]:
        """The text of each sample, (N,); empty without any."""
        texts = self.turns.get("prompt", ())
        return tuple(texts[k % len(texts)] for k in range(len(self.x) if texts else 0))

    def stamp(self, k: int | None = None) -> dict[str, str]:
        """Return texts for the metadata of a picture of all samples, or of sample k.

        They are the settings of the sampler, the seed, the number of the sample, its class and
        prompt, the fingerprint of the weights, the watermark, and the version of diffjax. A picture
        of all samples has the number of samples, and lists of what differs between them.

        >>> form, x, one = Form("points", (2,)), np.zeros((4, 2)), np.ones(4)
        >>> made = Generated(x, {}, one, one, form, {"prompt": ["a dot", "a line"]}, {"steps": 5})
        >>> made.stamp(1)["prompt"], made.stamp(1)["index"], made.stamp()["num"]
        ('a line', '1', '4')
        """
        turns = {name: [*values] for name, values in self.turns.items()}
        labels = [] if self.label is None else self.label.tolist()
        if k is None:
            turns = {"num": len(self.x)} | ({"label": labels} if labels else {}) | turns
        else:
            number = {"index": k // len(turns.get("seed", [0]))}
            turns = number | {name: values[k % len(values)] for name, values in turns.items()}
            if labels:
                name = self.form.named(labels[k])
                turns |= {"label": labels[k]} | ({"class": name} if name else {})
        as_text = lambda value: value if isinstance(value, str) else json.dumps(value)
        texts = {name: as_text(value) for name, value in {**self.facts, **turns}.items()}
        return {"Software": f"diffjax {diffjax.__version__}", **texts}

    def filtered(self, filters: Sequence[Filter]) -> Generated:
        """Return the samples with those grey that a filter stops, stated in their metadata.

        Raises ValueError for other items than images.

        >>> form, one = Form("image", (4, 4, 1), dtype="uint8"), np.ones(2)
        >>> made = Generated(np.full((2, 4, 4, 1), 9, np.uint8), {}, one, one, form)
        >>> dark = Filter("dark", lambda x: 1 - x.mean((1, 2, 3)) / 255, threshold=0.5)
        >>> made.filtered([dark]).stamp()["stopped"]
        '[true, true]'
        """
        x, stopped = filtered(filters, self.x)
        facts = {**self.facts, "filters": [each.about for each in filters]}
        return self._replace(x=x, turns={**self.turns, "stopped": stopped.tolist()}, facts=facts)

    def picture(self) -> np.ndarray:
        """Return all samples as a picture uint8 (H, W, 3), drawn as their kind of data is.

        Prompts stand below the samples.
        """
        shown = self.form.items.joined(self.x, self.cond)
        return self.form.picture(shown, self.label, self.prompts)

    def __repr__(self) -> str:
        what = f"{len(self.x)} samples of {self.x.shape[1:]} {self.x.dtype}"
        labels = "none" if self.label is None else len(np.unique(self.label))
        return f"Generated({what}, labels: {labels}, network passes: {self.passes.mean():g})"


class Trajectory(NamedTuple):
    """The trajectory of N samples over the R rows of a table.

    x, x0 (R, N, ...): the state and the predicted x0 after each row. t (R,): times of the rows.
    kind: kind of the data.
    """

    x: np.ndarray
    x0: np.ndarray
    t: np.ndarray
    kind: str

    def thinned(self, rows: int) -> Trajectory:
        """Return at most `rows` rows, evenly spaced, among them the first and the last.

        >>> x = np.zeros((5, 1, 2))
        >>> Trajectory(x, x, np.linspace(1, 0.2, 5), "points").thinned(3).t.tolist()
        [1.0, 0.6, 0.2]
        """
        pick = np.unique(np.linspace(0, len(self.t) - 1, rows).round().astype(int))
        return Trajectory(self.x[pick], self.x0[pick], self.t[pick], self.kind)

    def decoded(self, decoding: Decoding) -> Trajectory:
        """Return the trajectory of the images that latents decode to; without a codec, itself.

        Noisy latents are first divided by their deviation where it exceeds that of the samples.
        """
        if decoding.codec is None:
            return self
        spread = self.x.std(axis=tuple(range(2, self.x.ndim)), keepdims=True)
        noisier = np.maximum(1, spread / np.maximum(1, spread[-1:]))
        rows, stored = self.x.shape[:2], decoding.stored
        images = lambda z: decoding.decode(z.reshape(-1, *z.shape[2:])).reshape(
            *rows, *stored.shape
        )
        x, x0 = images(self.x / noisier), images(self.x0)
        return Trajectory(x, x0, self.t, stored.kind)
