"""The command `torusml` for tests, and a small network to compile with it.

TORUSML_COMMAND names the program; without it, build/release/torusml is taken.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("TORUSML_COMMAND", str(REPOSITORY / "build" / "release" / "torusml"))


def torusml(*arguments, folder, expect=0):
    """Runs the command in `folder`; gives its standard output, or standard error if it is to fail."""
    result = subprocess.run([COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == expect, result.stdout + result.stderr
    assert "terminate called" not in result.stderr and "Sanitizer" not in result.stderr
    return result.stdout if expect == 0 else result.stderr


STATUS = {2: (1, 7, 8, 9), 3: (*range(2, 7), *range(10, 17), 24, 25, 26, 29, 31, 42), 4: (20, 21, 40, 41), 5: (43,)}


def fails(code, *arguments, folder):
    status = next((status for status, codes in STATUS.items() if code in codes), 1)
    text = torusml(*arguments, folder=folder, expect=status)
    assert text.startswith(f"torusml: TML-E{code:03} "), text
    assert text.count("\n") == 1
    return text


def save_network(path, weights, inputs=("x",), relu=True):
    """y = W2 relu(W1 (sum of inputs) + b): Gemm layers, ReLU or not."""
    first, second = (np.asarray(w, dtype=np.float32) for w in weights)
    features = first.shape[1]
    nodes, summed = [], inputs[0]
    for other in inputs[1:]:
        nodes.append(helper.make_node("Add", [summed, other], [f"sum_{other}"], name=f"add_{other}"))
        summed = f"sum_{other}"
    bias = np.linspace(-0.3, 0.3, first.shape[0], dtype=np.float32)
    constants = {"w1": first, "b1": bias, "w2": second}
    nodes.append(helper.make_node("Gemm", [summed, "w1", "b1"], ["h"], name="fc1", transB=1))
    if relu:
        nodes.append(helper.make_node("Relu", ["h"], ["r"], name="relu1"))
    nodes.append(helper.make_node("Gemm", ["r" if relu else "h", "w2"], ["y"], name="fc2", transB=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", features]) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", second.shape[0]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


FIRST = [[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2]]
SECOND = [[0.6, -0.4, 0.9], [-0.2, 0.5, 0.1]]


EXACT = ("--precision", "exact")
COMPILE_EXACT = ("compile", "net.onnx", "--calibration", "calibration.npy", *EXACT)


def network(x, relu=True):
    hidden = x @ np.array(FIRST).T + np.linspace(-0.3, 0.3, 3)
    return (np.maximum(hidden, 0) if relu else hidden) @ np.array(SECOND).T


def predict(folder, executor, *options, model="m.tml", inputs=("--input", "x.npy")):
    out = f"predicted_{executor}.npy"
    text = torusml("predict", model, *inputs, "--executor", executor, "-o", out, *options, folder=folder)
    return np.load(folder / out), text
