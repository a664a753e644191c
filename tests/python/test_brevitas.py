"""Layers of Brevitas as networks use them: our results are Brevitas', by each of its exporters."""

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("brevitas")

import brevitas.nn as qnn  # noqa: E402
import brevitas.quant as bq  # noqa: E402
from brevitas.export import export_onnx_qcdq, export_qonnx  # noqa: E402

from torusml import errors  # noqa: E402
from torusml.torch.compile import build_quantized_module, compile_brevitas_qat_model  # noqa: E402

POINTS = np.random.default_rng(0).uniform(-1, 1, (200, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(-1, 1, (40, 2, 6, 6)).astype(np.float32)
SIGNALS = np.random.default_rng(2).uniform(-1, 1, (60, 2, 8)).astype(np.float32)
POWERS = {"act_quant": bq.Int8ActPerTensorFixedPoint}


def identity(bits=4, **options):
    return qnn.QuantIdentity(bit_width=bits, return_quant_tensor=True, **options)


def relu(bits=3, **options):
    return qnn.QuantReLU(bit_width=bits, return_quant_tensor=True, **options)


def linear(inputs, outputs, **options):
    return qnn.QuantLinear(inputs, outputs, **({"bias": True, "weight_bit_width": 3} | options))


def chain(*layers):
    return nn.Sequential(identity(), *layers)


class Residual(nn.Module):
    """A quantized sum, by the module or by one QuantIdentity for both operands."""

    def __init__(self, by_module):
        super().__init__()
        self.start, self.fc1, self.relu, self.fc2 = identity(), linear(4, 5), relu(), linear(5, 5)
        shared = {"bit_width": 4, "return_quant_tensor": True}
        self.add = qnn.QuantEltwiseAdd(
            input_quant=bq.Int8ActPerTensorFloat, input_bit_width=4, output_quant=None, return_quant_tensor=False
        )
        self.shared = qnn.QuantIdentity(**shared)
        self.by_module = by_module
        self.relu2, self.fc3 = relu(), linear(5, 2)

    def forward(self, x):
        h = self.relu(self.fc1(self.start(x)))
        g = self.fc2(h)
        s = self.add(g, h) if self.by_module else self.shared(g) + self.shared(h)
        return self.fc3(self.relu2(s))


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.left, self.right = identity(), linear(4, 3), linear(4, 2)
        self.shared, self.last = identity(), linear(5, 2)

    def forward(self, x):
        x = self.start(x)
        return self.last(torch.cat([self.shared(torch.tanh(self.left(x))), self.shared(self.right(x))], 1))


NETWORKS = {
    "linear": (lambda: chain(linear(4, 5), relu(), linear(5, 3)), POINTS),
    "no bias": (lambda: chain(linear(4, 5, bias=False), relu(), linear(5, 3, bias=False)), POINTS),
    "bias_quant": (
        lambda: chain(
            linear(4, 5, bias_quant=bq.Int8BiasPerTensorFloatInternalScaling), relu(),
            linear(5, 3, bias_quant=bq.Int16Bias),
        ),
        POINTS,
    ),
    "per channel": (lambda: chain(linear(4, 5, weight_quant=bq.Int8WeightPerChannelFloat), relu(), linear(5, 3)), POINTS),
    "powers of two": (
        lambda: nn.Sequential(
            identity(**POWERS), linear(4, 5, weight_quant=bq.Int8WeightPerTensorFixedPoint),
            relu(act_quant=bq.Uint8ActPerTensorFixedPoint), linear(5, 3, weight_quant=bq.Int8WeightPerTensorFixedPoint),
        ),
        POINTS,
    ),
    "sigmoid, tanh, hardtanh": (
        lambda: chain(
            linear(4, 5), qnn.QuantSigmoid(bit_width=3), linear(5, 4), qnn.QuantTanh(bit_width=3), linear(4, 4),
            qnn.QuantHardTanh(bit_width=3, min_val=-1.0, max_val=1.0), linear(4, 2),
        ),
        POINTS,
    ),
    "shifted": (
        lambda: chain(linear(4, 5), nn.ReLU(), identity(act_quant=bq.ShiftedUint8ActPerTensorFloat), linear(5, 3)),
        POINTS,
    ),
    "batch norm": (lambda: chain(linear(4, 5), nn.BatchNorm1d(5), relu(), linear(5, 3)), POINTS),
    "own output": (lambda: chain(linear(4, 5), relu(), linear(5, 3), qnn.QuantIdentity(bit_width=5)), POINTS),
    "conv1d": (
        lambda: chain(
            qnn.QuantConv1d(2, 3, 3, padding=1, weight_bit_width=3), relu(),
            qnn.QuantConv1d(3, 2, 2, stride=2, weight_bit_width=3),
        ),
        SIGNALS,
    ),
    "conv2d": (
        lambda: chain(
            qnn.QuantConv2d(2, 4, 3, groups=2, weight_bit_width=3), relu(), nn.MaxPool2d(2),
            qnn.QuantConv2d(4, 2, 2, weight_bit_width=3, weight_quant=bq.Int8WeightPerChannelFloat),
        ),
        IMAGES,
    ),
    "average pool": (
        lambda: chain(
            qnn.QuantConv2d(2, 3, 3, weight_bit_width=3), relu(), nn.AvgPool2d(2), identity(), nn.Flatten(), linear(12, 2)
        ),
        IMAGES,
    ),
    "truncating pool": (
        lambda: chain(
            qnn.QuantConv2d(2, 3, 3, weight_bit_width=3), relu(), qnn.TruncAvgPool2d(2, bit_width=4), nn.Flatten(),
            linear(12, 2),
        ),
        IMAGES,
    ),
    "residual": (lambda: Residual(False), POINTS),
    "residual by QuantEltwiseAdd": (lambda: Residual(True), POINTS),
    "joined": (Joined, POINTS),
}  # fmt: skip


def trained(name):
    torch.manual_seed(3)
    make, x = NETWORKS[name]
    net = make().train()
    for _ in range(30):
        with torch.no_grad():
            net(torch.from_numpy(x))
    net.eval()
    with torch.no_grad():
        result = net(torch.from_numpy(x))
    return net, x, getattr(result, "value", result).numpy()


def check(module, x, expected):
    """Scales that were taken from few data put some sums on the very edge of two steps, where float32 decides."""
    step = np.max([quantizer.scale for quantizer in module.output_quantizers])
    wrong = np.abs(module.forward(x) - expected) > 1e-3 * step + 1e-5
    assert wrong.mean() < 0.05


def export(net, x, path, form, dynamo):
    exporter = export_qonnx if form == "qonnx" else export_onnx_qcdq
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            exporter(net, args=(torch.from_numpy(x[:1]),), export_path=str(path), dynamo=dynamo)
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_brevitas(name):
    net, x, expected = trained(name)
    module = compile_brevitas_qat_model(net, x, precision="exact", p_error=2**-20)
    check(module, x, expected)
    assert np.array_equal(module.forward(x, fhe="simulate"), module.forward(x))


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
@pytest.mark.parametrize("name", ["bias_quant", "powers of two", "conv1d", "residual", "average pool"])
def test_exporters(name, form, dynamo, tmp_path):
    if (name, form, dynamo) == ("bias_quant", "qcdq", True):
        pytest.skip("Brevitas does not export it")
    net, x, expected = trained(name)
    export(net, x, tmp_path / "net.onnx", form, dynamo)
    check(build_quantized_module(tmp_path / "net.onnx", x, import_qat=True), x, expected)


def test_quantized_tensors_as_results_are_named():
    net = chain(linear(4, 3), identity(5))
    with torch.no_grad():
        net(torch.from_numpy(POINTS))
    with pytest.raises(errors.NotSupported, match="QuantTensor.*return_quant_tensor=False"):
        compile_brevitas_qat_model(net.eval(), POINTS)
