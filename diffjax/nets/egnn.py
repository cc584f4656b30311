"""EGNN: a network of points that commutes with rotations, reflections and permutations.

Items are points (B, N, d), or points with invariant features (B, N, d + k) such as the elements of
atoms. Source: arXiv:2102.09844, in the dense form that arXiv:2203.17003 uses for diffusion.
"""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.checks import at_least, positive
from diffjax.nets.conditions import Condition, Conditions, settled
from diffjax.nets.layers import NONE, VECTORS, Dense, Embedding, Output, zeros
from diffjax.nets.network import Network, linen

Points = Float[Array, "b n d"]
Nodes = Float[Array, "b n w"]
Pairs = Float[Array, "b n n f"]
NEAR = 1e-6
"""It is added to squared distances, whose root has no derivative at 0."""


def between(x: Points) -> tuple[Pairs, Pairs]:
    """Return the differences x_i - x_j (B, N, N, d) and the distances (B, N, N, 1).

    >>> float(between(jnp.array([[[0.0, 0.0], [3.0, 4.0]]]))[1][0, 0, 1, 0])
    5.0
    """
    apart = x[:, :, None] - x[:, None]
    return apart, jnp.sqrt((apart**2).sum(-1, keepdims=True) + NEAR)


def bumps(distance: Pairs, count: int, reach: float) -> Pairs:
    """Return Gaussians of the distance (B, N, N, count), centred at even places in [0, reach].

    They let a layer resolve distances, which squared distances alone do not.

    >>> bumps(jnp.ones((1, 1, 1, 1)), 3, 2.0).shape
    (1, 1, 1, 3)
    """
    places = jnp.linspace(0, reach, count, dtype=distance.dtype)
    off = (distance - places[None, None, None]) * (count / reach)
    return jnp.exp(-0.5 * off**2)


class Layer(nn.Module):
    """Messages of all pairs, which change the features of the nodes and move the points.

    m_ij = phi_m(h_i, h_j, d_ij, d_ij at the input, f_ij) with features f_ij of the pair that
    conditions state, and a gate e_ij = sigmoid(phi_e(m_ij));
    h_i += phi_h(h_i, sum_j e_ij m_ij / N); x_i += sum_j (x_i - x_j) / (d_ij + 1) phi_x(m_ij) / N.
    The sums are divided by the number of points, so that features of large clouds do not grow.
    """

    width: int
    radial: int
    reach: float

    @nn.compact
    def __call__(self, h: Nodes, x: Points, first: Pairs, share: Pairs) -> tuple[Nodes, Points]:
        apart, distance = between(x)
        radial = jnp.concatenate([bumps(distance, self.radial, self.reach), first], -1)
        both = Dense(self.width)(h)[:, :, None] + Dense(self.width, use_bias=False)(h)[:, None]
        m = nn.silu(both + Dense(self.width, use_bias=False)(radial))
        m = nn.silu(Dense(self.width)(m))
        factor = Dense(1, use_bias=False)(nn.silu(Dense(self.width)(m)))
        moved = x + (share * factor * apart / (distance + 1)).sum(2)
        message = (share * nn.sigmoid(Dense(1)(m)) * m).sum(2)
        change = nn.silu(Dense(self.width)(jnp.concatenate([h, message], -1)))
        return h + Dense(self.width)(change), moved


class EGNN(nn.Module):
    """Network whose output rotates, reflects and permutes with its input, and ignores its place.

    With the points x that the layers move to y, and features h of the nodes, the output of point i
    is w(h_i) (y_i - x_i) + v(h_i) x_i, where x is centred. It starts at zero. features: the number
    k of the last values of a point that are invariant; their output is r(h_i) + q(h_i) times the
    values. Where items have lengths, h starts with the logarithm of the number of points as well.
    learn_variance: return a second output u(h_i) + s(h_i) |x_i|^2 / d, one invariant number for all
    values of a point.
    """

    width: int = 64
    depth: int = 4
    radial: int = 16
    reach: float = 6.0
    features: int = 0
    conditions: Conditions = NONE
    learn_variance: bool = False

    @nn.compact
    def __call__(
        self, x: Points, c_noise: Float[Array, " b"], cond: Cond | None, train: bool = False
    ) -> Output:
        if x.ndim != 3 or x.shape[1] < 2 or x.shape[2] <= self.features:
            needs = f"(B, N, d + {self.features})" if self.features else "(B, N, d)"
            raise ValueError(f"egnn with input {x.shape}: needs points {needs} with N >= 2")
        cond, n = self.conditions.check(x, cond), x.shape[-1] - self.features
        known = self.conditions.beside(x, cond)
        inside = self.conditions.inside(x, cond)
        there = jnp.ones(x.shape[:2], x.dtype) if inside is None else inside.astype(x.dtype)
        count = there.sum(1)[:, None, None]
        x = there[..., None] * known[..., :n]
        x = there[..., None] * (x - x.sum(1, keepdims=True) / count)
        others = there[:, :, None] * there[:, None] * (1 - jnp.eye(x.shape[1], dtype=x.dtype))[None]
        share = (others / count)[..., None]
        emb = Embedding(4 * self.width, self.width, self.conditions)(x, c_noise, cond)
        h = Dense(self.width)(emb)[:, None] + 0 * there[..., None]
        if known.shape[-1] > n:
            h = h + Dense(self.width, use_bias=False, name="local")(known[..., n:])
        if inside is not None:
            h = h + Dense(self.width, use_bias=False, name="count")(jnp.log(count))
        y, first = x, bumps(between(x)[1], self.radial, self.reach)
        if (features := self.conditions.pairs(x, cond)) is not None:
            first = jnp.concatenate([first, features], -1)
        for _ in range(self.depth):
            h, y = Layer(self.width, self.radial, self.reach)(h, y, first, share)
        scalars = 2 * self.features
        out = Dense(2 + scalars + 2 * self.learn_variance, kernel_init=zeros, name="out")(h)
        out = there[..., None] * out
        values = out[..., :1] * (y - x) + out[..., 1:2] * x
        if self.features:
            r, q = jnp.split(out[..., 2 : 2 + scalars], 2, -1)
            invariant = r + q * known[..., n : n + self.features]
            values = jnp.concatenate([values, invariant], -1)
        if not self.learn_variance:
            return values
        variance = out[..., -2:-1] + out[..., -1:] * (x**2).mean(-1, keepdims=True)
        return values, jnp.broadcast_to(variance, values.shape)


def egnn(
    width: int = 64,
    depth: int = 4,
    radial: int = 16,
    reach: float = 6.0,
    features: int = 0,
    conditions: tuple[Condition, ...] = (),
    learn_variance: bool = False,
    dtype: str = "float32",
) -> Network:
    """An equivariant network of points (B, N, d + features), `EGNN`.

    width: of the features of a node and of a message, >= 2. depth: number of layers, >= 1. radial:
    number of features of a distance, >= 2. reach: the distance that they cover, in units of the
    network's input, > 0. features: how many of the last values of a point are invariant, >= 0.
    conditions: inputs besides x, as vectors, maps (B, N, size) of invariant features of the points,
    features (B, N, N, size) of their pairs, or the length, in which case further points are ignored
    and their output is 0. learn_variance: return a second, invariant output for the variance of a
    step. dtype: the type of the compute, float32 or bfloat16; parameters, input and output are
    float32. Raises ValueError for a setting out of range.

    >>> egnn(width=16, depth=2)
    Network(EGNN)
    """
    at_least(2, width=width, radial=radial)
    at_least(1, depth=depth)
    at_least(0, features=features)
    positive(reach=reach)
    known = settled(conditions, "egnn", (*VECTORS, "beside", "pairs"))
    return linen(EGNN(width, depth, radial, reach, features, known, learn_variance), dtype)
