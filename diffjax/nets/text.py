"""Transformers that read texts: CLIP's, BERT and T5, one network with settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from diffjax.nets.network import Features

Tokens = Float[Array, "b l w"]
ACTIVATIONS: Mapping[str, Callable[[Any], Any]] = {
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "tanh_gelu": nn.gelu,
    "quick_gelu": lambda x: x * nn.sigmoid(1.702 * x),
    "relu": nn.relu,
}
"""Activations of the layers between attentions, by name."""


@dataclass(frozen=True)
class TextSettings:
    """Settings in which published transformers of text differ.

    vocabulary: number of tokens. width, depth, heads: of the blocks. head: features per head.
    hidden: width between the two layers of a block. length: the number of learned positions, 0 for
    none. types: token types, whose first is added to all tokens, 0 for none. causal: tokens attend
    to previous tokens and themselves. after: norms follow the sums (BERT) instead of preceding
    attention and layers. rms: norms divide by the root mean square, without mean and bias.
    biases: layers have biases. scaled: products of queries and keys are divided by sqrt(head).
    buckets: the number of learned relative positions per head, 0 for none, for distances up to
    `far`; each: every block has its own. gated: the first layer has a second one that multiplies
    its output. epsilon: of the norms.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    head: int
    hidden: int
    activation: str
    length: int = 0
    types: int = 0
    causal: bool = False
    after: bool = False
    rms: bool = False
    biases: bool = True
    scaled: bool = True
    buckets: int = 0
    far: int = 128
    each: bool = False
    gated: bool = False
    epsilon: float = 1e-5

    def norm(self, name: str) -> nn.Module:
        if self.rms:
            return nn.RMSNorm(self.epsilon, use_fast_variance=False, name=name)
        return nn.LayerNorm(self.epsilon, use_fast_variance=False, name=name)

    def layer(self, features: int, name: str) -> nn.Dense:
        return nn.Dense(features, use_bias=self.biases, name=name)


class Block(nn.Module):
    """Attention and two layers, each added to the tokens.

    It maps (tokens, _) to ((tokens after it, tokens before it), None), the form that `nn.scan`
    needs. bucket: of each pair of tokens by their distance; bias: of the attention; there: mask of
    the tokens that others attend to.
    """

    settings: TextSettings

    @nn.compact
    def __call__(
        self,
        states: tuple[Tokens, Tokens],
        bucket: Int[Array, "l l"] | None,
        bias: Float[Array, "1 h l l"] | None,
        there: Bool[Array, "b 1 1 l"],
    ) -> tuple[tuple[Tokens, Tokens], None]:
        settings, x = self.settings, states[0]
        if settings.each and bucket is not None:
            bias = relative(settings, bucket)
        attend = lambda h: self._attended(h, bias, there)
        first, second = settings.norm("norm_1"), settings.norm("norm_2")
        if settings.after:
            h = first(x + attend(x))
            return (second(h + self._layers(h)), x), None
        h = x + attend(first(x))
        return (h + self._layers(second(h)), x), None

    def _attended(self, x: Tokens, bias: Any, there: Any) -> Tokens:
        settings = self.settings
        size = settings.heads * settings.head
        q, k, v = (
            settings.layer(size, name)(x).reshape(*x.shape[:2], settings.heads, settings.head)
            for name in "qkv"
        )
        scale = 1 / math.sqrt(settings.head) if settings.scaled else 1.0
        attended = jax.nn.dot_product_attention(
            q, k, v, bias, there, scale=scale, is_causal=settings.causal
        )
        return settings.layer(settings.width, "out")(attended.reshape(*x.shape[:2], size))

    def _layers(self, x: Tokens) -> Tokens:
        settings = self.settings
        h = ACTIVATIONS[settings.activation](settings.layer(settings.hidden, "mlp_in")(x))
        if settings.gated:
            h = h * settings.layer(settings.hidden, "mlp_gate")(x)
        return settings.layer(settings.width, "mlp_out")(h)


class TextTransformer(nn.Module):
    """Tokens (B, L) to their states after the last block and before it, (B, L, width) each.

    The states after the last block have passed the last norm, where norms precede. The mask is
    that of tokens that others attend to; a token outside of it has a state too.
    """

    settings: TextSettings

    @nn.compact
    def __call__(self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> tuple[Tokens, Tokens]:
        settings, length = self.settings, ids.shape[1]
        h = nn.Embed(settings.vocabulary, settings.width, name="words")(ids)
        if settings.length:
            at = (1, settings.length, settings.width)
            h = h + self.param("positions", nn.initializers.normal(0.02), at)[:, :length]
        if settings.types:
            types = nn.Embed(settings.types, settings.width, name="types")
            h = h + types(jnp.zeros((1, 1), jnp.int32))
        h = settings.norm("first")(h) if settings.after else h
        bucket = buckets(length, settings.buckets, settings.far) if settings.buckets else None
        bias = None
        if bucket is not None and not settings.each:
            bias = relative(settings, bucket)
        looped = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(nn.broadcast,) * 3,  # type: ignore[arg-type]
            length=settings.depth,
        )
        (h, before), _ = looped(settings, name="blocks")((h, h), bucket, bias, mask[:, None, None])
        return h if settings.after else settings.norm("last")(h), before


def relative(settings: TextSettings, bucket: Int[Array, "l l"]) -> Float[Array, "1 h l l"]:
    """Return a learned number for each pair of tokens and head. It is called inside a module."""
    table = nn.Embed(settings.buckets, settings.heads, name="relative")
    return jnp.moveaxis(table(bucket), -1, 0)[None]


def buckets(length: int, count: int, far: int) -> Int[Array, "l l"]:
    """Return the bucket of each pair of query and key by their distance (arXiv:1910.10683, 2.1).

    Half of the buckets are for keys behind the query. In each half, half of the buckets hold one
    distance, the others ranges that grow up to `far`.

    >>> buckets(3, 8, 16).tolist()
    [[0, 5, 6], [1, 0, 5], [2, 1, 0]]
    """
    at = jnp.arange(length)
    distance = at[None, :] - at[:, None]
    half, near = count // 2, count // 4
    size = jnp.abs(distance)
    share = jnp.log(jnp.maximum(size, 1) / near) / math.log(far / near)
    wide = jnp.minimum(near + (share * (half - near)).astype(jnp.int32), half - 1)
    return jnp.where(size < near, size, wide) + half * (distance > 0)


def text(settings: TextSettings) -> Features:
    """Return `init(key, ids)` and `apply(params, ids, mask) -> {last, before}`.

    ids, mask: (B, L). last, before: the states of all tokens after and before the last block,
    (B, L, width); `last` with the last norm.
    """
    module = TextTransformer(settings)

    def apply(params: Any, ids: Any, mask: Any) -> dict[str, Any]:
        last, before = module.apply({"params": params}, ids, mask)  # type: ignore[misc]
        return {"last": last, "before": before}

    return Features(lambda key, ids: module.init(key, ids, ids >= 0)["params"], apply)
