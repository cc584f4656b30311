"""A residual multi-layer perceptron for points, vectors and short trajectories."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.checks import at_least
from diffjax.nets.conditions import Condition, Conditions, settled
from diffjax.nets.layers import NONE, VECTORS, Embedding, Output, outputs, zeros
from diffjax.nets.network import Network, linen


class MLP(nn.Module):
    """Perceptron of `depth` residual blocks of width `width`, whose output starts at zero.

    All values of an item form one vector. lanes: whether paths (B, L, C) may have labels c_noise
    (B, L), one for each position: their mean is embedded, and what each is above it is appended to
    the vector.

    learn_variance: return a second output like the first, for the variance of a step.
    """

    width: int = 128
    depth: int = 3
    conditions: Conditions = NONE
    learn_variance: bool = False
    lanes: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *d"],
        c_noise: Float[Array, "b ..."],
        cond: Cond | None,
        train: bool = False,
    ) -> Output:
        if x.ndim not in (2, 3):
            raise ValueError(f"mlp with input {x.shape}: needs vectors (B, D) or paths (B, L, C)")
        cond = self.conditions.check(x, cond)
        flat = self.conditions.beside(x, cond).reshape(x.shape[0], -1)
        if self.lanes:
            each = c_noise.reshape(len(c_noise), -1)
            c_noise = each.mean(1)
            above = jnp.broadcast_to(each - c_noise[:, None], x.shape[:2])
            flat = jnp.concatenate([flat, above.astype(x.dtype)], -1)
        emb = Embedding(self.width, self.width, self.conditions)(x, c_noise, cond)
        h = nn.Dense(self.width)(flat)
        for _ in range(self.depth):
            u = nn.Dense(self.width)(nn.silu(nn.LayerNorm()(h))) + nn.Dense(self.width)(emb)
            h = h + nn.Dense(self.width)(nn.silu(u))
        width = x[0].size * (1 + self.learn_variance)
        out = nn.Dense(width, kernel_init=zeros)(nn.silu(nn.LayerNorm()(h)))
        return outputs(out, self.learn_variance, lambda a: a.reshape(x.shape))

    def lane(self, shape: tuple[int, ...]) -> int:
        """Return 1 where each position of paths of this shape has a time, 0 elsewhere."""
        return int(self.lanes and len(shape) == 2 and not self.conditions.by("time"))


def mlp(
    width: int = 128,
    depth: int = 3,
    conditions: tuple[Condition, ...] = (),
    learn_variance: bool = False,
    lanes: bool = False,
    dtype: str = "float32",
) -> Network:
    """A residual perceptron for small items, `MLP`; a setting out of range raises ValueError.

    width: width of all layers. depth: number of residual blocks. conditions: inputs besides x, as
    vectors, as maps on the grid of x, or a second time. learn_variance: return a second output like
    the first, for the variance of a step. lanes: take a time per position of paths (L, C). dtype:
    the type of the compute, float32 or bfloat16; parameters, input and output are float32.

    >>> from diffjax.nets.conditions import Label
    >>> mlp(width=16, depth=1, conditions=(Label(2),))
    Network(MLP)
    """
    at_least(2, width=width)
    at_least(1, depth=depth)
    known = settled(conditions, "mlp", (*VECTORS, "beside"))
    return linen(MLP(width, depth, known, learn_variance, lanes), dtype)
