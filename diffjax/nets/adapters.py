"""Adapters: a small trained change of the kernels of a network whose own parameters stay fixed.

A kernel W (in, out) becomes, with A (in, r) and B (r, out) and the scale s (arXiv:2106.09685),

    LoRA    W' = W + s A B,
    DoRA    W' = m (W + s A B) / |W + s A B|        (arXiv:2402.09353, eq. 5),

where the norm |.| of every output (or input) has no gradient, and m starts at |W|. In a convolution
(k, k, in, out), A is (k, k, in, r): a convolution to r channels, then one of side 1. A is drawn
from U(-1/sqrt(n), 1/sqrt(n)) with n = k k in, and B is 0, so that W' = W at first.
"""

from __future__ import annotations

import abc
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Params
from diffjax.io.trees import flat, joined, nested, some
from diffjax.nets.adapted import PARAMS, Adapter
from diffjax.nets.rows import Rows

DOWN, UP, MAGNITUDE = "down", "up", "magnitude"
KERNELS = ("kernel", "weight")
"""The names of parameters that are matrices (..., in, out)."""
AXES = ("output", "input")


class Kernel(NamedTuple):
    """The shape of a kernel, without the axis over which equal blocks are stacked.

    shape: (*k, in, out). stack: the number of blocks in the stack, 0 for a single kernel.

    >>> Kernel((3, 3, 8, 16), stack=0).most
    16
    """

    shape: tuple[int, ...]
    stack: int

    @property
    def inputs(self) -> int:
        """The number of numbers that one output depends on."""
        return math.prod(self.shape[:-1])

    @property
    def most(self) -> int:
        """The largest rank of the kernel as a matrix."""
        return min(self.inputs, self.shape[-1])

    def stacked(self, *shape: int) -> tuple[int, ...]:
        """Return a shape with the axis of the stack, if there is one."""
        return (self.stack, *shape) if self.stack else shape


def kernels(params: Mapping[str, Any], stacks: tuple[str, ...] = ()) -> dict[str, Kernel]:
    """Return the kernels among the parameters of a network, by path.

    stacks: the names of modules with a leading axis of blocks, see `Network`.

    >>> params = {"blocks": {"out": {"kernel": jnp.ones((5, 2, 3)), "bias": jnp.ones((5, 3))}}}
    >>> kernels(params, stacks=("blocks",))
    {'blocks/out/kernel': Kernel(shape=(2, 3), stack=5)}
    """
    found = {}
    for path, a in flat(params).items():
        module, _, leaf = path.rpartition("/")
        stacked = module.partition("/")[0] in stacks
        if leaf in KERNELS and len(a.shape) - stacked >= 2:
            shape = tuple(a.shape)
            found[path] = Kernel(shape[stacked:], shape[0] if stacked else 0)
    return found


@dataclass(frozen=True)
class LowRank(Adapter):
    """A change of kernels by a product of low rank, with its settings.

    where: a regular expression; kernels whose path contains a match are adapted, such as
    `blocks/.*qkv`. Layers inside a network are named as in `config.optimizer.rates`, without
    `network/`. rank: r, at most that of each kernel. alpha: the scale is s = alpha / r; by default
    alpha = r. rank_stabilized: s = alpha / sqrt(r) (arXiv:2312.03732, rsLoRA). Raises ValueError
    for values out of range.
    """

    rank: int = 8
    alpha: float | None = None
    rank_stabilized: bool = False

    def __post_init__(self):
        super().__post_init__()
        checks.at_least(1, rank=self.rank)
        checks.positive(alpha=self.strength)

    @property
    def strength(self) -> float:
        """The value of alpha, rank by default."""
        return float(self.rank if self.alpha is None else self.alpha)

    @property
    def scale(self) -> float:
        """The factor s of the product A B."""
        return self.strength / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def chosen(self, params: Params, stacks: tuple[str, ...] = ()) -> dict[str, Kernel]:
        """Return the kernels that are adapted, by path.

        Raises ValueError where `where` matches no kernel, and for kernels of too low a rank.
        """
        known = kernels(params, stacks)
        chosen = {k: v for k, v in known.items() if re.search(self.where, k)}
        if not chosen:
            raise ValueError(f"where={self.where!r}: matches no kernel; {some('known', known)}")
        if small := [f"{k} {v.shape}" for k, v in chosen.items() if v.most < self.rank]:
            most = min(v.most for v in chosen.values())
            raise ValueError(
                f"rank={self.rank}: exceeds that of {some('kernels', small)}; allowed: rank <= "
                f"{most}, or another `where`"
            )
        return chosen

    def check(self, params: Params, stacks: tuple[str, ...] = ()) -> None:
        self.chosen(params, stacks)

    def init(self, key: Key[Array, ""], params: Params, stacks: tuple[str, ...] = ()) -> Params:
        chosen = self.chosen(params, stacks)
        keys = jax.random.split(key, len(chosen))
        drawn = {}
        for one, (path, kernel) in zip(keys, sorted(chosen.items()), strict=True):
            bound = 1 / math.sqrt(kernel.inputs)
            down = kernel.stacked(*kernel.shape[:-1], self.rank)
            drawn[f"{path}/{DOWN}"] = jax.random.uniform(one, down, minval=-bound, maxval=bound)
            drawn[f"{path}/{UP}"] = jnp.zeros(kernel.stacked(self.rank, kernel.shape[-1]))
            more = {k: jnp.zeros(kernel.stacked(*s)) for k, s in self.more(kernel.shape).items()}
            drawn |= {f"{path}/{name}": value for name, value in more.items()}
        return nested(drawn)

    def merge(self, params: Params, stacks: tuple[str, ...] = ()) -> Params:
        base = {k: v for k, v in params.items() if k != PARAMS}
        known, own = flat(base), flat(params[PARAMS])
        changed = {}
        for path in self.adapted(own, DOWN):
            parts = {k: own[f"{path}/{k}"] for k in (DOWN, UP, MAGNITUDE) if f"{path}/{k}" in own}
            one = jax.vmap(self.changed) if path.partition("/")[0] in stacks else self.changed
            changed[path] = one(known[path], parts)
        return joined(base, nested(changed))

    def delta(self, parts: Mapping[str, Array]) -> Float[Array, "*k i o"]:
        """Return the product s A B, in full precision on every device."""
        highest = jax.lax.Precision.HIGHEST
        return self.scale * jnp.matmul(parts[DOWN], parts[UP], precision=highest)

    @abc.abstractmethod
    def more(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parameters besides A and B, which start at 0."""

    @abc.abstractmethod
    def changed(
        self, kernel: Float[Array, "*k i o"], parts: Mapping[str, Array]
    ) -> Float[Array, "*k i o"]:
        """Return one kernel with its adapter merged; parts: `down`, `up`, and others by name."""


@dataclass(frozen=True)
class LoRA(LowRank):
    """Low-rank adaptation W' = W + s A B (arXiv:2106.09685); see `LowRank`.

    >>> kernel, parts = jnp.eye(2), {"down": jnp.ones((2, 1)), "up": jnp.array([[0.0, 3.0]])}
    >>> LoRA(where="out", rank=1, alpha=2).changed(kernel, parts).tolist()
    [[1.0, 6.0], [0.0, 7.0]]
    """

    def more(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {}

    def changed(
        self, kernel: Float[Array, "*k i o"], parts: Mapping[str, Array]
    ) -> Float[Array, "*k i o"]:
        return kernel + self.delta(parts)


@dataclass(frozen=True)
class DoRA(LowRank):
    """Weight-decomposed adaptation W' = m (W + s A B) / |W + s A B| (arXiv:2402.09353).

    axis: `output` for one magnitude m per output, as in PEFT, or `input` for one per input, which
    LyCORIS offers too. The trained parameter is m - |W|, so that an adapter is initialised
    without its base. Rows of zeros keep W + s A B. See `LowRank` for the other settings.

    >>> parts = {"down": jnp.ones((2, 1)), "up": jnp.zeros((1, 1)), "magnitude": jnp.array([5.0])}
    >>> DoRA(where="out", rank=1).changed(jnp.array([[3.0], [4.0]]), parts).tolist()
    [[6.0], [8.0]]
    """

    axis: str = "output"

    def __post_init__(self):
        super().__post_init__()
        checks.one_of(AXES, axis=self.axis)

    def more(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {MAGNITUDE: (shape[-1 if self.axis == "output" else -2],)}

    def changed(
        self, kernel: Float[Array, "*k i o"], parts: Mapping[str, Array]
    ) -> Float[Array, "*k i o"]:
        moved = kernel + self.delta(parts)
        size, first = (jax.lax.stop_gradient(self.norm(w)) for w in (moved, kernel))
        wanted = first + parts[MAGNITUDE].reshape(first.shape)
        # A norm of 0 has no direction: the layer that a network begins with may be zero.
        return moved * jnp.where(size > 0, wanted / jnp.where(size > 0, size, 1), 1)

    def norm(self, kernel: Float[Array, "*k i o"]) -> Float[Array, "..."]:
        """Return the norm of each output or input, broadcasting against the kernel."""
        kept = kernel.ndim - (1 if self.axis == "output" else 2)
        axes = tuple(i for i in range(kernel.ndim) if i != kept)
        return jnp.sqrt(jnp.square(kernel).sum(axes, keepdims=True))


ADAPTERS: dict[str, type[Adapter]] = {"lora": LoRA, "dora": DoRA, "rows": Rows}
