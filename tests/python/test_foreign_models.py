"""Networks that other tools wrote, against the results of those tools (tests/models/foreign)."""

import pathlib

import numpy as np
import onnx
import pytest

from torusml.torch.compile import build_quantized_module, compile_onnx_model

FOLDER = pathlib.Path(__file__).parent.parent / "models" / "foreign"
EXACT = {"precision": "exact", "p_error": 2**-20}


def load(name, data=None):
    arrays = np.load(FOLDER / f"{data or name}.npz")
    return FOLDER / f"{name}.onnx", arrays["inputs"].astype(np.float32), arrays["outputs"]


@pytest.mark.parametrize("opset", range(11, 29))
def test_operator_sets(opset):
    path, x, expected = load(f"opset_{opset}", "opset")
    assert onnx.load(path).opset_import[0].version == opset
    error = np.abs(build_quantized_module(path, x, n_bits=6).forward(x) - expected).max()
    assert error < 0.06 * np.abs(expected).max()


def test_operator_sets_reach_the_newest():
    assert (FOLDER / f"opset_{onnx.defs.onnx_opset_version()}.onnx").exists()


@pytest.mark.parametrize("name", ["keras_mlp", "keras_cnn"])
def test_keras_by_tf2onnx(name):
    path, x, expected = load(name)
    module = compile_onnx_model(path, x, n_bits=6, **EXACT)
    assert np.abs(module.forward(x) - expected).max() < 0.08 * np.abs(expected).max()
    assert np.array_equal(module.forward(x, fhe="simulate"), module.forward(x))


@pytest.mark.parametrize("name", ["ort_mlp_uint8", "ort_mlp_symmetric", "ort_cnn_per_channel", "ort_mlp_int4"])
def test_networks_quantized_by_onnxruntime(name):
    """Integers are onnxruntime's own; results differ where a float32 product falls on the edge of two steps."""
    path, x, expected = load(name)
    module = build_quantized_module(path, x, import_qat=True)
    (quantizer,) = module.output_quantizers
    steps = np.abs(module.forward(x) - expected) / np.max(quantizer.scale)
    assert steps.max() < 1.01
    assert (steps > 0.01).mean() < 0.02


@pytest.mark.parametrize("name", ["brevitas_0_10_qonnx", "brevitas_0_10_qcdq"])
def test_exports_of_an_older_brevitas(name):
    path, x, expected = load(name)
    module = compile_onnx_model(path, x, import_qat=True, **EXACT)
    (quantizer,) = module.output_quantizers
    wrong = np.abs(module.forward(x) - expected) > 1e-3 * np.max(quantizer.scale) + 1e-5
    assert wrong.mean() < 0.02
    assert np.array_equal(module.forward(x, fhe="simulate"), module.forward(x))


def test_keras_encrypted():
    path, x, _ = load("keras_mlp")
    module = compile_onnx_model(path, x, n_bits=3, **EXACT)
    assert np.array_equal(module.forward(x[:2], fhe="execute"), module.forward(x[:2]))


@pytest.mark.long  # sums of 16 bits
def test_onnxruntime_encrypted():
    path, x, _ = load("ort_mlp_uint8")
    module = compile_onnx_model(path, x, import_qat=True, **EXACT)
    assert np.array_equal(module.forward(x, fhe="simulate"), module.forward(x))
    assert np.array_equal(module.forward(x[:1], fhe="execute"), module.forward(x[:1]))
