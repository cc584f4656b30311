"""Transformers that read texts: CLIP's, BERT, T5, Gemma and Qwen, one network with settings."""

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
    "silu": nn.silu,
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
    biases: layers have biases. divisor: products of queries and keys are divided by its root, 0 for
    `head`. rooted: the vectors of words are multiplied by the root of the width. groups: heads of
    keys and values, each shared by several of queries, 0 for `heads`. turned: the base of rotary
    positions, 0 for none. unit: queries and keys have RMS norms per head. doubled: norms precede
    and follow attention and layers. cap: products p become cap tanh(p / cap), 0 for p itself.
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
    divisor: float = 0.0
    rooted: bool = False
    groups: int = 0
    turned: float = 0.0
    unit: bool = False
    doubled: bool = False
    cap: float = 0.0
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
        if settings.doubled:
            last_1, last_2 = settings.norm("after_1"), settings.norm("after_2")
            h = x + last_1(attend(first(x)))
            return (h + last_2(self._layers(second(h))), x), None
        h = x + attend(first(x))
        return (h + self._layers(second(h)), x), None

    def _attended(self, x: Tokens, bias: Any, there: Any) -> Tokens:
        settings, groups = self.settings, self.settings.groups or self.settings.heads
        heads = {"q": settings.heads, "k": groups, "v": groups}
        q, k, v = (
            settings.layer(n * settings.head, name)(x).reshape(*x.shape[:2], n, settings.head)
            for name, n in heads.items()
        )
        if settings.unit:
            q, k = settings.norm("norm_q")(q), settings.norm("norm_k")(k)
        if settings.turned:
            q, k = turned(q, settings.turned), turned(k, settings.turned)
        attended = attention(settings, q, k, v, bias, there)
        return settings.layer(settings.width, "out")(attended.reshape(*x.shape[:2], -1))

    def _layers(self, x: Tokens) -> Tokens:
        settings = self.settings
        h = ACTIVATIONS[settings.activation](settings.layer(settings.hidden, "mlp_in")(x))
        if settings.gated:
            h = h * settings.layer(settings.hidden, "mlp_gate")(x)
        return settings.layer(settings.width, "mlp_out")(h)


def attention(
    settings: TextSettings, q: Array, k: Array, v: Array, bias: Any, there: Bool[Array, "b 1 1 l"]
) -> Float[Array, "b l h d"]:
    """Return what tokens attend to, for queries (B, L, heads, d), keys and values (B, L, g, d)."""
    scale, causal = 1 / math.sqrt(settings.divisor or settings.head), settings.causal
    if not settings.cap:
        return jax.nn.dot_product_attention(q, k, v, bias, there, scale=scale, is_causal=causal)
    k, v = (a.repeat(settings.heads // a.shape[2], 2) for a in (k, v))
    products = jnp.einsum("bqhd,bkhd->bhqk", q, k) * scale
    products = settings.cap * jnp.tanh(products / settings.cap)
    before = jnp.tril(jnp.ones((1, 1, q.shape[1], q.shape[1]), bool))
    seen = there & before if causal else there
    shares = jax.nn.softmax(jnp.where(seen, products, jnp.finfo(products.dtype).min), -1)
    return jnp.einsum("bhqk,bkhd->bqhd", shares, v)


def turned(x: Float[Array, "b l h d"], base: float) -> Float[Array, "b l h d"]:
    """Turn the pairs of features i and i + d / 2 by place / base^(2 i / d) (arXiv:2104.09864).

    >>> turned(jnp.ones((1, 2, 1, 2)), 10_000.0)[0, :, 0].round(3).tolist()
    [[1.0, 1.0], [-0.301..., 1.38...]]
    """
    half = x.shape[-1] // 2
    rates = base ** (-jnp.arange(half) / half)
    angles = jnp.outer(jnp.arange(x.shape[1]), rates)[None, :, None]
    a, b = jnp.split(x, 2, -1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


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
        h = h * math.sqrt(settings.width) if settings.rooted else h
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
