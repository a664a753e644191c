"""ONNX operators in NumPy, for custom operators (torusml.quantization.QuantizedOp).

    (y,) = numpy_gemm(x, weights, bias, transB=1)
    (y,) = ONNX_OPS_TO_NUMPY_IMPL["LeakyRelu"](x, alpha=0.1)

Each takes the operator's inputs by position and its attributes by name, and gives a tuple of results. All of them are
plain NumPy, so that they can be recorded on encrypted values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

_erf = np.frompyfunc(math.erf, 1, 1)


def _float_erf(x: Any) -> Any:
    return _erf(x).astype(np.float64)


def numpy_abs(x):
    return (np.abs(x),)


def numpy_acos(x):
    return (np.arccos(x),)


def numpy_acosh(x):
    return (np.arccosh(x),)


def numpy_add(a, b):
    return (a + b,)


def numpy_asin(x):
    return (np.arcsin(x),)


def numpy_asinh(x):
    return (np.arcsinh(x),)


def numpy_atan(x):
    return (np.arctan(x),)


def numpy_atanh(x):
    return (np.arctanh(x),)


def numpy_celu(x, *, alpha=1.0):
    return (np.maximum(x, 0.0) + np.minimum(alpha * np.expm1(np.minimum(x, 0.0) / alpha), 0.0),)


def numpy_clip(x, minimum=None, maximum=None):
    if minimum is not None:
        x = np.maximum(x, minimum)
    if maximum is not None:
        x = np.minimum(x, maximum)
    return (x,)


def numpy_cos(x):
    return (np.cos(x),)


def numpy_cosh(x):
    return (np.cosh(x),)


def numpy_div(a, b):
    return (np.true_divide(a, b),)


def numpy_elu(x, *, alpha=1.0):
    return (np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),)


def numpy_erf(x):
    return (_float_erf(x),)


def numpy_exp(x):
    return (np.exp(x),)


def numpy_floor(x):
    return (np.floor(x),)


def numpy_gelu(x, *, approximate="none"):
    if approximate == "tanh":
        return (0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),)
    return (0.5 * x * (1.0 + _float_erf(x / math.sqrt(2.0))),)


def numpy_gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):  # noqa: N803 (ONNX's names)
    a = np.transpose(a) if transA else a
    b = np.transpose(b) if transB else b
    y = alpha * np.matmul(a, b)
    return (y if c is None else y + beta * c,)


def numpy_hardsigmoid(x, *, alpha=0.2, beta=0.5):
    return (np.clip(alpha * x + beta, 0.0, 1.0),)


def numpy_hardswish(x):
    return (x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),)


def numpy_identity(x):
    return (x,)


def numpy_leakyrelu(x, *, alpha=0.01):
    return (np.where(x >= 0, x, alpha * x),)


def numpy_log(x):
    return (np.log(x),)


def numpy_matmul(a, b):
    return (np.matmul(a, b),)


def numpy_max(a, b):
    return (np.maximum(a, b),)


def numpy_min(a, b):
    return (np.minimum(a, b),)


def numpy_mish(x):
    return (x * np.tanh(np.logaddexp(x, 0.0)),)


def numpy_mul(a, b):
    return (a * b,)


def numpy_neg(x):
    return (np.negative(x),)


def numpy_pow(a, b):
    return (np.power(a, b),)


def numpy_prelu(x, slope):
    return (np.where(x >= 0, x, slope * x),)


def numpy_reciprocal(x):
    return (np.true_divide(1.0, x),)


def numpy_relu(x):
    return (np.maximum(x, 0.0),)


def numpy_round(x):
    return (np.rint(x),)


def numpy_selu(x, *, alpha=1.6732632423543772, gamma=1.0507009873554805):
    return (gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0))),)


def numpy_sigmoid(x):
    # The same as 1 / (1 + exp(-x)), without overflow.
    return (0.5 * (1.0 + np.tanh(0.5 * x)),)


def numpy_sign(x):
    return (np.sign(x),)


def numpy_sin(x):
    return (np.sin(x),)


def numpy_sinh(x):
    return (np.sinh(x),)


def numpy_softplus(x):
    return (np.logaddexp(x, 0.0),)


def numpy_softsign(x):
    return (x / (1.0 + np.abs(x)),)


def numpy_sqrt(x):
    return (np.sqrt(x),)


def numpy_sub(a, b):
    return (a - b,)


def numpy_tan(x):
    return (np.tan(x),)


def numpy_tanh(x):
    return (np.tanh(x),)


def numpy_thresholdedrelu(x, *, alpha=1.0):
    return (np.where(x > alpha, x, 0.0),)


ONNX_OPS_TO_NUMPY_IMPL: dict[str, Callable] = {
    "Abs": numpy_abs,
    "Acos": numpy_acos,
    "Acosh": numpy_acosh,
    "Add": numpy_add,
    "Asin": numpy_asin,
    "Asinh": numpy_asinh,
    "Atan": numpy_atan,
    "Atanh": numpy_atanh,
    "Celu": numpy_celu,
    "Clip": numpy_clip,
    "Cos": numpy_cos,
    "Cosh": numpy_cosh,
    "Div": numpy_div,
    "Elu": numpy_elu,
    "Erf": numpy_erf,
    "Exp": numpy_exp,
    "Floor": numpy_floor,
    "Gelu": numpy_gelu,
    "Gemm": numpy_gemm,
    "HardSigmoid": numpy_hardsigmoid,
    "HardSwish": numpy_hardswish,
    "Identity": numpy_identity,
    "LeakyRelu": numpy_leakyrelu,
    "Log": numpy_log,
    "MatMul": numpy_matmul,
    "Max": numpy_max,
    "Min": numpy_min,
    "Mish": numpy_mish,
    "Mul": numpy_mul,
    "Neg": numpy_neg,
    "PRelu": numpy_prelu,
    "Pow": numpy_pow,
    "Reciprocal": numpy_reciprocal,
    "Relu": numpy_relu,
    "Round": numpy_round,
    "Selu": numpy_selu,
    "Sigmoid": numpy_sigmoid,
    "Sign": numpy_sign,
    "Sin": numpy_sin,
    "Sinh": numpy_sinh,
    "Softplus": numpy_softplus,
    "Softsign": numpy_softsign,
    "Sqrt": numpy_sqrt,
    "Sub": numpy_sub,
    "Tan": numpy_tan,
    "Tanh": numpy_tanh,
    "ThresholdedRelu": numpy_thresholdedrelu,
}
