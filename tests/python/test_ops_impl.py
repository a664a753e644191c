"""torusml.onnx.ops_impl against onnxruntime, and recorded."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from torusml.onnx.ops_impl import ONNX_OPS_TO_NUMPY_IMPL
from torusml.quantization.recorder import RecordedArray

ATTRIBUTES = {
    "Celu": {"alpha": 0.7},
    "Elu": {"alpha": 0.7},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "LeakyRelu": {"alpha": 0.2},
    "Selu": {},
    "ThresholdedRelu": {"alpha": 0.6},
    "Gelu": {"approximate": "tanh"},
    "Gemm": {"alpha": 0.5, "beta": 2.0, "transB": 1},
}
CONSTANTS = {
    "Gemm": [np.arange(8, dtype=np.float32).reshape(2, 4), np.array([0.5, -1], np.float32)],
    "MatMul": [np.arange(8, dtype=np.float32).reshape(4, 2)],
    "Clip": [np.float32(-0.5), np.float32(0.75)],
    "PRelu": [np.array([0.1, 0.2, 0.3, 0.4], np.float32)],
    "Pow": [np.float32(2)],
    **{name: [np.array([1.5, -2, 3, 0.5], np.float32)] for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
}
MIXING = {"Gemm", "MatMul"}


def inputs_for(name):
    x = np.linspace(-0.95, 0.95, 20, dtype=np.float32).reshape(5, 4)
    if name in ("Log", "Sqrt", "Acosh"):
        x = np.abs(x) + 1
    return x * (1 if name in ("Acos", "Asin", "Atanh") else 3)


def onnxruntime_result(name, x):
    constants = CONSTANTS.get(name, [])
    names = [f"c{i}" for i in range(len(constants))]
    node = helper.make_node(name, ["x", *names], ["y"], **ATTRIBUTES.get(name, {}))
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), c) for c, value in zip(names, constants, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 9
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("name", sorted(ONNX_OPS_TO_NUMPY_IMPL))
def test_agrees_with_onnxruntime(name):
    x = inputs_for(name)
    (y,) = ONNX_OPS_TO_NUMPY_IMPL[name](x.astype(np.float64), *CONSTANTS.get(name, []), **ATTRIBUTES.get(name, {}))
    np.testing.assert_allclose(y, onnxruntime_result(name, x), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", sorted(set(ONNX_OPS_TO_NUMPY_IMPL) - MIXING))
def test_can_be_recorded(name):
    x = inputs_for(name).astype(np.float64)
    function, constants = ONNX_OPS_TO_NUMPY_IMPL[name], CONSTANTS.get(name, [])
    (recorded,) = function(RecordedArray.floating((1, 4)), *constants, **ATTRIBUTES.get(name, {}))
    (expected,) = function(x, *constants, **ATTRIBUTES.get(name, {}))
    np.testing.assert_array_equal(recorded.replay(x), expected)
