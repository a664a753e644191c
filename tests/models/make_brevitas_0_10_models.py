"""Writes foreign/brevitas_0_10_*.onnx: what Brevitas 0.10 exports, with its results.

    pip install --no-deps --target FOLDER brevitas==0.10.2
    PYTHONPATH=FOLDER python tests/models/make_brevitas_0_10_models.py

Needs onnx, torch and what Brevitas needs. Made with brevitas 0.10.2 and torch 2.15, which is younger: it gets back the name
that a module of the exporter had, and named tensors' rename, which changes nothing here.
"""

import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import torch

torch.Tensor.rename = lambda self, *names, **renames: self
sys.modules["torch.onnx._globals"] = import_module("torch.onnx._internal.torchscript_exporter._globals")
warnings.filterwarnings("ignore")

import brevitas  # noqa: E402
import brevitas.nn as qnn  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
from brevitas.export import export_onnx_qcdq, export_qonnx  # noqa: E402
from brevitas.quant import Int8WeightPerChannelFloat  # noqa: E402
from foreign import write  # noqa: E402
from torch import nn  # noqa: E402

assert brevitas.__version__.startswith("0.10"), brevitas.__version__
torch.manual_seed(4)
net = nn.Sequential(
    qnn.QuantIdentity(bit_width=4, return_quant_tensor=True),
    qnn.QuantLinear(4, 5, bias=True, weight_bit_width=3, bias_quant=None),
    qnn.QuantReLU(bit_width=3, return_quant_tensor=True),
    qnn.QuantLinear(5, 3, bias=True, weight_bit_width=3, bias_quant=None, weight_quant=Int8WeightPerChannelFloat),
)
x = torch.randn(40, 4)
for _ in range(300):
    net(torch.randn(40, 4))
with torch.no_grad():
    expected = net.eval()(x).numpy()
for form, exporter in (("qonnx", export_qonnx), ("qcdq", export_onnx_qcdq)):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "net.onnx")
        exporter(net, args=torch.zeros(1, 4), export_path=path, opset_version=14, dynamo=False)
        write(f"brevitas_0_10_{form}", onnx.load(path), x.numpy().astype(np.float32), expected)
