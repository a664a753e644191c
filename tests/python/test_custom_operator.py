"""Operators of users: the contract of QuantizedOp, and the way to the core."""

import numpy as np
import pytest
import small_networks

from torusml.onnx import ops_impl
from torusml.quantization import (
    QuantizationOptions,
    QuantizedArray,
    QuantizedMixingOp,
    QuantizedOp,
    QuantizedOpUnivariateOfEncrypted,
    temporary_operators,
    unregister,
)
from torusml.quantization.base_quantized_op import ONNX_OPS_TO_QUANTIZED_IMPL
from torusml.quantization.custom_operators import make_factory, weight_options
from torusml.torch.compile import build_quantized_module, compile_onnx_model

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(3, 4))
BIAS = RNG.normal(size=3)


@pytest.fixture(autouse=True)
def forget_operators():
    with temporary_operators():
        yield


def define_gemm():
    class QuantizedGemm(QuantizedOp):
        _impl_for_op_named = "Gemm"

        def q_impl(self, *q_inputs, **attrs):
            q_x, q_w, q_b = self._prepare_inputs_with_constants(*q_inputs, calibrate=False, quantize_actual_values=True)
            weights = (q_w.qvalues - q_w.quantizer.zero_point).T
            accumulators = (q_x.qvalues - q_x.quantizer.zero_point) @ weights
            floats = accumulators * (q_x.quantizer.scale * q_w.quantizer.scale) + q_b.values
            return QuantizedArray(self.n_bits, floats)

    return QuantizedGemm


def define_abs():
    class QuantizedAbs(QuantizedOp):
        _impl_for_op_named = "Abs"

    return QuantizedAbs


def constant(name, value):
    return {"name": name, "constant": value, "is_encrypted": False, "shape": list(value.shape)}


def encrypted(name, shape):
    return {"name": name, "constant": None, "is_encrypted": True, "shape": shape}


def node(op_type, inputs, **attributes):
    return {"name": f"the {op_type}", "op_type": op_type, "domain": "", "inputs": inputs, "attributes": attributes}


GEMM_INPUTS = [encrypted("x", [1, 4]), constant("w", WEIGHTS), constant("b", BIAS)]


def test_registration_and_its_end():
    gemm = define_gemm()
    assert ONNX_OPS_TO_QUANTIZED_IMPL["Gemm"] is gemm
    with temporary_operators():
        define_abs()
        assert "Abs" in ONNX_OPS_TO_QUANTIZED_IMPL
    assert "Abs" not in ONNX_OPS_TO_QUANTIZED_IMPL
    unregister(gemm)
    assert make_factory(4, 4) is None
    with pytest.raises(ValueError, match="Gemm"):
        unregister("Gemm")
    with pytest.raises(ValueError, match="_impl_for_op_named"):

        class Nameless(QuantizedOp):
            _impl_for_op_named = 3


def test_gemm_is_a_linear_map_and_a_tail():
    define_gemm()
    adapter = make_factory(3, 8)(node("Gemm", GEMM_INPUTS, alpha=1.0, beta=1.0, transA=0, transB=1))
    assert not adapter.is_univariate()
    quantization = [([0.1], [3], 5, False)]
    recorded = adapter.record(quantization)
    ((rows, columns, row, column, value),) = recorded["terms"]
    matrix = np.zeros((rows, columns), np.int64)
    matrix[row, column] = value
    samples = RNG.integers(0, 32, (6, 4))
    accumulators = samples @ matrix.T + recorded["bias"]
    assert recorded["shape"] == [1, 3]

    result = adapter.apply_tail(accumulators.astype(np.float64).reshape(6, 3), quantization)
    floats = (samples - 3) * 0.1
    assert np.abs(result - (floats @ WEIGHTS.T + BIAS)).max() < 0.1  # weights of 8 bits
    q_w = QuantizedArray(8, WEIGHTS, options=weight_options(WEIGHTS, 8))
    np.testing.assert_allclose(result, floats @ q_w.dequant().T + BIAS, rtol=0, atol=1e-12)
    np.testing.assert_allclose(adapter.evaluate([floats]), floats @ WEIGHTS.T + BIAS, rtol=0, atol=1e-12)


def test_abs_is_a_function_of_elements():
    define_abs()
    adapter = make_factory(3, 3)(node("Abs", [encrypted("x", [1, 2, 2])]))
    assert adapter.is_univariate()
    x = RNG.normal(size=(5, 2, 2))
    assert np.array_equal(adapter.evaluate([x]), np.abs(x))


def test_operators_called_directly():
    x = RNG.normal(size=(5, 4))
    q_x = QuantizedArray(6, x)
    result = define_abs()(8, "abs")(q_x)
    assert isinstance(result, QuantizedArray)
    assert np.array_equal(result.values, np.abs(x))
    constants = {1: QuantizedArray(8, WEIGHTS), 2: QuantizedArray(8, BIAS)}
    gemm = define_gemm()(8, "gemm", constant_inputs=constants, transB=1)
    floats = gemm.calibrate(x)
    np.testing.assert_allclose(floats, x @ WEIGHTS.T + BIAS)
    assert gemm.output_quant_stats.rmax == floats.max()
    assert gemm.prepare_output(floats).quantizer.scale == gemm.output_quant_params.scale
    assert np.abs(gemm(q_x).values - floats).max() < 0.3
    assert gemm.must_quantize_input(0) and not gemm.can_fuse() and gemm.op_type() == "Gemm"


def test_own_call_impl_and_attributes():
    class Soft(QuantizedOp):
        _impl_for_op_named = "my.domain.SoftClip"

        def call_impl(self, x, **attrs):
            return attrs["limit"] * np.tanh(x / attrs["limit"])

    described = {**node("SoftClip", [encrypted("x", [1, 3])], limit=2.0), "domain": "my.domain"}
    adapter = make_factory(4, 4)(described)
    x = RNG.normal(size=(5, 3))
    assert np.array_equal(adapter.evaluate([x]), 2.0 * np.tanh(x / 2.0))
    assert make_factory(4, 4)(node("SoftClip", [encrypted("x", [1, 3])], limit=2.0)) is None


def test_two_encrypted_inputs_and_an_absent_one():
    class Blend(QuantizedMixingOp):
        _impl_for_op_named = "Blend"

        def call_impl(self, a, absent, b):
            assert absent is None
            return a + b

        def q_impl(self, *q_inputs, **attrs):
            q_a, absent, q_b = self._prepare_inputs_with_constants(*q_inputs, calibrate=False, quantize_actual_values=True)
            assert absent is None
            return QuantizedArray(self.n_bits, (q_a.qvalues + 2 * q_b.qvalues) * q_a.quantizer.scale)

    adapter = make_factory(4, 4)(node("Blend", [encrypted("a", [1, 2]), None, encrypted("b", [1, 2])]))
    recorded = adapter.record([([0.5], [0], 4, True), ([1.0], [0], 4, True)])
    assert [term[:2] for term in recorded["terms"]] == [(2, 2), (2, 2)]
    assert [term[4] for term in recorded["terms"]] == [[1, 1], [2, 2]]


@pytest.mark.parametrize(
    ("impl", "message"),
    [
        (lambda x: np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True), "numpy.sum"),
        (lambda x: np.sort(x, axis=1), "numpy.sort"),
        (lambda x: x.mean(axis=1), "ndarray.mean"),
        (lambda x: np.fft.fft(x), "numpy.fft.fft"),
        (lambda x: np.asarray(x) * 2, "numpy.asarray"),
    ],
)
def test_refused_functions_are_named(impl, message):
    class Refused(QuantizedOp):
        _impl_for_op_named = "Abs"

        def call_impl(self, x, **attrs):
            return impl(x)

    with pytest.raises(NotImplementedError, match=message) as raised:
        make_factory(3, 3)(node("Abs", [encrypted("x", [1, 4])]))
    assert "numpy.where" in raised.value.hint


def test_wrong_operators():
    class NotAQuantizedArray(QuantizedMixingOp):
        _impl_for_op_named = "Abs"

        def q_impl(self, *q_inputs, **attrs):
            return q_inputs[0].qvalues

    with pytest.raises(ValueError, match="not a QuantizedArray"):
        make_factory(3, 3)(node("Abs", [encrypted("x", [1, 4])])).record([([1.0], [0], 3, False)])

    class Constant(QuantizedMixingOp):
        _impl_for_op_named = "Abs"

        def q_impl(self, *q_inputs, **attrs):
            return QuantizedArray(3, np.ones((1, 4)))

    with pytest.raises(ValueError, match="does not depend on the encrypted inputs"):
        make_factory(3, 3)(node("Abs", [encrypted("x", [1, 4])])).record([([1.0], [0], 3, False)])

    class Unknown(QuantizedOp):
        _impl_for_op_named = "Frobnicate"

    with pytest.raises(NotImplementedError, match="call_impl"):
        make_factory(3, 3)(node("Frobnicate", [encrypted("x", [1, 4])]))

    class TwoInputs(QuantizedOpUnivariateOfEncrypted):
        _impl_for_op_named = "Add"

    with pytest.raises(NotImplementedError, match="2 encrypted inputs"):
        make_factory(3, 3)(node("Add", [encrypted("a", [1, 4]), encrypted("b", [1, 4])]))
    with pytest.raises(TypeError, match="calibrate excludes"):
        define_abs()(3, "abs")._prepare_inputs_with_constants(1.0, calibrate=True, quantize_actual_values=True)
    with pytest.raises(TypeError, match="QuantizedArray expected"):
        define_abs()(3, "abs")._prepare_inputs_with_constants(1.0, calibrate=False, quantize_actual_values=True)


def test_weight_options():
    assert weight_options(np.array([-1.0, 0.2, 1.1]), 3) == QuantizationOptions(3, is_signed=True, is_symmetric=True)
    assert weight_options(np.array([0.1, 0.2, 1.1]), 3) == QuantizationOptions(3)
    assert weight_options(np.array([-0.1, 0.2, 1.1]), 3) == QuantizationOptions(3)


def test_every_function_of_ops_impl_can_be_an_operator():
    for name in ("Abs", "Sigmoid", "Mish", "Gelu"):
        type("Operator", (QuantizedOp,), {"_impl_for_op_named": name})
        adapter = make_factory(3, 3)(node(name, [encrypted("x", [1, 4])]))
        x = RNG.normal(size=(5, 4))
        assert np.array_equal(adapter.evaluate([x]), ops_impl.ONNX_OPS_TO_NUMPY_IMPL[name](x)[0])


def network():
    """x -> Gemm -> Abs -> Gemm -> y"""
    return small_networks.mlp((4, 6, 2), activation="Abs")


def test_both_examples_of_the_seed_run_encrypted():
    data = small_networks.floats(300, 4)
    plain = compile_onnx_model(network(), data, n_bits=3)
    define_gemm()
    define_abs()
    module = compile_onnx_model(network(), data, n_bits=3)
    q = module.quantize_input(data[:3])
    clear = module.quantized_forward(q)
    assert np.array_equal(module.fhe_circuit.encrypt_run_decrypt(q), clear)
    assert np.array_equal(module.fhe_circuit.simulate(q), clear)
    # The same network by the core's own operators: the floats agree as closely as three bits allow.
    spread = np.abs(plain.forward(data)).max()
    assert np.abs(module.forward(data) - plain.forward(data)).max() < 0.35 * spread
    assert module.fhe_circuit.statistics["programmable_bootstrap_count"] == 5  # of six neurons one is idle
    unregister("Gemm")
    again = compile_onnx_model(network(), data, n_bits=3)  # the core's Gemm, the user's Abs
    assert np.array_equal(again.forward(data), plain.forward(data))


def test_errors_of_operators_reach_the_caller():
    class Broken(QuantizedMixingOp):
        _impl_for_op_named = "Gemm"

        def q_impl(self, *q_inputs, **attrs):
            raise LookupError("a bug of the operator's author")

    with pytest.raises(LookupError, match="author"):
        build_quantized_module(network(), small_networks.floats(100, 4), n_bits=3)
