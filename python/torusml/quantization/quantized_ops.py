"""The classes that operators of users derive from, under Concrete ML's name for the module."""

from .base_quantized_op import (
    ONNX_OPS_TO_QUANTIZED_IMPL,
    QuantizedMixingOp,
    QuantizedOp,
    QuantizedOpUnivariateOfEncrypted,
    temporary_operators,
    unregister,
)

__all__ = [
    "ONNX_OPS_TO_QUANTIZED_IMPL",
    "QuantizedMixingOp",
    "QuantizedOp",
    "QuantizedOpUnivariateOfEncrypted",
    "temporary_operators",
    "unregister",
]
