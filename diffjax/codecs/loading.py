"""Codecs of published files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from diffjax.codecs.base import Codec
from diffjax.codecs.kl import kl
from diffjax.codecs.pixels import pixels
from diffjax.codecs.tiny import tiny
from diffjax.io.contents import Contents
from diffjax.io.reading import read
from diffjax.published.autoencoder import KL_MARKS, TINY_MARKS
from diffjax.published.names import cleaned, prefixes

CODECS: Mapping[str, Callable[..., Codec]] = {"pixels": pixels, "kl": kl, "tiny": tiny}
"""Codecs by name: `(contents, *, rule="", dtype="float32") -> Codec`."""
MARKS = {"kl": KL_MARKS, "tiny": TINY_MARKS}
"""Tensors that every network of an entry has and that no other entry has."""
PART = "vae"
"""The folder of the autoencoder in a pipeline."""


def load(path: str | Path, *, rule: str = "", dtype: str = "float32") -> Codec:
    """Return the codec of a published autoencoder; no content of a file is executed.

    path: a folder with config.json and tensors, a pipeline with a folder `vae`, a single file, or
    the word `pixels`. rule: the normalisation of the latents, an entry of `RULES`, by default what
    the files state. dtype: the type of the compute, float32 or bfloat16; float16 overflows in
    published decoders. Raises ValueError that names the path, for what is no published
    autoencoder, and where the files state no rule and `rule` is not set.

    >>> load("pixels").about
    'pixels as they are'
    """
    place = Path(path).expanduser()
    if str(path) == "pixels" and not place.exists():
        return pixels(rule=rule, dtype=dtype)
    contents = read(place / PART if (place / PART).is_dir() else place)
    try:
        return CODECS[recognised(contents)](contents, rule=rule, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def recognised(contents: Contents) -> str:
    """Return the entry of `CODECS` for these contents.

    Raises ValueError where there is none.

    >>> recognised(Contents({"encoder.layers.0.weight": 0, "decoder.layers.0.weight": 0}, {}))
    'tiny'
    """
    names = cleaned(contents).tensors
    for entry, marks in MARKS.items():
        if prefixes(names, marks):
            return entry
    known = (contents.config or {}).get("_class_name", "unknown class")
    raise ValueError(
        f"not an autoencoder that diffjax reads ({known}); known: AutoencoderKL, CompVis's single "
        f"files of it, AutoencoderTiny"
    )
