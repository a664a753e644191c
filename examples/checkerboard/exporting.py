"""Writes a trained Brevitas network as QONNX, which the command and the C++ library read.

    export_qat(network, Path("checkerboard.onnx"))

`compile_brevitas_qat_model` exports by itself; this file is for those who go on without Python.
"""

from __future__ import annotations

from pathlib import Path

import torch
from brevitas.export import export_qonnx
from networks import FEATURES, QuantSimpleNet

OPSET = 14


def export_qat(network: QuantSimpleNet, path: Path) -> None:
    """Writes one self-contained file; quantizers become Quant nodes, weights stay floats."""
    # The TorchScript exporter keeps everything in one file and an opset that older tools read too.
    export_qonnx(
        network,
        args=torch.zeros(1, FEATURES),
        export_path=str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=["points"],
        output_names=["logits"],
        keep_initializers_as_inputs=False,
    )
