"""Operators of your own: a matrix product and an activation, used in a network on encrypted data.

    python examples/custom_operator.py

An operator is a class with the name of the ONNX operator that it stands for. `QuantizedGemm` says itself what happens to
the encrypted integers: products and sums with known integers, which cost next to nothing, and then, once it multiplies by
floats, a function of each sum, which becomes part of a table lookup. `QuantizedAbs` only names a function: NumPy's, from
torusml.onnx.ops_impl, which becomes a table, too.
"""

from __future__ import annotations

import numpy
import torch
from torch import nn

from torusml.quantization import QuantizedArray, QuantizedOp, temporary_operators
from torusml.torch.compile import compile_torch_model


def define_operators() -> None:
    """From here on these classes stand for Gemm and Abs; temporary_operators() ends that."""

    class QuantizedGemm(QuantizedOp):
        """Quantized Gemm op."""

        _impl_for_op_named: str = "Gemm"

        def q_impl(self, *q_inputs: QuantizedArray, **attrs) -> QuantizedArray:
            if attrs.get("alpha", 1) != 1 or attrs.get("beta", 1) not in (0, 1) or attrs.get("transA", 0):
                raise NotImplementedError(f"Gemm with {attrs}")
            prepared_inputs = self._prepare_inputs_with_constants(*q_inputs, calibrate=False, quantize_actual_values=True)
            q_input: QuantizedArray = prepared_inputs[0]
            q_weights: QuantizedArray = prepared_inputs[1]
            q_bias: QuantizedArray | None = (
                None if len(prepared_inputs) == 2 or attrs.get("beta", 1) == 0 else prepared_inputs[2]
            )
            x, z_x, s_x = q_input.qvalues, q_input.quantizer.zero_point, q_input.quantizer.scale
            w, z_w, s_w = q_weights.qvalues, q_weights.quantizer.zero_point, q_weights.quantizer.scale
            if attrs.get("transB", 0):
                w = numpy.transpose(w)
            # s_x (x - z_x) @ s_w (w - z_w), with everything that is encrypted in the first line.
            accumulators = x @ w - z_w * numpy.sum(x, axis=1, keepdims=True)
            constants = -z_x * numpy.sum(w - z_w, axis=0)
            y = s_x * s_w * (accumulators + constants)
            if q_bias is not None:
                y = y + q_bias.values
            return QuantizedArray(self.n_bits, y)

    class QuantizedAbs(QuantizedOp):
        """Quantized Abs op."""

        _impl_for_op_named: str = "Abs"


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(4, 6)
        self.fc2 = nn.Linear(6, 2)

    def forward(self, x):
        return self.fc2(torch.abs(self.fc1(x)))


def main() -> None:
    torch.manual_seed(0)
    net = Network()
    generator = numpy.random.default_rng(0)
    data = generator.uniform(-1, 1, (500, 4)).astype(numpy.float32)
    with temporary_operators():
        define_operators()
        module = compile_torch_model(net, data, n_bits=3)
    print(module.fhe_circuit)

    points = data[:3]
    q_points = module.quantize_input(points)
    encrypted = module.fhe_circuit.encrypt_run_decrypt(q_points)
    print("integers, in the clear:", module.quantized_forward(q_points).tolist())
    print("integers, encrypted:   ", encrypted.tolist())
    print("floats, encrypted:     ", module.dequantize_output(encrypted).round(3).tolist())
    print("floats, PyTorch:       ", net(torch.from_numpy(points)).detach().numpy().round(3).tolist())


if __name__ == "__main__":
    main()
