"""Codecs of the tiny autoencoders that decode previews."""

from __future__ import annotations

from diffjax.codecs.base import Codec
from diffjax.codecs.rules import assembled
from diffjax.io.contents import Contents
from diffjax.published import autoencoder


def tiny(contents: Contents, *, rule: str = "", dtype: str = "float32") -> Codec:
    """Return the codec of an `AutoencoderTiny` (TAESD and its relatives).

    Its latents are those of the autoencoder that it imitates, normalised, and have no variance.
    contents: those of its folder. rule: an entry of `RULES`, by default what config.json states,
    which is none. dtype: the type of the compute, float32 or bfloat16. Raises ValueError for other
    networks.
    """
    return assembled(autoencoder.tiny(contents, dtype), contents, rule)
