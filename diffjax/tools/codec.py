"""Measure what a codec loses of images: PSNR, SSIM, perceptual and Frechet distance.

    python -m diffjax.tools.codec runs/digits_vae
    python -m diffjax.tools.codec runs/cifar_vae --num=10000 --features=inception:weights=PATH \\
        --perceptual=lpips:net=alex,weights=FILE,linear=FILE
    python -m diffjax.tools.codec sd-vae-ft-ema --data=folder:PATH,size=256 --out=sd_vae

CODEC is a run or an export of an autoencoder that was trained here, or the file or folder of a
published one. Images of --split are encoded to the means of their latents and decoded. The command
prints the mean PSNR, SSIM and perceptual distance of the pairs; the Frechet distance of the
reconstructions to the training set in the space of --features, beside its floor, as `evaluate` does
for samples, for which it is a lower bound; and for each channel of the latents the mean, the
deviation and the KL divergence from N(0, 1). It warns of latents that are hard to generate: with a
deviation below half or above twice that of the codec's rule, or channels without information.

The results are in OUT.json, and OUT.png shows images, reconstructions and differences. OUT is by
default `reconstruction` in the folder of a run.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import Config, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from diffjax.codecs import Codec
    from diffjax.codecs.statistics import Latents
    from diffjax.data import Reading, Source

SHOWN = 64
"""Largest number of images in the picture."""


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.codec", __doc__)
    flags.add_argument(
        "codec", metavar="CODEC", help="run, export, file or folder; PATH,ema=raw; zoo:NAME"
    )
    flags.add_argument("--num", type=cli.whole(4, cli.MOST), default=1000, help="number of images")
    flags.add_argument("--real", type=cli.whole(4, cli.MOST), default=50_000, help="training items")
    flags.add_argument(
        "--perceptual",
        default="edges",
        help="perceptual distance, edges or lpips:net=NET,weights=FILE,linear=FILE",
    )
    flags.add_argument(
        "--features", help="features of the Frechet distance (default: by the kind of data)"
    )
    flags.add_argument("--out", type=cli.path, help="path of the results without an ending")
    flags.add_argument("--batch-size", type=cli.positive, default=64, help="images per batch")
    cli.data_flags(flags)
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    cli.set_up_jax()

    from diffjax import builder
    from diffjax.data import select
    from diffjax.evaluation import reconstruction
    from diffjax.features import DISTANCES

    codec = builder.construct_codec(asked.codec, "CODEC")
    out, section = place(asked), data_of(asked)
    source, reading = builder.construct_data(section, "--data" if asked.data else "config.data")
    items = select(source(asked.split), reading, asked.num)
    refuse = builder.refuse(f"--data={section['name']}")
    refuse(reconstruction.check)(codec, items.form)
    distance = builder.construct(DISTANCES, asked.perceptual, "--perceptual")
    rebuilt = builder.refuse("--perceptual")(reconstruction.reconstruct)(
        codec, items.form, items.x, distance, asked.batch_size
    )
    latents = reconstruction.latents(codec, items.form, items.x, asked.batch_size)
    about = {"codec": codec.about, "fingerprint": codec.fingerprint, "distance": distance.about}
    values: dict[str, Any] = about | {"data": section, "split": asked.split, "num": len(items)}
    values |= rebuilt.values | {"frechet": frechet(asked, source, reading, rebuilt.x)}
    values |= by_channel(codec, latents)
    print(described(values))
    store(out, values, reconstruction.picture(items.form, items.x[:SHOWN], rebuilt.x[:SHOWN]))
    for line in reconstruction.doubts(codec, latents):
        logging.warning(line)
    return 0


def place(asked: argparse.Namespace) -> Path:
    """Return the path of the results without an ending; raise ConfigError for a bad one."""
    from diffjax.files import check_place
    from diffjax.io.writing import writing
    from diffjax.training.workdir import is_run

    folder = folder_of(asked)
    if asked.out is None and not is_run(folder):
        raise ConfigError(f"--out: missing; {asked.codec} is not the folder of a run")
    out = asked.out or folder / "reconstruction"
    with writing(f"--out={out}"):
        check_place(ended(out, ".json"))
    return out


def folder_of(asked: argparse.Namespace) -> Path:
    """Return the path that the name of the codec stands for; an entry of the zoo is copied."""
    return cli.path(asked.codec.partition(",")[0]).expanduser()


def ended(out: Path, ending: str) -> Path:
    """Return the path with an ending."""
    return out.with_name(out.name + ending)


def data_of(asked: argparse.Namespace) -> Config:
    """Return the section `data` of a config: that of --data, or that of the run."""
    from diffjax.runs.subject import data_section
    from diffjax.training.workdir import is_run, read_config

    folder = folder_of(asked)
    if asked.data:
        return data_section(asked.data)
    if not is_run(folder):
        raise ConfigError(f"--data: missing; {asked.codec} is not the folder of a run")
    return read_config(folder)["data"]


def frechet(
    asked: argparse.Namespace, source: Callable[[str], Source], reading: Reading, x: np.ndarray
) -> dict[str, Any]:
    """Return the Frechet distance of reconstructions to the training set, with its floor."""
    from diffjax import builder, evaluation

    features = asked.features or source("train").form.items.features
    extractor = builder.construct_features(features, "--features")
    with tempfile.TemporaryDirectory() as folder:
        real = builder.refuse("--features")(evaluation.Real)(
            source, reading, asked.real, Path(folder), extractor
        )
        samples = evaluation.Samples(x, None)
        result = builder.refuse("--features")(evaluation.OF_SAMPLES["frechet"])(real, samples)
        return result | {"features": real.extractor.name, "about": real.extractor.about}


def by_channel(codec: Codec, latents: Latents) -> dict[str, list[float | None]]:
    """Return mean and deviation of the normalised latents, and their divergence, by channel."""
    mean, deviation = latents.under(codec.normalisation)
    finite = [None if value == float("inf") else value for value in latents.kl.tolist()]
    return {"mean": mean.tolist(), "deviation": deviation.tolist(), "kl": finite}


def described(values: dict[str, Any]) -> str:
    """Return the results as lines of text."""
    of_features = values["frechet"]
    lines = [
        f"{values['codec']}, {values['num']} images of {values['data']['name']}, {values['split']}",
        f"psnr {values['psnr']:.2f} dB, ssim {values['ssim']:.4f}, perceptual "
        f"{values['perceptual']:.4f} ({values['distance']})",
        f"frechet {of_features['distance']:.4g}, floor {of_features['floor']:.4g}, ratio "
        f"{of_features['ratio']:.3g} ({of_features['features']})",
        "channel      mean  deviation  KL in nats per value",
    ]
    columns = zip(values["mean"], values["deviation"], values["kl"], strict=True)
    for channel, (mean, deviation, kl) in enumerate(columns):
        nats = "-" if kl is None else f"{kl:.4g}"
        lines.append(f"{channel:7d}  {mean:8.4f}  {deviation:9.4f}  {nats}")
    return "\n".join(lines)


def store(out: Path, values: dict[str, Any], picture: np.ndarray) -> None:
    """Write the results and the picture."""
    from diffjax import plot
    from diffjax.files import write_text
    from diffjax.io.writing import writing

    with writing(f"--out={out}"):
        write_text(ended(out, ".json"), json.dumps(values, indent=2) + "\n")
        plot.save(ended(out, ".png"), picture)
    print(f"wrote {ended(out, '.json')} and {ended(out, '.png')}")


if __name__ == "__main__":
    cli.main(run)
