"""Write a tiny classifier, for test_filters.py; run by hand.

    pip install onnx
    python tests/filters/make_onnx.py tests/filters/mean.onnx

Made with onnx 1.23.2. Its scores are (1 - m, m), m the mean of the first channel of an image.
"""

import sys

import numpy as np
from onnx import TensorProto, checker, helper, save
from onnx.numpy_helper import from_array


def model(height: int = 8, width: int = 6):
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["y"]),
        helper.make_node("Add", ["y", "b"], ["scores"]),
    ]
    w = np.zeros((3, 2), np.float32)
    w[0] = -1, 1
    values = [from_array(w, "w"), from_array(np.array([1, 0], np.float32), "b")]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, height, width])
    made = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "mean", [given], [made], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


if __name__ == "__main__":
    checker.check_model(made := model())
    save(made, sys.argv[1])
