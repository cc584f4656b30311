"""Files of ONNX, written by jax2onnx from a program in plain operations."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from diffjax.export.plain import evaluate, plain
from diffjax.export.programs import Arrays, Program

FILE = "program.onnx"
LAYERS = ("Conv", "MatMul")
PRODUCT = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 0.0}
INSTALL = "pip install onnxruntime onnxscript && pip install --no-deps jax2onnx==0.17.1"
"""jax2onnx asks for an older orbax-checkpoint than diffjax, and converts without it."""


def check() -> None:
    """Raise ValueError, with the commands that install them, where packages are missing."""
    missing = [
        n for n in ("jax2onnx", "onnx", "onnxruntime") if importlib.util.find_spec(n) is None
    ]
    if missing:
        raise ValueError(f"onnx: needs {missing[0]}, in an environment of its own: {INSTALL}")


def write(program: Program, folder: Path, batch: int) -> None:
    """Write a program for `batch` samples to one file, with its weights in it."""
    for name in ("jax2onnx", "onnx_ir"):  # they report each of their plugins that lacks a package
        logging.getLogger(name).setLevel(logging.CRITICAL)
    import onnx  # pyright: ignore[reportMissingImports]
    from jax2onnx import to_onnx  # pyright: ignore[reportMissingImports]

    shapes = program.shapes(batch)
    names, outputs = list(shapes), list(jax.eval_shape(program.call, program.weights, shapes))

    def call(*inputs: Any) -> tuple[Any, ...]:
        out = program.call(program.weights, dict(zip(names, inputs, strict=True)))
        return tuple(out[name] for name in outputs)

    # The program is traced here, since jax2onnx changes functions of JAX while it traces.
    jaxpr = plain(call, *shapes.values())
    model = to_onnx(
        lambda *inputs: tuple(evaluate(jaxpr, *inputs)),
        [*shapes.values()],
        model_name=program.what,
        input_names=names,
        output_names=outputs,
    )
    onnx.save(model, folder / FILE)


def run(folder: Path, inputs: Mapping[str, Any]) -> Arrays:
    """Return the outputs of the program in a folder, as onnxruntime computes them on the CPU."""
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(folder / FILE, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def size(folder: Path) -> int:
    """Return the number of bytes of the file in a folder."""
    return (folder / FILE).stat().st_size


def quantize(folder: Path, batch: int) -> None:
    """Replace the program in a folder by one in INT8, as onnxruntime quantizes it.

    Weights are rounded per channel, inputs of layers by the largest value of a call. In floats stay
    the first and the last layer, and layers on one vector per sample.
    """
    import onnx  # pyright: ignore[reportMissingImports]
    from onnxruntime import quantization  # pyright: ignore[reportMissingImports]
    from onnxruntime.quantization import shape_inference  # pyright: ignore[reportMissingImports]

    path, rounded = folder / FILE, folder / f"int8_{FILE}"
    logging.getLogger().setLevel(logging.ERROR)  # it recommends the next line on each call
    shape_inference.quant_pre_process(path, path, skip_symbolic_shape=True)
    model = onnx.load(path)
    for node in model.graph.node:  # INT8 knows no Gemm; those of jax2onnx are products without bias
        values = {a.name: a.f or a.i for a in node.attribute}
        if node.op_type == "Gemm" and values == PRODUCT:
            node.op_type = "MatMul"
            del node.input[2:], node.attribute[:]
    onnx.save(model, path)
    graph = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    weights = {tensor.name for tensor in graph.initializer}
    layers = [n for n in graph.node if n.op_type in LAYERS and weights & set(n.input)]
    vectors = {n.name for n in layers if sizes.get(n.output[0], [])[:-1] == [batch]}
    wide = [n.name for n in layers if n.name not in vectors]
    quantization.quantize_dynamic(
        path,
        rounded,
        per_channel=True,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=[*vectors, *wide[:1], *wide[-1:]],
    )
    rounded.replace(path)
