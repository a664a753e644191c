"""Operators between layers that were trained with quantizers (Brevitas): what has no quantizer of its own is calibrated."""

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from torch import nn

from torusml.torch.compile import compile_brevitas_qat_model

X = np.random.default_rng(2).uniform(-1, 1, (300, 4)).astype(np.float32)


class Quantized(nn.Module):
    """A linear layer on each side of the operator, each with its quantizers."""

    def __init__(self, operator, width=4):
        super().__init__()
        self.operator = operator
        self.input = qnn.QuantIdentity(bit_width=5, return_quant_tensor=True)
        self.a = qnn.QuantLinear(4, 4, bias=True, weight_bit_width=4)
        self.b = qnn.QuantLinear(4, 4, bias=True, weight_bit_width=4)
        self.quant_a = qnn.QuantIdentity(bit_width=5, return_quant_tensor=True)
        self.quant_b = qnn.QuantIdentity(bit_width=5, return_quant_tensor=True)
        self.between = qnn.QuantIdentity(bit_width=5, return_quant_tensor=True)
        self.last = qnn.QuantLinear(width, 2, bias=True, weight_bit_width=4)

    def forward(self, x):
        x = self.input(x)
        a, b = self.quant_a(self.a(x)), self.quant_b(self.b(x))
        return self.last(self.between(self.operator(value(a), value(b))))


def value(tensor):
    return getattr(tensor, "value", tensor)


def trained(operator, width=4):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    net = Quantized(operator, width)
    for _ in range(20):
        net.train()(torch.from_numpy(X))
    return net.eval()


def outer(a, b):
    return (a.unsqueeze(2) @ b.unsqueeze(1)).flatten(1)


OPERATORS = {
    "softmax": (lambda a, b: torch.softmax(a + b, 1), 4),
    "product": (lambda a, b: a * b, 4),
    "matrix_product": (outer, 16),
    "maximum": (torch.maximum, 4),
    "layer_norm": (lambda a, b: nn.functional.layer_norm(a + b, (4,)), 4),
    "where": (lambda a, b: torch.where(a > 0, a, b), 4),
    "place": (lambda a, b: (a + b).argmax(1, keepdim=True) + a, 4),
    "sorted": (lambda a, b: torch.sort(a, 1)[0] + b, 4),
    "first_places": (lambda a, b: torch.topk(a + b, 2, 1)[1] + a[:, :2], 2),
    "resized": (lambda a, b: nn.functional.interpolate(a.unsqueeze(1), scale_factor=2, mode="linear").flatten(1), 8),
    "largest": (lambda a, b: a.amax(1, keepdim=True) + b, 4),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_close_to_the_trained_network(name):
    net = trained(*OPERATORS[name])
    module = compile_brevitas_qat_model(net, X, n_bits=7)
    with torch.no_grad():
        expected = value(net(torch.from_numpy(X))).numpy()
    error = np.abs(module.forward(X) - expected)
    assert np.quantile(error, 0.9) < 0.15 * np.abs(expected).max()
    assert np.array_equal(module.forward(X[:5], fhe="simulate"), module.forward(X[:5]))
