"""Vision transformers (arXiv:2010.11929) of DINOv2 (arXiv:2304.07193) and CLIP (arXiv:2103.00020).

They map images, or for CLIP's captions tokens, to one vector each.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Shaped

from diffjax.nets.kernels.attention import attention
from diffjax.nets.network import Features
from diffjax.nets.positions import fold
from diffjax.nets.resize import resized

MEAN = {"dinov2": (0.485, 0.456, 0.406), "clip": (0.48145466, 0.4578275, 0.40821073)}
DEVIATION = {"dinov2": (0.229, 0.224, 0.225), "clip": (0.26862954, 0.26130258, 0.27577711)}
Tokens = Float[Array, "b l w"]


@dataclass(frozen=True)
class TowerSettings:
    """Settings in which towers differ.

    gated: scale what each block adds (arXiv:2103.17239). quick: use x sigmoid(1.702 x) instead of
    GELU. epsilon: epsilon of the norms. features: width of a projection after the last norm, 0 for
    none. causal: tokens attend to previous tokens and to themselves only.
    """

    width: int
    depth: int
    heads: int
    gated: bool = False
    quick: bool = False
    epsilon: float = 1e-5
    features: int = 0
    causal: bool = False

    def norm(self, name: str) -> nn.LayerNorm:
        return nn.LayerNorm(self.epsilon, use_fast_variance=False, name=name)


class EncoderBlock(nn.Module):
    """Block x + scale attention(norm(x)), then x + scale mlp(norm(x)).

    It returns (x, None), the form that `nn.scan` needs.
    """

    settings: TowerSettings

    @nn.compact
    def __call__(self, x: Tokens) -> tuple[Tokens, None]:
        settings = self.settings
        x = x + self._scaled(self._attended(settings.norm("norm_1")(x)), "scale_1")
        h = nn.Dense(4 * settings.width, name="mlp_in")(settings.norm("norm_2")(x))
        h = h * nn.sigmoid(1.702 * h) if settings.quick else nn.gelu(h, approximate=False)
        return x + self._scaled(nn.Dense(settings.width, name="mlp_out")(h), "scale_2"), None

    def _attended(self, x: Tokens) -> Tokens:
        settings = self.settings
        qkv = nn.Dense(3 * settings.width, name="qkv")(x)
        q, k, v = jnp.moveaxis(qkv.reshape(*x.shape[:2], 3, settings.heads, -1), 2, 0)
        if settings.causal:
            attended = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        else:
            attended = attention(q, k, v)
        return nn.Dense(settings.width, name="out")(attended.reshape(x.shape))

    def _scaled(self, x: Tokens, name: str) -> Tokens:
        if not self.settings.gated:
            return x
        return x * self.param(name, nn.initializers.ones, (1, 1, self.settings.width))


def blocks(settings: TowerSettings, x: Tokens) -> Tokens:
    """Apply `depth` blocks in a loop that is compiled once; their parameters are stacked."""
    looped = nn.scan(
        EncoderBlock,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        length=settings.depth,
    )
    return looped(settings, name="blocks")(x)[0]


class Image(nn.Module):
    """Tower that maps images (B, H, W, 3) to (B, width), or to (B, features) after a projection.

    Patches of side `patch` become tokens that follow one more token, whose output is returned.
    normed: the tokens pass a norm before the blocks, and the patches have no bias.
    """

    settings: TowerSettings
    patch: int
    normed: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b d"]:
        settings = self.settings
        sides = (self.patch, self.patch)
        h = nn.Dense(settings.width, use_bias=not self.normed, name="patches")(fold(x, sides))
        shape = (1, 1 + h.shape[1], settings.width)
        # The embedding of the first token is part of its position.
        h = jnp.pad(h, ((0, 0), (1, 0), (0, 0)))
        h = h + self.param("positions", nn.initializers.normal(0.02), shape)
        h = settings.norm("first")(h) if self.normed else h
        return projected(settings, blocks(settings, h)[:, 0])


class Text(nn.Module):
    """Tower that maps tokens (B, L) of captions to the output at their end, (B, features).

    The end is the largest token of a caption; what follows it is not seen.
    """

    settings: TowerSettings
    vocabulary: int
    length: int = 77

    @nn.compact
    def __call__(self, tokens: Int[Array, "b l"]) -> Float[Array, "b d"]:
        settings = self.settings
        h = nn.Embed(self.vocabulary, settings.width, name="words")(tokens)
        shape = (1, self.length, settings.width)
        h = blocks(settings, h + self.param("positions", nn.initializers.normal(0.01), shape))
        return projected(settings, h[jnp.arange(len(h)), tokens.argmax(1)])


def projected(settings: TowerSettings, x: Float[Array, "b w"]) -> Float[Array, "b d"]:
    """Apply the last norm, and the projection if there is one."""
    x = settings.norm("last")(x)
    return (
        nn.Dense(settings.features, use_bias=False, name="project")(x) if settings.features else x
    )


def prepared(x: Shaped[Array, "b h w c"], size: int, kind: str) -> Float[Array, "b s s 3"]:
    """Return uint8 images resized as Pillow does and normalised, grey ones as three equal channels.

    kind: `dinov2` or `clip`, the training set whose mean and standard deviation are used.
    """
    x = jnp.broadcast_to(x.astype(jnp.float32), (*x.shape[:3], 3))
    mean, deviation = (jnp.asarray(a[kind]).reshape(1, 1, 1, 3) for a in (MEAN, DEVIATION))
    return (resized(x, size, "pillow") / 255 - mean) / deviation


def image(settings: TowerSettings, patch: int, size: int, kind: str) -> Features:
    """Return `init(key, x)` and `apply(params, x) -> {pool}` of `Image`.

    x: uint8 images of any size.
    """
    module = Image(settings, patch, normed=kind == "clip")
    return Features(
        lambda key, x: module.init(key, prepared(x, size, kind))["params"],
        lambda params, x: {"pool": module.apply({"params": params}, prepared(x, size, kind))},
    )


def text(settings: TowerSettings, vocabulary: int, length: int) -> Features:
    """Return `init(key, tokens)` and `apply(params, tokens) -> {pool}` of `Text`."""
    module = Text(settings, vocabulary, length)
    return Features(
        lambda key, tokens: module.init(key, tokens)["params"],
        lambda params, tokens: {"pool": module.apply({"params": params}, tokens)},
    )
