"""A trained network together with the data on which it is evaluated."""

from __future__ import annotations

import functools
from pathlib import Path

from diffjax import builder
from diffjax.builder.lanes import check_trained
from diffjax.config import Config, ConfigError, arguments
from diffjax.data.encoded import about
from diffjax.evaluation import Subject
from diffjax.runs.adapters import Adapters
from diffjax.runs.trained import load
from diffjax.samplers.plan import Sampling
from diffjax.sde import SDE
from diffjax.training.experiment import Experiment


def data_section(text: str) -> Config:
    """Parse a text like `folder:PATH,size=32` to a section `data` of a config."""
    name, _, settings = text.partition(",")
    return {"name": name} | arguments(settings, text)


def compared_section(section: Config, data: str | None = None, codec: str = "") -> Config:
    """Return the section `data` of the items that samples of a network are compared with.

    section: that of the network's training. data: a text that names another set. codec: the codec
    that decodes samples in place of that of the section; their latents are compared as images, with
    those that were encoded. Raises ConfigError where latents do not state from which images they
    were encoded, since `tools.encode` did not write them.
    """
    if data:
        return data_section(data)
    if not codec and not section.get("codec"):
        unread = ("enlarged", "excitation")  # no metric reads conditions; samples are sounds
        return {k: v for k, v in section.items() if k not in unread}
    name, _, text = str(section["name"]).partition(":")
    path = Path(text or section.get("path", "")).expanduser()
    origin = builder.refuse("config.data")(about)(path) if name == "latents" else None
    if origin is None:
        raise ConfigError(
            f"--data: missing: samples are decoded to images, and "
            f"config.data.name={section['name']!r} does not state from which images it was encoded"
        )
    return origin["data"]


def subject(
    workdir: Path,
    *,
    data: str | None = None,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 64,
    ema: str | float | None = None,
    adapters: Adapters = (),
    sampling: Config | None = None,
) -> Subject:
    """Load the network of `workdir` and open a split of `data`, by default that of its own config.

    data: a text like `folder:PATH,size=32`. ema: the average of the parameters to use. adapters:
    those to merge into it, as in `load`. sampling: fields in place of those of config.sampling;
    None stands for several of a kind, and no metric may then sample. Raises ConfigError where the
    network or the data set does not exist, or where they do not fit together.
    """
    trained = load(workdir, sampling, ema=ema, adapters=adapters)
    section = data_section(data) if data else trained.config["data"]
    source = builder.construct_data(section, "--data")[0]
    name = data or section["name"]
    about = {"data": name, "split": split, "trained": trained.step, "ema": trained.ema}
    opened = builder.refuse(f"--split={split}")(source)(split)
    e = trained.experiment
    return builder.refuse(f"--data={name}")(Subject)(
        denoise=trained.denoise,
        form=e.form,
        reading=e.reading,
        config=e.config,
        source=opened,
        about=about,
        workdir=workdir,
        seed=seed,
        batch_size=batch_size,
        plan=None if sampling is None else functools.partial(_planned, e, trained.sde),
    )


def _planned(e: Experiment, sde: SDE, known: tuple[int, ...] = ()) -> Sampling:
    """Return the plan of sampling; raise ConfigError for known positions without lanes."""
    if known:
        check_trained(e.loss, "--metrics")
    return e.plan(sde, known=known)
