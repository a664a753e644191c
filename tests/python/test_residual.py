"""Residual connections: the narrow sum does not pay for the wide layer that reads the same values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from torusml.torch.compile import compile_torch_model

WIDTH = 24


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner, self.last = nn.Linear(4, WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = torch.relu(x + torch.tanh(self.inner(x)))
        return self.last(x)


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(400, 4)).astype(np.float32)


@pytest.mark.parametrize("precision", ["exact", "tolerant"])
def test_the_value_of_both_gets_a_table_for_each_scale(data, precision):
    torch.manual_seed(1)
    module = compile_torch_model(Residual().eval(), data, n_bits=4, precision=precision)
    statistics = module.fhe_circuit.statistics
    # Three activations; the first one's values are looked up for the layer and for the sum.
    assert statistics["table_lookup_count"] == 4 * WIDTH
    clear = module.forward(data)
    simulated = module.forward(data, fhe="simulate")
    if precision == "exact":
        np.testing.assert_array_equal(simulated, clear)
        np.testing.assert_array_equal(module.forward(data[:3], fhe="execute"), clear[:3])
    else:
        assert statistics["key_switch_count"] == 3 * WIDTH
        assert np.mean(simulated.argmax(1) == clear.argmax(1)) > 0.9
        np.testing.assert_allclose(module.forward(data[:3], fhe="execute"), clear[:3], atol=np.ptp(clear) / 8)
