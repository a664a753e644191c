"""Quantizers, quantized modules, and operators of users."""

from .base_quantized_op import (
    QuantizedMixingOp,
    QuantizedOp,
    QuantizedOpUnivariateOfEncrypted,
    temporary_operators,
    unregister,
)
from .quantized_module import QuantizedModule
from .quantizers import (
    MinMaxQuantizationStats,
    QuantizationOptions,
    QuantizedArray,
    UniformQuantizationParameters,
    UniformQuantizer,
)

__all__ = [
    "MinMaxQuantizationStats",
    "QuantizationOptions",
    "QuantizedArray",
    "QuantizedMixingOp",
    "QuantizedModule",
    "QuantizedOp",
    "QuantizedOpUnivariateOfEncrypted",
    "UniformQuantizationParameters",
    "UniformQuantizer",
    "temporary_operators",
    "unregister",
]
