"""What users hand over as arrays: NumPy, PyTorch, lists; checked and made ready for the core."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import WrongDtype, WrongShape


def to_numpy(value: Any, where: str) -> np.ndarray:
    """A NumPy array of a tensor, an array or nested lists."""
    if hasattr(value, "detach"):  # a PyTorch tensor, without importing PyTorch
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise WrongDtype(f"an array expected, got {type(value).__name__}: {error}", where) from None
    if array.dtype.kind not in "fiub":
        raise WrongDtype(f"an array of numbers expected, got {type(value).__name__} of dtype {array.dtype}", where)
    return array


def to_floats(value: Any, where: str) -> np.ndarray:
    """float64, C-contiguous. Integers are refused: they may be quantized values."""
    array = to_numpy(value, where)
    if array.dtype.kind != "f":
        raise WrongDtype(
            f"floats expected, got {array.dtype}",
            where,
            "values.astype(numpy.float32); integers go to quantized_forward",
        )
    if array.ndim == 0:
        raise WrongShape("an array with a batch axis expected, got a single number", where)
    return np.asarray(array, np.float64, order="C")


def to_integers(value: Any, where: str) -> np.ndarray:
    """int64, C-contiguous. Floats are refused: they are not quantized yet."""
    array = to_numpy(value, where)
    if array.dtype.kind not in "iu":
        raise WrongDtype(f"integers expected, got {array.dtype}", where, "quantize_input turns floats into integers")
    if array.ndim == 0:
        raise WrongShape("an array with a batch axis expected, got a single number", where)
    if array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63:
        raise WrongDtype(f"{int(array.max())} does not fit into 64 bits with a sign", where)
    return np.asarray(array, np.int64, order="C")


def one_or_tuple(arrays: list) -> Any:
    """The array itself where there is one."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
