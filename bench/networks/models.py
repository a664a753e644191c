"""The networks, each in floats and with Brevitas' quantizers; the same names of weights in both.

    net = build("nn-20", FloatLayers())
    quantized = build("nn-20", QuantLayers(weight_bits=4, activation_bits=4, input_bits=4))
    quantized.load_state_dict(net.state_dict(), strict=False)          # starts from the floats

NN-20 and NN-50 are the deep networks of Chillotti, Joye and Paillier, "Programmable bootstrapping enables efficient
homomorphic inference of deep neural networks" (2021): a convolution of one channel, then linear layers of 92 neurons,
784 + 92 (depth - 2) activations. The convolution pads with zeros, which for digits, black at the border, is what
repeating the border gives.

Batch normalisation stands between a linear layer and its activation. Compilers make it part of the activation's
table, or of the weights, so it costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

CLASSES = 10
WIDTH = 92  # of the hidden layers of NN-20 and NN-50


class FloatLayers:
    """Layers of plain floats."""

    def input(self) -> nn.Module:
        return nn.Identity()

    def linear(self, inputs: int, outputs: int, bias: bool = False) -> nn.Module:
        return nn.Linear(inputs, outputs, bias=bias)

    def convolution(self, inputs: int, outputs: int, stride: int = 1, padding: int = 0, kernel: int = 3) -> nn.Module:
        return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)

    def activation(self) -> nn.Module:
        return nn.ReLU()

    def stream(self) -> nn.Module:
        return nn.Identity()


class QuantLayers:
    """Brevitas' layers: weights symmetric, activations and inputs unsigned, one learned scale a tensor."""

    CALIBRATION_BATCHES = 20  # that Brevitas watches before it trains the scale of an activation

    def __init__(self, weight_bits: int, activation_bits: int, input_bits: int):
        from brevitas import nn as quantized
        from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat

        self._nn = quantized
        self._weights = {
            "weight_quant": Int8WeightPerTensorFloat,
            "weight_bit_width": weight_bits,
            "weight_narrow_range": True,
            "bias_quant": None,
        }
        self._activations = {"act_quant": Uint8ActPerTensorFloat, "act_collect_stats_steps": self.CALIBRATION_BATCHES}
        self._stream = {**self._activations, "act_quant": Int8ActPerTensorFloat, "bit_width": activation_bits + 1}
        self._activation_bits, self._input_bits = activation_bits, input_bits

    def input(self) -> nn.Module:
        return self._nn.QuantIdentity(bit_width=self._input_bits, **self._activations)

    def linear(self, inputs: int, outputs: int, bias: bool = False) -> nn.Module:
        return self._nn.QuantLinear(inputs, outputs, bias=bias, **self._weights)

    def convolution(self, inputs: int, outputs: int, stride: int = 1, padding: int = 0, kernel: int = 3) -> nn.Module:
        return self._nn.QuantConv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False, **self._weights)

    def activation(self) -> nn.Module:
        return self._nn.QuantReLU(bit_width=self._activation_bits, **self._activations)

    def stream(self) -> nn.Module:
        """Of the operands of sums, which need one step and a sign. What passed a ReLU has a bit less."""
        return self._nn.QuantIdentity(**self._stream)


Layers = FloatLayers | QuantLayers


def _dense(layers: Layers, inputs: int, outputs: int) -> list[nn.Module]:
    return [layers.linear(inputs, outputs), nn.BatchNorm1d(outputs), layers.activation()]


def _convolved(layers: Layers, inputs: int, outputs: int, **options: int) -> list[nn.Module]:
    return [layers.convolution(inputs, outputs, **options), nn.BatchNorm2d(outputs), layers.activation()]


def deep(layers: Layers, depth: int) -> list[nn.Module]:
    """NN-`depth` on 28x28 pixels."""
    hidden = [module for _ in range(depth - 3) for module in _dense(layers, WIDTH, WIDTH)]
    return [
        *_convolved(layers, 1, 1, padding=1),
        nn.Flatten(),
        *_dense(layers, 784, WIDTH),
        *hidden,
        layers.linear(WIDTH, CLASSES, bias=True),
    ]


def mlp(layers: Layers) -> list[nn.Module]:
    """784-128-128-10: 256 activations."""
    return [
        nn.Flatten(),
        *_dense(layers, 784, 128),
        *_dense(layers, 128, 128),
        layers.linear(128, CLASSES, bias=True),
    ]


def digits_cnn(layers: Layers) -> list[nn.Module]:
    """On 8x8 pixels: 16 channels of 6x6, 32 of 4x4, 64 neurons: 1152 activations."""
    return [
        *_convolved(layers, 1, 16),
        *_convolved(layers, 16, 32),
        nn.Flatten(),
        *_dense(layers, 512, 64),
        layers.linear(64, CLASSES, bias=True),
    ]


def fashion_cnn(layers: Layers) -> list[nn.Module]:
    """On 28x28 pixels: 8 channels of 13x13, 24 of 6x6, 64 neurons: 2280 activations."""
    return [
        *_convolved(layers, 1, 8, stride=2),
        *_convolved(layers, 8, 24, stride=2),
        nn.Flatten(),
        *_dense(layers, 864, 64),
        layers.linear(64, CLASSES, bias=True),
    ]


class Residual(nn.Module):
    """relu(branch(x) + x), for x [n, inputs, h, w] that has passed `stream` already; where shapes differ, x passes a
    convolution of 1x1. Operands and sum have passed the same quantizer, so the bits of sums do not grow with depth."""

    def __init__(self, layers: Layers, stream: nn.Module, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.branch = nn.Sequential(
            *_convolved(layers, inputs, outputs, stride=stride, padding=1),
            layers.convolution(outputs, outputs, padding=1),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                layers.convolution(inputs, outputs, stride=stride, kernel=1), nn.BatchNorm2d(outputs)
            )
        self.relu = nn.ReLU()
        self.stream = stream

    def forward(self, x):
        straight = x if self.shortcut is None else self.stream(self.shortcut(x))
        return self.stream(self.relu(self.stream(self.branch(x)) + straight))


def resnet_fashion(layers: Layers) -> list[nn.Module]:
    """On 28x28 pixels: 12 channels of 7x7 and a residual block of them, a second block to 24 channels of 4x4. Of each value
    of a block there are three lookups (four where the shortcut has a convolution): 3,888 in all."""
    first, second = layers.stream(), layers.stream()
    return [
        layers.convolution(1, 12, stride=4, padding=3, kernel=7),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        first,
        Residual(layers, first, 12, 12),
        Residual(layers, second, 12, 24, stride=2),
        nn.Flatten(),
        layers.linear(384, CLASSES, bias=True),
    ]


NETWORKS: dict[str, Callable[[Layers], list[nn.Module]]] = {
    "nn-20": lambda layers: deep(layers, 20),
    "nn-50": lambda layers: deep(layers, 50),
    "mlp": mlp,
    "digits-cnn": digits_cnn,
    "fashion-cnn": fashion_cnn,
    "resnet-fashion": resnet_fashion,
}


def build(name: str, layers: Layers) -> nn.Sequential:
    network = nn.Sequential(layers.input(), *NETWORKS[name](layers))
    if name.startswith("nn-"):
        _start_almost_linear(network)
    return network


def _start_almost_linear(network: nn.Sequential) -> None:
    """Lets fifty layers learn: each begins as a rotation whose outputs lie about one deviation above zero, where a ReLU
    changes little, so gradients reach the first layer undiminished."""
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.orthogonal_(module.weight)
        elif isinstance(module, nn.BatchNorm1d):
            nn.init.ones_(module.bias)


def activations(name: str, image_shape: tuple[int, ...]) -> int:
    """Table lookups of one sample: values of activations and, in residual networks, of quantized summands."""
    import torch

    counts: list[int] = []
    network = build(name, FloatLayers()).eval()

    def count(_, __, output: torch.Tensor) -> None:
        counts.append(output.numel())

    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(count)
        elif isinstance(module, Residual):
            for summand in filter(None, (module.branch, module.shortcut)):
                summand.register_forward_hook(count)
    network(torch.zeros(1, *image_shape))
    return sum(counts)
