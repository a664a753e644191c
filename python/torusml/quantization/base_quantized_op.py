"""Operators that users define: how they are written and registered.

    class QuantizedAbs(QuantizedOp):
        _impl_for_op_named = "Abs"          # the NumPy function of torusml.onnx.ops_impl becomes a table

    class QuantizedGemm(QuantizedOp):
        _impl_for_op_named = "Gemm"

        def q_impl(self, *q_inputs, **attrs):
            q_x, q_w, q_b = self._prepare_inputs_with_constants(
                *q_inputs, calibrate=False, quantize_actual_values=True)
            integers = (q_x.qvalues - q_x.quantizer.zero_point) @ q_w.qvalues.T      # a linear map
            floats = integers * (q_x.quantizer.scale * q_w.quantizer.scale) + q_b.values
            return self.prepare_output(floats)

A class with `_impl_for_op_named` stands for every ONNX node of that name from its definition on (`unregister` ends this,
`temporary_operators` limits it). q_impl is run once, on values that record what is done to them: see recorder.py for what
can be done. The node's float output is what q_impl returns; the next layer quantizes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import InvalidArgument, InvalidCall, NotSupported
from ..onnx.ops_impl import ONNX_OPS_TO_NUMPY_IMPL
from .quantizers import QuantizationOptions, QuantizedArray

# ONNX operator -> class, filled by the definition of classes.
ONNX_OPS_TO_QUANTIZED_IMPL: dict[str, type[QuantizedOp]] = {}


class QuantizedOp:
    """An operator on quantized values.

    n_bits_output: of the quantized output that prepare_output makes. constant_inputs: {position: value}, floats as
    QuantizedArray and anything else as a NumPy array. input_quant_opts: how the encrypted inputs are quantized.
    attrs: the attributes of the ONNX node.
    """

    _impl_for_op_named: str | None = None
    _default_attrs: dict[str, Any] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        name = vars(cls).get("_impl_for_op_named")
        if name is None:
            return
        if not isinstance(name, str) or not name:
            raise InvalidArgument(f"_impl_for_op_named must be the name of an operator, got {name!r}", cls.__name__)
        ONNX_OPS_TO_QUANTIZED_IMPL[name] = cls

    def __init__(
        self,
        n_bits_output: int,
        op_instance_name: str,
        int_input_names: set[str] | None = None,
        constant_inputs: dict[int, Any] | None = None,
        input_quant_opts: QuantizationOptions | None = None,
        **attrs: Any,
    ):
        self.n_bits = n_bits_output
        self.op_instance_name = op_instance_name
        self.int_input_names = set(int_input_names or ())
        self.constant_inputs = dict(constant_inputs or {})
        self.input_quant_opts = input_quant_opts
        self.attrs = {**self._default_attrs, **attrs}
        self.impl = ONNX_OPS_TO_NUMPY_IMPL.get(self.op_type())
        self.output_quant_stats = None  # known after calibrate()
        self.output_quant_params = None

    @classmethod
    def op_type(cls) -> str:
        """The ONNX operator that the class stands for."""
        return cls._impl_for_op_named or ""

    def __call__(self, *q_inputs: QuantizedArray) -> QuantizedArray:
        return self.q_impl(*q_inputs, **self.attrs)

    def q_impl(self, *q_inputs: QuantizedArray, **attrs: Any) -> QuantizedArray:
        """The operator on quantized values: here a function of each element, taken from call_impl."""
        inputs = self._prepare_inputs_with_constants(*q_inputs, calibrate=False, quantize_actual_values=False)
        return self.prepare_output(self.call_impl(*inputs, **attrs))

    def call_impl(self, *inputs: Any, **attrs: Any) -> Any:
        """The operator on floats: constants in their places, one result."""
        if self.impl is None:
            raise NotSupported(
                f"{type(self).__name__} stands for {self.op_type()!r}, which torusml.onnx.ops_impl does not have",
                self.op_instance_name,
                "override call_impl with the operator on floats",
            )
        outputs = self.impl(*inputs, **attrs)
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def calibrate(self, *inputs: np.ndarray) -> np.ndarray:
        """Runs on floats and keeps the range of the result for prepare_output; gives the result."""
        prepared = self._prepare_inputs_with_constants(*inputs, calibrate=True, quantize_actual_values=False)
        floats = np.asarray(self.call_impl(*prepared, **self.attrs), np.float64)
        output = QuantizedArray(self.n_bits, floats, options=self._output_options())
        self.output_quant_stats = output.quantizer.quant_stats
        self.output_quant_params = output.quantizer.quant_params
        return floats

    def prepare_output(self, floats: Any) -> QuantizedArray:
        """A quantized array of the result."""
        return QuantizedArray(
            self.n_bits,
            floats,
            options=self._output_options(),
            stats=self.output_quant_stats,
            params=self.output_quant_params,
        )

    def _output_options(self) -> QuantizationOptions:
        return QuantizationOptions(self.n_bits)

    def can_fuse(self) -> bool:
        """True: a function of single elements, computed on floats inside a table. Else inputs come as integers."""
        return type(self).q_impl is QuantizedOp.q_impl

    def must_quantize_input(self, _input_index: int) -> bool:
        """True if q_impl takes the integers of its encrypted inputs."""
        return not self.can_fuse()

    def supported_by_linear_backend(self) -> bool:
        """No operator of a user's is."""
        return False

    def _prepare_inputs_with_constants(self, *inputs: Any, calibrate: bool, quantize_actual_values: bool) -> list[Any]:
        """All inputs in the order of the ONNX operator, constants included; None for an absent one.

        calibrate: inputs are floats, and so are the results. quantize_actual_values: results are quantized arrays, whose
        integers are encrypted in the end. Neither: floats of quantized arrays.
        """
        if calibrate and quantize_actual_values:
            raise InvalidCall("calibration works on floats: calibrate excludes quantize_actual_values")
        rest = iter(inputs)
        count = len(inputs) + len(self.constant_inputs)
        try:
            merged = [self.constant_inputs[i] if i in self.constant_inputs else next(rest) for i in range(count)]
        except StopIteration:
            raise InvalidCall(
                f"{len(inputs)} inputs do not fit constants at positions {sorted(self.constant_inputs)}",
                self.op_instance_name,
            ) from None
        if quantize_actual_values:
            for value in inputs:
                if not isinstance(value, QuantizedArray):
                    raise InvalidCall(f"a QuantizedArray expected, got {type(value).__name__}", self.op_instance_name)
            return merged
        return [value.values if isinstance(value, QuantizedArray) else value for value in merged]


class QuantizedOpUnivariateOfEncrypted(QuantizedOp):
    """An operator that acts element by element on one encrypted input, whatever q_impl is."""

    def can_fuse(self) -> bool:
        return True


class QuantizedMixingOp(QuantizedOp):
    """An operator that computes sums of encrypted integers."""

    def can_fuse(self) -> bool:
        return False


def unregister(operator: str | type[QuantizedOp]) -> None:
    """Ends a registration: the core's own operator, if there is one, is used again."""
    name = operator if isinstance(operator, str) else operator.op_type()
    if ONNX_OPS_TO_QUANTIZED_IMPL.pop(name, None) is None:
        raise InvalidArgument(f"no operator is registered for {name!r}", "unregister")


@contextlib.contextmanager
def temporary_operators() -> Iterator[None]:
    """Classes that are defined inside the block are forgotten at its end."""
    before = dict(ONNX_OPS_TO_QUANTIZED_IMPL)
    try:
        yield
    finally:
        ONNX_OPS_TO_QUANTIZED_IMPL.clear()
        ONNX_OPS_TO_QUANTIZED_IMPL.update(before)
