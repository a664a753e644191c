"""Carries a user's QuantizedOp to the C++ core, which asks for it node by node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InvalidModel, NotSupported, WrongShape
from .base_quantized_op import ONNX_OPS_TO_QUANTIZED_IMPL, QuantizedOp
from .quantizers import QuantizationOptions, QuantizedArray, UniformQuantizationParameters
from .recorder import RecordedArray, record_tail


class OperatorAdapter:
    """What the core calls: see src/importer/custom_operator.h."""

    def __init__(self, operator: QuantizedOp, shapes: list[tuple[int, ...]]):
        self._operator = operator
        self._shapes = shapes
        self._recorded: dict[Any, RecordedArray] = {}
        self._function = None
        if operator.can_fuse():
            if len(shapes) != 1:
                raise NotSupported(
                    f"{len(shapes)} encrypted inputs of an operator that acts element by element",
                    operator.op_instance_name,
                    "an operator that works on integers: override can_fuse, or derive from QuantizedMixingOp",
                )
            self._function = self._run(QuantizedArray(operator.n_bits, RecordedArray.floating(shapes[0])))

    def _run(self, *q_inputs: QuantizedArray) -> RecordedArray:
        result = self._operator(*q_inputs)
        name = self._operator.op_instance_name
        if not isinstance(result, QuantizedArray):
            raise InvalidModel(
                f"q_impl of {type(self._operator).__name__} returned {type(result).__name__}, not a QuantizedArray",
                name,
            )
        return record_tail(result.values, name)

    def is_univariate(self) -> bool:
        return self._function is not None

    def evaluate(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Floats to floats, for calibration."""
        with np.errstate(all="ignore"):
            if self._function is not None:
                result = self._function.replay(inputs[0])
            else:
                prepared = self._operator._prepare_inputs_with_constants(
                    *inputs, calibrate=True, quantize_actual_values=False
                )
                result = self._operator.call_impl(*prepared, **self._operator.attrs)
        return np.asarray(result, np.float64, order="C")

    def record(self, quantizations: list[tuple]) -> dict[str, Any]:
        """The integer part for given input quantizers: one matrix per input in coordinates, and a bias."""
        linear = self._record(quantizations).linear
        rows = linear.bias.size
        matrix = linear.coefficients.reshape(rows, -1)
        terms, start = [], 0
        for shape in self._shapes:
            columns = int(np.prod(shape))
            part = matrix[:, start : start + columns]
            row, column = np.nonzero(part)
            terms.append((rows, columns, row.tolist(), column.tolist(), part[row, column].tolist()))
            start += columns
        return {"terms": terms, "bias": linear.bias.ravel().tolist(), "shape": list(linear.bias.shape)}

    def apply_tail(self, accumulators: np.ndarray, quantizations: list[tuple]) -> np.ndarray:
        """The float function of each accumulator."""
        with np.errstate(all="ignore"):
            result = self._record(quantizations).replay(accumulators)
        return np.asarray(result, np.float64, order="C")

    def _record(self, quantizations: list[tuple]) -> RecordedArray:
        key = repr(quantizations)
        if key not in self._recorded:
            q_inputs = [
                _quantized(array, *quantization)
                for array, quantization in zip(RecordedArray.encrypted(self._shapes), quantizations, strict=True)
            ]
            self._recorded = {key: self._run(*q_inputs)}
        return self._recorded[key]


def _quantized(
    integers: RecordedArray, scale: list[float], zero_point: list[int], n_bits: int, is_signed: bool
) -> QuantizedArray:
    params = UniformQuantizationParameters(
        scale[0] if len(scale) == 1 else np.array(scale),
        zero_point[0] if len(zero_point) == 1 else np.array(zero_point),
        2 ** (n_bits - 1) if is_signed else 0,
    )
    return QuantizedArray(
        n_bits, integers, value_is_float=False, options=QuantizationOptions(n_bits, is_signed), params=params
    )


def weight_options(values: np.ndarray, n_bits: int) -> QuantizationOptions:
    """Signed and symmetric if the values lie roughly centred on 0, else unsigned."""
    low, high = np.percentile(values, [3, 97])
    least, largest = float(values.min()), float(values.max())
    centred = low < 0 < high and largest > 0 and 1 / 3 <= abs(least / largest) <= 3
    return QuantizationOptions(n_bits, is_signed=centred, is_symmetric=centred)


def make_factory(n_bits: int, weight_bits: int) -> Callable | None:
    """A function that the importer calls for each node; None when no operator is registered."""
    if not ONNX_OPS_TO_QUANTIZED_IMPL:
        return None

    def make(node: dict[str, Any]) -> OperatorAdapter | None:
        domain = node["domain"]
        operator_class = ONNX_OPS_TO_QUANTIZED_IMPL.get(
            node["op_type"] if domain in ("", "ai.onnx") else f"{domain}.{node['op_type']}"
        )
        if operator_class is None or not any(entry and entry["is_encrypted"] for entry in node["inputs"]):
            return None
        constants: dict[int, Any] = {}
        shapes = []
        for position, entry in enumerate(node["inputs"]):
            if entry is None:
                constants[position] = None
            elif entry["is_encrypted"]:
                shapes.append(tuple(entry["shape"]))
                if not shapes[-1]:
                    raise WrongShape(f"input {entry['name']!r} is a scalar", node["name"])
            elif entry["constant"] is None:
                raise NotSupported(
                    f"constant {entry['name']!r} comes out of a quantizer; a custom operator quantizes its own constants",
                    node["name"],
                )
            elif entry["constant"].dtype.kind == "f":
                values = entry["constant"]
                options = weight_options(values, weight_bits)
                constants[position] = QuantizedArray(weight_bits, values, options=options)
            else:
                constants[position] = entry["constant"]
        operator = operator_class(
            n_bits,
            node["name"],
            int_input_names={entry["name"] for entry in node["inputs"] if entry and entry["is_encrypted"]},
            constant_inputs=constants,
            input_quant_opts=QuantizationOptions(n_bits),
            **node["attributes"],
        )
        return OperatorAdapter(operator, shapes)

    return make
