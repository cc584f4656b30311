"""The cost of a train step in parameters, FLOPs and memory, and its utilisation of the devices."""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax

from diffjax.arrays import stream
from diffjax.devices.chips import chip
from diffjax.devices.mesh import Layout
from diffjax.devices.processes import first
from diffjax.files import reason, write_text
from diffjax.nets.costs import count, flops
from diffjax.objectives import Context
from diffjax.training.experiment import Experiment
from diffjax.training.step import TrainState


class Cost(NamedTuple):
    """The cost of one step of a run; sizes are in bytes on one device.

    devices, kind: their number and their name. parameters: the number of parameters of the model,
    trained or frozen. flops: the model FLOPs of a batch, 3 times those of a forward pass. They
    count all products, at 2 per multiply-add, without recomputation that saves memory
    (arXiv:2204.02311, app. B); where networks are frozen or held, they are an upper bound. state:
    all parameters, averages and the optimizer. batch: the stack of batches of a dispatch.
    temporary: the largest size of all other buffers. peak: FLOP/s of all devices together, None if
    unknown.
    """

    devices: int
    kind: str
    parameters: int
    flops: int
    state: int
    batch: int
    temporary: int
    peak: float | None

    def rates(self, steps_per_s: float) -> dict[str, float]:
        """Return `tflops_per_s` and, if the peak is known, the model FLOPs utilisation `mfu`."""
        done = self.flops * steps_per_s
        by_name = {"tflops_per_s": done / 1e12}
        return by_name | ({"mfu": done / self.peak} if self.peak else {})

    def __str__(self) -> str:
        peak = f"{self.peak / 1e12:.4g} TFLOP/s" if self.peak else "unknown (set train.peak_flops)"
        return (
            f"  devices      {self.devices} x {self.kind}\n"
            f"  parameters   {self.parameters:,}\n"
            f"  step         {self.flops / 1e9:.4g} GFLOPs, forward and backward\n"
            f"  memory       {self.state / 1e6:.4g} MB of state, {self.batch / 1e6:.4g} MB of "
            f"batches, {self.temporary / 1e6:.4g} MB temporary, per device\n"
            f"  peak         {peak}"
        )


def peak(kind: str) -> float | None:
    """Return the FLOP/s of a device of this kind in products of 16 bits, None if unknown."""
    rates = chip(kind)
    return rates and rates.flops


def cost(experiment: Experiment, layout: Layout, run: Any, state: TrainState, stack: Any) -> Cost:
    """Return the cost of a step, from the compiled `run` of a dispatch and its arguments.

    stack: the stack of batches of a dispatch.
    """
    device = layout.mesh.devices.flat[0]
    one = experiment.train.peak_flops or peak(device.device_kind)
    memory = run.memory_analysis()
    return Cost(
        devices=layout.size,
        kind=device.device_kind,
        parameters=count(state.weights()),
        flops=model_flops(experiment, state, stack),
        state=bytes_of(state),
        batch=bytes_of(stack),
        temporary=memory.temp_size_in_bytes if memory else 0,
        peak=one and one * layout.size,
    )


def bytes_of(tree: Any) -> int:
    """Return the size in bytes on one device of arrays, or of shapes with shardings."""
    shape = lambda a: a.sharding.shard_shape(a.shape)
    return sum(math.prod(shape(a)) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def model_flops(experiment: Experiment, state: TrainState, stack: Any) -> int:
    """Return three times the FLOPs of the loss of one batch of the stack."""
    e, key = experiment, stream(experiment.seed, "cost")

    def forward(state: TrainState, batch: Any) -> Any:
        context = Context(
            model=e.model,
            params=state.weights() | state.companions,
            batch=e.reading.on_device(key, batch),
            key=key,
            state=state.loss,
            step=state.step,
            averages={name: state.weights(name) for name in state.ema},
            held=state.kept,
        )
        return e.loss(context)[0]

    one = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), stack)
    return 3 * flops(jax.make_jaxpr(forward)(state, one))


def report(workdir: Path, cost: Cost) -> Cost:
    """Print the cost on stderr, write it to cost.json in `workdir`, and return it."""
    if first():
        print(cost, file=sys.stderr)
        try:
            write_text(workdir / "cost.json", json.dumps(cost._asdict(), indent=2) + "\n")
        except OSError as error:
            why = reason(error)
            logging.warning("cost.json: cannot be written (%s): training continues", why)
    return cost
