"""Layers that the networks share, in a form that XLA also runs fast on CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.nets.conditions import Conditions

zeros = nn.initializers.zeros
NONE = Conditions()
VECTORS = ("embedding", "features", "time")
"""Mechanisms of conditions that `Embedding` supports."""
Output = Float[Array, "b *d"] | tuple[Float[Array, "b *d"], Float[Array, "b *d"]]
"""The output of a network: F, or F and a second output of the same shape."""


def outputs(
    x: Float[Array, "b *c"], two: bool, shape: Callable[[Array], Array] = lambda a: a
) -> Output:
    """Return the last layer as one output or as two halves of its channels, mapped by `shape`."""
    if not two:
        return shape(x)
    first, second = jnp.split(x, 2, axis=-1)
    return shape(first), shape(second)


def at_sides(first: int, levels: int, shape: tuple[int, ...], **settings: tuple[int, ...]) -> None:
    """Raise ValueError for a side in `settings` that no level has; level k has first / 2^k."""
    sides = [first // 2**level for level in range(levels)]
    for name, asked in settings.items():
        if absent := [side for side in asked if side not in sides]:
            raise ValueError(
                f"{name}={asked}: no level has the side {absent[0]}; for input {shape} the "
                f"sides are {', '.join(map(str, sides))}"
            )


def product(x: Float[Array, "*b c"], w: Float[Array, "c f"], *_: Any, **__: Any) -> Array:
    """Return x w as a product of matrices.

    With more axes, XLA on CPU first copies a factor of the gradient with respect to w.
    """
    return (x.reshape(-1, x.shape[-1]) @ w).reshape(*x.shape[:-1], w.shape[-1])


Dense = functools.partial(nn.Dense, dot_general=product)
"""A dense layer over the last axis of a grid or sequence."""

EMBEDDINGS = ("ddpm", "adm", "fourier")


def sinusoidal(c_noise: Float[Array, " b"], width: int) -> Float[Array, "b w"]:
    """Return sines, then cosines of c_noise at `width // 2` frequencies from 1 to 1e-4.

    The shape is (B, width) (arXiv:1706.03762).
    """
    half = width // 2
    frequency = jnp.exp(-math.log(10000) * jnp.arange(half) / max(half - 1, 1))
    angle = c_noise[:, None] * frequency[None]
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def cosines_first(c_noise: Float[Array, " b"], width: int) -> Float[Array, "b w"]:
    """Return cosines, then sines of c_noise at `width // 2` frequencies in (1e-4, 1].

    The shape is (B, width) (code of arXiv:2105.05233).
    """
    half = width // 2
    angle = c_noise[:, None] * jnp.exp(-math.log(10000) * jnp.arange(half) / half)[None]
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class Fourier(nn.Module):
    """Features sin and cos of 2 pi f c_noise, with fixed f from N(0, 16^2).

    Source: arXiv:2011.13456, app. H.
    """

    frequencies: int

    @nn.compact
    def __call__(self, c_noise: Float[Array, " b"]) -> Float[Array, "b w"]:
        f = self.param("frequencies", nn.initializers.normal(16.0), (self.frequencies,))
        angle = c_noise[:, None] * (2 * jnp.pi * jax.lax.stop_gradient(f))[None]
        return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


class Embedding(nn.Module):
    """Embedding of the noise label and the conditions as one vector (B, width), by two layers.

    kind: the features of the noise label: `ddpm`, sines first, frequencies from 1 to 1e-4; `adm`,
    cosines first, without the frequency 1e-4; `fourier`, twice as many, at random frequencies.
    early: conditions that enter by `embedding` are added to these features, before the two layers
    (arXiv:2206.00364's code), instead of after them. Conditions that enter by `features` are always
    added to the features, and a second time never is.
    """

    width: int
    frequencies: int
    conditions: Conditions = NONE
    kind: str = "ddpm"
    early: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *d"], c_noise: Float[Array, " b"], cond: Cond
    ) -> Float[Array, "b w"]:
        known, n = self.conditions, self.frequencies
        waves = sinusoidal if self.kind == "ddpm" else cosines_first
        features: Any = functools.partial(waves, width=n)
        if self.kind == "fourier":
            features = Fourier(n, name="fourier")
        h = features(c_noise)
        change = known.change(features, c_noise, cond, self.is_initializing())
        if known.by("features"):
            h = h + known.embedded("features", x, cond, h.shape[-1])
        if self.early:
            h = h + known.embedded("embedding", x, cond, h.shape[-1])
        h = nn.Dense(self.width)(h)
        h = nn.Dense(self.width)(nn.silu(h)).astype(x.dtype)
        if change is not None:
            h = h + known.lead(change, self.width, x.dtype)
        return nn.silu(h if self.early else h + known.embedded("embedding", x, cond, self.width))


gelu = jax.custom_jvp(lambda x: nn.gelu(x, approximate=True))
"""GELU with tanh. Its gradient stores one array, the slope; that of `nn.gelu` stores several."""


@gelu.defjvp
def _gelu_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value, slope = jax.jvp(gelu.fun, primals, (jnp.ones_like(primals[0]),))
    return value, slope * tangents[0]


def group_count(channels: int, groups: int = 32, least: int = 4) -> int:
    """Return the largest divisor of `channels` up to `groups` with `least` channels per group."""
    most = max(1, min(groups, channels // least))
    return max(g for g in range(1, most + 1) if channels % g == 0)


class GroupNorm(nn.Module):
    """Group norm over channels (arXiv:1803.08494), with statistics in float32.

    The sums per channel come first, then those of a group are combined: this takes one pass over
    the input and one fused multiply-add. The number of groups is the largest divisor of the
    channels up to `groups` with `least` channels per group (arXiv:2206.00364), because a group of
    one channel would remove an embedding that was added to it.
    """

    groups: int = 32
    least: int = 4
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b *d c"]) -> Float[Array, "b *d c"]:
        channels = x.shape[-1]
        groups = group_count(channels, self.groups, self.least)
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", zeros, (channels,))

        def by_group(a: Array) -> Array:
            """Return the mean of (B, C) over the channels of each group, repeated to (B, C)."""
            mean = a.reshape(-1, groups, channels // groups).mean(-1)
            return jnp.repeat(mean, channels // groups, axis=-1)

        flat = x.astype(jnp.float32).reshape(x.shape[0], -1, channels)
        # The one-pass variance does not cancel for values that are centred near their mean.
        centred = flat - jax.lax.stop_gradient(by_group(flat[:, 0]))[:, None]
        mean = by_group(centred.mean(1))
        var = by_group((centred**2).mean(1)) - mean**2
        factor = scale[None] * jax.lax.rsqrt(var + self.epsilon)
        out = centred * factor[:, None] + (bias[None] - mean * factor)[:, None]
        return out.reshape(x.shape).astype(x.dtype)
