"""Flags of watermarks, filters and signed metadata, and the objects that they name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diffjax.cli.values import listed, path
from diffjax.config import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffjax.data.form import Form
    from diffjax.filters import Filter
    from diffjax.generation import Generated


def provenance_flags(flags: argparse.ArgumentParser) -> None:
    """Add the flags of watermarks, filters and signed metadata."""
    about = flags.add_argument_group("provenance and filters", "nothing is on by default")
    about.add_argument(
        "--watermark",
        metavar="KEYFILE[,message=TEXT][,noisy=True]",
        help="mark samples with a key of `tools.watermark key`; noisy: also where the sampler adds "
        "noise, which hides the mark",
    )
    about.add_argument(
        "--filter",
        action="append",
        default=[],
        metavar="NAME[:SETTING=VALUE,...]",
        help="replace images that a filter stops by grey, or refuse prompts, e.g. "
        "opennsfw:threshold=0.8, words:path=FILE; may be repeated",
    )
    about.add_argument(
        "--c2pa",
        type=listed(path),
        metavar="CERT,KEY",
        help="sign pictures with a C2PA manifest, by a chain of certificates and a private key "
        "(.pem); needs c2pa-python",
    )


def check_provenance(asked: argparse.Namespace) -> None:
    """Raise ConfigError where --c2pa or --filter would miss what other flags write."""
    if asked.c2pa and not any(_signed(place) for place in asked.out):
        raise ConfigError("--c2pa: signs pictures, and --out names none; allowed: .png or a folder")
    for flag in ("previews", "trajectory") if asked.c2pa else ():
        if getattr(asked, flag):
            raise ConfigError(f"--c2pa: does not sign what --{flag} writes; allowed: without it")
    for flag in ("previews", "trajectory", "latents") if asked.filter else ():
        if getattr(asked, flag):
            raise ConfigError(f"--filter: would not see what --{flag} writes; allowed: without it")


def _signed(place: Path) -> bool:
    """Return whether `--c2pa` can sign what is written to this place: pictures."""
    return place.suffix.lower() in (".png", "")


def filters(asked: argparse.Namespace, form: Form) -> tuple[Filter, ...]:
    """Return the filters of --filter, after a look at the prompts.

    form: that of the stored samples. Raises ConfigError for a refused prompt, and for filters that
    do not suit the samples.
    """
    from diffjax import builder
    from diffjax.filters import check_images

    found = builder.construct_filters(asked.filter, "--filter")
    builder.check_prompts(found, asked.prompt or (), "--filter")
    if not asked.prompt and (of_texts := [each.name for each in found if each.scores is None]):
        raise ConfigError(f"--filter={of_texts[0]}: sees prompts alone; needs --prompt")
    if found:
        builder.refuse("--filter")(check_images)(form.shape, form.dtype)
    return found


def filtered(samples: Generated, filters: Sequence[Filter]) -> Generated:
    """Return the samples after the filters, and print how many these stop."""
    if not filters:
        return samples
    samples = samples.filtered(filters)
    stopped = samples.turns["stopped"]
    print(f"filters: {sum(stopped)} of {len(stopped)} images are grey")
    return samples
