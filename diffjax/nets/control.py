"""Controls: networks beside a trained one, which read a condition and add to its features.

The trained network stays as it is. A control adds exactly 0 where its condition is missing and
where its scale is 0, so the network is its base there, with a `ControlNet` also before training.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import Cond, Params, rebuild
from diffjax.io.trees import flat, nested, some
from diffjax.nets.adapted import PARAMS, Project
from diffjax.nets.conditions.base import present
from diffjax.nets.layers import Dense, zeros
from diffjax.nets.network import Network
from diffjax.nets.residuals import NOTHING, Residuals
from diffjax.nets.unet import unfold
from diffjax.specs import Spec


@dataclass(frozen=True)
class Control(abc.ABC):
    """A network that reads one condition of the data and adds to the features of its base.

    condition: the name of the condition. size: its channels or its width. scale: a factor on all
    that is added. start, end: the share of the rows of a sampler after which the control begins to
    act, and after which it ceases, as in diffusers; training has it at all times. Raises ValueError
    for a name that is not an identifier, and for numbers out of range.

    labels: what `start` and `end` mean for one sampler: the noise labels c_noise, lowest and
    highest, between which the control acts, () for all; see `within`.
    """

    condition: str
    size: int = 1
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    labels: tuple[float, ...] = field(default=(), init=False)

    def __post_init__(self):
        if not self.condition.isidentifier():
            raise ValueError(f"condition={self.condition!r}: needs an identifier as a name")
        checks.at_least(1, size=self.size)
        checks.finite(scale=self.scale)
        if not 0 <= self.start < self.end <= 1:
            shares = f"start={self.start}, end={self.end}"
            raise ValueError(f"{shares}: needs 0 <= start < end <= 1, shares of the rows")

    @property
    @abc.abstractmethod
    def kind(self) -> str:
        """The kind of the condition, an entry of `CONDITIONS`."""

    @property
    def spec(self) -> Spec:
        """The condition that the control reads."""
        return Spec(self.condition, self.kind, self.size)

    def shape(self, x: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the condition for inputs of shape x (B, *D, C)."""
        return (*x[:-1], self.size) if self.kind == "map" else (x[0], self.size)

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], base: Network, params: Params, inputs: Any) -> Params:
        """Draw the parameters beside a base with the parameters `params`.

        inputs: x, c_noise and the conditions of the base. Raises ValueError for a base to which the
        control cannot add.
        """

    @abc.abstractmethod
    def residuals(
        self, params: Params, base: Network, of_base: Params, value: Array, inputs: Any, key: Any
    ) -> Residuals:
        """Return what is added. value: the condition, with 0 in place of missing numbers."""

    def __call__(
        self, params: Params, base: Network, of_base: Params, value: Array, inputs: Any, key: Any
    ) -> Residuals:
        """Return what is added to each sample: 0 where the condition is missing or switched off."""
        known, there = present(value, value.dtype)
        acts, c_noise = there.all(tuple(range(1, there.ndim))), inputs[1]
        if self.labels:
            acts &= (c_noise >= self.labels[0]) & (c_noise <= self.labels[1])
        every = self.residuals(params, base, of_base, known, inputs, key)
        return every.times(jnp.where(acts, self.scale, 0.0))

    def within(self, labels: Sequence[float]) -> Control:
        """Return the control of a sampler whose rows have the noise labels (R,), from `start` on.

        Row i of R is between the shares i / R and (i + 1) / R. A control acts in the rows that lie
        wholly between `start` and `end`; its scale is 0 where there is none.

        >>> ControlNet("edges", end=0.5).within([1.0, 0.8, 0.6, 0.4]).labels
        (0.7, inf)
        """
        if (self.start, self.end) == (0, 1):
            return self
        rows, n = np.asarray(labels, np.float64), len(labels)
        inside = np.array([i / n >= self.start and (i + 1) / n <= self.end for i in range(n)])
        if not inside.any():
            return rebuild(self, scale=0.0)
        low, high = rows[inside].min(), rows[inside].max()
        below, above = rows[~inside & (rows < low)], rows[~inside & (rows > high)]
        low = (low + below.max()) / 2 if below.size else -np.inf
        high = (high + above.min()) / 2 if above.size else np.inf
        return rebuild(self, labels=(float(low), float(high)))


class Hint(nn.Module):
    """Embedding of a map by convolutions, each but the first of which halves the grid.

    widths: channels of the levels. channels: of the result, which starts at zero. The channels of
    the map hold squares of side 2^(number of widths - 1), which are unfolded first. patches: sides
    of the patches of the network, of which each becomes one place.
    """

    widths: tuple[int, ...]
    channels: int
    patches: tuple[int, ...]

    @nn.compact
    def __call__(self, value: Float[Array, "b *d c"]) -> Float[Array, "b *d e"]:
        axes = value.ndim - 2
        one = lambda x, width, **settings: nn.Conv(width, (3,) * axes, padding=1, **settings)(x)
        x = nn.silu(one(unfold(value, 2 ** (len(self.widths) - 1)), self.widths[0]))
        for width in self.widths[1:]:
            x = nn.silu(one(x, x.shape[-1]))
            x = nn.silu(one(x, width, strides=2))
        if max(self.patches) == 1:
            return one(x, self.channels, kernel_init=zeros)
        last = nn.Conv(self.channels, self.patches, self.patches, kernel_init=zeros)
        return last(x)


class Zeros(nn.Module):
    """A layer for each of several features, all of which start at zero."""

    @nn.compact
    def __call__(self, features: Residuals) -> Residuals:
        leaves, structure = jax.tree.flatten(features)
        layer = lambda i, a: Dense(a.shape[-1], kernel_init=zeros, name=f"zero_{i}")(a)
        return structure.unflatten([layer(i, a) for i, a in enumerate(leaves)])


@dataclass(frozen=True)
class ControlNet(Control):
    """A copy of the encoder, which reads a map and ends in layers that are zero at first.

    Its outputs are added where the decoder reads those of the encoder, and in the middle
    (arXiv:2302.05543). The trained parameters of the copy are differences from the encoder of the
    base, so that they start at 0, and weight decay draws the copy to its base.

    hint: widths of the layers that embed the map. With n widths, the channels of the map at each
    place hold a square of side 2^(n - 1): 4 widths and 192 channels are an RGB image of 8 times the
    size of the grid, as for latents. See `Control` for the other settings.

    >>> ControlNet("edges").spec
    Spec(name='edges', kind='map', size=1)
    """

    hint: tuple[int, ...] = (32,)

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "hint", tuple(self.hint))
        if not self.hint or min(self.hint) < 1:
            raise ValueError(f"hint={self.hint}: needs at least one width, each >= 1")

    @property
    def kind(self) -> str:
        return "map"

    def init(self, key: Key[Array, ""], base: Network, params: Params, inputs: Any) -> Params:
        if base.encoder is None:
            raise ValueError(f"{base}: has no encoder to copy; allowed: unet, dit")
        x, c_noise, cond = inputs
        side = 2 ** (len(self.hint) - 1)
        if self.size % side ** (x.ndim - 2):
            raise ValueError(
                f"hint={self.hint}: {len(self.hint)} widths need maps whose channels are a "
                f"multiple of {side ** (x.ndim - 2)}; {self.condition!r} has {self.size}"
            )
        apply = cast(Any, base.encoder.apply)
        shapes = jax.eval_shape(base.encoder.init, key, x, c_noise, cond)
        copy = {k: jnp.zeros(v.shape, v.dtype) for k, v in flat(shapes).items()}
        if lacking := [path for path in copy if path not in flat(params)]:
            raise ValueError(f"{base}: has no half to copy; {some('missing', lacking)}")
        features = jax.eval_shape(apply, shapes, x, c_noise, cond)
        features = jax.tree.map(lambda a: jnp.zeros(a.shape), features)
        embed = self._embed(x, jax.tree.leaves(features)[0])
        value = jnp.zeros(self.shape(x.shape))
        return {
            "copy": nested(copy),
            "hint": embed.init(jax.random.fold_in(key, 1), value)["params"],
            "out": Zeros().init(key, features)["params"],
        }

    def _embed(self, x: Any, feature: Any) -> Hint:
        """Return the embedding for inputs x and a first feature of the encoder."""
        sides = (n // m for n, m in zip(x.shape[1:-1], feature.shape[1:-1], strict=True))
        return Hint(self.hint, feature.shape[-1], tuple(sides))

    def residuals(
        self, params: Params, base: Network, of_base: Params, value: Array, inputs: Any, key: Any
    ) -> Residuals:
        assert base.encoder is not None
        own, shared = flat(params["copy"]), flat(of_base)
        # Of blocks in a stack the copy has the first ones.
        copy = nested({path: shared[path][: len(a)] + a for path, a in own.items()})
        apply = cast(Any, base.encoder.apply)
        first = jax.tree.leaves(jax.eval_shape(apply, copy, *inputs))[0]
        embed = self._embed(inputs[0], first)
        hint = embed.apply({"params": params["hint"]}, value)
        features = apply(copy, *inputs, key=key, hint=hint)
        return cast(Residuals, Zeros().apply({"params": params["out"]}, features))


@dataclass(frozen=True)
class _Init:
    base: Network
    controls: tuple[Control, ...]

    def __repr__(self) -> str:
        name = getattr(self.base.init, "__name__", self.base.init)
        return " + ".join([str(name), *(type(each).__name__ for each in self.controls)])

    def __call__(self, key: Any, x: Any, c_noise: Any, cond: Any) -> Params:
        _, others = split(self.controls, cond)
        params = self.base.init(key, x, c_noise, others)
        if PARAMS in params:
            raise ValueError(f"the network has parameters named {PARAMS!r}; needs another name")
        own = {}
        for i, each in enumerate(self.controls, 1):
            inputs = (x, c_noise, others)
            own[each.condition] = each.init(jax.random.fold_in(key, i), self.base, params, inputs)
        return {**params, PARAMS: own}


@dataclass(frozen=True)
class _Apply:
    base: Network
    controls: tuple[Control, ...]

    def __call__(self, params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None) -> Any:
        base = {k: v for k, v in params.items() if k != PARAMS}
        values, others = split(self.controls, cond)
        total = NOTHING
        for each in self.controls:
            if each.condition in values and each.scale:
                own, value = params[PARAMS][each.condition], values[each.condition]
                total += each(own, self.base, base, value, (x, c_noise, others), key)
        joins = {"residuals": total} if jax.tree.leaves(total) else {}
        return cast(Any, self.base.apply)(base, x, c_noise, others, key=key, **joins)


@dataclass(frozen=True)
class _Check:
    base: Network
    controls: tuple[Control, ...]

    def __call__(self, x: Any, cond: Cond | None) -> None:
        values, others = split(self.controls, cond)
        for each in self.controls:
            value, wanted = values.get(each.condition), each.shape(x.shape)
            if value is not None and value.shape != wanted:
                raise ValueError(
                    f"cond[{each.condition!r}] has the shape {value.shape}; needs {wanted}"
                )
        self.base.check(x, others)


@dataclass(frozen=True, repr=False)
class Controlled(Network):
    """A network with controls, whose parameters are in `adapter`, by the names of conditions.

    >>> from diffjax.nets.dit import dit
    >>> controlled(dit(), [ControlNet("edges")]).within([0.9, 0.1]).controls[0].condition
    'edges'
    """

    base: Any = None
    controls: tuple[Control, ...] = ()

    def within(self, labels: Sequence[float]) -> Controlled:
        """Return the network for a sampler whose rows have these noise labels (R,)."""
        return controlled(self.base, [each.within(labels) for each in self.controls])


def split(controls: Sequence[Control], cond: Cond | None) -> tuple[dict[str, Array], Any]:
    """Return the conditions that controls read, and those of the base.

    >>> split((ControlNet("edges"),), {"edges": jnp.ones(1), "label": jnp.zeros(1)})[0].keys()
    dict_keys(['edges'])
    """
    names = {each.condition for each in controls}
    own = {name: value for name, value in (cond or {}).items() if name in names}
    others = {name: value for name, value in (cond or {}).items() if name not in names}
    return own, others or None


def controlled(network: Network, controls: Sequence[Control]) -> Controlled:
    """Return the network with controls, each of which reads a condition beside those of the base.

    Raises ValueError for two controls of one condition and, when parameters are drawn, for a base
    to which a control cannot add.

    >>> from diffjax.nets.unet import unet
    >>> base = unet(channels=8, multipliers=(1,), blocks=1, attention=(), heads=1)
    >>> controlled(base, [ControlNet("edges")])
    Network(UNet + ControlNet)
    """
    chosen = tuple(controls)
    names = [each.condition for each in chosen]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"condition={twice[0]!r}: two controls read it")
    init, apply = _Init(network, chosen), _Apply(network, chosen)
    own = {"project": Project(network), "check": _Check(network, chosen), "stacks": network.stacks}
    return Controlled(init, apply, **own, base=network, controls=chosen)
