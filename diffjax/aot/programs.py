"""The programs of a run, compiled for a target: its train step, and its sampler."""

from __future__ import annotations

import re
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffjax.aot.targets import Target
from diffjax.config import ConfigError
from diffjax.devices import mesh
from diffjax.devices.mesh import Layout
from diffjax.generation import program as generation
from diffjax.generation.job import LONG
from diffjax.nets.costs import flops
from diffjax.training.cost import bytes_of, model_flops
from diffjax.training.experiment import Experiment
from diffjax.training.loop import check, program
from diffjax.training.step import TrainState


class TooLarge(Exception):
    """The compiler refuses a program because it exceeds the memory of a device."""


class Compiled(NamedTuple):
    """A compiled program with its sizes in bytes on one device.

    items: the number of items that one run of it processes: images of a batch, or samples. steps:
    the number of train steps in one run, 1 for a sampler. model_flops: FLOPs of all products that
    the method needs, on all devices: 3 forward passes for a step (`training.cost.Cost`).
    flops: FLOPs of all products that the program performs, recomputation included. state: the train
    state, or the parameters. batch: batches and conditions. temporary: all other buffers. output:
    results that overwrite no argument. code: the program itself. text: as XLA prints it. seconds:
    the time of tracing and compiling. unstated: as in `hlo.Program`.
    """

    items: int
    steps: int
    model_flops: int
    flops: int
    state: int
    batch: int
    temporary: int
    output: int
    code: int
    text: str
    seconds: float
    unstated: int = 1

    @property
    def peak(self) -> int:
        """The sum of all sizes: the memory that a run of the program needs."""
        return self.state + self.batch + self.temporary + self.output + self.code


def abstract(tree: Any, where: Any) -> Any:
    """Return the shapes of arrays with their shardings: one for all, or a tree of them."""
    shape = lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s)
    if isinstance(where, jax.sharding.Sharding):
        return jax.tree.map(lambda a: shape(a, where), tree)
    return jax.tree.map(shape, tree, where)


def layout(experiment: Experiment, target: Target) -> Layout:
    """Return the layout of a run over the devices of a target.

    Raises ConfigError where the batch cannot be split over them.
    """
    over = mesh.layout(target.devices(), experiment.sharding)
    check(experiment.train, over)
    return over


def state_of(experiment: Experiment, over: Layout) -> TrainState:
    """Return the shapes and the placement of the state before the first step."""
    shapes = jax.eval_shape(experiment.initialise)
    return abstract(shapes, over.state(shapes))


def stack_of(experiment: Experiment, over: Layout) -> dict[str, Any]:
    """Return the shapes and the placement of the batches of one dispatch, as training reads them.

    >>> from diffjax import builder, config
    >>> e = builder.experiment(config.load("moons_vp"))
    >>> stack_of(e, mesh.layout(jax.devices()[:1]))["x"].shape
    (1, 512, 2)
    """
    train, form = experiment.train, experiment.form
    first = (train.steps_per_dispatch, train.batch_size)
    x = jax.ShapeDtypeStruct((*first, *form.shape), jnp.dtype(form.dtype))
    widened = lambda a: jax.ShapeDtypeStruct((*first, *a.shape[1:]), a.dtype)
    cond = {name: widened(a) for name, a in form.example(1).items()}
    return abstract({"x": x, "cond": cond}, over.split(1))


def train_step(experiment: Experiment, target: Target) -> Compiled:
    """Compile the program that `diffjax.train` runs, from shapes alone.

    Raises ConfigError for a batch that cannot be split over the devices, and TooLarge.
    """
    began = time.monotonic()
    over = layout(experiment, target)
    state, stack = state_of(experiment, over), stack_of(experiment, over)
    traced = program(experiment, over, state, stack)
    with jax.set_mesh(over.mesh):
        executable = compiled(traced.lower(), target)
    steps = experiment.train.steps_per_dispatch
    return measured(
        executable,
        items=experiment.train.batch_size * steps,
        steps=steps,
        model_flops=model_flops(experiment, state, stack) * steps,
        flops=flops(traced.jaxpr),
        state=bytes_of(state),
        batch=bytes_of(stack),
        seconds=time.monotonic() - began,
    )


def sampler(experiment: Experiment, target: Target, batch_size: int) -> Compiled:
    """Compile the program that `diffjax.sample` runs for one batch, from shapes alone.

    batch_size: rounded up to a multiple of the number of devices, as sampling does. Of a long table
    it is the program for any number of rows; FLOPs and items are those of the whole table. Raises
    ConfigError for adaptive steps, whose number is not known, and TooLarge.
    """
    began, e = time.monotonic(), experiment
    over = mesh.layout(target.devices())
    size = -(-batch_size // target.size) * target.size
    params = abstract(jax.eval_shape(lambda: e.initialise().weights()), over.everywhere)
    denoise, plan = e.denoiser(params), e.plan(e.model.sde)
    if plan.rows is None or plan.passes is None:
        raise ConfigError("--sample: the sampler adaptive chooses its steps; allowed: the others")
    cond = e.form.example(size)
    lowered = generation.lowered(
        denoise,
        plan,
        size=size,
        shape=e.shape,
        cond=cond,
        mesh=over.mesh,
        by_rows=plan.rows >= LONG,
    )
    executable = compiled(lowered, target)
    seconds = time.monotonic() - began
    x = jax.ShapeDtypeStruct((size, *e.shape), jnp.float32)
    times = jax.ShapeDtypeStruct((size,), jnp.float32)
    one = flops(jax.make_jaxpr(lambda d, x, t: d(x, t, cond).x0)(denoise, x, times))
    return measured(
        executable,
        items=size,
        steps=1,
        model_flops=one * plan.passes,
        flops=one * plan.passes,
        state=bytes_of(params),
        batch=bytes_of(abstract(cond, over.split(0))),
        seconds=seconds,
        unstated=plan.rows,
    )


def compiled(lowered: Any, target: Target) -> Any:
    """Compile a lowered program; raise TooLarge, with the compiler's reason, where it is."""
    try:
        return lowered.compile(compiler_options=target.options)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        reason = re.search(r"(?:Ran out|[Oo]ut of memory)[^\n]*", str(error))
        raise TooLarge(reason[0] if reason else str(error).splitlines()[0]) from error


def measured(executable: Any, **facts: Any) -> Compiled:
    """Return a compiled program with the sizes that its compiler states.

    XLA pads arrays to the tiles of a TPU: what its arguments take beyond state and batch counts as
    state.
    """
    memory = executable.memory_analysis()
    padding = memory.argument_size_in_bytes - facts["state"] - facts["batch"]
    facts["state"] += max(0, padding)
    return Compiled(
        temporary=memory.temp_size_in_bytes,
        output=max(0, memory.output_size_in_bytes - memory.alias_size_in_bytes),
        code=memory.generated_code_size_in_bytes,
        text=executable.as_text(),
        **facts,
    )
