"""Networks with an adapter: a small trained change of a network whose own parameters stay fixed."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Key

from diffjax.arrays import Params
from diffjax.io.trees import flat, joined
from diffjax.nets.network import Network

PARAMS = "adapter"
"""The name of the parameters of an adapter among those of its network."""


@dataclass(frozen=True)
class Adapter(abc.ABC):
    """A kind of change of the parameters of a network, with its settings.

    where: a regular expression; parameters whose path contains a match are adapted. Raises
    ValueError for a text that is no regular expression.
    """

    where: str

    def __post_init__(self):
        try:
            re.compile(self.where)
        except re.error as error:
            raise ValueError(f"where={self.where!r}: not a regular expression ({error})") from error

    @property
    def parts(self) -> tuple[Adapter, ...]:
        """The adapters of which this one consists."""
        return (self,)

    def adapted(self, own: Iterable[str], leaf: str) -> list[str]:
        """Return the paths that this adapter changes, which have a parameter `leaf` among `own`."""
        paths = [name.rpartition("/")[0] for name in own if name.endswith(f"/{leaf}")]
        return sorted(path for path in paths if re.search(self.where, path))

    @abc.abstractmethod
    def check(self, params: Params, stacks: tuple[str, ...] = ()) -> None:
        """Raise ValueError where the adapter does not suit these parameters of a network."""

    @abc.abstractmethod
    def init(self, key: Key[Array, ""], params: Params, stacks: tuple[str, ...] = ()) -> Params:
        """Draw the parameters of the adapter of a network with the parameters `params`."""

    @abc.abstractmethod
    def merge(self, params: Params, stacks: tuple[str, ...] = ()) -> Params:
        """Return the parameters of the network with its adapter merged into them."""


@dataclass(frozen=True)
class Several(Adapter):
    """Adapters of different parameters of one network, such as of kernels and of a word.

    adapters: two or more. Raises ValueError for adapters of one parameter.
    """

    where: str = ""
    adapters: tuple[Adapter, ...] = ()

    @property
    def parts(self) -> tuple[Adapter, ...]:
        return self.adapters

    def check(self, params: Params, stacks: tuple[str, ...] = ()) -> None:
        for adapter in self.adapters:
            adapter.check(params, stacks)
        shapes = lambda one: jax.eval_shape(lambda: one.init(jax.random.key(0), params, stacks))
        seen: set[str] = set()
        for own in map(shapes, self.adapters):
            if twice := sorted(seen & set(flat(own))):
                raise ValueError(f"{twice[0]}: has two adapters; needs other patterns")
            seen |= set(flat(own))

    def init(self, key: Key[Array, ""], params: Params, stacks: tuple[str, ...] = ()) -> Params:
        keys = jax.random.split(key, len(self.adapters))
        pairs = zip(self.adapters, keys, strict=True)
        return joined(*(adapter.init(one, params, stacks) for adapter, one in pairs))

    def merge(self, params: Params, stacks: tuple[str, ...] = ()) -> Params:
        own = {PARAMS: params[PARAMS]}
        for adapter in self.adapters:
            params = adapter.merge({**params, **own}, stacks)
        return params


@dataclass(frozen=True)
class _Init:
    base: Network
    adapter: Adapter

    def __repr__(self) -> str:
        name = getattr(self.base.init, "__name__", self.base.init)
        return f"{name} + {type(self.adapter).__name__}"

    def __call__(self, key: Any, x: Any, c_noise: Any, cond: Any) -> Params:
        params = self.base.init(key, x, c_noise, cond)
        if PARAMS in params:
            raise ValueError(f"the network has parameters named {PARAMS!r}; needs another name")
        own = self.adapter.init(jax.random.fold_in(key, 1), params, self.base.stacks)
        return {**params, PARAMS: own}


@dataclass(frozen=True)
class _Apply:
    base: Network
    adapter: Adapter

    def __call__(self, params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None) -> Any:
        merged = self.adapter.merge(params, self.base.stacks)
        return self.base.apply(merged, x, c_noise, cond, key=key)


@dataclass(frozen=True)
class Project:
    """The projection of a network whose parameters have others beside them, under `adapter`."""

    base: Network

    def __call__(self, params: Params) -> Params:
        base = {k: v for k, v in params.items() if k != PARAMS}
        return {**self.base.project(base), PARAMS: params[PARAMS]}


@dataclass(frozen=True, repr=False)
class Adapted(Network):
    """A network with an adapter: its parameters are those of `base`, and `adapter` beside them."""

    base: Any = None
    adapter: Any = None

    def merge(self, params: Params) -> Params:
        """Return the parameters of `base` with the adapter merged into them."""
        return self.adapter.merge(params, self.base.stacks)


def adapted(network: Network, adapter: Adapter) -> Adapted:
    """Return the network with an adapter, which is merged into its parameters in every call.

    The parameters are those of the network, and those of the adapter under `adapter`. Train the
    latter alone by holding all others fixed, as `config.adapter` does. Merging costs one small
    product per kernel and step, and works for every network.

    Raises ValueError for parameters of the network that are called `adapter`, and, when parameters
    are drawn, where the adapter does not suit the kernels.

    >>> from diffjax.nets.adapters import LoRA
    >>> from diffjax.nets.mlp import mlp
    >>> network = adapted(mlp(width=8, depth=1), LoRA(where="Dense", rank=2))
    >>> network
    Network(MLP + LoRA)
    >>> x = jax.numpy.ones((1, 2))
    >>> params = network.init(jax.random.key(0), x, x[:, 0], None)
    >>> network.merge(params).keys() == params.keys() - {"adapter"}
    True
    """
    init, apply = _Init(network, adapter), _Apply(network, adapter)
    own = {"project": Project(network), "check": network.check, "stacks": network.stacks}
    own |= {"lane": network.lane}
    return Adapted(init, apply, **own, base=network, adapter=adapter)
