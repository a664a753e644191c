"""Every operator of operator_table.py: onnxruntime, our float evaluation, quantized in the clear, simulated, encrypted."""

import numpy as np
import onnxruntime
import operators_page
import pytest
from operator_table import ROWS

from torusml import _core
from torusml.torch.compile import build_quantized_module, compile_onnx_model

SAMPLES = 200


def expected_of(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(None, {value.name: array for value, array in zip(session.get_inputs(), x, strict=True)})
    return [np.asarray(result, np.float64) for result in results]


def as_list(results):
    return list(results) if isinstance(results, (tuple, list)) else [results]


def error_of(row, got, expected):
    """Of a truth value: the share that differs. Of numbers: the largest error by the largest result."""
    if row.boolean:
        return np.mean(got != expected)
    return np.quantile(np.abs(got - expected), row.share) / np.abs(expected).max()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_floats(row):
    """Our evaluator is the oracle of quantization, so it is held to onnxruntime's results."""
    model, x = row.model(), row.samples(5)
    graph = _core.import_onnx_bytes(model.SerializeToString(), row.name, None)
    got = graph.evaluate([np.ascontiguousarray(array, np.float64) for array in x])
    for result, expected in zip(got, expected_of(model, x), strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_clear(row):
    model, x = row.model(), row.samples(SAMPLES)
    module = build_quantized_module(model, x, n_bits=row.bits, margin=0.3)
    fresh = row.samples(50, seed=4)
    for result, expected in zip(as_list(module.forward(*fresh)), expected_of(model, fresh), strict=True):
        assert result.shape == expected.shape
        assert error_of(row, result, expected) <= row.bound


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_simulated_and_encrypted(row):
    """Exact lookups: all three executors give the same integers."""
    x = row.samples(SAMPLES)
    module = compile_onnx_model(row.model(), x, n_bits=row.encrypted_bits, precision="exact")
    few = tuple(array[:2] for array in x)
    clear = as_list(module.forward(*few))
    for mode in ("simulate", "execute"):
        for result, expected in zip(as_list(module.forward(*few, fhe=mode)), clear, strict=True):
            assert np.array_equal(result, expected), mode


def test_page_is_current():
    page = operators_page.PAGE.read_text()
    assert operators_page.rewritten(page) == page, "python tests/python/operators_page.py writes docs/operators.md anew"
