"""Writes foreign/ort_*.onnx: networks that onnxruntime quantized (QDQ), with onnxruntime's results.

    python tests/models/make_ort_models.py

Needs onnxruntime, onnx and torch. Made with onnxruntime 1.32, onnx 1.23, torch 2.15.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from foreign import write
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import nn

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)


class Batches(CalibrationDataReader):
    def __init__(self, x):
        self.batches = iter([{"x": row[None]} for row in x])

    def get_next(self):
        return next(self.batches, None)


def quantize(net, x, name, opset=17, **options):
    with tempfile.TemporaryDirectory() as folder:
        floats, prepared, quantized = (str(Path(folder) / f"{step}.onnx") for step in ("floats", "prepared", "quantized"))
        torch.onnx.export(
            net.eval(), (torch.from_numpy(x[:1]),), floats, dynamo=False, opset_version=opset, input_names=["x"],
            output_names=["y"], dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
        )  # fmt: skip
        quant_pre_process(floats, prepared)
        quantize_static(prepared, quantized, Batches(x), quant_format=QuantFormat.QDQ, **options)
        session = onnxruntime.InferenceSession(quantized, providers=["CPUExecutionProvider"])
        write(name, onnx.load(quantized), x, session.run(None, {"x": x})[0])


torch.manual_seed(2)
generator = np.random.default_rng(0)
mlp = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
cnn = nn.Sequential(
    nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
)
points = generator.normal(size=(40, 4)).astype(np.float32)
images = generator.normal(size=(24, 1, 6, 6)).astype(np.float32)
quantize(mlp, points, "ort_mlp_uint8", activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
quantize(
    mlp, points, "ort_mlp_symmetric", activation_type=QuantType.QInt8, weight_type=QuantType.QInt8,
    extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
)  # fmt: skip
quantize(
    cnn,
    images,
    "ort_cnn_per_channel",
    activation_type=QuantType.QUInt8,
    weight_type=QuantType.QInt8,
    per_channel=True,
    reduce_range=True,
)
# Weights of 4 bits, two in a byte: operator set 21.
quantize(
    mlp, points, "ort_mlp_int4", opset=21, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt4, per_channel=True
)  # fmt: skip
