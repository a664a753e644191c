"""Every operator of operator_table.py: onnxruntime, our float evaluation, quantized in the clear, simulated, encrypted."""

import io
import warnings

import numpy as np
import onnxruntime
import operators_page
import pytest
import torch
from onnx import TensorProto, helper
from operator_table import ROWS, Row, i64, op
from torch import nn

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
    """Of truth values and places: the share that differs. Of other numbers: the largest error by the largest result."""
    if row.boolean or row.integer:
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
def test_behind_linear_layers(row):
    """Layers without a table of their own, which what follows may be folded into."""
    model, x, fresh = row.model_behind_linear_layers(), row.samples(SAMPLES), row.samples(50, seed=4)
    module = compile_onnx_model(model, x, n_bits=row.bits, precision="exact", p_error=2**-20, margin=0.5)
    clear, simulated = (as_list(module.forward(*fresh, fhe=mode)) for mode in ("disable", "simulate"))
    for result, same, expected in zip(clear, simulated, expected_of(model, fresh), strict=True):
        assert error_of(row, result, expected) <= row.bound
        assert np.array_equal(result, same)


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


def exported(net, x, dynamo):
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            torch.onnx.export(net, (torch.from_numpy(x[:1]),), dynamo=True, verbose=False).save(file)
        else:
            torch.onnx.export(net, (torch.from_numpy(x[:1]),), file, dynamo=False, opset_version=17)
    return file.getvalue()


def argmax_model(elements, **attributes):
    nodes = [op("ArgMax", ["x"], axis=1, keepdims=0, **attributes)]
    return Row("ArgMax", "", nodes, {"x": (elements,)}, integer=True).model()


@pytest.mark.parametrize("takes_last", [0, 1])
@pytest.mark.parametrize("elements", [2, 3, 5, 8, 11, 17])
def test_equal_elements(elements, takes_last):
    """Three values only: most rows have several largest elements, also in places that calibration never met."""
    model = argmax_model(elements, select_last_index=takes_last)
    x = np.random.default_rng(1).integers(-1, 2, (400, elements)).astype(np.float32)
    x[:, 0] -= 1  # the first element wins rarely
    module = compile_onnx_model(model, x[:40], n_bits=3, precision="exact", p_error=2**-20)
    (expected,) = expected_of(model, (x,))
    assert np.array_equal(module.forward(x), expected)
    assert np.array_equal(module.forward(x[:100], fhe="simulate"), expected[:100])


def test_places_that_calibration_never_met():
    model = argmax_model(9)
    x = np.random.default_rng(4).uniform(-1, 0.6, (100, 9)).astype(np.float32)
    x[:, 8] = 1
    module = compile_onnx_model(model, x, n_bits=4, precision="exact", p_error=2**-20)  # always the last one
    turned = np.concatenate([np.roll(x[:10], shift, 1) for shift in range(9)])
    assert np.array_equal(module.forward(turned), turned.argmax(1))
    assert np.array_equal(module.forward(turned, fhe="simulate"), turned.argmax(1))


def test_places_are_exact_under_tolerant():
    """Noise may exchange elements that lie side by side; a place is never moved to the next one."""
    model = argmax_model(8)
    generator = np.random.default_rng(2)
    x = np.stack([generator.permutation(8) for _ in range(600)]).astype(np.float32)
    module = compile_onnx_model(model, x, n_bits=6, precision="tolerant", tolerance=2**-6)
    got = module.forward(x, fhe="simulate")
    assert (got == x.argmax(1)).mean() > 0.98
    assert (np.take_along_axis(x, got.astype(int)[:, None], 1) >= 5).all()


def test_rounding_leads_beyond_the_largest_difference():
    """The maximum of two elements may then be larger than both, and its difference from a third one, too."""
    model = argmax_model(8)
    x = np.random.default_rng(1).uniform(-1, 1, (400, 8)).astype(np.float32)
    module = compile_onnx_model(model, x, n_bits=4, precision="exact", p_error=2**-20, rounding_threshold_bits=3)
    assert max(r["calibrated"][1] for r in module.fhe_circuit.ranges) > 15
    got = module.forward(x)
    assert np.array_equal(module.forward(x[:50], fhe="simulate"), got[:50])
    assert (np.take_along_axis(x, got.astype(int)[:, None], 1) > 0).mean() > 0.9


@pytest.mark.parametrize("dynamo", [False, True])
def test_classes_of_a_network(dynamo):
    """The server returns the class alone."""

    class Classes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))

        def forward(self, x):
            return self.layers(x).argmax(1)

    torch.manual_seed(8)  # several classes occur
    net = Classes().eval()
    x = np.random.default_rng(0).uniform(-1, 1, (500, 4)).astype(np.float32)
    module = compile_onnx_model(exported(net, x, dynamo), x, n_bits=5, precision="exact", p_error=2**-20)
    expected = net(torch.from_numpy(x)).numpy()
    assert len(np.unique(expected)) > 2
    assert (module.forward(x) == expected).mean() > 0.9
    assert np.array_equal(module.forward(x[:50], fhe="simulate"), module.forward(x[:50]))


def first_model(shape, count, axis, **attributes):
    """Both results of one TopK."""
    node = op("TopK", ["x", "k"], ("y", "i"), axis=axis, **attributes)
    model = Row("TopK", "", [node], {"x": shape}, {"k": i64(count)}).model()
    model.graph.output.append(helper.make_tensor_value_info("i", TensorProto.INT64, None))
    return model


def eighths(shape, count=300):
    """Integers that 3 bits hold as they are: most rows have equal elements."""
    return np.random.default_rng(6).integers(-4, 4, (count, *shape)).astype(np.float32)


# The places of the first two of 16 and of the first three of 20 are found by their values.
@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize(
    ("shape", "count", "axis"),
    [((2,), 2, 1), ((5,), 2, 1), ((7,), 7, -1), ((16,), 2, 1), ((20,), 3, 1), ((4, 3), 3, 1), ((2, 5, 2), 5, 2)],
)
def test_first_elements_and_their_places(shape, count, axis, largest):
    model, x = first_model(shape, count, axis, largest=largest), eighths(shape)
    module = compile_onnx_model(model, x[:100], n_bits=3, precision="exact", p_error=2**-25)
    expected = expected_of(model, (x,))
    for got, result in zip(module.forward(x), expected, strict=True):
        assert np.array_equal(got, result)
    for got, result in zip(module.forward(x[:50], fhe="simulate"), expected, strict=True):
        assert np.array_equal(got, result[:50])


def test_first_elements_and_their_places_encrypted():
    model, x = first_model((4, 2), 3, 1), eighths((4, 2))
    module = compile_onnx_model(model, x, n_bits=3, precision="exact")
    for got, result in zip(module.forward(x[:2], fhe="execute"), expected_of(model, (x[:2],)), strict=True):
        assert np.array_equal(got, result)


def test_orders_that_calibration_never_met():
    model = first_model((6,), 6, 1)
    x = np.tile(np.linspace(-1, 1, 6), (50, 1)).astype(np.float32)  # always in one order
    module = compile_onnx_model(model, x, n_bits=4, precision="exact", p_error=2**-25)
    fresh = np.random.default_rng(5).choice(x[0], (200, 6))
    values, places = module.forward(fresh)
    expected = expected_of(model, (fresh,))
    assert np.abs(values - expected[0]).max() < 0.07
    assert np.array_equal(places, expected[1])


@pytest.mark.parametrize("settings", [{"precision": "tolerant", "tolerance": 2**-6}, {"rounding_threshold_bits": 3}])
@pytest.mark.parametrize(("elements", "count"), [(8, 8), (16, 2)])
def test_places_agree_with_each_other(elements, count, settings):
    """No comparison is moved or rounded: noise and rounding leave a place of its own to each of the first elements."""
    generator = np.random.default_rng(2)
    x = np.stack([generator.permutation(elements) for _ in range(300)]).astype(np.float32)
    model = first_model((elements,), count, 1)
    module = compile_onnx_model(model, x, n_bits=6, **settings)
    assert np.array_equal(module.forward(x, fhe="simulate")[1], expected_of(model, (x,))[1])


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("sorts", [False, True])
def test_topk_and_sort_of_a_network(sorts, dynamo):
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))

        def forward(self, x):
            scores = self.layers(x)
            return torch.sort(scores, 1) if sorts else torch.topk(scores, 2, 1, largest=False, sorted=False)

    torch.manual_seed(8)
    net = First().eval()
    x = np.random.default_rng(0).uniform(-1, 1, (300, 4)).astype(np.float32)
    module = compile_onnx_model(exported(net, x, dynamo), x, n_bits=6, precision="exact", p_error=2**-20)
    with torch.no_grad():
        expected = [result.numpy() for result in net(torch.from_numpy(x))]
    values, places = module.forward(x)
    assert np.abs(values - expected[0]).max() < 0.05
    assert (places == expected[1]).mean() > 0.85
    for got, clear in zip(module.forward(x[:30], fhe="simulate"), (values, places), strict=True):
        assert np.array_equal(got, clear[:30])


def test_page_is_current():
    page = operators_page.PAGE.read_text()
    assert operators_page.rewritten(page) == page, "python tests/python/operators_page.py writes docs/operators.md anew"
