"""Records what a user's operator does with encrypted integers.

    x = RecordedArray.encrypted([(1, 3)])[0]             # stands for encrypted integers, batch axis first
    accumulators = x @ numpy.array([[1], [2], [-1]])     # still integers: a linear map
    y = numpy.tanh(accumulators * 0.5 + 1.0)             # floats: a function of each accumulator alone
    y.linear.coefficients                                # the integer matrix
    y.replay(numpy.array([[4], [-7]]))                   # the function on given accumulators

While its values are integers, an array may take part in sums, differences, products with integer constants and moves
of elements: server-side these are integer linear maps, which cost next to nothing. Any other function of single elements
leaves the integers; from then on only such functions can follow, and they become one table. Everything else is refused
by name. The batch axis is the first one, of size 1 here, and stays where it is.

Cost: a linear map is held as a dense int64 array of accumulators x inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import AccumulatorTooWide, InvalidArgument, NotSupported, WrongShape

_LARGEST_MAP = 1 << 27  # entries: one GiB
_LARGEST_SUM = 1 << 62

LINEAR_FUNCTIONS = (
    "add subtract negative positive multiply (integer constants) matmul dot sum reshape ravel transpose swapaxes "
    "moveaxis expand_dims squeeze concatenate stack astype copy and indexing"
).split()
ELEMENTWISE_FUNCTIONS = "clip fix interp nan_to_num round where".split()


def supported_functions() -> str:
    """For messages and documentation."""
    return (
        "on encrypted integers " + " ".join(LINEAR_FUNCTIONS) + "; element by element any ufunc and "
        "numpy." + ", numpy.".join(ELEMENTWISE_FUNCTIONS)
    )


def _refuse(name: str, reason: str) -> NotSupported:
    return NotSupported(f"{name} on encrypted values: {reason}", hint=f"what can be computed, {supported_functions()}")


class Linear:
    """Integers as a linear map of all encrypted inputs: coefficients (*shape, inputs) and bias (*shape)."""

    def __init__(self, coefficients: np.ndarray, bias: np.ndarray):
        if coefficients.size > _LARGEST_MAP:
            raise NotSupported(
                f"a linear map of {bias.size} x {coefficients.shape[-1]} entries is too large to record (limit 2^27)",
                hint="a custom operator on smaller tensors",
            )
        self.coefficients = coefficients
        self.bias = bias

    def equals(self, other: Linear) -> bool:
        return self is other or (
            np.array_equal(self.bias, other.bias) and np.array_equal(self.coefficients, other.coefficients)
        )


class Expression:
    """A function of each element of a root; the root itself has no function."""

    def __init__(self, root: Linear | None, function: Callable | None, arguments: tuple, keywords: dict, sample: Any):
        self.root = root
        self.function = function
        self.arguments = arguments
        self.keywords = keywords
        self.sample = sample  # the function's value on ones: shape and dtype

    def replay(self, values: np.ndarray, known: dict[int, np.ndarray]) -> np.ndarray:
        if self.function is None:
            return values.astype(self.sample.dtype)
        if id(self) not in known:
            arguments = [a.replay(values, known) if isinstance(a, Expression) else a for a in self.arguments]
            known[id(self)] = self.function(*arguments, **self.keywords)
        return known[id(self)]


def _sample(function: Callable, arguments: tuple, keywords: dict) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(function(*[a.sample if isinstance(a, Expression) else a for a in arguments], **keywords))


def _is_integer(value: Any) -> bool:
    return np.asarray(value).dtype.kind in "iub"


def _keeps_batch(name: str, shape: tuple[int, ...]) -> None:
    if not shape or shape[0] != 1:
        raise _refuse(name, f"the result of shape {shape} has lost its batch axis, which is the first and has size 1")


def _no_sum_overflow(bound: float) -> None:
    if bound >= _LARGEST_SUM:
        raise AccumulatorTooWide(
            "a coefficient of the recorded linear map needs more than 62 bits", hint="constants with fewer bits"
        )


class RecordedArray:
    """Behaves like a NumPy array where the recording is possible, see the module's text."""

    __array_priority__ = 1000

    def __init__(self, linear: Linear | None = None, expression: Expression | None = None):
        self._linear = linear
        self._expression = expression

    @classmethod
    def encrypted(cls, shapes: list[tuple[int, ...]]) -> list[RecordedArray]:
        """Encrypted integers of the given shapes (batch axis first, 1); together they are the inputs of linear maps."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        if sum(sizes) * max(sizes, default=0) > _LARGEST_MAP:
            raise NotSupported(
                f"{sum(sizes)} encrypted inputs are too many for a custom operator that mixes elements (limit 11585)",
                hint="a custom operator on smaller tensors",
            )
        arrays, start = [], 0
        for shape, size in zip(shapes, sizes, strict=True):
            _keeps_batch("a custom operator", tuple(shape))
            coefficients = np.zeros((size, sum(sizes)), np.int64)
            coefficients[np.arange(size), start + np.arange(size)] = 1
            arrays.append(cls(Linear(coefficients.reshape(*shape, -1), np.zeros(shape, np.int64))))
            start += size
        return arrays

    @classmethod
    def floating(cls, shape: tuple[int, ...]) -> RecordedArray:
        """Floats of which only functions of single elements can be taken."""
        return cls(expression=Expression(None, None, (), {}, np.ones(shape)))

    # What was recorded.

    @property
    def linear(self) -> Linear | None:
        """The linear map before the function of each element; a common factor and a bias belong to the function."""
        return self._as_expression().root

    def replay(self, accumulators: np.ndarray) -> np.ndarray:
        """The function of each element, on accumulators of any batch."""
        return self._as_expression().replay(np.asarray(accumulators), {})

    def _as_expression(self) -> Expression:
        if self._expression is None:
            self._expression = _leave_integers(self._linear)
        return self._expression

    # What an array tells about itself.

    @property
    def is_integer(self) -> bool:
        """True until a function of single elements was taken."""
        return self._linear is not None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._linear.bias.shape if self._linear is not None else self._expression.sample.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.int64) if self._linear is not None else self._expression.sample.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def T(self) -> RecordedArray:  # noqa: N802 (NumPy's name)
        return np.transpose(self)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        kind = "encrypted integers" if self.is_integer else f"function of encrypted integers, {self.dtype}"
        return f"<RecordedArray {self.shape}: {kind}>"

    # Methods of arrays, by way of the functions.

    def astype(self, dtype: Any, copy: bool = True, **_: Any) -> RecordedArray:
        if self.is_integer and np.dtype(dtype).kind in "iu":
            return self
        return self._elementwise("astype", lambda v: v.astype(dtype), (self,), {})

    def copy(self) -> RecordedArray:
        return self

    def sum(self, axis=None, dtype=None, out=None, keepdims=False) -> RecordedArray:
        return np.sum(self, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def dot(self, other: Any) -> RecordedArray:
        return np.dot(self, other)

    def reshape(self, *shape: Any) -> RecordedArray:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape)

    def ravel(self) -> RecordedArray:
        return np.ravel(self)

    def flatten(self) -> RecordedArray:
        return np.ravel(self)

    def transpose(self, *axes: Any) -> RecordedArray:
        if len(axes) == 1 and not isinstance(axes[0], (int, np.integer)):
            axes = axes[0]
        return np.transpose(self, axes or None)

    def swapaxes(self, axis1: int, axis2: int) -> RecordedArray:
        return np.swapaxes(self, axis1, axis2)

    def squeeze(self, axis=None) -> RecordedArray:
        return np.squeeze(self, axis)

    def clip(self, min=None, max=None) -> RecordedArray:  # noqa: A002 (NumPy's names)
        return np.clip(self, min, max)

    def round(self, decimals: int = 0) -> RecordedArray:
        return np.round(self, decimals)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(np.ndarray, name):
            raise _refuse(f"ndarray.{name}", "it is not recorded")
        raise AttributeError(name)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise _refuse("numpy.asarray", "it would need the values, which nobody but the key's owner knows")

    def __bool__(self) -> bool:
        raise _refuse("bool", "a branch would need the values, which nobody but the key's owner knows")

    def __float__(self) -> float:
        raise _refuse("float", "it would need the value, which nobody but the key's owner knows")

    __int__ = __index__ = __float__

    def __setitem__(self, index: Any, value: Any) -> None:
        raise _refuse("assignment to elements", "arrays are not changed in place (numpy.where or numpy.concatenate)")

    def __getitem__(self, index: Any) -> RecordedArray:
        first = index[0] if isinstance(index, tuple) and index else index
        if first is not Ellipsis and not (isinstance(first, slice) and first == slice(None)):
            raise _refuse("indexing", "the first axis is the batch, so the first index must be ':' or '...'")
        return self._move("indexing", lambda a: a[index], lambda a: _index_all_but_last(a, index))

    # The recording.

    def _move(self, name: str, on_bias: Callable, on_coefficients: Callable) -> RecordedArray:
        """Moves of elements: the same on the bias and, with one axis more at the end, on the coefficients."""
        if not self.is_integer:
            raise _refuse(name, "elements cannot be moved after the integers were left; do it before")
        bias = on_bias(self._linear.bias)
        _keeps_batch(name, bias.shape)
        return RecordedArray(Linear(on_coefficients(self._linear.coefficients), bias))

    def _elementwise(self, name: str, function: Callable, arguments: tuple, keywords: dict) -> RecordedArray:
        """A function of single elements: all recorded arguments must be functions of the same element."""
        root, size, prepared = None, None, []
        for argument in arguments:
            if not isinstance(argument, RecordedArray):
                prepared.append(argument)
                continue
            expression = argument._as_expression()
            prepared.append(expression)
            if size is None:
                root, size = expression.root, argument.size
            elif argument.size != size or not _same_root(root, expression.root):
                raise _refuse(
                    name,
                    "it combines two different encrypted values; only sums and differences of integers can do that",
                )
        if any(isinstance(value, RecordedArray) for value in keywords.values()):
            raise _refuse(name, "encrypted values as keyword arguments are not recorded")
        prepared = tuple(prepared)
        sample = _sample(function, prepared, keywords)
        if sample.size != size:
            raise _refuse(name, f"{size} elements would become {sample.size}; it does not act element by element")
        _keeps_batch(name, sample.shape)
        return RecordedArray(expression=Expression(root, function, prepared, keywords, sample))

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        name = f"numpy.{ufunc.__name__}"
        if any(output is not None for output in keywords.pop("out", None) or ()):
            raise _refuse(name, "results are not written into existing arrays (out=)")
        if method == "reduce" and ufunc is np.add:
            return _sum(*inputs, **keywords)
        if method != "__call__":
            raise _refuse(f"{name}.{method}", "it is not recorded")
        if keywords.get("where", True) is not True:
            raise _refuse(name, "where= is not recorded (numpy.where is)")
        if ufunc.nout != 1:
            raise _refuse(name, "it has several results")
        linear = _LINEAR_UFUNCS.get(ufunc)
        if linear is not None and not keywords:
            result = linear(*inputs)
            if result is not None:
                return result
        if ufunc.signature is not None:
            raise _refuse(name, "only products with constant integer matrices are linear maps")
        return self._elementwise(name, ufunc, inputs, keywords)

    def __array_function__(self, function: Callable, types: Any, arguments: tuple, keywords: dict) -> Any:
        handler = _FUNCTIONS.get(function)
        if handler is not None and arguments:
            if isinstance(arguments[0], RecordedArray) or function in (np.dot, np.concatenate, np.stack):
                return handler(*arguments, **keywords)
        name = f"{function.__module__}.{function.__name__}"
        if function in _ELEMENTWISE:
            if function is np.interp and any(isinstance(a, RecordedArray) for a in arguments[1:]):
                raise _refuse(name, "its points must be constants")
            return self._elementwise(name, function, arguments, keywords)
        raise _refuse(name, "it is not recorded")


def _operators() -> None:
    """NumPy's operators, without the ones in place: `a += b` then means `a = a + b`."""

    def forward(ufunc):
        return lambda self, other: ufunc(self, other)

    def reflected(ufunc):
        return lambda self, other: ufunc(other, self)

    binary = {
        "add": np.add, "sub": np.subtract, "mul": np.multiply, "matmul": np.matmul, "truediv": np.true_divide,
        "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power, "and": np.bitwise_and,
        "or": np.bitwise_or, "xor": np.bitwise_xor, "lshift": np.left_shift, "rshift": np.right_shift,
    }  # fmt: skip
    for name, ufunc in binary.items():
        setattr(RecordedArray, f"__{name}__", forward(ufunc))
        setattr(RecordedArray, f"__r{name}__", reflected(ufunc))
    compare = {
        "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
        "ne": np.not_equal,
    }  # fmt: skip
    for name, ufunc in compare.items():
        setattr(RecordedArray, f"__{name}__", forward(ufunc))
    unary = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}
    for name, ufunc in unary.items():
        setattr(RecordedArray, f"__{name}__", lambda self, ufunc=ufunc: ufunc(self))
    RecordedArray.__hash__ = None


_operators()


def _leave_integers(linear: Linear) -> Expression:
    """Integers as a function of accumulators without bias, common divisor and sign.

    So a and 5 - 2 * a are functions of the same accumulators, and these keep the least interval.
    """
    nonzero = linear.coefficients[linear.coefficients != 0]
    factor = int(np.gcd.reduce(nonzero)) * int(np.sign(nonzero[0])) if nonzero.size else 1
    root = Linear(linear.coefficients // factor, np.zeros_like(linear.bias))
    expression = Expression(root, None, (), {}, np.ones(linear.bias.shape, np.int64))
    for function, constant, neutral in ((np.multiply, np.int64(factor), 1), (np.add, linear.bias, 0)):
        if np.any(constant != neutral):
            sample = _sample(function, (expression, constant), {})
            expression = Expression(root, function, (expression, constant), {}, sample)
    return expression


def _same_root(a: Linear | None, b: Linear | None) -> bool:
    return a is b or (a is not None and b is not None and a.equals(b))


def _index_all_but_last(array: np.ndarray, index: Any) -> np.ndarray:
    """array[index] where the index knows nothing of the last axis."""
    flat = np.arange(int(np.prod(array.shape[:-1]))).reshape(array.shape[:-1])
    return array.reshape(-1, array.shape[-1])[flat[index]]


# Integer linear maps. Each returns None when the arguments are not integers throughout: the caller then takes the
# function element by element, or refuses it.


def _linear_of(value: Any, shape: tuple[int, ...], inputs: int) -> Linear:
    """A recorded array or an integer constant, broadcast to a shape."""
    if isinstance(value, RecordedArray):
        linear = value._linear
        coefficients = linear.coefficients.reshape((1,) * (len(shape) - value.ndim) + linear.coefficients.shape)
        return Linear(np.broadcast_to(coefficients, (*shape, inputs)), np.broadcast_to(linear.bias, shape))
    bias = np.broadcast_to(np.asarray(value).astype(np.int64), shape)
    return Linear(np.broadcast_to(np.int64(0), (*shape, inputs)), bias)


def _all_integer(*values: Any) -> bool:
    return all(v.is_integer if isinstance(v, RecordedArray) else _is_integer(v) for v in values)


def _combine(name: str, operation: Callable) -> Callable:
    """Sum or difference of integers."""

    def record(a: Any, b: Any) -> RecordedArray | None:
        if not _all_integer(a, b):
            return None
        shape = np.broadcast_shapes(np.shape(a), np.shape(b))
        _keeps_batch(name, shape)
        inputs = next(v for v in (a, b) if isinstance(v, RecordedArray))._linear.coefficients.shape[-1]
        left, right = _linear_of(a, shape, inputs), _linear_of(b, shape, inputs)
        _no_sum_overflow(_peak(left.coefficients) + _peak(right.coefficients))
        _no_sum_overflow(_peak(left.bias) + _peak(right.bias))
        return RecordedArray(Linear(operation(left.coefficients, right.coefficients), operation(left.bias, right.bias)))

    return record


def _peak(array: np.ndarray) -> float:
    return float(np.abs(array.astype(np.float64)).max(initial=0))


def _multiply(a: Any, b: Any) -> RecordedArray | None:
    if isinstance(a, RecordedArray) and isinstance(b, RecordedArray) or not _all_integer(a, b):
        return None
    array, factor = (a, b) if isinstance(a, RecordedArray) else (b, a)
    shape = np.broadcast_shapes(array.shape, np.shape(factor))
    _keeps_batch("numpy.multiply", shape)
    linear = _linear_of(array, shape, array._linear.coefficients.shape[-1])
    factor = np.broadcast_to(np.asarray(factor).astype(np.int64), shape)
    _no_sum_overflow(_peak(factor) * max(_peak(linear.coefficients), _peak(linear.bias)))
    return RecordedArray(Linear(linear.coefficients * factor[..., None], linear.bias * factor))


def _negative(a: RecordedArray) -> RecordedArray | None:
    return _multiply(a, -1)


def _positive(a: RecordedArray) -> RecordedArray | None:
    return a if a.is_integer else None


def _exact_matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer product; through floats, which is much faster, where these are exact."""
    bound = _peak(a) * _peak(b) * a.shape[-1]
    _no_sum_overflow(bound)
    if bound < 1 << 53:
        return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)
    return np.matmul(a, b)


def _matmul(a: Any, b: Any) -> RecordedArray:
    name = "numpy.matmul"
    if isinstance(a, RecordedArray) and isinstance(b, RecordedArray):
        raise _refuse(name, "a product of two encrypted tensors is not a linear map")
    array, matrix = (a, np.asarray(b)) if isinstance(a, RecordedArray) else (b, np.asarray(a))
    if not array.is_integer:
        raise _refuse(name, "the integers were left before; quantize first, or make two operators of it")
    if not _is_integer(matrix):
        raise _refuse(name, "the matrix is not of integers; quantize it and use its qvalues")
    if np.shape(matrix) == () or array.ndim == 0:
        raise WrongShape("matmul of a scalar", name)
    linear, matrix = array._linear, matrix.astype(np.int64)
    if array is a:
        bias = _exact_matmul(linear.bias, matrix)
        _keeps_batch(name, bias.shape)
        if matrix.ndim > 2:
            raise _refuse(name, f"the matrix has shape {matrix.shape}; two axes are recorded")
        # (..., k, inputs) -> (..., inputs, k) @ (k, m) -> (..., m, inputs)
        columns = matrix if matrix.ndim == 2 else matrix[:, None]
        product = np.swapaxes(_exact_matmul(np.swapaxes(linear.coefficients, -1, -2), columns), -1, -2)
        if matrix.ndim == 1:
            product = product[..., 0, :]
        return RecordedArray(Linear(np.ascontiguousarray(product), bias))
    if matrix.ndim != 2 or array.ndim < 3:
        raise _refuse(name, "a matrix on the left would mix samples; put it on the right, transposed")
    bias = _exact_matmul(matrix, linear.bias)
    _keeps_batch(name, bias.shape)
    # (..., k, m, inputs) as (..., k, m * inputs)
    *outer, k, m, inputs = linear.coefficients.shape
    product = _exact_matmul(matrix, linear.coefficients.reshape(*outer, k, m * inputs))
    return RecordedArray(Linear(product.reshape(*outer, matrix.shape[0], m, inputs), bias))


def _dot(a: Any, b: Any) -> RecordedArray:
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return np.multiply(a, b)
    return _matmul(a, b)


def _sum(array: RecordedArray, axis: Any = None, dtype: Any = None, keepdims: Any = False, **others: Any):
    name = "numpy.sum"
    if others.get("out") is not None or any(key not in ("out", "initial", "where") for key in others):
        raise _refuse(name, f"arguments {sorted(others)} are not recorded")
    if not array.is_integer or (dtype is not None and np.dtype(dtype).kind not in "iu"):
        raise _refuse(name, "the integers were left; sums of encrypted values are taken before that")
    axes = range(array.ndim) if axis is None else (axis,) if isinstance(axis, (int, np.integer)) else axis
    axes = tuple(operator.index(a) % array.ndim if -array.ndim <= a < array.ndim else a for a in axes)
    if 0 in axes:
        raise _refuse(name, "the first axis is the batch and cannot be summed (say axis=1, or tuple(range(1, x.ndim)))")
    if any(a >= array.ndim or a < 0 for a in axes):
        raise WrongShape(f"axis {axis} of an array of shape {array.shape}", name)
    linear = array._linear
    count = float(np.prod([array.shape[a] for a in axes]))
    _no_sum_overflow(count * max(_peak(linear.coefficients), _peak(linear.bias)))
    return RecordedArray(
        Linear(
            linear.coefficients.sum(axis=axes, keepdims=bool(keepdims)),
            linear.bias.sum(axis=axes, keepdims=bool(keepdims)),
        )
    )


# Moves of elements.


def _reshape(array: RecordedArray, shape: Any = None, order: str = "C", **keywords: Any) -> RecordedArray:
    if shape is None:
        shape = keywords.pop("newshape", None)
    if order != "C" or shape is None:
        raise _refuse("numpy.reshape", "only the row-major order is recorded")
    new = np.empty(array.shape, np.int8).reshape(shape).shape
    return _same_order(array, "numpy.reshape", new)


def _same_order(array: RecordedArray, name: str, new: tuple[int, ...]) -> RecordedArray:
    """Another shape for the same elements in the same order: possible after the integers were left, too."""
    _keeps_batch(name, new)
    if array.is_integer:
        linear = array._linear
        return RecordedArray(Linear(linear.coefficients.reshape(*new, -1), linear.bias.reshape(new)))
    return array._elementwise(name, lambda v: v.reshape(v.shape[0], *new[1:]), (array,), {})


def _ravel(array: RecordedArray, order: str = "C") -> RecordedArray:
    return _reshape(array, -1, order)


def _expand_dims(array: RecordedArray, axis: Any) -> RecordedArray:
    return _same_order(array, "numpy.expand_dims", np.expand_dims(np.empty(array.shape, np.int8), axis).shape)


def _squeeze(array: RecordedArray, axis: Any = None) -> RecordedArray:
    if axis is None:
        axis = tuple(i for i in range(1, array.ndim) if array.shape[i] == 1)
    axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
    if any(a % array.ndim == 0 for a in axes):
        raise _refuse("numpy.squeeze", "the first axis is the batch and stays")
    return _same_order(array, "numpy.squeeze", np.squeeze(np.empty(array.shape, np.int8), axes).shape)


def _permute(array: RecordedArray, name: str, order: list[int]) -> RecordedArray:
    if order and order[0] != 0:
        raise _refuse(name, "the first axis is the batch and stays the first")
    return array._move(name, lambda a: a.transpose(order), lambda a: a.transpose([*order, a.ndim - 1]))


def _axis_order(array: RecordedArray, move: Callable) -> list[int]:
    """Where each axis of a move comes from: the sizes 0, 1, 2, ... stand for the axes."""
    probe = np.broadcast_to(np.int8(0), tuple(range(2, 2 + array.ndim)))
    return [size - 2 for size in move(probe).shape]


def _transpose(array: RecordedArray, axes: Any = None) -> RecordedArray:
    return _permute(array, "numpy.transpose", _axis_order(array, lambda a: np.transpose(a, axes)))


def _swapaxes(array: RecordedArray, axis1: int, axis2: int) -> RecordedArray:
    return _permute(array, "numpy.swapaxes", _axis_order(array, lambda a: np.swapaxes(a, axis1, axis2)))


def _moveaxis(array: RecordedArray, source: Any, destination: Any) -> RecordedArray:
    return _permute(array, "numpy.moveaxis", _axis_order(array, lambda a: np.moveaxis(a, source, destination)))


def _join(name: str, function: Callable, arrays: Any, axis: int) -> RecordedArray:
    arrays = list(arrays)
    if not _all_integer(*arrays):
        raise _refuse(name, "all parts must be integers")
    inputs = next(v for v in arrays if isinstance(v, RecordedArray))._linear.coefficients.shape[-1]
    parts = [_linear_of(v, np.shape(v), inputs) for v in arrays]
    bias = function([part.bias for part in parts], axis)
    if operator.index(axis) % bias.ndim == 0:
        raise _refuse(name, "the first axis is the batch; join along another one")
    _keeps_batch(name, bias.shape)
    last = axis if axis >= 0 else axis - 1
    return RecordedArray(Linear(function([part.coefficients for part in parts], last), bias))


def _concatenate(arrays: Any, axis: int = 0, **keywords: Any) -> RecordedArray:
    if keywords:
        raise _refuse("numpy.concatenate", f"arguments {sorted(keywords)} are not recorded")
    return _join("numpy.concatenate", np.concatenate, arrays, axis)


def _stack(arrays: Any, axis: int = 0, **keywords: Any) -> RecordedArray:
    if keywords:
        raise _refuse("numpy.stack", f"arguments {sorted(keywords)} are not recorded")
    return _join("numpy.stack", np.stack, arrays, axis)


def _constant_like(function: Callable) -> Callable:
    def make(array: RecordedArray, *arguments: Any, dtype: Any = None, **keywords: Any) -> np.ndarray:
        return function(array.shape, *arguments, dtype=dtype or array.dtype, **keywords)

    return make


_LINEAR_UFUNCS = {
    np.add: _combine("numpy.add", np.add),
    np.subtract: _combine("numpy.subtract", np.subtract),
    np.multiply: _multiply,
    np.negative: _negative,
    np.positive: _positive,
    np.matmul: _matmul,
}

_FUNCTIONS = {
    np.dot: _dot,
    np.sum: _sum,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.expand_dims: _expand_dims,
    np.squeeze: _squeeze,
    np.transpose: _transpose,
    np.swapaxes: _swapaxes,
    np.moveaxis: _moveaxis,
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.copy: lambda array, **_: array,
    np.shape: lambda array: array.shape,
    np.ndim: lambda array: array.ndim,
    np.size: lambda array, axis=None: array.size if axis is None else array.shape[axis],
    np.zeros_like: _constant_like(np.zeros),
    np.ones_like: _constant_like(np.ones),
    np.full_like: _constant_like(np.full),
}

_ELEMENTWISE = {np.clip, np.fix, np.interp, np.nan_to_num, np.round, np.around, np.where}


def record_tail(result: Any, operator_name: str) -> RecordedArray:
    """The result of an operator, checked."""
    if not isinstance(result, RecordedArray):
        raise InvalidArgument(f"the result does not depend on the encrypted inputs: {type(result).__name__}", operator_name)
    return result
