"""The interface of objectives, the losses that training minimises.

The train step, the held-out loss, the cost and the builder use this interface only. An objective is
a frozen dataclass whose fields are the settings of config.loss.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from diffjax import checks
from diffjax.arrays import Params
from diffjax.data.form import Form
from diffjax.denoiser import Model
from diffjax.discrete import Process
from diffjax.sde import SDE

Batch = Mapping[str, Any]
"""A batch by name. x (B, ...). Optional: cond {name: (B, ...)}; kept, conditions that are never
dropped; mask, which broadcasts against x and is 1 for values that count and 0 for padding; weight
(B,); u (B,), numbers in [0, 1) that are stratified over more items than these, for the variable
that the loss depends on most, such as the time; noise (B, ...), that of each item, which an
objective reads from the data where it `reads` the field."""
State = Any
"""The state that an objective carries from step to step: a pytree of arrays."""
Metrics = dict[str, Array]


BATCH = ("x", "cond", "kept", "mask", "weight", "u", "noise")
"""The entries that a batch may have."""


def check_batch(batch: Batch) -> None:
    """Raise ValueError for unknown entries of a batch, and for arrays of wrong shapes."""
    if not isinstance(batch, Mapping) or "x" not in batch:
        raise ValueError("batch: needs a mapping from names to arrays, with x (B, ...)")
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
    noise = np.shape(batch.get("noise", x))
    if noise != x.shape:
        raise ValueError(f"batch['noise'] has the shape {noise}; needs that of x, {x.shape}")
    if len(mask) > x.ndim or not fits:
        raise ValueError(
            f"batch['mask'] has the shape {mask}; needs one that broadcasts to {x.shape}"
        )


class Context(NamedTuple):
    """The inputs of an objective in one step.

    model: the recipe. params: its parameters and, under `loss`, those of the objective; gradients
    are taken in the trained ones. batch: see `Batch`. key: the randomness of this step, or of this
    part of its batch. state: the state of the objective. step: the number of steps before this one.
    averages: averages of the parameters, by name. held: parameters that are never trained, by name.
    evaluating: whether this is the held-out loss, in which no condition is dropped; the networks of
    `model` are in evaluation mode then, and others must be called without a key.

    >>> import jax.numpy as jnp
    >>> Context(model=None, params={}, batch={"x": jnp.zeros((4, 2))}, key=None).evaluating
    False
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
    """The catalogue in which the builder looks up a setting.

    partial: True for an entry that is a function, which the objective calls and which has settings
    of its own; False for one that is constructed.

    >>> from diffjax.weights import WEIGHTS
    >>> part = Part(WEIGHTS, partial=True)
    >>> "min_snr" in part.catalogue
    True
    """

    catalogue: Mapping[str, Any]
    partial: bool = False


class Task(NamedTuple):
    """The properties of a run, besides the model, that an objective is checked against.

    None stands for unknown. form: the form of the data. dequantized: whether uniform noise fills
    the bins of their levels. conditions: names of those that may be dropped. second_output: whether
    the network has a second output. second_time: whether it takes a second time.
    takes_weight: whether it takes the weight of guidance as a condition. noisy: the field
    of config.sampling that adds noise, and thus needs a score, with its value. fields: names of all
    conditions that the data hold, also of those that the network does not receive. changes: a
    setting of config.data that changes items at random, so that they no longer suit their fields.

    >>> Task(second_time=True).second_time, Task().second_time
    (True, None)
    """

    form: Form | None = None
    dequantized: bool | None = None
    conditions: tuple[str, ...] | None = None
    second_output: bool | None = None
    second_time: bool | None = None
    takes_weight: bool | None = None
    noisy: str = ""
    fields: tuple[str, ...] | None = None
    changes: str = ""


class Objective(abc.ABC):
    """A loss with its settings: a function `context -> (loss, metrics, state)`.

    loss: the scalar that is minimised. metrics: by name; scalars, `loss` among them, are averaged
    over the parts of a batch and logged, and arrays are for consumers that know their name. state:
    the next state.
    """

    denoises: ClassVar[bool] = True
    """Whether the objective trains a denoiser, which has a process and can be sampled. If not, the
    network is an autoencoder, and the run shows `shown` in place of samples."""
    masks: ClassVar[bool] = False
    """Whether the objective ignores padding of items with lengths, by `batch["mask"]`."""
    spaces: ClassVar[bool] = False
    """Whether the objective draws its noise in the space of the model."""
    lanes: ClassVar[bool] = False
    """Whether the objective trains a time per lane, so that `samplers.lanes` can sample."""
    parts: ClassVar[Mapping[str, Part]] = {}
    """Settings that name an entry of a catalogue, with the catalogue."""
    loads: ClassVar[tuple[str, ...]] = ()
    """Settings that are the path of a trained model, a run or an export, such as a teacher. The
    field of this name becomes its `Model`; `context.held` has its parameters under this name."""
    companions: ClassVar[tuple[str, ...]] = ()
    """Names of networks like that of the model, such as a critic, which are trained beside it.
    `params[name]` begins as a copy of `params["network"]`; no average and no export contains it."""

    @property
    def process(self) -> Process | None:
        """The process of tokens that the network is trained for; None for the Gaussian one."""
        return None

    def adapted(self, model: Model) -> Model:
        """Return the model with the network in the form that the objective trains."""
        return model

    def check(self, model: Model, task: Task = Task()) -> None:  # noqa: B027
        """Raise ValueError, naming the setting, where model or task do not suit the objective."""

    def doubt(self, model: Model) -> str:
        """Return one line about a model that is allowed, but known to be trained badly, or ""."""
        return ""

    @property
    def reads(self) -> tuple[str, ...]:
        """Conditions of the data that a batch holds under their names, for the objective alone."""
        return ()

    @property
    def guides(self) -> tuple[float, ...]:
        """The range of guidance weights that the network learns as a condition, () for none."""
        return ()

    @property
    def drops_conditions(self) -> bool:
        """Whether the network is also trained without conditions, which guidance needs."""
        return True

    def grids(self, sde: SDE, leads: bool) -> tuple[np.ndarray, ...]:
        """Return the grids of times for which the network is trained; () for all times.

        leads: whether the sampler passes a second time.
        """
        return ()

    def init(self, model: Model, key: Key[Array, ""], x: Float[Array, "b *d"]) -> Params:
        """Draw the trainable parameters of the objective itself, `params["loss"]`.

        x: items in the shape of the data.
        """
        return {}

    def init_state(self, model: Model) -> State:
        """Return the state before the first step."""
        return ()

    def hold(self, model: Model, params: Params) -> Mapping[str, Params]:
        """Return fixed parameters by name, besides `loads`, such as a copy of the initial ones."""
        return {}

    def turns(self, step: int | Int[Array, ""]) -> Mapping[str, Bool[Array, ""]]:
        """Return, for names in `params`, whether step number `step` trains what is below them.

        Parameters whose turn it is not keep their values and their moments in the optimizer. Names
        that are missing are trained in every step.
        """
        return {}

    def before_split(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """Add random numbers that are drawn for the whole batch, before it is split into parts."""
        return batch

    def shown(self, context: Context) -> tuple[Float[Array, "b *d"], ...]:
        """Return items to show side by side during training, if the objective does not denoise.

        The items are in the range of the network. context: held-out items and averaged parameters.
        """
        return ()

    def doubts(self, step: int, metrics: Mapping[str, float]) -> Mapping[str, str]:
        """Return lines that warn of a training that goes wrong, by kind; each is logged once.

        metrics: means over the steps since the last line of the log, before `step`.
        """
        return {}

    @abc.abstractmethod
    def __call__(self, context: Context) -> tuple[Float[Array, ""], Metrics, State]:
        """Return the loss, the metrics and the next state."""
