"""Blocks of a diffusion transformer: streams of tokens with adaLN-zero, and their attention."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from diffjax.checks import one_of
from diffjax.nets.blocks import attended as cross_attention
from diffjax.nets.kernels.attention import attention
from diffjax.nets.layers import Dense, gelu, zeros
from diffjax.nets.positions import rotate
from diffjax.nets.residuals import added

NORMS, MLPS, MODULATIONS = ("layer", "rms"), ("gelu", "swiglu"), ("own", "shared")
Tokens = Float[Array, "b _ w"]
Vector = Float[Array, "b ... w"]
"""The embedding of the noise label and the conditions: (B, W), or (B, G, W) for G lanes."""
Context = tuple[tuple[Array, Array], Bool[Array, "b m"]]
small = nn.initializers.normal(0.02)
Glorot = functools.partial(Dense, kernel_init=nn.initializers.xavier_uniform())
Modulation = functools.partial(Dense, kernel_init=zeros)


@dataclass(frozen=True)
class BlockSettings:
    """Settings that all blocks of a transformer share.

    width, heads: of the tokens and of the attention. qk_norm: RMS norm of queries and keys.
    modulation: whether each block has a layer of `own` for its modulation, or adds a table to the
    output of one layer that is `shared` by all (arXiv:2310.00426, sec. 2.3).
    """

    width: int
    heads: int
    norm: str = "layer"
    qk_norm: bool = False
    mlp: str = "gelu"
    modulation: str = "own"

    def __post_init__(self):
        one_of(MODULATIONS, modulation=self.modulation)
        one_of(NORMS, norm=self.norm)
        one_of(MLPS, mlp=self.mlp)
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads}: must divide width={self.width}")


def normalised(x: Float[Array, "..."], norm: str = "rms") -> Float[Array, "..."]:
    """Return x normalised over the last axis, in float32 or wider.

    norm: `layer` for (x - mean) / standard deviation, `rms` for x / root mean square.
    """
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x - x.mean(-1, keepdims=True) if norm == "layer" else x
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6)


def beside(table: Float[Array, " n"], c: Vector) -> Vector:
    """Return a table of all samples so that it broadcasts against the vectors c."""
    return table[None] if c.ndim == 2 else table[None, None]


def by_token(c: Vector, x: Tokens) -> Tokens:
    """Return a vector of each sample, or of each of its lanes, so that it broadcasts against x.

    c: (B, W), or (B, G, W) for G lanes of equally many consecutive tokens.

    >>> x = jnp.zeros((1, 4, 1))
    >>> by_token(jnp.ones((1, 1)), x).shape, by_token(jnp.arange(2.0)[None, :, None], x).tolist()
    ((1, 1, 1), [[[0.0], [0.0], [1.0], [1.0]]])
    """
    return c[:, None] if c.ndim == 2 else jnp.repeat(c, x.shape[1] // c.shape[1], 1)


def modulated(x: Tokens, shift: Vector, scale: Vector, norm: str) -> Tokens:
    """Return the normalised tokens, scaled and shifted by the conditions of sample or lane."""
    out = normalised(x, norm) * (1 + by_token(scale, x)) + by_token(shift, x)
    return out.astype(x.dtype)


class RMSNorm(nn.Module):
    """RMS norm: x / root mean square over the last axis, times a learned scale."""

    @nn.compact
    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return (normalised(x) * jnp.expand_dims(scale, range(x.ndim - 1))).astype(x.dtype)


def by_head(
    joined: Tokens,
    settings: BlockSettings,
    norms: tuple[nn.Module, ...],
    turn: Array | None,
    parts: int = 3,
) -> tuple[Array, ...]:
    """Return queries, keys and values (B, L, heads, d), or the last two `parts` of them.

    joined: the parts side by side. norms: those of queries and keys, or of keys, for `qk_norm`.
    """
    heads = (*joined.shape[:2], settings.heads, settings.width // settings.heads)
    *qk, v = (a.reshape(heads) for a in jnp.split(joined, parts, -1))
    if settings.qk_norm:
        qk = [norm(a) for norm, a in zip(norms[-len(qk) :], qk, strict=True)]
    if turn is not None:
        qk = [rotate(a, turn) for a in qk]
    return (*qk, v)


def mlp_widths(settings: BlockSettings) -> tuple[int, int]:
    """Return the widths of the hidden layer of an MLP, before and after its activation."""
    if settings.mlp == "swiglu":
        hidden = math.ceil(settings.width / 3) * 8
        return 2 * hidden, hidden
    return 4 * settings.width, 4 * settings.width


def activated(h: Tokens, settings: BlockSettings) -> Tokens:
    """Return the hidden layer of an MLP after its activation."""
    if settings.mlp == "gelu":
        return gelu(h)
    gate, h = jnp.split(h, 2, -1)
    return nn.silu(gate) * h


class Stream(nn.Module):
    """One kind of tokens in a block, with separate weights before and after the joint attention.

    ends: compute keys and values only, for the last block of tokens that no output depends on.
    dual: a second attention, of these tokens to themselves alone.
    """

    settings: BlockSettings
    ends: bool = False
    dual: bool = False

    def setup(self):
        width = self.settings.width
        if self.settings.modulation == "own":
            self.modulation = Modulation((2 if self.ends else 9 if self.dual else 6) * width)
        else:
            self.table = self.param("table", nn.initializers.zeros, (6 * width,))
        self.qkv = Glorot((2 if self.ends else 3) * width)
        self.k_norm = RMSNorm()
        self.q_norm = RMSNorm()
        if self.dual:
            self.qkv_2, self.out_2 = Glorot(3 * width), Glorot(width)
            self.q_norm_2, self.k_norm_2 = RMSNorm(), RMSNorm()
        if not self.ends:
            self.out, self.mlp_out = Glorot(width), Glorot(width)
            self.mlp_in = Glorot(mlp_widths(self.settings)[0])

    def before(
        self, x: Tokens, c: Vector, turn: Array | None
    ) -> tuple[tuple[Array, ...], list[Vector]]:
        """Return queries, keys and values (B, L, heads, d), and the modulation for `after`.

        c: the embedding of the conditions, or the shared modulation (B, 6 width).
        """
        own = self.settings.modulation == "own"
        modulation = self.modulation(c) if own else c + beside(self.table, c).astype(c.dtype)
        parts = modulation.shape[-1] // self.settings.width
        shift, scale, *later = jnp.split(modulation, parts, -1)
        qkv = self.qkv(modulated(x, shift, scale, self.settings.norm))
        norms = self.q_norm, self.k_norm
        return by_head(qkv, self.settings, norms, turn, 2 if self.ends else 3), later

    def alone(
        self, x: Tokens, modulation: list[Vector], turn: Array | None, inside: Array | None
    ) -> Tokens:
        """Return what the second attention adds to x."""
        shift, scale, gate = modulation
        qkv = self.qkv_2(modulated(x, shift, scale, self.settings.norm))
        q, k, v = by_head(qkv, self.settings, (self.q_norm_2, self.k_norm_2), turn)
        return by_token(gate, x) * self.out_2(attention(q, k, v, inside).reshape(x.shape))

    def after(
        self,
        x: Tokens,
        attended: Array,
        modulation: list[Vector],
        across: Callable[[Tokens], Tokens] | None = None,
        turn: Array | None = None,
        inside: Array | None = None,
    ) -> Tokens:
        """Return x + gate out(attended), + across(x) if it is given, + gate mlp(x).

        turn, inside: those of `TransformerBlock`, for the second attention of `dual`, which is
        added after the first one.
        """
        gate_1, shift, scale, gate_2, *second = modulation
        more = self.alone(x, second, turn, inside) if self.dual else None
        x = added(x + by_token(gate_1, x) * self.out(attended.reshape(x.shape)), more)
        if across is not None:
            x = x + across(x)
        h = self.mlp_in(modulated(x, shift, scale, self.settings.norm))
        return x + by_token(gate_2, x) * self.mlp_out(activated(h, self.settings))


class Keys(nn.Module):
    """Keys and values (B, M, heads, d) of the tokens of a cross-attention.

    They depend on the tokens alone. `DiT` computes those of all blocks before its loop over them,
    so a compiled sampler computes them once per prompt.
    """

    settings: BlockSettings

    @nn.compact
    def __call__(self, tokens: Tokens) -> tuple[Array, Array]:
        settings, norm = self.settings, RMSNorm(name="k_norm")
        kv = Glorot(2 * settings.width, name="kv")(tokens)
        k, v = by_head(kv, settings, (norm,), None, 2)
        return k, v


class Cross(nn.Module):
    """Cross-attention to the `Keys` of tokens that are present (arXiv:2310.00426, sec. 2.3).

    The last layer starts at zero.
    """

    settings: BlockSettings

    @nn.compact
    def __call__(self, x: Tokens, keys: tuple[Array, Array], there: Bool[Array, "b m"]) -> Tokens:
        width, norm, (k, v) = self.settings.width, RMSNorm(name="q_norm"), keys
        q = Glorot(width, name="q")(x).reshape(*x.shape[:2], *k.shape[2:])
        q = norm(q) if self.settings.qk_norm else q
        return Modulation(width, name="out")(cross_attention(q, k, v, there).reshape(x.shape))


class TransformerBlock(nn.Module):
    """Self-attention and MLP, both scaled, shifted and gated by c; an MM-DiT block with tokens.

    It maps (x, tokens) to ((x, tokens), x), the form that `nn.scan` needs. tokens: None, or a
    second stream in the same attention (arXiv:2403.03206, fig. 2). inside, there: masks of the
    positions of x and of tokens that the attention sees; inside=None is all of x. skip: tokens that
    are first joined to x (arXiv:2209.12152). context: keys, values and mask for the cross-attention
    between self-attention and MLP. extra: tokens that are added to the result. keep: whether x is
    returned for such a skip. last: leave tokens unchanged. dual: a second attention, of x alone,
    beside the first one (Stable Diffusion 3.5 medium).
    """

    settings: BlockSettings
    keep: bool = False
    last: bool = False
    dual: bool = False

    @nn.compact
    def __call__(
        self,
        streams: tuple[Tokens, Tokens | None],
        skip: Tokens | None,
        c: Vector,
        turn: Float[Array, "l e"] | None,
        there: Bool[Array, "b m"] | None,
        context: Context | None = None,
        inside: Bool[Array, "b l"] | None = None,
        extra: Tokens | None = None,
    ) -> tuple[tuple[Tokens, Tokens | None], Tokens | None]:
        x, tokens = streams
        if skip is not None:
            x = Glorot(self.settings.width, name="skip")(jnp.concatenate([x, skip], -1))
        main, across = Stream(self.settings, dual=self.dual, name="main"), None
        if context is not None:
            cross = Cross(self.settings, name="cross")
            across = lambda x: cross(x, *context)
        (q, k, v), later = main.before(x, c, turn)
        if tokens is None:
            seen = attention(q, k, v, inside)
            x = added(main.after(x, seen, later, across, turn, inside), extra)
            return (x, None), x if self.keep else None
        assert there is not None
        other, length = Stream(self.settings, self.last, name="tokens"), x.shape[1]
        (*q_too, k_too, v_too), later_too = other.before(tokens, c, None)
        join = lambda *a: jnp.concatenate(a, 1)
        mask = join(jnp.ones(x.shape[:2], bool) if inside is None else inside, there)
        attended = attention(join(q, *q_too), join(k, k_too), join(v, v_too), mask)
        seen = attended[:, :length]
        x = added(main.after(x, seen, later, across, turn, inside), extra)
        if not self.last:
            tokens = other.after(tokens, attended[:, length:], later_too)
        return (x, tokens), x if self.keep else None


class ParallelBlock(nn.Module):
    """Attention and MLP side by side on one stream of tokens, as the single blocks of Flux.1.

    x + gate out([attention, activation]), both from one layer on the modulated x; the MLP has no
    modulation of its own. It has the form of `TransformerBlock`, without its tokens.
    """

    settings: BlockSettings

    @nn.compact
    def __call__(
        self,
        streams: tuple[Tokens, None],
        skip: None,
        c: Vector,
        turn: Float[Array, "l e"] | None,
        there: None,
        context: None = None,
        inside: Bool[Array, "b l"] | None = None,
        extra: None = None,
    ) -> tuple[tuple[Tokens, None], None]:
        (x, _), settings, width = streams, self.settings, self.settings.width
        shift, scale, gate = jnp.split(Modulation(3 * width, name="modulation")(c), 3, -1)
        h = modulated(x, shift, scale, settings.norm)
        h = Glorot(3 * width + mlp_widths(settings)[0], name="qkv_mlp")(h)
        qkv, h = jnp.split(h, [3 * width], -1)
        norms = RMSNorm(name="q_norm"), RMSNorm(name="k_norm")
        q, k, v = by_head(qkv, settings, norms, turn)
        attended = attention(q, k, v, inside).reshape(x.shape)
        out = Glorot(width, name="out")(jnp.concatenate([attended, activated(h, settings)], -1))
        return (x + by_token(gate, x) * out, None), None
