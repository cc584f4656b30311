"""A trained network with its process: of a run, or of a published checkpoint."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder
from diffjax.builder.guidance import merged
from diffjax.config import Config, ConfigError, named
from diffjax.data import conditions
from diffjax.data.form import labelled
from diffjax.denoiser import Denoiser
from diffjax.generation.job import Generated, Job
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.published import FAMILIES, Converted, recognised
from diffjax.samplers.run import Preview
from diffjax.sde import SDE
from diffjax.training.experiment import Experiment
from diffjax.training.workdir import (
    Weights,
    check_weights,
    load_weights,
    read_config,
    read_form,
    write_weights,
)


@dataclass(frozen=True)
class Trained:
    """denoise: x_t, t, cond -> prediction, with averaged parameters, trained for `step` steps.

    experiment: all objects of the config. notes: what a converted network does in another way. ema:
    which average of the parameters, `raw` where it is none, "" where nobody knows.
    """

    denoise: Denoiser
    experiment: Experiment
    step: int = 0
    ema: str = ""
    notes: tuple[str, ...] = ()

    @property
    def sde(self) -> SDE:
        return self.denoise.sde

    @property
    def config(self) -> Config:
        return self.experiment.config

    @property
    def weights(self) -> Weights:
        return Weights(self.step, self.denoise.params, self.ema)

    def job(
        self,
        seed: int = 0,
        label: int | Sequence[int] | None = None,
        batch_size: int = 256,
        cond: Mapping[str, Any] | None = None,
        **sampling: Any,
    ) -> Job:
        """How samples are made: `.samples(num)` makes them, `.path(num)` shows how they come about.

        label: the class, or classes in turn; all in turn by default. cond: conditions by name: a
        number, a list or an array, of one sample or rows that samples take in turn; None for
        missing; or the path of an .npy or .npz file. Those that are not given are those of held-out
        items of the data, in turn. sampling: fields in place of
        those of config.sampling, as `sampler="ddim:eta=0.5", steps=20, guidance=1.5`. Raises
        ConfigError for what cannot be sampled.
        """
        if "ema" in sampling:
            raise ConfigError(f"ema={sampling['ema']}: is read with the parameters: load(ema=...)")
        made = resampled(self, sampling) if sampling else self
        rows = requested(made.experiment, label, cond or {})
        about = builder.SAMPLING | made.config["sampling"] | {"trained": self.step, "ema": self.ema}
        e = made.experiment
        plan = e.plan(made.denoise.sde)
        if line := builder.untrained(e.config, e.form):
            logging.warning(line)
        return Job(made.denoise, plan, e.form, e.config, about, seed, batch_size, rows)

    def sample(
        self,
        num: int = 64,
        *,
        preview: Callable[[Preview], None] | None = None,
        every: int | None = None,
        **how: Any,
    ) -> Generated:
        """Samples 0, ..., num - 1, as `python -m diffjax.sample` makes them.

        preview: is called with the samples on the way after every so many rows: see
        `Job.samples`. how: see `job`.
        """
        return self.job(**how).samples(num, preview=preview, every=every)

    def __repr__(self) -> str:
        count = sum(a.size for a in jax.tree.leaves(self.denoise.params))
        network, form = self.config["network"], self.experiment.form
        return (
            f"Trained({network['name']}, {count:,} parameters, {form.kind} {form.shape}, "
            f"conditions={form.names}, step={self.step}, "
            f"{self.config['parameterization']['name']} under {self.sde})"
        )

    def save(self, folder: str | Path) -> None:
        """Export it: a folder that every command but train takes, and `load` gives back.

        Raises ConfigError where the folder holds something, or cannot be written.
        """
        write_weights(Path(folder), self.experiment, self.weights)


def load(
    path: str | Path, sampling: Config | None = None, ema: str | float | None = None
) -> Trained:
    """The network in the workdir of a run, or in a published checkpoint.

    sampling: fields in place of those of config.sampling. ema: that field alone, which average of
    the parameters: a name in config.ema, `raw`, or a length that `tools.ema` made. Raises
    ConfigError where there is none.
    """
    path, sampling = Path(path), dict(sampling or {}) | ({} if ema is None else {"ema": ema})
    if not path.exists() or (path / "data.json").exists():
        config = replaced(read_config(path), sampling)
        experiment = builder.experiment(config, read_form(path))
        step, params, ema = load_weights(experiment, path)
        return Trained(experiment.denoiser(params), experiment, step, ema)
    if "ema" in sampling:
        raise ConfigError(f"ema={sampling['ema']}: {path} holds one; known: its own")
    contents, family = opened(path)
    made = resampled(convert(contents, family, path), sampling)
    params = jax.tree.map(jnp.asarray, made.denoise.params)
    return dataclasses.replace(made, denoise=made.experiment.denoiser(params))


def requested(
    experiment: Experiment, label: int | Sequence[int] | None, cond: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Conditions in rows (K, ...), those asked for and the defaults of the others.

    Raises ConfigError for what the network was not built for.
    """
    form, specs = experiment.form, {spec.name: spec for spec in experiment.form.conditions}
    if label is not None:
        if "label" in cond:
            raise ConfigError("--label and --cond=label: say the same; allowed: one of them")
        check_classes(np.atleast_1d(label).tolist(), form.classes)
        cond = {**cond, "label": label}
    if unknown := [name for name in cond if name not in specs]:
        known = ", ".join(specs) or "none (unconditional)"
        raise ConfigError(f"--cond={unknown[0]}: the network was not built for it; known: {known}")
    read = conditions.requested
    try:
        rows = {name: read(specs[name], value, form.shape) for name, value in cond.items()}
    except ValueError as error:
        raise ConfigError(f"--cond={error}") from error
    if set(specs) == set(rows):
        return {name: rows[name] for name in specs}
    try:
        return {**experiment.defaults, **rows}
    except ConfigError as error:
        lacking = ", ".join(name for name in specs if name not in rows)
        raise ConfigError(
            f"--cond: {lacking}: not said, and the defaults are those of held-out items: {error}"
        ) from error


def check_classes(labels: Iterable[int], classes: int) -> None:
    """Refuse labels that the network does not know."""
    if bad := [k for k in labels if not 0 <= k < classes]:
        known = f"0 to {classes - 1}" if classes else "none (unconditional)"
        raise ConfigError(f"--label={bad[0]}: no such class; known: {known}")


def resampled(trained: Trained, sampling: Config) -> Trained:
    """The same network with other fields in config.sampling."""
    config = replaced(trained.config, sampling)
    experiment = builder.experiment(config, trained.experiment.form)
    return dataclasses.replace(trained, experiment=experiment)


def replaced(config: Config, sampling: Config | None) -> dict[str, Any]:
    """The config with other fields in its sampling, and in the guidance of that. Entries may be
    written as `name:argument=value`."""
    base, own = config.get("sampling", {}), named(sampling or {}, "sampler", "grid", "corrector")
    if isinstance(guidance := own.get("guidance"), Mapping):
        guidance = named(guidance, "reference", "rule", "threshold")
    if guidance is not None:
        own["guidance"] = merged(base.get("guidance", 1.0), guidance)
    return {**config, "sampling": {**base, **own}}


def opened(path: Path, family: str = "") -> tuple[Contents, str]:
    """What a published checkpoint holds, and whose it is: of `published.FAMILIES`.

    family: by default the one that knows such tensors. ConfigError where there is none.
    """
    try:
        contents = read(path)
    except ValueError as error:  # names the file
        raise ConfigError(str(error)) from error
    family = family or builder.refuse(str(path))(recognised)(contents)
    if family not in FAMILIES:
        raise ConfigError(f"family={family!r}: known: {', '.join(FAMILIES)}")
    return contents, family


def convert(contents: Contents, family: str, path: Path, settings: Config | None = None) -> Trained:
    """A published checkpoint as ours, parameters as NumPy arrays.

    settings: what the contents do not say, arguments of that family. Raises ConfigError for what
    cannot be ours.
    """
    refuse, entry = builder.refuse(str(path)), FAMILIES[family].convert
    bound = builder.call(entry, settings or {}, family, partial=True, contents=contents)
    made = refuse(bound)()
    form = refuse(labelled)(made.kind, made.shape, made.classes)
    experiment = builder.experiment(completed(made), form)
    params = {"network": made.params}
    refuse(check_weights)(experiment, params)
    return Trained(experiment.denoiser(params), experiment, notes=made.notes)


def completed(made: Converted) -> dict[str, Any]:
    """All sections: those of the checkpoint, and what training it further would begin with."""
    two = bool(made.config["network"].get("learn_variance"))
    return {
        "seed": 0,
        "data": {"name": {"latent": "latents:latents"}.get(made.kind, "folder:images")}
        | {"labels": bool(made.classes)},
        "loss": {
            "weight": {"name": "uniform_output"},
            "condition_dropout": 0.1 if made.classes else 0.0,
            "hybrid": 0.001 if two else 0.0,
        },
        "optimizer": {"name": "adamw", "learning_rate": 1e-4},
        "ema": {"name": "constant", "decay": 0.9999},
        "train": {},
        **made.config,
    }
