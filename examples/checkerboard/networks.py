"""Three networks: plain floats, integers by Brevitas, integers with few connections.

    SimpleNet(hidden=100)                               # two hidden layers with ReLU, float32
    QuantSimpleNet(hidden=100, bits=3)                  # the same, every value an integer of 3 bits
    PrunedQuantNet(hidden=100, bits=3, max_nonzero=30)  # 30 weights a neuron, the rest zero

torusml.torch.to_qat(SimpleNet(100), bits=3, non_zero=30) makes the third of the first; here it stands by hand, to be read.

An encrypted network computes with integers: sums and products with known weights are nearly free,
and every activation is a table lookup whose price grows with the range of the sum that it reads.
Few bits make that range small, and so does pruning, since a weight of zero adds nothing to the sum.
"""

from __future__ import annotations

import brevitas.nn as qnn
import torch
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn
from torch.nn.utils import prune

FEATURES = 2
CLASSES = 2

# Brevitas watches this many batches before it trains a quantizer's scale.
CALIBRATION_BATCHES = 20


class SimpleNet(nn.Module):
    """A fully connected network, 2 - hidden - hidden - 2, in float32."""

    def __init__(self, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, hidden)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(hidden, hidden)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(hidden, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.fc1(x))
        x = self.relu2(self.fc2(x))
        return self.fc3(x)


class QuantSimpleNet(nn.Module):
    """SimpleNet with each layer replaced by Brevitas' quantized one.

    The input passes a QuantIdentity, so that it is an integer too. Weights are signed and
    symmetric; activations follow a ReLU and are unsigned. Biases stay floats: the compiler adds
    them inside the table of the activation, at no cost.
    """

    def __init__(self, hidden: int, bits: int):
        super().__init__()
        self.input_quant = qnn.QuantIdentity(
            bit_width=bits,
            act_quant=Int8ActPerTensorFloat,
            return_quant_tensor=True,
            act_collect_stats_steps=CALIBRATION_BATCHES,
        )
        self.fc1 = self._linear(FEATURES, hidden, bits)
        self.relu1 = self._relu(bits)
        self.fc2 = self._linear(hidden, hidden, bits)
        self.relu2 = self._relu(bits)
        self.fc3 = self._linear(hidden, CLASSES, bits)

    @staticmethod
    def _linear(inputs: int, outputs: int, bits: int) -> qnn.QuantLinear:
        return qnn.QuantLinear(
            inputs,
            outputs,
            bias=True,
            bias_quant=None,
            weight_bit_width=bits,
            weight_quant=Int8WeightPerTensorFloat,
            weight_narrow_range=True,
        )

    @staticmethod
    def _relu(bits: int) -> qnn.QuantReLU:
        return qnn.QuantReLU(
            bit_width=bits,
            act_quant=Uint8ActPerTensorFloat,
            return_quant_tensor=True,
            act_collect_stats_steps=CALIBRATION_BATCHES,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.input_quant(x)
        x = self.relu1(self.fc1(x))
        x = self.relu2(self.fc2(x))
        return self.fc3(x)


class PrunedQuantNet(QuantSimpleNet):
    """QuantSimpleNet whose neurons keep `max_nonzero` weights each; `per_row` says how exactly.

    Layer-wide (the default) the smallest weights of the whole layer are dropped, until
    `max_nonzero` are left on average: a neuron that matters keeps more than one that does not. Per
    row, no neuron keeps more than `max_nonzero`, which bounds every sum.
    """

    def __init__(self, hidden: int, bits: int, max_nonzero: int, per_row: bool = False):
        super().__init__(hidden, bits)
        self.max_nonzero = max_nonzero
        self.per_row = per_row

    def _prunable(self) -> list[nn.Linear]:
        layers = [self.fc1, self.fc2, self.fc3]
        return [layer for layer in layers if layer.in_features > self.max_nonzero]

    def prune(self) -> None:
        """Drops the smallest weights and holds them at zero while training goes on."""
        for layer in self._prunable():
            if self.per_row:
                prune.custom_from_mask(layer, "weight", _largest_of_each_row(layer.weight, self.max_nonzero))
            else:
                dropped = (layer.in_features - self.max_nonzero) * layer.out_features
                prune.l1_unstructured(layer, "weight", amount=dropped)


def _largest_of_each_row(weight: torch.Tensor, count: int) -> torch.Tensor:
    mask = torch.zeros_like(weight)
    return mask.scatter_(1, weight.abs().topk(count, dim=1).indices, 1.0)
