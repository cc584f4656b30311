"""Programs to export: a denoiser or a whole sampler as a function of weights and named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax import builder
from diffjax.arrays import streams
from diffjax.denoiser import Denoiser
from diffjax.generation.job import Job
from diffjax.generation.program import generate_whole
from diffjax.io.trees import flat, nested
from diffjax.samplers.plan import Plan

Arrays = dict[str, Any]
"""Arrays, or their shapes, by name."""
WHATS = ("network", "sampler")
SEED = 0


@dataclass(frozen=True)
class Program:
    """A function `call(weights, inputs) -> outputs` of arrays by name, ready for export.

    what: `network` or `sampler`. weights: the arrays of the network. inputs: their shapes for one
    sample, without the batch axis. example: returns inputs of B samples, for checks. meanings: one
    line about each input and output.

    >>> double = Program(
    ...     "network",
    ...     lambda weights, inputs: {"y": weights["a"] * inputs["x"]},
    ...     weights={"a": np.float32(2)},
    ...     inputs={"x": jax.ShapeDtypeStruct((3,), jnp.float32)},
    ...     example=lambda num: {"x": np.ones((num, 3), np.float32)},
    ...     meanings={"x": "a vector"},
    ... )
    >>> double.run(double.example(2))["y"].tolist()
    [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]]
    """

    what: str
    call: Callable[[Mapping[str, Any], Mapping[str, Any]], Arrays]
    weights: Arrays
    inputs: Mapping[str, jax.ShapeDtypeStruct]
    example: Callable[[int], Arrays]
    meanings: Mapping[str, str]

    def shapes(self, batch: Any) -> Arrays:
        """Return the shapes of the inputs of a batch; its size may be a symbol of `jax.export`."""
        return {
            name: jax.ShapeDtypeStruct((batch, *a.shape), a.dtype)
            for name, a in self.inputs.items()
        }

    def run(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Compile the function for these inputs, and return its outputs."""
        return jax.tree.map(np.asarray, jax.jit(self.call)(self.weights, dict(inputs)))


def program(what: str, job: Job) -> Program:
    """Return the program `network` or `sampler` of a job.

    Raises ValueError for another name, and for a job whose steps are adaptive, which starts from
    items, or which enlarges smaller ones.

    >>> program("nets", None)
    Traceback (most recent call last):
    ValueError: what='nets': unknown; known: network, sampler
    """
    if what not in WHATS:
        raise ValueError(f"what={what!r}: unknown; known: {', '.join(WHATS)}")
    if not isinstance(job.denoise, Denoiser) or job.low is not None:
        raise ValueError("a network in tiles, or one that enlarges items, cannot be exported")
    return network(job) if what == "network" else sampler(job)


def network(job: Job) -> Program:
    """Return the denoiser x_t, t, conditions -> x0, eps of a job as a program.

    A network that takes a second time has the input `to`, and one with a learned variance the
    output `log_var`.
    """
    denoise, cond = _denoiser(job), _conditions(job)
    leads = builder.abilities(job.config["network"])["leads"]
    times = ("t", "to") if leads else ("t",)

    def call(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Arrays:
        given = {name: inputs[name] for name in cond}
        more = {"to": inputs["to"]} if leads else {}
        p = _filled(denoise, weights)(inputs["x"], inputs["t"], given or None, **more)
        second = {} if p.log_var is None else {"log_var": p.log_var}
        return {"x0": p.x0, "eps": p.eps, **second}

    def example(num: int) -> Arrays:
        rng, sde = np.random.default_rng(SEED), denoise.sde
        x, eps = rng.normal(size=(2, num, *job.form.shape)).astype(np.float32)
        t = np.linspace(sde.t_max, sde.t_min, num + 2)[1:-1].astype(np.float32)
        noisy = np.asarray(sde.perturb(jnp.asarray(x / 2), jnp.asarray(eps), jnp.asarray(t)))
        return {"x": noisy, "t": t, **({"to": t / 2} if leads else {}), **job.conditions(num)}

    inputs = {"x": _float(job.form.shape), **{name: _float() for name in times}, **cond}
    return Program("network", call, flat(denoise.params), inputs, example, NETWORK)


def sampler(job: Job) -> Program:
    """Return the whole sampler of a job as a program: seeds and numbers of samples -> samples.

    Sample k of a seed is the one that `diffjax` draws. The table of the sampler is a constant of
    the program. Where the plan is guided, each sample has its weight of guidance as an input.
    """
    if not isinstance(job.plan, Plan):
        raise ValueError(f"{job.plan.tableless}; an export needs the rows of a table")
    if job.start is not None:
        raise ValueError("samples that start from items cannot be exported")
    denoise, plan, cond = _denoiser(job), job.plan, _conditions(job)
    guided = plan.guidance.weighs

    def call(weights: Mapping[str, Any], inputs: Mapping[str, Any]) -> Arrays:
        given = {name: inputs[name] for name in cond}
        table, ramp = plan.table, jnp.asarray(plan.ramp, jnp.float32)
        if guided:
            rows = jnp.broadcast_to(ramp, (len(table),))[:, None]
            table = replace(table, weight=1 + (inputs["guidance"][None] - 1) * rows)
        result = generate_whole(
            _filled(denoise, weights),
            replace(plan, table=table),
            streams(inputs["seed"], "sample"),
            inputs["index"],
            given,
            shape=job.form.shape,
        )
        return {"x": result.x}

    def example(num: int) -> Arrays:
        weight = {"guidance": np.linspace(1.0, 2.0, num, dtype=np.float32)} if guided else {}
        seed = {"seed": np.full(num, SEED, np.uint32), "index": np.arange(num, dtype=np.int32)}
        return seed | weight | job.conditions(num)

    numbers = {"seed": jnp.uint32, "index": jnp.int32}
    inputs = {name: jax.ShapeDtypeStruct((), dtype) for name, dtype in numbers.items()}
    inputs |= {"guidance": _float()} if guided else {}
    return Program("sampler", call, flat(denoise.params), {**inputs, **cond}, example, SAMPLER)


NETWORK = {
    "x": "noisy items x_t = alpha_t x0 + sigma_t eps, in the range of the network",
    "t": "time of each item, between t_min and t_max",
    "to": "second time of each item, where the flow map leads",
    "x0": "predicted clean items, in the range of the network",
    "eps": "predicted standard normal noise",
    "log_var": "second output, for the variance of a step",
}
SAMPLER = {
    "seed": "seed of each sample",
    "index": "number of each sample within its seed",
    "guidance": "weight of guidance of each sample; 1 means none",
    "x": "samples, in the range of the network",
}


def _float(shape: tuple[int, ...] = ()) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _denoiser(job: Job) -> Denoiser:
    assert isinstance(job.denoise, Denoiser)
    return job.denoise


def _conditions(job: Job) -> dict[str, jax.ShapeDtypeStruct]:
    given = {name: np.asarray(a) for name, a in job.conditions(1).items()}
    return {k: jax.ShapeDtypeStruct(a.shape[1:], jnp.result_type(a)) for k, a in given.items()}


def _filled(denoise: Denoiser, weights: Mapping[str, Any]) -> Denoiser:
    """Return the denoiser with these parameters by name."""
    return replace(denoise, params=nested(weights))
