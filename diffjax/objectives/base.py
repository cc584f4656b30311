"""What an objective is: what training minimises, and all that a run needs to know of it.

The train step, the held-out loss, the cost and the builder know nothing else. An objective is a
frozen dataclass; its fields are the settings of config.loss.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Params, dims
from diffjax.data.form import Form
from diffjax.denoiser import Model

Batch = Mapping[str, Any]
"""x (B, ...); optionally cond {name: (B, ...)}, kept, which are conditions that are never dropped,
mask (broadcasts against x; 1 for the values that count, 0 for padding), weight (B,), and u (B,),
numbers in [0, 1) that are spread evenly over more items than these, for what the loss varies with
most, as the time."""
State = Any
"""What an objective remembers from step to step: a pytree of arrays."""
Metrics = dict[str, Array]


BATCH = ("x", "cond", "kept", "mask", "weight", "u")
"""What a batch may hold."""


def check_batch(batch: Batch) -> None:
    """Raise ValueError for entries that no objective reads, and for arrays of other shapes."""
    if not isinstance(batch, Mapping) or "x" not in batch:
        raise ValueError("batch: needs arrays by name, at least x (B, ...)")
    if unknown := [name for name in batch if name not in BATCH]:
        raise ValueError(
            f"batch[{unknown[0]!r}]: no such entry; conditions are "
            f"batch['cond'][{unknown[0]!r}]; known: {', '.join(BATCH)}"
        )
    x = batch["x"]
    checks.samples(x, "batch['x']")
    checks.conditions(batch.get("cond", {}), len(x))
    checks.conditions(batch.get("kept", {}), len(x))
    single = {f"batch[{name!r}]": batch[name] for name in ("weight", "u") if name in batch}
    checks.per_sample(len(x), **single)
    mask = np.shape(batch.get("mask", 1.0))
    fits = all(m in (1, n) for m, n in zip(mask[::-1], x.shape[::-1], strict=False))
    if len(mask) > x.ndim or not fits:
        raise ValueError(f"batch['mask'] {mask}: needs a shape that broadcasts to {x.shape}")


def mean_of_items(
    values: Float[Array, "b *d"], mask: Float[Array, "..."] | None
) -> Float[Array, " b"]:
    """The mean over the values of each item; where there is a mask, over those where it is 1.

    What has no such value counts 0.
    """
    if mask is None:
        return values.mean(dims(values))
    counts = jnp.broadcast_to(mask, values.shape).sum(dims(values))
    return (values * mask).sum(dims(values)) / jnp.where(counts > 0, counts, 1)


class Context(NamedTuple):
    """All that an objective sees in one step.

    model: the recipe. params: its parameters and, under `loss`, those of the objective; gradients
    are of the trained ones. key: of this step, or this part of its batch. state: what the objective
    remembers. step: how many came before. averages: of the parameters, by name. held: parameters
    that are never trained, by name. evaluating: on data that are held out, where nothing is dropped
    by chance; the networks of `model` know it already, those of others are called without a key.
    """

    model: Model
    params: Params
    batch: Batch
    key: Key[Array, ""]
    state: State = ()
    step: int | Int[Array, ""] = 0
    averages: Mapping[str, Params] = {}
    held: Mapping[str, Params] = {}
    evaluating: bool = False


class Part(NamedTuple):
    """The catalogue in which a setting is looked up. partial: its entry is a function that the
    objective calls, with settings of its own; else it is built."""

    catalogue: Mapping[str, Any]
    partial: bool = False


class Task(NamedTuple):
    """What an objective has to go with besides the model; None where nobody knows.

    form: of the data. dequantized: whether uniform noise fills the bins of their levels.
    conditions: names of those that may be dropped. second_output: whether the network has one.
    second_time: whether it takes one. noisy: the field of config.sampling that adds noise, with its
    value, which needs a score.
    """

    form: Form | None = None
    dequantized: bool | None = None
    conditions: tuple[str, ...] | None = None
    second_output: bool | None = None
    second_time: bool | None = None
    noisy: str = ""


class Objective(abc.ABC):
    """`context -> (loss, metrics, state)`.

    loss: what is minimised, a number. metrics: by name, numbers, which are averaged over the parts
    of a batch and logged; `loss` must be among them, and arrays are for those who know them.
    """

    masks: ClassVar[bool] = False
    """Whether values in the padding of items with lengths count for nothing, by `batch["mask"]`."""
    parts: ClassVar[Mapping[str, Part]] = {}
    """Settings that name an entry of a catalogue."""
    loads: ClassVar[tuple[str, ...]] = ()
    """Settings that are the path of a trained thing, a run or an export, as a teacher: the field of
    this name is its `Model`, and `context.held` has its parameters under this name."""

    def check(self, model: Model, task: Task = Task()) -> None:  # noqa: B027
        """Raise ValueError, which names the setting, for what does not go together."""

    @property
    def drops_conditions(self) -> bool:
        """Whether the network is also trained without conditions, which guidance needs."""
        return True

    def init(self, model: Model) -> Params:
        """Parameters of the objective itself, which are trained: `params["loss"]`."""
        return {}

    def init_state(self, model: Model) -> State:
        """What it remembers before the first step."""
        return ()

    def hold(self, model: Model, params: Params) -> Mapping[str, Params]:
        """By name, what is held besides `loads`: made of the first parameters, as a locked copy."""
        return {}

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """The batch with what is drawn for all of it, where its parts are computed one by one."""
        return batch

    @abc.abstractmethod
    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        """Loss, metrics and the next state."""
