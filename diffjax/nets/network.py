"""The interface of a network: two pure functions over a nested dict of arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Key

from diffjax import checks
from diffjax.arrays import BATCH, Cond, Params
from diffjax.nets.batches import batch_split, parts_of


@runtime_checkable
class Init(Protocol):
    """A function that draws the parameters of a network for inputs of these shapes."""

    def __call__(
        self,
        key: Key[Array, ""],
        x: Float[Array, "b *d"],
        c_noise: Float[Array, " b"],
        cond: Cond | None,
    ) -> Params: ...


@runtime_checkable
class Apply(Protocol):
    """A function that evaluates a network: F (B, ...), or F and a second output like it.

    c_noise: (B,), or (B, L) for networks with lanes, see `Network`. key: the key of the dropout;
    None means evaluation, without dropout.
    """

    def __call__(
        self,
        params: Params,
        x: Float[Array, "b *d"],
        c_noise: Float[Array, "b ..."],
        cond: Cond | None,
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "b *d"] | tuple[Float[Array, "b *d"], Float[Array, "b *d"]]: ...


def unchanged(params: Params) -> Params:
    """Return the parameters unchanged."""
    return params


def anything(x: Any, cond: Cond | None) -> None:
    """Accept all inputs."""


def one_time(shape: tuple[int, ...]) -> int:
    """Return 0, since the network takes one time per sample."""
    return 0


def one_size(before: tuple[int, ...], after: tuple[int, ...]) -> Mapping[str, Any]:
    """Return no change; raise ValueError for another shape, as the network has one size."""
    if before != after:
        raise ValueError("the network has a fixed size; allowed: a unet or dit")
    return {}


@dataclass(frozen=True)
class Network:
    """A network as a pair of pure functions, `init` and `apply`.

    Networks with equal settings are equal, so programs that use them are not traced again. project:
    maps the parameters after each training step, for networks that keep their weights at a fixed
    norm. check: raises ValueError for inputs x, cond that the network was not built for; it is
    called on the host, with values. stacks: the names of modules whose parameters have a leading
    axis, over equal blocks that run in a loop. encoder: the network of the first half, with equal
    names of parameters; `apply` of a network with one takes `residuals`, see `controlled`. lane:
    maps the shape of items to the number of consecutive positions of their leading axis that share
    a time, where c_noise may be (B, L), one label per position; 0 for one time per sample. resized:
    maps shapes of items, before and after, to the settings that change with them while the
    parameters stay; raises ValueError for a shape that the network is not defined for.

    >>> network = Network(lambda *shapes: {}, lambda params, x, c_noise, cond, *, key=None: 0 * x)
    >>> network.apply({}, jax.numpy.ones((3, 2)), jax.numpy.ones(3), None).shape
    (3, 2)
    """

    init: Init
    apply: Apply
    project: Callable[[Params], Params] = unchanged
    check: Callable[[Any, Cond | None], Any] = anything
    stacks: tuple[str, ...] = ()
    encoder: Network | None = None
    lane: Callable[[tuple[int, ...]], int] = one_time
    resized: Callable[[tuple[int, ...], tuple[int, ...]], Mapping[str, Any]] = one_size

    def __post_init__(self):
        example = "those of diffjax.nets.linen(module)"
        checks.function(example, init=self.init, apply=self.apply)

    def __repr__(self) -> str:
        return f"Network({getattr(self.init, '__name__', self.init)})"


def check_times(network: Network, x: Any, t: Any, to: Any = None) -> None:
    """Raise ValueError for times t of samples x (B, ...) that the network cannot take.

    They are (B,), or (B, L) for networks with lanes; a second time `to` is (B,), and so is t then.

    >>> from diffjax.nets.mlp import mlp
    >>> check_times(mlp(), jax.numpy.ones((3, 6)), jax.numpy.ones((3, 6)))
    Traceback (most recent call last):
    ValueError: t has the shape (3, 6), but Network(MLP) takes one time per sample, (3,); ...
    """
    checks.times(x, t=t)
    if t.ndim > 1 and not network.lane(x.shape[1:]):
        raise ValueError(
            f"t has the shape {t.shape}, but {network} takes one time per sample, {t.shape[:1]}; "
            f"allowed: dit without joint tokens, unet with time_attention, mlp with lanes=True, "
            f"each without a second time"
        )
    if to is not None:
        checks.per_sample(x.shape[0], t=t, to=to)


@dataclass(frozen=True)
class Features:
    """A network of data alone, with `init(key, x) -> params` and `apply(params, x) -> features`."""

    init: Callable[..., Any]
    apply: Callable[..., Any]


@dataclass(frozen=True)
class _LinenInit:
    module: nn.Module

    def __repr__(self) -> str:
        return type(self.module).__name__

    def __call__(self, key: Any, x: Any, c_noise: Any, cond: Any) -> Params:
        return cast(Params, self.module.init(key, x, c_noise, cond)["params"])


@dataclass(frozen=True)
class _LinenApply:
    module: nn.Module
    dtype: str

    def __call__(
        self, params: Any, x: Any, c_noise: Any, cond: Any, *, key: Any = None, **joins: Any
    ) -> Any:
        cast = lambda tree: jax.tree_util.tree_map_with_path(self._cast, tree)
        rngs = None if key is None else {"dropout": key}
        with splitting(x.shape[0]):
            out: Any = self.module.apply(
                {"params": cast(params)},
                cast({"x": x})["x"],
                c_noise,
                cond,
                key is not None,
                rngs=rngs,
                **cast(joins),
            )
        return jax.tree.map(lambda a: a.astype(x.dtype), out)

    def _cast(self, path: Any, a: Any) -> Any:
        return a if fixed(path) else a.astype(self.dtype)


WEIGHTS_SPLIT: ContextVar[bool] = ContextVar("weights_split", default=False)


@contextmanager
def weights_split(split: bool = True) -> Iterator[None]:
    """Trace networks for parameters that are split over the axis "data" of the mesh (FSDP)."""
    token = WEIGHTS_SPLIT.set(split)
    try:
        yield
    finally:
        WEIGHTS_SPLIT.reset(token)


def splitting(size: int) -> AbstractContextManager[Any]:
    """Return a context in which module outputs of batch size `size` stay split over the devices.

    The axes are `BATCH` of the mesh in `jax.set_mesh`. Where parameters are split over "data" too,
    the compiler otherwise gathers the batches; in this context it gathers the parameters, layer by
    layer. The exception are layers on one vector per sample, such as the modulation of a
    transformer: a batch of vectors is smaller than the weights, so the vectors are gathered, each
    device computes the features of its part of the weights, and an all-to-all hands each device
    the features of its samples. Neither those weights nor their gradients are sent.
    """
    if (counts := parts_of(size)) is None:
        return nullcontext()
    replicas, parts = counts
    constrain = jax.lax.with_sharding_constraint

    def split(a: Any) -> Any:
        if getattr(a, "ndim", 0) == 0 or len(a) != size:  # modules may also return functions
            return a
        return batch_split(a)

    def few(module: Any, args: Any) -> bool:
        """Return whether vectors (B, C) that share weights (C, F) are smaller than the weights."""
        if not (WEIGHTS_SPLIT.get() and isinstance(module, nn.Dense) and len(args) == 1):
            return False
        x, out = args[0], module.features
        if x.ndim != 2 or x.shape[0] != size or out % parts:
            return False
        return size // replicas * (x.shape[1] + out // parts) < x.shape[1] * out

    def call(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "__call__" and few(context.module, args):
            out = method(constrain(args[0], PartitionSpec("replica", None)), **kwargs)
            return split(constrain(out, PartitionSpec(*BATCH)))
        return jax.tree.map(split, method(*args, **kwargs))

    return nn.intercept_methods(call)


@dataclass(frozen=True)
class _LinenCheck:
    module: nn.Module

    def __call__(self, x: Any, cond: Cond | None) -> None:
        if conditions := getattr(self.module, "conditions", None):
            conditions.check(x, cond)


@dataclass(frozen=True)
class _LinenLane:
    module: nn.Module

    def __call__(self, shape: tuple[int, ...]) -> int:
        lane = getattr(self.module, "lane", one_time)
        return lane(shape)


@dataclass(frozen=True)
class _LinenResized:
    module: nn.Module

    def __call__(self, before: tuple[int, ...], after: tuple[int, ...]) -> Mapping[str, Any]:
        resized = getattr(self.module, "resized", one_size)
        return resized(before, after)


DTYPES = ("float32", "bfloat16")
FIXED = ("frequencies", "phases")


def fixed(path: tuple[Any, ...]) -> bool:
    """Return whether the parameter at `path` of a tree is drawn once and never trained.

    Such parameters multiply c_noise, and stay in float32 as it does.
    """
    return getattr(path[-1], "key", None) in FIXED


def linen(
    module: nn.Module, dtype: str = "float32", project: Callable[[Params], Params] = unchanged
) -> Network:
    """Return the network of a Flax module that is called as `module(x, c_noise, cond, train)`.

    dtype: the type of the compute, float32 or bfloat16. The module receives parameters and x in
    this type and c_noise in float32; outputs and gradients have the type of x. project: see
    `Network`, as for the `STACKS` and the methods `lane` and `resized` of the module, if it has
    any. Raises ValueError for another type.

    >>> from diffjax.nets.mlp import MLP
    >>> linen(MLP(width=16, depth=1)) == linen(MLP(width=16, depth=1))
    True
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r}: unknown; known: {', '.join(DTYPES)}")
    checks.instance(nn.Module, "MyModule()", module=module)
    init, apply = _LinenInit(module), _LinenApply(module, dtype)
    stacks, half = getattr(module, "STACKS", ()), getattr(module, "half", True)
    encoder = None if half else linen(module.clone(half=True), dtype)
    check, lane, resized = _LinenCheck(module), _LinenLane(module), _LinenResized(module)
    return Network(init, apply, project, check, stacks, encoder, lane, resized)
