"""What a train step costs: parameters, FLOPs, memory; and how much of the devices it uses."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax

from diffjax.arrays import stream
from diffjax.devices.mesh import Layout
from diffjax.devices.processes import first
from diffjax.files import reason, write_text
from diffjax.nets.costs import count, flops
from diffjax.objectives import Context
from diffjax.training.experiment import Experiment
from diffjax.training.step import TrainState

PEAKS = {
    r"V100": 125e12,
    r"A100": 312e12,
    r"L4$": 121e12,
    r"H100 PCIe": 756e12,
    r"H(100|200) NVL": 835e12,
    r"H100|H200": 989e12,
    r"GB200": 2500e12,
    r"B200": 2250e12,
    r"TPU v2": 22.5e12,
    r"TPU v3": 61.5e12,
    r"TPU v4$": 275e12,
    r"TPU v5 lite|TPU v5e": 197e12,
    r"TPU v5": 459e12,
    r"TPU v6": 918e12,
}
"""FLOP/s of one device in dense products of 16 bits, by the makers' data sheets; by name, the first
that is found. A core of TPU v2 and v3 is a device."""


class Cost(NamedTuple):
    """Of one step of a run; bytes are those of one device.

    flops: of the model for a batch, all products, 2 for a multiply-add, 3 times those of a forward
    pass: what is computed again to save memory is not counted (arXiv:2204.02311, app. B); an upper
    bound where networks are frozen or held. parameters: of the model, trained or frozen. state: all
    parameters, averages, optimizer. batch: the stack of a dispatch. temporary: beside them, at
    most. peak: FLOP/s of all devices together, None where it is not known.
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
        """tflops_per_s, and mfu where the peak is known: model FLOPs utilisation."""
        done = self.flops * steps_per_s
        by_name = {"tflops_per_s": done / 1e12}
        return by_name | ({"mfu": done / self.peak} if self.peak else {})

    def __str__(self) -> str:
        peak = f"{self.peak / 1e12:.4g} TFLOP/s" if self.peak else "not known (train.peak_flops)"
        return (
            f"  devices      {self.devices} x {self.kind}\n"
            f"  parameters   {self.parameters:,}\n"
            f"  step         {self.flops / 1e9:.4g} GFLOPs, forward and backward\n"
            f"  memory       {self.state / 1e6:.4g} MB of state, {self.batch / 1e6:.4g} MB of "
            f"batches, {self.temporary / 1e6:.4g} MB temporary, per device\n"
            f"  peak         {peak}"
        )


def peak(kind: str) -> float | None:
    """FLOP/s of a device of this kind in products of 16 bits, None where it is not known."""
    return next((p for name, p in PEAKS.items() if re.search(name, kind)), None)


def cost(experiment: Experiment, layout: Layout, run: Any, state: TrainState, stack: Any) -> Cost:
    """Of the compiled `run` of a dispatch, which takes this state and this stack of batches."""
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
    """Bytes of arrays, or of shapes with shardings, on one device."""
    shape = lambda a: a.sharding.shard_shape(a.shape)
    return sum(math.prod(shape(a)) * a.dtype.itemsize for a in jax.tree.leaves(tree))


def model_flops(experiment: Experiment, state: TrainState, stack: Any) -> int:
    """Three times the products of the loss of one batch of the stack."""
    e, key = experiment, stream(experiment.seed, "cost")

    def forward(state: TrainState, batch: Any) -> Any:
        context = Context(
            model=e.model,
            params=state.weights(),
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
    """Show it, and write it to cost.json."""
    if first():
        print(cost, file=sys.stderr)
        try:
            write_text(workdir / "cost.json", json.dumps(cost._asdict(), indent=2) + "\n")
        except OSError as error:
            why = reason(error)
            logging.warning("cost.json: cannot be written (%s): training goes on", why)
    return cost
