"""Diffusion transformers on sequences, images and videos: DiT (arXiv:2212.09748) and variants."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, cast

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.checks import at_least, one_of
from diffjax.nets import factorised
from diffjax.nets.conditions import Condition, Conditions
from diffjax.nets.dit_settings import POLICIES, check, resized, settled_for, sides_of
from diffjax.nets.layers import NONE, Dense, Output, cosines_first, outputs
from diffjax.nets.network import Network, linen
from diffjax.nets.positions import centre, fold, rotations, sincos, unfold, waved
from diffjax.nets.residuals import NOTHING, Residuals, added
from diffjax.nets.streams import (
    BlockSettings,
    Glorot,
    Keys,
    Modulation,
    ParallelBlock,
    Tokens,
    TransformerBlock,
    Vector,
    beside,
    modulated,
    small,
)

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
"""Width, depth and number of heads of the published sizes (arXiv:2212.09748, tab. 1)."""
FREQUENCIES = 256
KEYS = "_keys"
"""End of the names of the `Keys` of a loop or block."""


class DiT(nn.Module):
    """Transformer that maps patches to tokens, applies `depth` blocks, and maps tokens to patches.

    The blocks run in a loop that is compiled once. settings: settings of the blocks. depth: number
    of blocks. patch: side of the squares that become tokens, or length of the pieces of a sequence.
    patch_time: frames per token of a video. positions: `sincos`, sines and cosines that are added,
    `rotary`, `learned`, a table whose middle is added and which starts as `sincos`, or `none`, for
    patches without an order. stretch: the distance of two patches in the positions `sincos` is 1 /
    stretch. cover: the grid whose range these positions cover, where it is not that of the items.
    side: the number of patches along each axis of the table. axes: features of a head for each axis
    of `rotary`, see `rotations`. dual: the number of first blocks with a second self-attention.
    single: the number of last blocks that are `ParallelBlock`, on one stream of patches and tokens.
    long_skips: join the tokens of each block of the first half to those of its mirror image in the
    second (arXiv:2209.12152). remat: what the backward pass recomputes: `all`, or `cheap`, all but
    products with weights; by default all but products and attention, as recomputing the rest is
    faster than storing it. With labels c_noise (B, L), one per position of the leading axis, each
    token is modulated by that of its first position (arXiv:2407.01392). learn_variance: return a
    second output like the first, for the variance of a step. half: return the outputs of the first
    half of the blocks, or of those that are joined to others (`Network.encoder`). attention:
    `full`, or `factorised` for videos, whose blocks attend over space and over time in turn. waves:
    frequencies of `waved`, which adds sines and cosines of the input, the coordinates of points.
    """

    STACKS = tuple(
        f"{name}{end}"
        for name in ("blocks", "first", "second", "dual", "single", "pairs")
        for end in ("", KEYS)
    )

    settings: BlockSettings
    depth: int
    patch: int = 2
    patch_time: int = 1
    positions: str = "sincos"
    stretch: float = 1.0
    cover: tuple[int, ...] = ()
    side: int = 0
    axes: tuple[int, ...] = ()
    dual: int = 0
    single: int = 0
    long_skips: bool = False
    conditions: Conditions = NONE
    remat: str = ""
    learn_variance: bool = False
    half: bool = False
    attention: str = "full"
    waves: int = 0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *d"],
        c_noise: Float[Array, "b ..."],
        cond: Cond | None,
        train: bool = False,
        residuals: Residuals = NOTHING,
        hint: Array | None = None,
    ) -> Output | Residuals:
        sides = sides_of(self, x.shape)
        cond, width = self.conditions.check(x, cond), self.settings.width
        grid = tuple(n // p for n, p in zip(x.shape[1:-1], sides, strict=True))
        out = math.prod(sides) * x.shape[-1] * (1 + self.learn_variance)
        seen = waved(self.conditions.beside(x, cond), self.waves)
        h = Glorot(width, name="patches")(fold(seen, sides))
        lanes = c_noise if c_noise.ndim == 1 else c_noise[:, :: sides[0]]
        embedding = self._embedded(x, lanes, cond)
        c, shared = nn.silu(embedding), self.settings.modulation == "shared"
        turn, joint = None, self.conditions.sequence("joint", x, cond, width)
        tokens, there = joint or (None, None)
        context = self.conditions.sequence("cross", x, cond, width)
        if (inside := self.conditions.inside(x, cond)) is not None:
            inside = inside[:, :: sides[0]]  # a patch with any value of the item is a part of it
        still = self.conditions.apart(x, cond)
        if self.positions == "rotary":
            turn = self._turned(grid)
        elif self.positions == "sincos" and self.attention == "factorised":
            h = factorised.placed(h, grid, self.stretch, self.cover, still)
        elif self.positions != "none":
            h = h + self._positions(grid).astype(h.dtype)[None]
        h = added(h, None if hint is None else hint.reshape(h.shape))
        each = Modulation(6 * width, name="shared")(c) if shared else c
        inputs = (each, turn, there, context, inside)
        if self.half:
            kept = self._first((h, tokens), *inputs)
            whole = (x.shape[0], *grid, width)
            return Residuals(blocks=tuple(jnp.reshape(a, whole) for a in kept))
        if self.attention == "factorised":
            h = self._pairs(h, grid[0], each, turn or (None, None), (inside, still))
        else:
            extra = [jnp.reshape(cast(Array, a), (x.shape[0], -1, width)) for a in residuals.blocks]
            h = self._blocks(h, tokens, *inputs, extra=jnp.stack(extra) if extra else None)
        if shared:
            table = self.param("table", nn.initializers.zeros, (2 * width,)).astype(c.dtype)
            last = beside(table, c) + jnp.concatenate([embedding, embedding], -1)
        else:
            last = Modulation(2 * width, name="modulation")(c)
        shift, scale = jnp.split(last, 2, -1)
        h = Modulation(out, name="out")(modulated(h, shift, scale, self.settings.norm))
        return outputs(h, self.learn_variance, lambda a: unfold(a, grid, sides))

    def _positions(self, grid: tuple[int, ...]) -> Float[Array, "l w"]:
        """Return the positions that are added to the patches."""
        width = self.settings.width
        if self.positions == "sincos":
            return sincos(grid, width, self.stretch, self.cover)
        sides = (self.side,) * len(grid)
        begin = lambda _: sincos(sides, width, self.stretch).reshape(*sides, width)
        return centre(self.param("positions", begin), grid)

    def _turned(self, grid: tuple[int, ...]) -> Any:
        """Return the angles that rotate the patches, of both blocks of a pair if `factorised`."""
        features = self.settings.width // self.settings.heads
        if self.attention == "factorised":
            return factorised.turns(grid, features)
        return rotations(grid, features, self.axes)

    def _embedded(self, x: Array, c_noise: Array, cond: Cond) -> Vector:
        """Return the embedding (B, width) of the noise label and the conditions.

        It is (B, G, width) for labels (B, G) of G lanes.
        """
        known, width = self.conditions, self.settings.width
        features = functools.partial(cosines_first, width=FREQUENCIES)
        each = c_noise if c_noise.ndim == 1 else c_noise.reshape(-1)
        h = nn.silu(Dense(width, kernel_init=small, name="noise_in")(features(each)))
        h = Dense(width, kernel_init=small, name="noise_out")(h).astype(x.dtype)
        if c_noise.ndim > 1:
            shared = known.embedded("embedding", x, cond, width, small)
            return h.reshape(*c_noise.shape, width) + shared[:, None]
        change = known.change(features, c_noise, cond, self.is_initializing())
        if change is not None:
            h = h + known.lead(change, width, x.dtype)
        return h + known.embedded("embedding", x, cond, width, small)

    @property
    def _halved(self) -> int:
        """The number of blocks of `half`: with long skips, of those that are joined to others."""
        return self.depth // 2 if self.long_skips else -(-self.depth // 2)

    def _first(self, streams: Any, *context: Any) -> Array:
        """Return the outputs (n, B, L, W) of the blocks of `half`."""
        name = "first" if self.long_skips else "blocks"
        return self._loop(name, self._halved, streams, None, *context, keep=True)[1]

    def _blocks(
        self, h: Tokens, tokens: Tokens | None, *context: Any, extra: Array | None = None
    ) -> Tokens:
        """Apply all blocks; with tokens, the last block is separate and leaves them unchanged.

        extra: tokens (n, B, L, W) that are added to the outputs of the first n blocks.
        """
        streams, last = (h, tokens), tokens is not None and not self.single
        if not self.long_skips:
            streams, _ = self._loop("dual", self.dual, streams, None, *context, dual=True)
            depth = self.depth - self.dual - self.single - last
            streams, _ = self._loop("blocks", depth, streams, None, *context, extra=extra)
            if last:
                streams, _ = self._one("last", streams, None, *context, last=True)
            return self._joined(streams, *context) if self.single else streams[0]
        half, odd = divmod(self.depth, 2)
        streams, skips = self._loop("first", half, streams, None, *context, extra=extra, keep=True)
        if odd:
            streams, _ = self._one("middle", streams, None, *context)
        streams, _ = self._loop(
            "second", half - last, streams, skips[::-1][: half - last], *context
        )
        if last:
            streams, _ = self._one("last", streams, skips[0], *context, last=True)
        return streams[0]

    def _pairs(self, h: Tokens, frames: int, *context: Any) -> Tokens:
        """Apply pairs of blocks over space and over time."""
        looped = nn.scan(
            self._block(factorised.Pair, prevent_cse=False),
            in_axes=cast(Any, nn.broadcast),
            length=self.depth // 2,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        return looped(self.settings, frames, name="pairs")(h, *context)[0]

    def _joined(
        self, streams: Any, c: Vector, turn: Any, there: Any, _: None, inside: Any
    ) -> Tokens:
        """Apply the blocks of `single` to the patches and the tokens behind them."""
        (x, tokens), length = streams, streams[0].shape[1]
        if tokens is not None:
            inside = jnp.ones(x.shape[:2], bool) if inside is None else inside
            x, inside = jnp.concatenate([x, tokens], 1), jnp.concatenate([inside, there], 1)
            turn = turn if turn is None else jnp.pad(turn, [(0, tokens.shape[1]), (0, 0)])
        (x, _), _ = self._loop("single", self.single, (x, None), None, c, turn, None, None, inside)
        return x[:, :length]

    def _loop(
        self,
        name: str,
        depth: int,
        streams: Any,
        skips: Any,
        *context: Any,
        extra: Array | None = None,
        **settings: Any,
    ) -> Any:
        """Apply `depth` blocks one after the other; their parameters are stacked."""
        if not depth:
            return streams, None
        each = lambda a: nn.broadcast if a is None else 0
        if extra is not None:
            extra = jnp.pad(extra, [(0, depth - len(extra)), *[(0, 0)] * 3])
        *before, text, inside = context
        stacked = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        if text is not None:
            keys: Any = nn.vmap(Keys, in_axes=cast(Any, None), axis_size=depth, **stacked)
            text = (keys(self.settings, name=name + KEYS)(text[0]), text[1])
        across = nn.broadcast if text is None else (0, nn.broadcast)
        axes: Any = (each(skips), *[nn.broadcast] * len(before), across, nn.broadcast, each(extra))
        kind = ParallelBlock if name == "single" else TransformerBlock
        looped = nn.scan(
            self._block(kind, prevent_cse=False),
            in_axes=axes,
            length=depth,
            **stacked,
        )
        block = looped(self.settings, **settings, name=name)
        return block(streams, skips, *before, text, inside, extra)

    def _one(self, name: str, *inputs: Any, **settings: Any) -> Any:
        block, (*before, text, inside) = self._block(TransformerBlock, prevent_cse=True), inputs
        if text is not None:
            text = (Keys(self.settings, name=name + KEYS)(text[0]), text[1])
        return block(self.settings, **settings, name=name)(*before, text, inside)

    def _block(self, kind: Any, prevent_cse: bool) -> Any:
        return nn.remat(kind, prevent_cse=prevent_cse, policy=POLICIES[self.remat])

    def lane(self, shape: tuple[int, ...]) -> int:
        """Return how many positions of the leading axis share a time: those of a patch.

        It is 0 where the time enters elsewhere than by the modulation of patches.
        """
        return 0 if self.conditions.by("joint", "time") else sides_of(self, (1, *shape))[0]

    def resized(self, before: tuple[int, ...], after: tuple[int, ...]) -> dict[str, Any]:
        """Return the settings that change for items of another shape, see `Network`."""
        return resized(self, before, after)


def _network(module: DiT, dtype: str) -> Network:
    """Return the network of a module whose settings fit, with the half that controls copy."""
    check(module)
    network, plain = linen(module, dtype), module.attention == "full"
    halved = plain and not (module.dual or module.single)
    return network if halved else dataclasses.replace(network, encoder=None)


def dit(
    size: str = "S",
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    patch: int = 2,
    patch_time: int = 1,
    conditions: tuple[Condition, ...] = (),
    positions: str = "sincos",
    stretch: float = 1.0,
    cover: tuple[int, ...] = (),
    side: int = 0,
    axes: tuple[int, ...] = (),
    dual: int = 0,
    single: int = 0,
    modulation: str = "own",
    norm: str = "layer",
    qk_norm: bool = False,
    mlp: str = "gelu",
    long_skips: bool = False,
    remat: str = "",
    learn_variance: bool = False,
    attention: str = "full",
    waves: int = 0,
    dtype: str = "float32",
) -> Network:
    """A diffusion transformer, `DiT`; a setting that is out of range raises ValueError.

    size: S, B, L or XL, the default of width, depth and heads. width: of the tokens. depth: number
    of blocks. heads: attention heads. patch: side of the squares that become tokens. patch_time:
    frames per token of a video. conditions: inputs besides x, as vectors, channels, a second time,
    or tokens. Tokens enter by joint attention (arXiv:2403.03206), or with the mechanism `cross` by
    cross-attention after the self-attention of each block (arXiv:2310.00426). positions: sincos or
    learned, added; rotary; or none. stretch, cover: of the positions sincos, a divisor, and the
    grid whose range they cover, () for that of the items. side: patches along each axis of the
    table of the learned positions, whose middle is added. axes: features of a head for each axis of
    rotary. dual: first blocks with a second self-attention. single: last blocks with patches and
    tokens in one stream (Flux.1). modulation: own layers of all blocks, or one that is shared by
    them. norm: layer or rms. qk_norm: RMS norm of queries and keys. mlp: gelu or swiglu
    (arXiv:2002.05202). long_skips: join blocks of the first half to those of the second
    (arXiv:2209.12152). remat, waves: see `DiT`. learn_variance: return a second output, for the
    variance of a step. attention: full, or for videos factorised (arXiv:2401.03048). dtype: that
    of the compute, float32 or bfloat16; parameters, input and output are float32.

    >>> dit(size="S", patch=2)
    Network(DiT)
    >>> dit(width=100, heads=3)
    Traceback (most recent call last):
    ValueError: heads=3: ...
    """
    one_of(SIZES, size=size)
    asked = (width, depth, heads)
    width, depth, heads = (b if a is None else a for a, b in zip(asked, SIZES[size], strict=True))
    at_least(1, width=width, depth=depth, heads=heads, patch=patch, patch_time=patch_time)
    settings = BlockSettings(width, heads, norm, qk_norm, mlp, modulation)
    module = DiT(
        *(settings, depth, patch, patch_time, positions, stretch, tuple(cover), side, tuple(axes)),
        *(dual, single, long_skips, settled_for(attention, conditions), remat, learn_variance),
    )
    return _network(module.clone(attention=attention, waves=waves), dtype)
