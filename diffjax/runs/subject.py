"""A trained network together with the data on which it is evaluated."""

from __future__ import annotations

from pathlib import Path

from diffjax import builder
from diffjax.config import Config, arguments
from diffjax.evaluation import Subject
from diffjax.runs.trained import load


def data_section(text: str) -> Config:
    """Parse a text like `folder:PATH,size=32` to a section `data` of a config."""
    name, _, settings = text.partition(",")
    return {"name": name} | arguments(settings, text)


def subject(
    workdir: Path,
    *,
    data: str | None = None,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 64,
    ema: str | float | None = None,
) -> Subject:
    """Load the network of `workdir` and open a split of `data`, by default that of its own config.

    data: a text like `folder:PATH,size=32`. ema: the average of the parameters to use. Raises
    ConfigError where the network or the data set does not exist, or where they do not fit together.
    """
    trained = load(workdir, ema=ema)
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
    )
