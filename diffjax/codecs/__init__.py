"""Codecs: autoencoders with weights and normalisation, between images and latents."""

from diffjax.codecs.base import Codec, Normalisation
from diffjax.codecs.decoding import Decoding

__all__ = ["Codec", "Decoding", "Normalisation"]
