"""Decoders of latents to images, which restoration and editing call for networks of latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Float

from diffjax.codecs import Codec
from diffjax.config import ConfigError
from diffjax.data.form import Form, labelled
from diffjax.devices.mesh import layout
from diffjax.files import ending
from diffjax.runs.images import HELD_OUT, images
from diffjax.runs.starts import stored
from diffjax.training.experiment import Experiment

Decoder = Callable[[Any], Any]
"""A differentiable function of latents (B, h, w, c) to images (B, H, W, 1 or 3) in [-1, 1]."""
ARRAYS = (".npy", ".npz")


def decoder_of(experiment: Experiment, decoder: Decoder | None) -> Decoder | None:
    """Return a decoder as a pytree: the function, else that of the codec of the data, else None.

    Raises ConfigError for a codec that cannot be used.
    """
    if decoder is not None:
        return Partial(decoder)
    codec = experiment.decoding.codec
    return None if codec is None else Partial(Codec.decode, codec)


def check_decoder(purpose: str, form: Form, decode: Decoder | None) -> tuple[int, ...]:
    """Return the shape (H, W, C) of the images of a network, those decoded for one of latents.

    Raises ConfigError for latents without a decoder, for a decoder of images, for other kinds of
    data, and for a decoder that cannot be traced or does not return images.
    """
    if form.kind == "image":
        if decode is not None:
            raise ConfigError("decoder: is for networks of latents; this one is of images")
        return form.shape
    if form.kind != "latent":
        raise ConfigError(f"{purpose}: needs a network of images, not of {form.kind} {form.shape}")
    if decode is None:
        raise ConfigError(
            f"{purpose}: a network of latents {form.shape} needs --codec=PATH, the autoencoder "
            f"that decodes them"
        )
    latents = jax.ShapeDtypeStruct((2, *form.shape), jnp.float32)
    try:
        seen = jax.eval_shape(decode, latents)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(
            f"decoder: cannot decode latents {latents.shape} ({type(error).__name__}: {line})"
        ) from error
    shape, dtype = getattr(seen, "shape", ()), getattr(seen, "dtype", None)
    is_image = len(shape) == 4 and shape[0] == 2 and shape[-1] in (1, 3)
    if not is_image or dtype != jnp.float32:
        raise ConfigError(
            f"decoder: makes {dtype} {shape} of latents {latents.shape}; needs float32 images "
            f"(2, H, W, 1 or 3)"
        )
    return tuple(shape[1:])


def are_latents(image: Any) -> bool:
    """Return whether --image names or holds latents: held-out items, an array or its file."""
    is_path = isinstance(image, str | Path)
    return not is_path or str(image).startswith(HELD_OUT) or ending(Path(image)) in ARRAYS


def pictured(
    experiment: Experiment, image: Any, decode: Decoder | None, shape: tuple[int, ...]
) -> Float[np.ndarray, "k h w c"]:
    """Return true images in [-1, 1], (K, H, W, C).

    decode: None for a network of images, whose images are those of `images`. image: for a network
    of latents, a picture or a folder of pictures, taken as they are; or latents, which are decoded:
    `test:INDEX,...`, an array or a file. shape: (H, W, C) of decoded images.
    """
    if decode is None:
        return images(experiment, image)
    if are_latents(image):
        return in_batches(decode, images(experiment, image))
    form = labelled("image", shape)
    return np.asarray(form.items.normalise(stored(image, form, "--image")), np.float32)


def in_batches(
    decode: Decoder, latents: Float[np.ndarray, "k *z"], size: int = 64
) -> Float[np.ndarray, "k h w c"]:
    """Return decoded latents, in equal batches of at most `size` with one compiled program.

    decode: a result of `decoder_of`.
    """
    batches = layout().batches(len(latents), min(size, len(latents)))
    return np.concatenate(
        [np.asarray(_called(decode, latents[index]))[:count] for index, count in batches]
    )


@jax.jit
def _called(decode: Any, latents: Any) -> Any:
    return decode(latents)
