"""Values per image of a set, in batches that are saved, so that an interrupted command resumes.

The value of an image depends on the seed and its index in the set only, not on how many images are
requested.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from diffjax.arrays import Cond, jit_leaves, keys_at, stream
from diffjax.config import Config
from diffjax.data import Reading, Source
from diffjax.data.form import Form
from diffjax.data.pipeline import centred
from diffjax.denoiser import Denoiser
from diffjax.devices.mesh import layout
from diffjax.devices.processes import first
from diffjax.files import read_arrays, write_arrays, write_text
from diffjax.io.trees import fingerprint
from diffjax.prediction import Sample
from diffjax.progress import Progress
from diffjax.samplers.plan import Sampling

Values = Callable[[Denoiser, Sample, Key[Array, " b"], Cond], dict[str, Array]]
"""`(denoise, x0, keys, cond) -> values`, each (B, ...); x0 in [-1, 1] if images."""


@dataclass(frozen=True)
class Subject:
    """A trained network, and the set that it is evaluated on.

    form, reading, config: those of training. about: the entries of the protocol on both: data,
    split, trained, ema. workdir: folder in which values are saved. batch_size: images per batch.
    plan: returns the plan of sampling, for metrics that sample, given `known` positions if there
    are any; None where it is ambiguous. Raises ValueError where the set differs in form from the
    training data.
    """

    denoise: Denoiser
    form: Form
    reading: Reading
    config: Config
    source: Source
    about: Mapping[str, Any]
    workdir: Path
    seed: int = 0
    batch_size: int = 64
    plan: Callable[..., Sampling] | None = None

    def __post_init__(self):
        declared, wanted = self.source.form, self.form
        for form in (declared, wanted):
            form.refuse_lengths("metrics")
            form.refuse_gaps("metrics")
        kind, shape = declared.kind, self.reading.shape(self.source)
        if (kind, shape) != (wanted.kind, wanted.shape):
            raise ValueError(
                f"{kind} items of shape {shape}; the network takes {wanted.kind} {wanted.shape}"
            )
        if wanted.classes and declared.classes > wanted.classes:
            raise ValueError(f"{declared.classes} classes; the network has {wanted.classes}")
        sizes = {spec.name: spec.size for spec in wanted.conditions if spec.kind != "label"}
        for spec in declared.conditions:
            if spec.size != sizes.get(spec.name, spec.size):
                raise ValueError(
                    f"{spec.name} of size {spec.size}; the network takes {sizes[spec.name]}"
                )

    @property
    def size(self) -> int:
        """The number of values in an item."""
        return math.prod(self.form.shape)

    @property
    def rank(self) -> int:
        """The number of dimensions of the space in which items lie."""
        return int(self.form.items.space.rank(self.form.shape))

    @property
    def discrete(self) -> bool:
        """Whether the items are grey levels."""
        return self.source.form.dtype == "uint8"

    def items(self, index: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the items at `index` in the network's representation, and their conditions."""
        items = centred(self.source[index], self.reading, self.source.form)
        return items["x"], self.form.carried(items, len(index))

    def chosen(self, num: int) -> np.ndarray:
        """Return the indices of the first `num` items in a fixed order; 0 means all."""
        order = np.random.Generator(np.random.Philox(key=0)).permutation(len(self.source))
        return order[: num or None]

    def protocol(self) -> dict[str, Any]:
        sde = self.denoise.sde
        there = self.source.form.names
        names = ", ".join(n if n in there else f"no {n}" for n in self.form.names)
        about = dict(self.about) | ({"items": "latents"} if self.form.kind == "latent" else {})
        return about | {
            "seed": self.seed,
            "given": names or "nothing",
            "t_min": sde.t_min,
            "logsnr": [float(sde.logsnr(jnp.asarray(t))) for t in (sde.t_min, sde.t_max)],
            "batch_size": self.batch_size,
        }


def over(
    subject: Subject, name: str, protocol: Mapping[str, Any], num: int, values: Values
) -> tuple[dict[str, np.ndarray], Path]:
    """Compute `values` of the first `num` items (0 means all) and save them.

    Returns the values with `index`, the indices of the items, and the folder
    WORKDIR/likelihood/NAME-HASH that they are saved in. HASH is that of the protocol and the
    parameters, so that values of another evaluation are never reused. The batch is split over all
    devices of all processes. Raises FloatingPointError for a value that is not finite.
    """
    folder = subject.workdir / "likelihood" / f"{name}-{_fingerprint(subject, protocol)}"
    folder.mkdir(parents=True, exist_ok=True)
    index, devices = subject.chosen(num), layout()
    size = -(-min(subject.batch_size, len(index)) // devices.size) * devices.size
    denoise, key = devices.put(subject.denoise), stream(subject.seed, name)
    leaves, structure = jax.tree.flatten((denoise,))
    run = jit_leaves(values, structure)

    def computed(part: np.ndarray) -> dict[str, np.ndarray]:
        filled = np.resize(part, size)
        x, cond = subject.items(filled)
        inputs = (
            subject.form.items.normalise(jnp.asarray(x)),
            keys_at(key, jnp.asarray(filled)),
            cond,
        )
        batch = devices.whole(run(leaves, *devices.put(inputs, 0)))
        kept = {k: v[: len(part)] for k, v in batch.items()}
        for value in kept.values():
            if (bad := ~np.isfinite(value.reshape(len(part), -1)).all(1)).any():
                raise FloatingPointError(
                    f"{name} of image {part[bad][0]} is not finite, or its ODE needs more than "
                    f"`most` steps"
                )
        return {"index": part} | kept

    parts = []
    with Progress(name, len(index), "image", quiet=not first()) as progress:
        for k, start in enumerate(range(0, len(index), size)):
            part, path = index[start : start + size], folder / f"{k:06d}.npz"
            batch = _stored(path, len(part))
            if batch is None:
                batch = computed(part)
                if first():
                    write_arrays(path, batch)
            parts.append(batch)
            progress.advance(len(part))
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}, folder


def _stored(path: Path, count: int) -> dict[str, np.ndarray] | None:
    """Load the values of a batch; None where they are incomplete or the file is damaged."""
    if not path.exists():
        return None
    try:
        batch = {k: v[:count] for k, v in read_arrays(path).items()}
    except ValueError:
        return None
    return batch if len(batch["index"]) == count else None


def _fingerprint(subject: Subject, protocol: Mapping[str, Any]) -> str:
    sections = ("data", "sde", "parameterization", "network")
    config = {k: subject.config[k] for k in sections}
    return fingerprint([dict(protocol), config, len(subject.source)], subject.denoise.params)


def report(
    folder: Path, protocol: Mapping[str, Any], values: Mapping[str, np.ndarray], **means: Any
) -> dict[str, Any]:
    """Return the result, and write it to result.json and the values per image to values.npz.

    Both files are reproducible. The entry `values` of the result is the path of the latter in the
    workdir.
    """
    result = {**means, "count": len(values["index"]), "protocol": dict(protocol)}
    result["values"] = f"{folder.parent.name}/{folder.name}/values.npz"
    if first():
        write_arrays(folder / "values.npz", values)
        write_text(folder / "result.json", json.dumps(result, indent=2) + "\n")
    return result
