"""Writes exported/: what torch's exporters and Brevitas make of small networks, with their results.

    python tests/models/make_exported_models.py

Needs torch, onnx, onnxruntime, onnxscript, brevitas and (for Brevitas' exporter) onnxoptimizer. Made
with torch 2.15, onnx 1.23, brevitas 0.13; the files are committed, so that tests need none of these.
"""

import contextlib
import io
import logging
import warnings

import brevitas.nn as qnn
import numpy as np
import onnx
import onnxruntime
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from brevitas.quant import Int8WeightPerChannelFloat, Uint8ActPerTensorFloat
from fixtures import Fixtures, without_traces
from torch import nn

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
FIXTURES = Fixtures("exported")
ACTIVATIONS = {
    "celu": nn.CELU(1.5),
    "elu": nn.ELU(),
    "gelu": nn.GELU(),
    "gelu_tanh": nn.GELU("tanh"),
    "hardsigmoid": nn.Hardsigmoid(),
    "hardswish": nn.Hardswish(),
    "hardtanh": nn.Hardtanh(-0.5, 2),
    "leakyrelu": nn.LeakyReLU(),
    "logsigmoid": nn.LogSigmoid(),
    "mish": nn.Mish(),
    "prelu": nn.PReLU(3),
    "relu6": nn.ReLU6(),
    "relu": nn.ReLU(),
    "selu": nn.SELU(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "softplus": nn.Softplus(2),
    "softshrink": nn.Softshrink(),
    "softsign": nn.Softsign(),
    "tanh": nn.Tanh(),
    "tanhshrink": nn.Tanhshrink(),
    "threshold": nn.Threshold(0.1, 0.5),
}
OLD_EXPORTER_CANNOT = {"threshold"}


@contextlib.contextmanager
def silence():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def export(name, module, x, dynamo, **options):
    path = FIXTURES.folder / f"{name}.onnx"
    with silence():
        torch.onnx.export(module.eval(), (x,), path, dynamo=dynamo, verbose=False, **options)
    return path


def clean(path):
    """Without traces; external data stays where it is."""
    model = without_traces(onnx.load(path, load_external_data=False))
    path.write_bytes(model.SerializeToString())


def torch_case(name, module, x, dynamo, traced=None, **options):
    """`traced`: the batch that the exporter sees; the expected results are for all of `x`."""
    path = export(name, module, x[:traced] if traced else x, dynamo, **options)
    clean(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = module(x)
    size = traced or len(x)
    chunks = [session.run(None, {session.get_inputs()[0].name: x[i : i + size].numpy()})[0] for i in range(0, len(x), size)]
    np.testing.assert_allclose(np.concatenate(chunks), expected.numpy(), atol=1e-5)
    FIXTURES.add(name, [x], [expected])


def activations():
    x = torch.linspace(-4, 4, 12).reshape(4, 3)
    for name, module in ACTIVATIONS.items():
        if name not in OLD_EXPORTER_CANNOT:
            torch_case(f"{name}_old", module, x, False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
        torch_case(f"{name}_new", module, x, True, traced=1, external_data=False)


class ReshapeBySize(nn.Module):
    """Asks for the batch size in Python, as many networks do."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(12, 3)
        self.bias = nn.Parameter(torch.randn(3))

    def forward(self, x):
        flat = x.reshape(x.size(0), -1)
        return self.fc(flat) + self.bias.expand(x.size(0), 3)


def networks():
    torch.manual_seed(1)
    mlp = nn.Sequential(
        nn.Flatten(),
        nn.Linear(8, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(6, 5, bias=False),
        nn.SiLU(),
        nn.Linear(5, 3),
    )
    for _ in range(20):
        mlp.train()(torch.randn(16, 2, 4) * 2)
    mlp.eval()
    x = torch.randn(6, 2, 4)
    dynamic = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
    torch_case("mlp_old", mlp, x, False, **dynamic)
    for opset in (11, 13, 17):
        torch_case(f"mlp_old_opset{opset}", mlp, x, False, opset_version=opset, **dynamic)
    torch_case("mlp_old_fixed", mlp, x, False, traced=3)
    torch_case("mlp_old_training_layout", mlp, x, False, do_constant_folding=False, **dynamic)
    torch_case("mlp_new", mlp, x, True, traced=1, external_data=False)
    torch_case("mlp_new_dynamic", mlp, x, True, external_data=False, dynamic_shapes=({0: torch.export.Dim("n")},))
    torch_case("mlp_new_opset24", mlp, x, True, traced=2, external_data=False, opset_version=24)
    torch_case("mlp_new_external", mlp, x, True, traced=1, external_data=True)

    by_size = ReshapeBySize().eval()
    x = torch.randn(6, 3, 4)
    torch_case("by_size_old_fixed", by_size, x, False, traced=2)
    torch_case("by_size_old", by_size, x, False, **dynamic)
    torch_case("by_size_new", by_size, x, True, traced=2, external_data=False)
    torch_case("by_size_new_dynamic", by_size, x, True, external_data=False, dynamic_shapes=({0: torch.export.Dim("n")},))
    torch_case(
        "double_old", nn.Sequential(nn.Linear(3, 2), nn.Tanh()).double(), torch.randn(4, 3).double(), False, **dynamic
    )


def convolutional():
    torch.manual_seed(5)
    cnn = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2, padding=1, padding_mode="replicate", groups=1),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Conv2d(4, 4, 2, groups=2, padding="same", bias=False),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    line = nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2), nn.Tanh(), nn.ConstantPad1d((1, 2), 0.5), nn.Conv1d(3, 2, 2))
    volume = nn.Sequential(nn.Conv3d(1, 2, (2, 3, 2), padding=1), nn.ReLU(), nn.AvgPool3d(2, count_include_pad=False))
    for name, net, x in [
        ("cnn", cnn, torch.randn(4, 1, 6, 6)),
        ("conv_line", line, torch.randn(3, 2, 9)),
        ("conv_volume", volume, torch.randn(2, 1, 3, 4, 4)),
    ]:
        for _ in range(20):
            net.train()(torch.randn(16, *x.shape[1:]))
        torch_case(f"{name}_old", net, x, False, input_names=["x"], dynamic_axes={"x": {0: "n"}})
        torch_case(f"{name}_new", net, x, True, traced=1, external_data=False)


class QatNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.input = qnn.QuantIdentity(bit_width=4, return_quant_tensor=True)
        self.fc1 = qnn.QuantLinear(2, 4, bias=True, weight_bit_width=3)
        self.norm = nn.BatchNorm1d(4)
        self.relu = qnn.QuantReLU(bit_width=3, act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
        self.fc2 = qnn.QuantLinear(4, 2, bias=True, weight_bit_width=3, weight_quant=Int8WeightPerChannelFloat)

    def forward(self, x):
        return self.fc2(self.relu(self.norm(self.fc1(self.input(x)))))


def brevitas():
    torch.manual_seed(3)
    net = QatNet()
    for _ in range(50):
        net.train()(torch.randn(32, 2))
    net.eval()
    x = torch.randn(40, 2)
    with torch.no_grad():
        expected = net(x)
    for form, exporter in (("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)):
        for age, dynamo in (("old", False), ("new", True)):
            path = FIXTURES.folder / f"brevitas_{form}_{age}.onnx"
            with silence():
                exporter(net, args=x[:1], export_path=path, dynamo=dynamo)
            clean(path)
            FIXTURES.add(path.stem, [x], [expected])


class QatCnn(nn.Module):
    """Convolutions with one scale and with one per channel; a pooling between quantized layers."""

    def __init__(self):
        super().__init__()
        self.input = qnn.QuantIdentity(bit_width=4, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(1, 3, 3, stride=2, padding=1, bias=True, weight_bit_width=3)
        self.norm = nn.BatchNorm2d(3)
        self.relu1 = qnn.QuantReLU(bit_width=3, act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)
        self.conv2 = qnn.QuantConv2d(3, 4, 2, bias=True, weight_bit_width=3, weight_quant=Int8WeightPerChannelFloat)
        self.relu2 = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
        self.fc = qnn.QuantLinear(4, 2, bias=True, weight_bit_width=3)

    def forward(self, x):
        x = self.relu2(self.conv2(self.relu1(self.norm(self.conv1(self.input(x))))))
        return self.fc(torch.flatten(nn.functional.avg_pool2d(getattr(x, "value", x), 2), 1))


def brevitas_convolutional():
    torch.manual_seed(6)
    net = QatCnn()
    for _ in range(50):
        net.train()(torch.randn(32, 1, 5, 5))
    net.eval()
    x = torch.randn(12, 1, 5, 5)
    with torch.no_grad():
        expected = net(x)
    for form, exporter in (("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)):
        for age, dynamo in (("old", False), ("new", True)):
            path = FIXTURES.folder / f"brevitas_cnn_{form}_{age}.onnx"
            with silence():
                exporter(net, args=x[:1], export_path=path, dynamo=dynamo)
            clean(path)
            FIXTURES.add(path.stem, [x], [expected])


activations()
networks()
brevitas()
convolutional()
brevitas_convolutional()
FIXTURES.save()
