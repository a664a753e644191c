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


activations()
networks()
brevitas()
FIXTURES.save()
