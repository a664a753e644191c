"""What Brevitas computes inside: the integers of every layer, and how wide they get.

    values = layer_integers(network, board.test.points)
    values["fc2"]               # the sums that relu2 reads, before the bias: int64 [500, 100]
    accumulator_bits(values)    # {"fc1": 6, "fc2": 8, "fc3": 8}

These are the numbers that an encrypted network must reproduce, so they are taken from Brevitas' own
quantized tensors and not from the compiler under test.
"""

from __future__ import annotations

import numpy as np
import torch
from networks import QuantSimpleNet

ACCUMULATORS = ("fc1", "fc2", "fc3")


@torch.no_grad()
def layer_integers(network: QuantSimpleNet, points: np.ndarray) -> dict[str, np.ndarray]:
    """The integers of input, fc1, relu1, fc2, relu2 and fc3 on each point, int64.

    A linear layer's entry is its sum of products before the bias, which is a float and enters after
    it.
    """
    activation = network.input_quant(torch.from_numpy(points))
    values = {"input": activation.int()}
    for name, after in (("fc1", "relu1"), ("fc2", "relu2"), ("fc3", None)):
        layer = getattr(network, name)
        weight = layer.quant_weight().int()
        values[name] = activation.int().long() @ weight.long().T
        if after is not None:
            activation = getattr(network, after)(layer(activation))
            values[after] = activation.int()
    return {name: value.numpy().astype(np.int64) for name, value in values.items()}


def scales(network: QuantSimpleNet) -> dict[str, float]:
    """What one unit of each integer is worth; for a sum, activation scale times weight scale."""
    worth = {name: float(getattr(network, name).act_quant.scale().detach()) for name in ("input_quant", "relu1", "relu2")}
    before = {"fc1": "input_quant", "fc2": "relu1", "fc3": "relu2"}
    for name, source in before.items():
        worth[name] = worth[source] * float(getattr(network, name).quant_weight().scale.detach())
    worth["input"] = worth.pop("input_quant")
    return worth


def signed_bits(low: int, high: int) -> int:
    """Bits of the smallest integer that holds [low, high]; a sign costs one where there is one."""
    if low >= 0:
        return max(high.bit_length(), 1)
    return max((-low - 1).bit_length(), high.bit_length()) + 1


def accumulator_ranges(values: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """The interval that each linear layer's sums really take on the given points."""
    return {name: (int(values[name].min()), int(values[name].max())) for name in ACCUMULATORS}


def accumulator_bits(values: dict[str, np.ndarray]) -> dict[str, int]:
    return {name: signed_bits(low, high) for name, (low, high) in accumulator_ranges(values).items()}


@torch.no_grad()
def nonzero_weights(network: QuantSimpleNet) -> dict[str, tuple[float, int]]:
    """For each linear layer, how many integer weights a neuron keeps: the mean and the most."""
    counts = {}
    for name in ACCUMULATORS:
        row = (getattr(network, name).quant_weight().int() != 0).sum(dim=1)
        counts[name] = (float(row.float().mean()), int(row.max()))
    return counts
