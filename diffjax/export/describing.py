"""The description of an exported program, from which it can be called without diffjax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import diffjax
from diffjax.export.programs import Program

FEW = 64
"""Largest number of values of an example of a condition."""


def described(program: Program, inputs: Mapping[str, Any], batch: int | None) -> dict[str, Any]:
    """Return the description of a program as JSON data.

    inputs: an example, whose first condition of each name is noted where it has few values. batch:
    the number of samples of a call, None for any.

    >>> call = lambda weights, inputs: {"y": weights["a"] * inputs["x"]}
    >>> shape = {"x": jax.ShapeDtypeStruct((3,), np.float32)}
    >>> double = Program("network", call, {"a": np.float32(2)}, shape, lambda num: {}, {})
    >>> described(double, {"x": np.ones((2, 3))}, None)["outputs"]["y"]["shape"]
    ['b', 3]
    """
    outputs = jax.eval_shape(program.call, program.weights, program.shapes(batch or 1))
    entries = {
        name: entry(program, name, a, batch) | example(program, name, inputs[name])
        for name, a in program.shapes(batch or 1).items()
    }
    return {
        "what": program.what,
        "inputs": entries,
        "outputs": {name: entry(program, name, a, batch) for name, a in outputs.items()},
        "weights": sum(int(np.prod(np.shape(a))) for a in program.weights.values()),
        "versions": {"diffjax": diffjax.__version__, "jax": jax.__version__},
    }


def entry(program: Program, name: str, a: Any, batch: int | None) -> dict[str, Any]:
    """Return the shape, type and meaning of an input or output."""
    shape = [batch or "b", *a.shape[1:]]
    meaning = program.meanings.get(name, "condition, as the network was trained with")
    return {"shape": shape, "dtype": str(a.dtype), "about": meaning}


def example(program: Program, name: str, value: Any) -> dict[str, Any]:
    """Return the first value of an input that is not noise, if it is small."""
    first = np.asarray(value)[0]
    return (
        {}
        if name in ("x", "t", "seed", "index") or first.size > FEW
        else {"example": first.tolist()}
    )
