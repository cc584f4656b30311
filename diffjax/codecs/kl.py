"""Codecs of published autoencoders with a Gaussian posterior."""

from __future__ import annotations

from diffjax.codecs.base import Codec
from diffjax.codecs.rules import assembled
from diffjax.io.contents import Contents
from diffjax.published import autoencoder


def kl(contents: Contents, *, rule: str = "", dtype: str = "float32") -> Codec:
    """Return the codec of an `AutoencoderKL` (arXiv:2112.10752).

    The autoencoders of Stable Diffusion 1 to 3, SDXL, Flux, EQ-VAE and E2E-VAE have this form.
    contents: those of its folder, or of a single file of CompVis. rule: an entry of `RULES`, by
    default what the files state. dtype: the type of the compute, float32 or bfloat16. Raises
    ValueError for other networks, and where the files state no rule and `rule` is not set.
    """
    return assembled(autoencoder.kl(contents, dtype), contents, rule)
