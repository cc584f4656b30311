"""Sound (L, channels): floats in [-1, 1], or 16-bit integers, at a `rate` in hertz."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from diffjax.data.kinds import drawing
from diffjax.data.kinds.kind import Kind, Units, as_they_are, flat
from diffjax.data.kinds.players import PLAYERS
from diffjax.data.kinds.storing import WAV, to_int16


def normalise(x: Shaped[Array, "b *d"]) -> Float[Array, "b *d"]:
    """Convert 16-bit integers to floats in [-1, 1); floats are returned unchanged."""
    return x.astype(jnp.float32) / 32768 if x.dtype == jnp.int16 else x


def _denormalise(x: np.ndarray, dtype: str) -> np.ndarray:
    return to_int16(x) if dtype == "int16" else as_they_are(x, dtype)


def _waves(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) / 32768 if x.dtype == np.int16 else x


def _caption(x: np.ndarray, units: Units) -> str:
    """Return the range of the values and, where the rate is known, the longest duration in s."""
    seconds = f"; horizontal: 0 to {x.shape[1] / units['rate']:.3g} s" if "rate" in units else ""
    return drawing.span(_waves(x)) + seconds


AUDIO = Kind(
    name="audio",
    axes="(L, channels)",
    ranks=(2,),
    dtypes=("float32", "int16"),
    bound=1.0,
    normalise=normalise,
    denormalise=_denormalise,
    tiles=lambda x: drawing.lines(_waves(x)),
    files=(WAV, PLAYERS),
    window=(-2,),
    lengths=True,
    values=lambda x: flat(_waves(x)),
    noun="sound",
    caption=_caption,
)
