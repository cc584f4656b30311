"""Encode a data set once for training: images by an autoencoder, or captions by an encoder.

    python -m diffjax.tools.encode digits --codec=runs/digits_vae --out=data/digits_latents
    python -m diffjax.tools.encode folder:pictures,size=256 --codec=sd-vae-ft-ema --out=data/latents
    python -m diffjax.train --config=configs/imagenet256_dit.py --workdir=runs/dit \\
        --config.data.name=latents:data/latents --config.data.codec=sd-vae-ft-ema
    python -m diffjax.tools.encode emoji --encoder=bert:path=all-MiniLM-L6-v2 --out=data/texts
    python -m diffjax.train --config=configs/emoji_text.py --workdir=runs/minilm \\
        --config.data.encoder=bert:path=all-MiniLM-L6-v2 --config.data.encoded=data/texts

SOURCE is a data set as in config.data.name, with settings after a comma. --codec is a published
autoencoder (a folder of diffusers, a CompVis file), the folder of a run of an autoencoder, or
MODULE:FUNCTION; settings may follow, as in PATH,rule=edm2.

The folder --out receives mean and standard deviation of all latents as memory maps of float16, the
labels, other conditions and captions, and encoded.json. Training draws a new latent of each image
in every epoch. Pass --codec to training as config.data.codec: samples are then decoded to images,
and a codec other than that of the latents is refused.

--encoder, as in config.data.encoder, encodes each unique caption of all splits once, as float32, or
as float16 with --half; config.data.encoded=FOLDER reads them, and no step of training runs the
encoder. The same command resumes after an interruption, with the same bytes as a result.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import TYPE_CHECKING, Any

from diffjax import cli
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from diffjax.codecs.encoding import Encoding
    from diffjax.data import Reading, Source

BATCH = 64
DEVIATION = (0.5, 2.0)
"""The range, in units of that of the codec, in which the deviation of latents should be."""
UNUSED = ("flip", "augment", "dequantize", "balanced", "codec", "encoder", "encoded")
"""Settings of reading that change training batches, and not the images that are encoded."""


def flags() -> argparse.ArgumentParser:
    """Return the parser of the command's flags."""
    flags = cli.parser("tools.encode", __doc__)
    flags.add_argument("source", metavar="SOURCE", help="data set: digits, folder:PATH,size=256")
    by = flags.add_mutually_exclusive_group(required=True)
    by.add_argument("--codec", help="autoencoder of the images: PATH[,setting=value,...]")
    by.add_argument("--encoder", help="encoder of the captions: name:path=PATH[,setting=value,...]")
    flags.add_argument("--out", type=cli.path, required=True, help="folder of what is encoded")
    flags.add_argument(
        "--flips", action="store_true", help="encode mirrored training images as further items"
    )
    flags.add_argument("--batch-size", type=cli.positive, help="images per batch (default: 64)")
    flags.add_argument(
        "--half", action="store_true", help="store the states of captions as float16"
    )
    return flags


def run() -> int:
    """Run the command and return its exit code."""
    asked = cli.read(flags())
    for flag in ("half",) if asked.codec else ("flips", "batch_size"):
        if getattr(asked, flag):
            needs = "--encoder" if asked.codec else "--codec"
            raise ConfigError(f"--{flag.replace('_', '-')}: applies to {needs}, which is missing")
    cli.set_up_jax()
    return of_images(asked) if asked.codec else of_captions(asked)


def of_captions(asked: argparse.Namespace) -> int:
    """Encode the unique captions of all splits."""
    import numpy as np

    from diffjax import builder
    from diffjax.data.source import Captioned
    from diffjax.encoders import TextEncoding

    sources, _, _ = opened(asked.source)
    captions = {
        caption
        for source in sources.values()
        if isinstance(source, Captioned)
        for row in source.captions(np.arange(len(source)))
        for caption in row
    }
    if not captions:
        raise ConfigError(f"SOURCE={asked.source}: has no captions")
    place = "--encoder"
    if builder.learns(asked.encoder, place):
        raise ConfigError(f"{place}={asked.encoder}: runs no network; training needs no folder")
    encoder = builder.construct_encoder(asked.encoder, (), place)
    work = TextEncoding(encoder, asked.encoder, captions, asked.half)
    about = builder.refuse("SOURCE: caption")(work.run)(asked.out)
    for spec in encoder.specs:
        print(f"{about['number']} captions: {spec} in {asked.out}")
    print(
        f"next: python -m diffjax.train --config=... --workdir=... "
        f"--config.data.encoder={shlex.quote(asked.encoder)} "
        f"--config.data.encoded={shlex.quote(str(asked.out))}"
    )
    return 0


def of_images(asked: argparse.Namespace) -> int:
    """Encode the images of all splits."""
    from diffjax import builder

    about = builder.refuse("SOURCE")(encoding(asked).run)(asked.out)
    for split, count in about["items"].items():
        print(f"{count} latents {tuple(about['form']['shape'])} in {asked.out / split}")
    shown = lambda name: ", ".join(f"{value:.3g}" for value in about[name])
    print(f"mean by channel: {shown('mean')}\nstd by channel: {shown('std')}")
    if line := doubt(about["std"], builder.construct_codec(asked.codec, "--codec").normalisation):
        print(line, file=sys.stderr)
    name, codec = shlex.quote(f"latents:{asked.out}"), shlex.quote(asked.codec)
    print(
        f"next: python -m diffjax.train --config=... --workdir=... --config.data.name={name} "
        f"--config.data.codec={codec}"
    )
    return 0


def encoding(asked: argparse.Namespace) -> Encoding:
    """Return the encoding that the flags describe; raise ConfigError where it cannot work."""
    from diffjax import builder
    from diffjax.codecs.encoding import Encoding

    sources, reading, section = opened(asked.source)
    return builder.refuse(f"--codec={asked.codec}")(Encoding)(
        codec=builder.construct_codec(asked.codec, "--codec"),
        sources=sources,
        reading=reading,
        about={"data": section, "codec": asked.codec},
        flips=asked.flips,
        batch_size=asked.batch_size or BATCH,
    )


def opened(text: str) -> tuple[dict[str, Source], Reading, dict[str, Any]]:
    """Return the splits of a data set, its settings of reading, and its section of a config.

    Raises ConfigError for settings of reading that do not apply to encoding.
    """
    from diffjax import builder
    from diffjax.data.source import SPLITS, NoSplit
    from diffjax.runs.subject import data_section

    section = dict(data_section(text))
    source, reading = builder.construct_data(section, "SOURCE")
    if unused := [name for name in UNUSED if getattr(reading, name)]:
        raise ConfigError(f"SOURCE: {unused[0]}: does not apply to encoding; see --flips")
    sources: dict[str, Source] = {}
    for split in SPLITS:
        try:
            sources[split] = source(split)
        except ConfigError as error:
            if split == "train" or not isinstance(error.__cause__, NoSplit):
                raise
    return sources, reading, section


def doubt(std: list[float], rule: Any) -> str:
    """Return a line about latents of another deviation than their codec states, "" for none."""
    overall = (sum(s * s for s in std) / len(std)) ** 0.5 / float(rule.std)
    low, high = DEVIATION
    if low <= overall <= high:
        return ""
    return (
        f"warning: the latents have {overall:.3g} times the deviation that the codec states, and "
        f"processes expect {low:g} to {high:g} times: check its normalisation, such as "
        f"--codec=PATH,rule=..."
    )


if __name__ == "__main__":
    cli.main(run)
