"""Codecs: autoencoders with weights and normalisation, between images and latents."""

from diffjax.codecs.base import Codec, Normalisation

__all__ = ["Codec", "Normalisation"]
