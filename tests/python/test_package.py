"""The package: imports without PyTorch, beside other libraries in any order, and its examples."""

import itertools
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
MODEL = ROOT / "tests" / "models" / "checkerboard_qat_seed0.onnx"


def run_python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=dict(os.environ))
    assert result.returncode == 0, result.stderr
    assert "leaked" not in result.stderr, result.stderr
    return result.stdout


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "brevitas", "onnx", "onnxruntime", "matplotlib", "sklearn"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
"""


def test_imports_and_works_without_torch_and_onnx():
    code = f"""{BLOCKED}
import numpy, torusml, torusml.quantization, torusml.onnx.ops_impl
from torusml.torch.compile import compile_onnx_model
data = numpy.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(numpy.float32)
module = compile_onnx_model({str(MODEL)!r}, data, import_qat=True, precision="tolerant")
print(module.forward(data, fhe="simulate").shape, "torch" in sys.modules)
"""
    assert run_python(code).strip() == "(50, 2) False"


@pytest.mark.parametrize("order", list(itertools.permutations(["torch", "onnx", "onnxruntime", "torusml"]))[::4])
def test_import_order(order):
    code = (
        "\n".join(f"import {name}" for name in order)
        + f"""
import numpy, onnx, torusml
from torusml.torch.compile import build_quantized_module
proto = onnx.load({str(MODEL)!r})
data = numpy.zeros((3, 2), numpy.float32) + numpy.arange(3, dtype=numpy.float32)[:, None]
module = build_quantized_module(proto, data, import_qat=True)
print(module.forward(data).shape)
"""
    )
    assert run_python(code).strip() == "(3, 2)"


def test_example_of_custom_operators():
    result = subprocess.run([sys.executable, ROOT / "examples" / "custom_operator.py"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(":", 1) for line in result.stdout.splitlines() if line.startswith(("integers", "floats")))
    assert lines["integers, in the clear"].strip() == lines["integers, encrypted"].strip()
