"""One case of operators/: a small model and onnxruntime's results, or others that are given."""

import numpy as np
import onnx
import onnxruntime
from fixtures import Fixtures
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(7)
FIXTURES = Fixtures("operators")
X = RNG.uniform(-3, 3, (4, 6)).astype(np.float32)
POSITIVE = RNG.uniform(0.2, 4, (4, 6)).astype(np.float32)
UNIT = RNG.uniform(-0.95, 0.95, (4, 6)).astype(np.float32)
HALVES = (RNG.integers(-7, 8, (4, 6)) / 2).astype(np.float32)
IMAGE = RNG.uniform(-2, 2, (3, 4, 2, 2)).astype(np.float32)


def node(op_type, inputs, outputs=("y",), **attributes):
    return helper.make_node(op_type, inputs, list(outputs), **attributes)


def make_model(nodes, x, constants, opset, output_type, outputs, batch):
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [batch, *array.shape[1:]])
        for name, array in x.items()
    ]
    results = [helper.make_tensor_value_info(name, output_type, None) for name in outputs]
    initializers = [
        value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, name)
        for name, value in constants.items()
    ]
    for tensor, name in zip(initializers, constants, strict=False):
        tensor.name = name
    graph = helper.make_graph(nodes, "fixture", inputs, results, initializers)
    domains = {n.domain for n in nodes if n.domain}
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=imports, ir_version=9, producer_name="torusml-fixtures")


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, x)


def case(
    name, nodes, x=X, constants=None, opset=20, output_type=TensorProto.FLOAT, expected=None, outputs=("y",), batch="n"
):
    x = x if isinstance(x, dict) else {"x": x}
    nodes = nodes if isinstance(nodes, list) else [nodes]
    model = make_model(nodes, x, constants or {}, opset, output_type, outputs, batch)
    results = run(model, x) if expected is None else expected
    assert all(np.isfinite(np.asarray(r, dtype=np.float64)).all() for r in results), name
    FIXTURES.add(name, x.values(), results, model)


def f32(*values):
    return np.array(values, dtype=np.float32)


def i64(*values):
    return np.array(values, dtype=np.int64)


def scalar(value, dtype=np.float32):
    return np.array(value, dtype=dtype)
