"""Editing of images by a trained network: inversion, other conditions, inpainting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from diffjax import builder
from diffjax.arrays import keys_at, stream, taken
from diffjax.config import ConfigError
from diffjax.devices.mesh import layout
from diffjax.generation import Job
from diffjax.inverse.editing import invert, noises
from diffjax.inverse.inpainting import inpainting
from diffjax.inverse.kernels import kernels
from diffjax.progress import Progress
from diffjax.runs.changes import replaced
from diffjax.runs.decoding import Decoder, are_latents, check_decoder, decoder_of, in_batches
from diffjax.runs.images import images, read_mask
from diffjax.runs.requests import requested
from diffjax.runs.restoring import absent, conditions
from diffjax.runs.starts import stored
from diffjax.runs.trained import Trained
from diffjax.samplers import sample
from diffjax.samplers.plan import Plan
from diffjax.samplers.starts import noised
from diffjax.training.experiment import Experiment

Images = Float[np.ndarray, "k h w c"]
Conds = dict[str, np.ndarray]
SAMPLER = "ddim"
"""The sampler of edits where no flag chooses another: first order, without noise."""
TOLERANCE = 0.01
"""Relative residual of a row up to which an inversion is accepted. The rows next to the
data converge most slowly."""


@dataclass(frozen=True)
class Editing:
    """A trained network with K images to edit.

    plan: the sampling plan, of the last steps only where the strength is below 1. times: its grid.
    x0: (K, H, W, C) in the range of the network, images or latents. cond: the conditions that
    describe the images, by name, (K, ...). batch_size: images per batch. decode: the decoder of a
    network of latents.
    """

    trained: Trained
    plan: Plan
    times: np.ndarray
    x0: Images
    cond: Conds
    seed: int
    batch_size: int
    decode: Decoder | None = None

    def shown(self, x: Images) -> Images:
        """Return items in the range of the network as images, (K, H', W', 1 or 3)."""
        return x if self.decode is None else in_batches(self.decode, x)

    def inverted(
        self, *, iterations: int = 10, tolerance: float = TOLERANCE
    ) -> tuple[Images, Images]:
        """Return the latents of the images, and the images that the sampler makes of them.

        iterations, tolerance: see `inverse.editing.invert`. Raises ConfigError
        for a sampler that cannot be inverted, and FloatingPointError where a row does not converge.
        """
        table = builder.refuse("--sampler")(self._invertible)()

        settings: dict[str, Any] = {"iterations": iterations, "tolerance": tolerance}

        def each(x: Array, cond: Any, keys: Any) -> tuple[Array, Array]:
            latent = invert(self.trained.denoise, table, x, cond=cond, **settings).x
            return latent, sample(self.trained.denoise, table, latent, keys, cond=cond)

        latent, again = self._batches(each, self.x0, self.cond, "invert")
        return latent, again

    def edited(self, cond: Conds, *, iterations: int = 10, tolerance: float = TOLERANCE) -> Images:
        """Return the images under other conditions, by name, (K, ...).

        A deterministic sampler starts from the latents of the images under their own conditions; a
        stochastic one repeats the noises that lead to the images (arXiv:2304.06140). The plan's
        guidance applies to the new conditions alone.
        """
        denoise, guidance = self.trained.denoise, self.plan.guidance
        is_noisy = self.plan.noisy
        if is_noisy:
            table = self.plan.table[:-1] if self._ends_at_data() else self.plan.table
        else:
            table = builder.refuse("--sampler")(self._invertible)()
        names = [*self.cond]
        settings: dict[str, Any] = {"iterations": iterations, "tolerance": tolerance}

        def each(x: Array, both: Any, keys: Any) -> tuple[Array]:
            source = {name: both[name] for name in names}
            target = {name: both[f"to {name}"] for name in names}
            more = {"cond": target, "guidance": guidance}
            if not is_noisy:
                latent = invert(denoise, table, x, cond=source, **settings).x
                return (sample(denoise, table, latent, keys, **more),)
            start, z = noises(denoise, table, x, keys, cond=source)
            return (sample(denoise, table, start, keys, noise=z, **more),)

        both = self.cond | {f"to {name}": cond[name] for name in names}
        return self._batches(each, self.x0, both, "edit")[0]

    def inpainted(self, strength: Float[np.ndarray, "one h w c"], num: int) -> Images:
        """Return samples (K num, H, W, C) of the images under a soft mask.

        strength: 0 where an image is kept, 1 where it is sampled anew, and between these the share
        of the steps in which it is free. num: samples per image.
        """
        table, guidance = self.plan.table, self.plan.guidance

        def each(x: Array, cond: Any, keys: Any) -> tuple[Array]:
            masked = inpainting(x, strength, self.times, guidance)
            start, later = noised(self.trained.sde, x, table.t[0], keys)
            return (sample(self.trained.denoise, table, start, later, cond=cond, guidance=masked),)

        x0 = np.repeat(self.x0, num, axis=0)
        cond = {name: np.repeat(rows, num, axis=0) for name, rows in self.cond.items()}
        return self._batches(each, x0, cond, "inpaint")[0]

    def _ends_at_data(self) -> bool:
        """Return whether the last row leads to sigma = 0, whatever its state is."""
        return not kernels(self.plan.table, "edit").state[-1]

    def _invertible(self) -> Any:
        return self.plan.table[:-1] if self._ends_at_data() else self.plan.table

    def _batches(
        self,
        each: Callable[[Array, Any, Key[Array, " b"]], tuple[Array, ...]],
        x0: Images,
        cond: Conds,
        purpose: str,
    ) -> tuple[np.ndarray, ...]:
        """Apply a function of images, conditions and keys to equal batches of all images."""
        parts, refuse = [], builder.refuse("--sampler")
        with Progress(purpose, len(x0), "image") as progress:
            for index, count in layout().batches(len(x0), min(self.batch_size, len(x0))):
                keys = keys_at(stream(self.seed, "edit"), jnp.asarray(index))
                rows = {name: jnp.asarray(values[index]) for name, values in cond.items()}
                results = refuse(each)(jnp.asarray(x0[index]), rows, keys)
                parts.append([np.asarray(result)[:count] for result in results])
                progress.advance(count)
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def editing(
    trained: Trained,
    image: Any,
    *,
    label: Any = None,
    strength: float = 1.0,
    seed: int = 0,
    batch_size: int = 256,
    decoder: Decoder | None = None,
    **sampling: Any,
) -> Editing:
    """Prepare edits of images.

    image: see `runs.images.images`; for a network of latents, pictures, which the codec of the data
    encodes, or latents as `test:INDEX,...`, arrays or their files. decoder: for a network of
    latents, a function to images in place of the codec, see `runs.decoding`. label: the class of
    all images or of each; missing by default, for networks trained with missing classes. strength:
    the share of the steps that are undone and done again, in (0, 1]. sampling: fields in place of
    those of config.sampling; the sampler is DDIM by default. Raises ConfigError for a request that
    cannot be computed.
    """
    e = trained.experiment
    form, decode = e.form, decoder_of(e, decoder)
    check_decoder("edit", form, decode)
    if decode is None or are_latents(image):
        x0 = images(e, image)
    elif decoder is None:
        x0 = e.decoding.encode(stored(image, e.decoding.stored, "--image"))
    else:
        raise ConfigError(
            f"--image={image}: needs latents {form.shape}: test:INDEX,..., .npy, .npz"
        )
    if label is None and "label" in form.names and "label" not in absent(e):
        raise ConfigError("--source: the class of the images; the network needs one")
    spec = dict(replaced(trained.config, sampling)["sampling"])
    if "sampler" not in sampling:
        spec["sampler"] = {"name": SAMPLER}
    abilities = builder.abilities(trained.config["network"])
    leads, learned = abilities["leads"], abilities["learned"]
    plan = builder.plan(spec, trained.sde, form, leads=leads, learned=learned, strength=strength)
    if not isinstance(plan, Plan):
        raise ConfigError(f"--sampler: {plan.tableless}; needs the rows of a table")
    times = builder.construct_grid(spec["grid"], "config.sampling.grid")(trained.sde, spec["steps"])
    rows = [taken(rows, 1) for rows in conditions(e, label, len(x0), "--source")]
    cond = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    return Editing(trained, plan, np.asarray(times), x0, cond, seed, batch_size, decode)


def masked(job: Job, mask: np.ndarray) -> Job:
    """Return a job that samples only what a soft mask leaves free of the item that it starts from.

    mask: (1, H, W, 1), see `Editing.inpainted`, in the grid of the network; the strength of the job
    multiplies it. Raises ConfigError for a job without an item to start from or with several, for a
    mask of another shape, and for one that keeps all.
    """
    if job.start is None or len(job.start) != 1:
        raise ConfigError("--mask: applies to one image to start from, --from")
    assert isinstance(job.plan, Plan)  # the sampler adaptive starts from no item
    if mask.shape not in ((1, *job.form.shape[:-1], 1), (1, *job.form.shape)):
        raise ConfigError(f"--mask: is {mask.shape[1:]}; needs {job.form.shape[:-1]}, as the image")
    if not mask.any():
        raise ConfigError("--mask: keeps the whole image; needs values above 0")
    spec = job.config["sampling"]
    grid = builder.construct_grid(spec["grid"], "config.sampling.grid")
    times = np.asarray(grid(job.denoise.sde, spec["steps"]))
    # In float64, as the strength that chose the rows of the plan.
    free = np.broadcast_to(np.asarray(mask, np.float64) * job.strength, job.start.shape)
    guidance = inpainting(jnp.asarray(job.start), free, times, job.plan.guidance)
    return replace(job, plan=replace(job.plan, guidance=guidance))


def target(experiment: Experiment, cond: Conds, label: Any) -> Conds:
    """Return conditions (K, ...) with another class, one for all images."""
    rows = requested(experiment, label, absent(experiment, label))["label"]
    if len(rows) > 1:
        raise ConfigError(f"--label: {len(rows)} classes; needs one at a time")
    return cond | {"label": np.repeat(rows, len(cond["label"]), axis=0)}


def soft_mask(file: str, shape: tuple[int, ...]) -> Float[np.ndarray, "one h w c"]:
    """Return the soft mask in a file; raise ConfigError for a mask of another form, or of zeros."""
    strength = builder.refuse("--mask")(read_mask)(file, shape)
    if not strength.any():
        raise ConfigError(f"--mask={file}: keeps the whole image; needs values above 0")
    return strength
