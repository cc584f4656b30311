"""The step from samples of a network to stored items, with a codec where these are latents."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from diffjax.codecs.base import Codec
from diffjax.codecs.tiles import OVERLAP, tiled
from diffjax.data.form import Form
from diffjax.devices.mesh import Layout, layout
from diffjax.files import reason

PIXELS = 2**19
"""Number of pixels in a batch of the codec: 8 images of 256 x 256."""
CODEC = "codec"
"""The unit of latents, in their form, that states the fingerprint of the codec that encoded them.
"""


@dataclass(frozen=True)
class Decoding:
    """The function from samples of a network to the items that are stored, shown and judged.

    Without a codec it brings samples to the type and range of stored items. With one it decodes
    latents to grey levels of images, in batches of one size over all devices, so that one program
    decodes any number of samples.

    form: the form of the samples. codec: the codec of latents, or None. tile: the side of the tiles
    in which latents are decoded, to save memory (`codecs.tiles`); 0 decodes them whole. Images in
    tiles differ from whole ones. Raises ValueError for a codec that does not fit the samples or
    that did not encode their data, and for tiles without a codec or too small.

    >>> points = Decoding(Form("points", (2,)))
    >>> points(np.zeros((3, 2))).dtype, points.stored.kind
    (dtype('float32'), 'points')
    """

    form: Form
    codec: Codec | None = field(default=None, repr=False)
    tile: int = 0

    def __post_init__(self):
        if self.codec is not None:
            check(self.form, self.codec)
        if self.tile and (self.codec is None or self.tile < OVERLAP):
            raise ValueError(
                f"tile={self.tile}: needs tile >= {OVERLAP} and a codec; 0 decodes latents whole"
            )

    @functools.cached_property
    def stored(self) -> Form:
        """The form of stored items: that of the samples, or of images with their conditions.

        That of excitations is of sounds, which `Form.completed` makes of samples.
        """
        if self.codec is None:
            return self.form.stored
        shape = self.codec.image_shape(self.form.shape)
        return dataclasses.replace(self.form, kind="image", shape=shape, dtype="uint8", units=())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return samples (N, *shape) of the network as stored items (N, ...)."""
        return self.stored.denormalise(x if self.codec is None else self.decode(x))

    def decode(self, z: Float[np.ndarray, "n *z"]) -> Float[np.ndarray, "n *d"]:
        """Return the images of latents, about in [-1, 1]; without a codec, z itself."""
        if self.codec is None:
            return z
        return tiled(self._decode, z, self.tile) if self.tile else self._decode(z)

    def _decode(self, z: np.ndarray) -> np.ndarray:
        """Return the images of latents of any sides, decoded whole."""
        assert self.codec is not None
        return self._mapped(_decoded, z, self.codec.image_shape(z.shape[1:]))

    def encode(self, items: np.ndarray) -> Float[np.ndarray, "n *z"]:
        """Return stored items (N, ...) as the network sees them: the mean latents of images."""
        x = np.asarray(self.stored.items.normalise(np.asarray(items)), np.float32)
        return x if self.codec is None else self._mapped(_encoded, x, self.form.shape)

    @functools.cached_property
    def _placed(self) -> tuple[Layout, Any]:
        """The devices, and the codec on all of them."""
        return (devices := layout()), devices.put(self.codec)

    def _mapped(
        self, function: Callable[..., Any], x: np.ndarray, shape: tuple[int, ...]
    ) -> np.ndarray:
        """Return `function(codec, x)` of rows x, (N, *shape), in batches of one size.

        A batch has the images of 2**19 pixels, on several devices at least one on each. Repetition
        of the last row fills the last batch.
        """
        devices, codec = self._placed
        pixels = max(math.prod(shape[:2]), math.prod(x.shape[1:3]))
        result = np.empty((len(x), *shape), np.float32)
        for index, count in devices.batches(len(x), max(PIXELS // pixels, 1)):
            batch = devices.whole(function(codec, devices.put(np.asarray(x[index], np.float32), 0)))
            result[index[:count]] = batch[:count]
        return result


@jax.jit
def _decoded(codec: Codec, z: Any) -> Any:
    return codec.decode(z)


@jax.jit
def _encoded(codec: Codec, x: Any) -> Any:
    return codec.encode(x)


def check(form: Form, codec: Codec) -> None:
    """Raise ValueError for a codec that does not decode items of this form to images.

    A codec is also refused if the data of the form were encoded by another one.
    """
    if form.kind != "latent":
        raise ValueError(
            f"the data are {form.items.noun}s {form.shape}; needs latents, as "
            f"`python -m diffjax.tools.encode` writes them"
        )
    try:
        image = codec.image_shape(form.shape)
        again = codec.latent_shape(image)
    except Exception as error:  # of any part of the network that meets the wrong shape
        raise ValueError(f"does not decode latents {form.shape} ({reason(error)})") from error
    if len(image) != 3 or image[-1] not in (1, 3) or again != form.shape:
        raise ValueError(
            f"decodes latents {form.shape} to {image}, and encodes those to {again}; needs images "
            f"(H, W, 1 or 3), and latents of the same shape"
        )
    encoded = dict(form.units).get(CODEC)
    if encoded and encoded != codec.fingerprint:
        raise ValueError(
            f"has the fingerprint {codec.fingerprint or 'none'}, and the latents were encoded by "
            f"the codec {encoded}"
        )
