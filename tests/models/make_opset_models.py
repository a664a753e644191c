"""Writes foreign/opset_NUMBER.onnx: one network in every ONNX operator set that is read, by onnx's own version converter,
with onnxruntime's results.

    python tests/models/make_opset_models.py

Needs onnx and onnxruntime. Made with onnx 1.23 and onnxruntime 1.32. Operator sets that onnxruntime does not run are
named, and have the results of the oldest one.
"""

import numpy as np
import onnx
import onnxruntime
from foreign import write
from onnx import TensorProto, helper, numpy_helper, version_converter

OLDEST, NEWEST = 11, onnx.defs.onnx_opset_version()


def network() -> onnx.ModelProto:
    """Operators whose form changed between operator sets: Squeeze, Unsqueeze, ReduceSum, BatchNormalization, Clip, Pad..."""
    generator = np.random.default_rng(3)
    constants = {
        "w1": generator.normal(size=(4, 1, 3, 3)), "b1": generator.normal(size=4), "scale": generator.uniform(0.5, 1.5, 4),
        "offset": generator.normal(size=4), "mean": generator.normal(size=4), "variance": generator.uniform(0.5, 1.5, 4),
        "low": np.array(0.0), "high": np.array(6.0), "w2": generator.normal(size=(3, 4)), "b2": generator.normal(size=3),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    for name, value in {"pads": [0, 0, 0, 0, 0, 0, 1, 1], "shape": [0, -1]}.items():
        tensors.append(numpy_helper.from_array(np.array(value, np.int64), name))
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["image"], "unsqueeze", axes=[1]),
        helper.make_node("Pad", ["image", "pads"], ["padded"], "pad"),
        helper.make_node("Conv", ["padded", "w1", "b1"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "scale", "offset", "mean", "variance"], ["n"], "norm"),
        helper.make_node("Clip", ["n", "low", "high"], ["a"], "relu6"),
        helper.make_node("AveragePool", ["a"], ["p"], "pool", kernel_shape=[3, 1]),
        helper.make_node("ReduceSum", ["p"], ["s"], "sum", axes=[3], keepdims=1),
        helper.make_node("Squeeze", ["s"], ["q"], "squeeze", axes=[3]),
        helper.make_node("Reshape", ["q", "shape"], ["flat"], "reshape"),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["y"], "fc", transB=1),
    ]
    shapes = [("x", [None, 4, 4]), ("y", [None, 3])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "network", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OLDEST)], ir_version=8)


base = network()
onnx.checker.check_model(base, full_check=True)
images = np.random.default_rng(0).normal(size=(30, 4, 4)).astype(np.float32)
session = onnxruntime.InferenceSession(base.SerializeToString(), providers=["CPUExecutionProvider"])
expected = session.run(None, {"x": images})[0]
for opset in range(OLDEST, NEWEST + 1):
    model = base if opset == OLDEST else version_converter.convert_version(base, opset)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        assert np.allclose(session.run(None, {"x": images})[0], expected, atol=1e-5)
    except onnxruntime.capi.onnxruntime_pybind11_state.Fail as error:
        print(f"opset {opset}: not run by onnxruntime ({str(error).splitlines()[0][:90]})")
    write(f"opset_{opset}", model, images, expected, data="opset")
