"""Small networks for the tests, as ONNX models made by hand."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model_of(nodes, inputs, outputs, constants, opset=17) -> onnx.ModelProto:
    """inputs, outputs: {name: shape}; constants: {name: array}."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def mlp(sizes=(3, 5, 2), seed=0, activation="Relu") -> onnx.ModelProto:
    """Linear layers with an activation between them."""
    generator = np.random.default_rng(seed)
    nodes, constants, name = [], {}, "x"
    for i, (columns, rows) in enumerate(zip(sizes, sizes[1:], strict=False)):
        constants[f"w{i}"] = generator.normal(size=(rows, columns)).astype(np.float32) / np.float32(np.sqrt(columns))
        constants[f"b{i}"] = generator.normal(size=rows).astype(np.float32) / 2
        last = i == len(sizes) - 2
        result = "y" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [result], name=f"fc{i}", transB=1))
        name = result
        if not last:
            nodes.append(helper.make_node(activation, [name], [f"a{i}"], name=f"act{i}"))
            name = f"a{i}"
    return model_of(nodes, {"x": [1, sizes[0]]}, {"y": [1, sizes[-1]]}, constants)


def two_inputs_two_outputs() -> onnx.ModelProto:
    generator = np.random.default_rng(1)
    constants = {
        "wa": generator.normal(size=(2, 3)).astype(np.float32),
        "wb": generator.normal(size=(2, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["a", "wa"], ["ha"], name="left"),
        helper.make_node("MatMul", ["b", "wb"], ["hb"], name="right"),
        helper.make_node("Relu", ["ha"], ["y"], name="relu"),
        helper.make_node("Identity", ["hb"], ["z"], name="same"),
    ]
    return model_of(nodes, {"a": [1, 2], "b": [1, 2]}, {"y": [1, 3], "z": [1, 3]}, constants)


def floats(count, columns, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, columns)).astype(np.float32)
