"""Restoration of images from measurements y = A x0 + std n, with a trained network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder, checks
from diffjax.arrays import keys_at, stream, taken
from diffjax.builder.construct import call, construct, instance, lookup, refuse
from diffjax.builder.network import droppable
from diffjax.builder.sampling import rehearse
from diffjax.config import Config, ConfigError, parse
from diffjax.denoiser import Denoiser
from diffjax.devices.mesh import layout
from diffjax.devices.processes import first
from diffjax.files import read_arrays
from diffjax.generation.program import Generation
from diffjax.inverse import (
    METHODS,
    OPERATORS,
    Decoded,
    Mask,
    Measurement,
    Method,
    Operator,
    Particles,
    measured,
)
from diffjax.inverse.kernels import stochastic
from diffjax.inverse.methods import products
from diffjax.inverse.particles import steer, swarm
from diffjax.progress import Progress
from diffjax.runs.changes import replaced
from diffjax.runs.decoding import Decoder, check_decoder, decoder_of, in_batches, pictured
from diffjax.runs.images import read_mask
from diffjax.runs.requests import requested
from diffjax.runs.restored import Restored, measured_part
from diffjax.runs.trained import Trained
from diffjax.samplers.plan import Plan
from diffjax.training.experiment import Experiment

LINES = 60.0
"""Seconds between two lines of progress where there is no terminal for a progress bar."""


def mask(shape: tuple[int, ...], file: str) -> Mask:
    """Return the mask in a file, black where the image is known and white where it is hidden.

    file: see `read_mask`. Raises ValueError for a mask of another size, or with other numbers than
    0 and 1.
    """
    hidden = read_mask(file, shape)
    if (soft := hidden[(hidden > 0) & (hidden < 1)]).size:
        raise ValueError(
            f"{file}: holds {soft[0]:g}; needs black and white; soft masks: tools.edit inpaint"
        )
    return Mask(jnp.asarray(hidden == 0))


PROBLEMS = {**OPERATORS, "mask": mask}
"""The operators of measurements, and a mask from a file."""


@dataclass(frozen=True)
class Restoration:
    """A trained network with the measurements of K images, from which samples are drawn.

    plan: the sampling plan, without the measurement. measurements: one of a single item (1, ...)
    for each image. build: `(measurement, inside) -> Guidance | Particles`, the method. conds: the
    conditions of the samples of each image, by name in rows. truth: the images, or None. num:
    samples per image. batch_size: samples per batch; particles count as samples. decode: the
    decoder of a network of latents.
    """

    denoise: Denoiser
    plan: Plan
    measurements: tuple[Measurement, ...]
    method: str
    build: Any = field(repr=False)
    conds: tuple[dict[str, np.ndarray], ...]
    truth: np.ndarray | None
    shape: tuple[int, ...]
    about: str
    num: int = 8
    seed: int = 0
    batch_size: int = 256
    decode: Decoder | None = field(default=None, repr=False)

    def guided(self, k: int) -> Any:
        """Return the guidance or the particles of image k."""
        return self.build(self.measurements[k], self.plan.guidance)

    @property
    def passes(self) -> int:
        """The network passes per sample, those of all its particles together."""
        way = self.guided(0)
        return int(self.plan.passes or 0) * (way.count if isinstance(way, Particles) else 1)

    @property
    def products(self) -> int:
        """The vector-Jacobian products of the network per sample."""
        way = self.guided(0)
        count = way.count if isinstance(way, Particles) else 1
        return products(way) * self.plan.rows * count

    def __str__(self) -> str:
        more = f" and {self.products} vector-Jacobian products" if self.products else ""
        return (
            f"{self.about}, method {self.method}: {self.plan.rows} rows, {self.passes} network "
            f"passes{more} per sample, {len(self.measurements)} images of {self.num} samples"
        )

    def run(self) -> Restored:
        """Draw the samples. They depend on the seed and their number, and not on other images."""
        total = len(self.measurements)
        x = []
        with Progress("restore", total, "image", quiet=not first(), lines=LINES) as progress:
            for k in range(total):
                x.append(np.concatenate([*self._samples(k)]))
                progress.advance(1)
        operator, samples, latents = self.measurements[0].operator, np.stack(x), None
        if isinstance(operator, Decoded) and self.decode is not None:
            operator, latents = operator.operator, samples
            flat = in_batches(self.decode, latents.reshape(-1, *self.shape), self.batch_size)
            samples = flat.reshape(*latents.shape[:2], *flat.shape[1:])
        y = np.concatenate([np.asarray(m.y, np.float32) for m in self.measurements])
        return Restored(
            x=samples,
            y=measured_part(operator, y),
            std=float(self.measurements[0].std),
            truth=self.truth,
            operator=operator,
            passes=self.passes,
            products=self.products,
            latents=latents,
        )

    def _samples(self, k: int) -> Iterator[np.ndarray]:
        way, cond = self.guided(k), taken(self.conds[k], self.num)
        if isinstance(way, Particles):
            yield from self._steered(way, cond)
            return
        yield from Generation(
            self.denoise,
            dataclasses.replace(self.plan, guidance=way),
            seed=self.seed,
            num=self.num,
            shape=self.shape,
            cond=cond,
            batch_size=self.batch_size,
            mesh=layout().mesh,
        )

    def _steered(self, way: Particles, cond: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
        """Draw one particle per sample by its weight, in batches of samples of equal size."""
        size = min(self.num, max(1, self.batch_size // way.count))
        for index, count in layout().batches(self.num, size):
            keys = keys_at(stream(self.seed, "particles"), jnp.asarray(index))
            pick = keys_at(stream(self.seed, "particle"), jnp.asarray(index))
            x, keys = swarm(self.denoise.sde, keys, way.count, self.shape, self.plan.start)
            steered = steer(
                self.denoise,
                self.plan.table,
                x,
                keys,
                way.potential,
                proposal=way.proposal,
                threshold=way.threshold,
                cond={name: jnp.asarray(rows[index]) for name, rows in cond.items()},
                guidance=way.inside,
            )
            yield np.asarray(steered.one(pick))[:count]


def restoration(
    trained: Trained,
    image: Any = None,
    problem: Any = "half",
    *,
    y: Any = None,
    std: float = 0.0,
    method: str | Config = "tweedie",
    num: int = 8,
    seed: int = 0,
    label: int | str | Sequence[int | str] | None = None,
    batch_size: int = 256,
    decoder: Decoder | None = None,
    **sampling: Any,
) -> Restoration:
    """Prepare a restoration; `Trained.restore` describes the arguments.

    Raises ConfigError, before anything is compiled, for a request that cannot be computed.
    """
    e = trained.experiment
    form, decode = e.form, decoder_of(e, decoder)
    seen = check_decoder("restore", form, decode)
    refuse("--num")(checks.whole)(1, num=num)
    refuse("--seed")(checks.seed)(seed)
    refuse("--std")(checks.not_negative)(std=std)
    if (image is None) == (y is None):
        raise ConfigError("--image: the truth, or --y, its measurement; needs one of them")
    operator = problem
    if not isinstance(problem, Operator):
        operator = construct(PROBLEMS, problem, "--problem", shape=seen)
    instance(operator, Operator, "--problem")
    truth = None if image is None else pictured(e, image, decode, seen)
    single = _measurements(operator, truth, y, std, seed, seen, decode)
    name, entry, build = chosen(method)
    spec = sampled(trained, sampling, entry, name)
    abilities = builder.abilities(trained.config["network"])
    leads = abilities["leads"] or entry.sampler == "flow_map"
    plan = builder.plan(spec, trained.sde, form, leads=leads, learned=abilities["learned"])
    if not isinstance(plan, Plan):
        raise ConfigError(f"--sampler: {plan.tableless}; needs the rows of a table")
    ready = Restoration(
        denoise=trained.denoise,
        plan=plan,
        measurements=single,
        method=name,
        build=build,
        conds=conditions(e, label, len(single)),
        truth=truth,
        shape=form.shape,
        about=f"step {trained.step}, ema {trained.ema or '-'}, {spec['sampler']['name']}",
        num=num,
        seed=seed,
        batch_size=batch_size,
        decode=decode,
    )
    refuse(f"--method={name}")(rehearsed)(ready, e)
    return ready


def _measurements(
    operator: Operator,
    truth: np.ndarray | None,
    y: Any,
    std: float,
    seed: int,
    shape: tuple[int, ...],
    decode: Decoder | None,
) -> tuple[Measurement, ...]:
    """Return a measurement of each image, simulated from the truth where it is known."""
    if truth is None:
        values = jnp.asarray(measurements(y, operator, shape))
    else:
        keys = keys_at(stream(seed, "measurement"), jnp.arange(len(truth)))
        values = measured(jnp.asarray(truth), operator, std, keys).y
    whole = operator if decode is None else Decoded(operator, decode)
    return tuple(Measurement(value[None], whole, std) for value in values)


def chosen(method: str | Config) -> tuple[str, Method, Any]:
    """Return the name of a method, its entry and `(measurement, inside) -> Guidance`."""
    spec = dict(parse(method) if isinstance(method, str) else method)
    name = spec.pop("name", None)
    entry = lookup(METHODS, name, "--method.name", Method)

    def build(measurement: Measurement, inside: Any) -> Any:
        return call(entry.build, spec, "--method", measurement=measurement, inside=inside)

    return str(name), entry, build


def sampled(trained: Trained, sampling: Config, entry: Method, name: str) -> dict[str, Any]:
    """Return config.sampling with changes, and with the sampler of a method that has its own.

    Raises ConfigError for another sampler that was asked for.
    """
    spec = dict(replaced(trained.config, sampling)["sampling"])
    sampler = spec.get("sampler", {}).get("name")
    if not entry.sampler or sampler == entry.sampler:
        return spec
    if "sampler" not in sampling:
        return spec | {"sampler": {"name": entry.sampler}}
    if entry.only:
        raise ConfigError(
            f"--sampler={sampler}: the method {name} is defined with another table; allowed: "
            f"{entry.sampler}"
        )
    return spec


def rehearsed(ready: Restoration, experiment: Experiment) -> None:
    """Raise ValueError where method, measurement, process and sampler do not fit together."""
    way = ready.guided(0)
    if isinstance(way, Particles):
        stochastic(ready.plan.table, "particles")
        return
    plan = dataclasses.replace(ready.plan, guidance=way)
    form = experiment.form
    rehearse(plan, ready.denoise.sde, form.shape, form.example(2))


def absent(experiment: Experiment, label: Any = None) -> dict[str, None]:
    """Return the conditions that samples may lack, without the label where one is requested."""
    if not experiment.loss.drops_conditions:
        return {}
    names = droppable(experiment.config["network"], experiment.form.conditions)
    return {name: None for name in names if name != "label" or label is None}


def conditions(
    experiment: Experiment, label: Any, count: int, flag: str = "--label"
) -> tuple[dict[str, np.ndarray], ...]:
    """Return the conditions of the samples of each image, by name in rows.

    label: the class of all images, or of each of them; by default the class is missing, where the
    network was trained with missing classes, and otherwise samples take all classes in turn. flag:
    for messages.
    """
    rows = requested(experiment, label, absent(experiment, label))
    if label is None:
        return (rows,) * count
    if len(rows["label"]) > count:
        raise ConfigError(f"{flag}: {len(rows['label'])} classes for {count} images")
    turn = taken({"label": rows["label"]}, count)["label"]
    return tuple(rows | {"label": turn[k : k + 1]} for k in range(count))


def measurements(y: Any, operator: Operator, shape: tuple[int, ...]) -> np.ndarray:
    """Return measurements as the operator produces them, float32 (K, ...).

    y: an array in the range of the network, or the path of an .npy file or of an .npz file with
    `y`. Raises ConfigError for another shape, and for values that are not finite.
    """
    place = "--y"
    if isinstance(y, str | Path):
        place, arrays = f"--y={y}", refuse(f"--y={y}")(read_arrays)(Path(y))
        if len(arrays) > 1 and "y" not in arrays:
            raise ConfigError(f"{place}: holds {', '.join(arrays)}; needs y")
        y = arrays["y"] if "y" in arrays else next(iter(arrays.values()))
    y = np.asarray(y, np.float32)
    one = jax.eval_shape(operator, jax.ShapeDtypeStruct((1, *shape), jnp.float32)).shape[1:]
    y = y[None] if y.shape == one else y
    if y.shape[1:] != one or not len(y):
        raise ConfigError(f"{place}: is {y.shape}; needs measurements {one}, or rows of it")
    if not np.isfinite(y).all():
        raise ConfigError(f"{place}: holds values that are not finite")
    return y
