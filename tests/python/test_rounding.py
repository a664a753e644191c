"""rounding_threshold_bits and rounding: forms of the argument, errors, numerics of the rounded network."""

import enum

import numpy as np
import pytest
import torch
from torch import nn

import torusml
from torusml.quantization.quantized_module import rounding_text
from torusml.torch.compile import build_quantized_module, compile_torch_model

DATA = np.random.default_rng(0).uniform(-1, 1, (60, 6))


class Exactness(enum.Enum):
    EXACT = "exact"
    APPROXIMATE = "approximate"


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (6, "6:exact"),
        (np.int64(2), "2:exact"),
        ({"n_bits": 8}, "8:exact"),
        ({"n_bits": 6, "method": "Exact"}, "6:exact"),
        ({"n_bits": 6, "method": "APPROXIMATE"}, "6:approximate"),
        ({"n_bits": 6, "method": Exactness.APPROXIMATE}, "6:approximate"),
        ({"n_bits": 6, "method": Exactness.EXACT}, "6:exact"),
    ],
)
def test_forms(value, text):
    assert rounding_text(value) == text


@pytest.mark.parametrize(
    ("value", "builtin"),
    [
        (1, ValueError),
        (9, ValueError),
        (-3, ValueError),
        (6.0, ValueError),
        (True, ValueError),
        ("6", ValueError),
        ([6], ValueError),
        ("auto", NotImplementedError),
        ({"n_bits": "auto"}, NotImplementedError),
        ({"n_bits": "6"}, ValueError),
        ({"n_bits": 12, "method": "EXACT"}, ValueError),
        ({"n_bits": 6, "method": "SLOPPY"}, ValueError),
        ({"n_bits": 6, "method": None}, ValueError),
        ({"method": "EXACT"}, KeyError),
        ({"n_bits": 6, "methods": "EXACT"}, KeyError),
        ({}, KeyError),
    ],
)
@pytest.mark.parametrize("argument", ["build_quantized_module", "compile_torch_model", "compile"])
def test_wrong_values(argument, value, builtin):
    with pytest.raises(builtin) as raised:
        if argument == "compile":
            torusml.compile(net(), DATA, rounding=value)
        else:
            {"build_quantized_module": build_quantized_module, "compile_torch_model": compile_torch_model}[argument](
                net(), DATA, rounding_threshold_bits=value
            )
    assert isinstance(raised.value, torusml.Error)
    assert raised.value.where in ("rounding_threshold_bits", "rounding")


@pytest.mark.parametrize(
    ("method", "others"),
    [
        ("EXACT", {"precision": "tolerant"}),
        ("EXACT", {"precision": "auto"}),
        ("APPROXIMATE", {"precision": "exact"}),
        ("APPROXIMATE", {"precision": "auto"}),
        ("APPROXIMATE", {"profile": "shared_results"}),
        ("APPROXIMATE", {"tolerance": 0.01}),
    ],
)
def test_contradictions(method, others):
    rounding = {"n_bits": 6, "method": method}
    with pytest.raises(ValueError, match="method"):
        compile_torch_model(net(), DATA, rounding_threshold_bits=rounding, **others)
    if "precision" in others:
        module = build_quantized_module(net(), DATA, n_bits=4, rounding_threshold_bits=rounding)
        with pytest.raises(ValueError, match="contradict"):
            module.compile(DATA, **others)


def test_precision_rounded_needs_rounding():
    with pytest.raises(ValueError, match="without rounding"):
        compile_torch_model(net(), DATA, precision="rounded")


def test_rounded_networks():
    all_bits = compile_torch_model(net(), DATA, n_bits=5)
    exact = compile_torch_model(net(), DATA, n_bits=5, rounding_threshold_bits=4)
    approximate = torusml.compile(net(), DATA, bits=5, rounding={"n_bits": 4, "method": "APPROXIMATE"})
    q = exact.quantize_input(DATA)
    clear = exact.quantized_forward(q)
    assert np.array_equal(clear, approximate.quantized_forward(q))
    assert not np.array_equal(clear, all_bits.quantized_forward(q))
    assert np.array_equal(clear, exact.quantized_forward(q, fhe="simulate"))
    assert exact.fhe_circuit.statistics["precision"] == "rounded"
    assert approximate.fhe_circuit.statistics["precision"] == "tolerant"
    assert np.abs(exact.forward(DATA) - all_bits.forward(DATA)).max() < 0.3


def test_rounding_by_hand():
    """The peer's formula on the layers of the unrounded network."""
    plain = build_quantized_module(net(), DATA, n_bits=4)
    rounded = build_quantized_module(net(), DATA, n_bits=4, rounding_threshold_bits=3)
    before = plain.forward(DATA, debug=True)[1]
    after = rounded.forward(DATA, debug=True)[1]
    names = list(before)
    assert names == list(after)
    assert np.array_equal(before[names[0]], after[names[0]]), "accumulators of the first layer are kept"
    # Equal accumulators of a neuron after rounding give equal activations, in fewer groups.
    counts = [
        sum(len(np.unique(values[names[1]][:, c])) for c in range(8)) for values in (before, after)
    ]  # fmt: skip
    assert counts[1] <= counts[0]


def test_encrypted():
    module = compile_torch_model(net(), DATA, n_bits=3, rounding_threshold_bits=4)
    q = module.quantize_input(DATA[:2])
    assert np.array_equal(module.quantized_forward(q, fhe="execute"), module.quantized_forward(q))
