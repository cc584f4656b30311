"""Codecs: autoencoders with weights and normalisation, between images and latents."""

from diffjax.codecs.base import Codec, Normalisation
from diffjax.codecs.decoding import Decoding
from diffjax.codecs.loading import CODECS, load
from diffjax.codecs.rules import RULES

__all__ = ["CODECS", "RULES", "Codec", "Decoding", "Normalisation", "load"]
