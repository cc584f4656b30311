"""DiffWave: a network of dilated convolutions for sounds and other sequences (B, L, C)."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from diffjax.arrays import Cond
from diffjax.checks import at_least
from diffjax.nets.conditions import Condition, Conditions, settled
from diffjax.nets.layers import NONE, VECTORS, Dense, Embedding, Output, outputs, zeros
from diffjax.nets.network import Network, linen

FEATURES = 128
"""Number of features of the noise label (arXiv:2009.09761)."""


class WaveNet(nn.Module):
    """Gated residual layers of dilated convolutions, whose skip outputs are summed.

    Layer k has the dilation 2^(k mod cycle), so an output depends on 1 + 2 sum 2^(k mod cycle)
    positions of the input (arXiv:2009.09761; arXiv:1609.03499). SiLU stands in place of
    ReLU, because flow maps need derivatives without kinks. The output starts at zero.
    periodic: whether the positions form a ring. learn_variance: return a second output like the
    first, for the variance of a step.
    """

    channels: int = 64
    depth: int = 30
    cycle: int = 10
    periodic: bool = False
    conditions: Conditions = NONE
    learn_variance: bool = False

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l c"],
        c_noise: Float[Array, " b"],
        cond: Cond | None,
        train: bool = False,
    ) -> Output:
        if x.ndim != 3:
            raise ValueError(f"wavenet with input {x.shape}: needs sequences (B, L, C)")
        cond = self.conditions.check(x, cond)
        width, n = self.channels, x.shape[-1]
        emb = Embedding(4 * width, FEATURES, self.conditions)(x, c_noise, cond)
        local = self.conditions.beside(x, cond)[..., n:]
        h, total = nn.silu(Dense(width)(x)), jnp.zeros((), x.dtype)
        for k in range(self.depth):
            u = near(h + nn.Dense(width)(emb)[:, None], 2 ** (k % self.cycle), self.periodic)
            u = Dense(2 * width)(u)
            if local.shape[-1]:
                u = u + Dense(2 * width, name=f"local_{k}")(local)
            value, gate = jnp.split(u, 2, axis=-1)
            more, skip = jnp.split(Dense(2 * width)(jnp.tanh(value) * nn.sigmoid(gate)), 2, axis=-1)
            h, total = (h + more) * 0.5**0.5, total + skip
        h = nn.silu(Dense(width)(total * self.depth**-0.5))
        last = Dense(n * (1 + self.learn_variance), kernel_init=zeros, name="out")
        return outputs(last(h), self.learn_variance)


def near(h: Float[Array, "b l c"], step: int, periodic: bool = False) -> Float[Array, "b l d"]:
    """Return the values at l - step, l and l + step side by side (B, L, 3 C), 0 beyond the ends.

    A dense layer of the result is a convolution with three taps and this dilation. periodic: beyond
    one end is the other one.

    >>> near(jnp.array([[[1.0], [2.0], [3.0]]]), 2)[0].tolist()
    [[0.0, 1.0, 3.0], [0.0, 2.0, 0.0], [1.0, 3.0, 0.0]]
    """
    if periodic:
        return jnp.concatenate([jnp.roll(h, k * step, 1) for k in (1, 0, -1)], -1)
    length = h.shape[1]
    wide = jnp.pad(h, ((0, 0), (step, step), (0, 0)))
    return jnp.concatenate([wide[:, k * step : k * step + length] for k in range(3)], -1)


def wavenet(
    channels: int = 64,
    depth: int = 30,
    cycle: int = 10,
    periodic: bool = False,
    conditions: tuple[Condition, ...] = (),
    learn_variance: bool = False,
    dtype: str = "float32",
) -> Network:
    """The network of DiffWave for sequences, `WaveNet`; a setting out of range raises ValueError.

    channels: width of all layers, >= 2. depth: number of layers. cycle: number of layers after
    which the dilations 1, 2, 4, ... begin again. periodic: whether the positions form a ring, such
    as a circle of latitude, so that a turn of the input turns the output. conditions: inputs
    besides x, as vectors, or maps (B, L, size), such as a mel spectrogram, which every layer reads.
    learn_variance: return a second output like the first, for the variance of a step. dtype: the
    type of the compute, float32 or bfloat16; parameters, input and output are float32.

    >>> from diffjax.nets.conditions import Label
    >>> wavenet(channels=8, depth=2, conditions=(Label(10),))
    Network(WaveNet)
    """
    at_least(2, channels=channels)
    at_least(1, depth=depth, cycle=cycle)
    known = settled(conditions, "wavenet", (*VECTORS, "beside"))
    return linen(WaveNet(channels, depth, cycle, periodic, known, learn_variance), dtype)
