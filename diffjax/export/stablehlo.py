"""Files of StableHLO, which JAX runs without diffjax on CPU, CUDA and TPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from diffjax.export import standalone
from diffjax.export.programs import Arrays, Program
from diffjax.files import whole, write_text
from diffjax.io.reading import write as write_tensors

PLATFORMS = ("cpu", "cuda", "tpu")
CUDNN = ("__cudnn$fmhaSoftmax", "__cudnn$fmhaScaleBiasSoftmax")
"""Calls of attention in bfloat16 on CUDA, for which JAX promises no compatibility."""


def check_platforms(platforms: Sequence[str]) -> None:
    """Raise ValueError for a platform that JAX lacks.

    >>> check_platforms(["gpu"])
    Traceback (most recent call last):
    ValueError: 'gpu': unknown; known: cpu, cuda, tpu
    """
    if unknown := [name for name in platforms if name not in PLATFORMS]:
        raise ValueError(f"{unknown[0]!r}: unknown; known: {', '.join(PLATFORMS)}")


def check() -> None:
    """Raise ValueError where flatbuffers, by which JAX writes such files, is not installed."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise ValueError("stablehlo: needs flatbuffers: pip install 'diffjax[export]'")


def write(
    program: Program, folder: Path, batch: int = 0, platforms: Sequence[str] = PLATFORMS
) -> None:
    """Write a program, its weights and `run.py`, which runs it without diffjax.

    batch: the number of samples of a call; 0 lets calls have any number. platforms: those of JAX on
    which the file runs.
    """
    size = batch or export.symbolic_shape("b")[0]
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), program.weights)
    allowed = [export.DisabledSafetyCheck.custom_call(name) for name in CUDNN]
    exporter = export.export(jax.jit(program.call), platforms=platforms, disabled_checks=allowed)
    exported = exporter(shapes, program.shapes(size))
    with whole(folder / standalone.PROGRAM) as part:
        part.write_bytes(exported.serialize())
    if not (folder / standalone.WEIGHTS).exists():
        write_tensors(folder / standalone.WEIGHTS, program.weights, {"format": "diffjax"})
    write_text(folder / "run.py", Path(standalone.__file__).read_text())


def run(folder: Path, inputs: Mapping[str, Any]) -> Arrays:
    """Return the outputs of the program in a folder, as `run.py` there computes them."""
    return jax.tree.map(np.asarray, standalone.load(folder)(**inputs))
