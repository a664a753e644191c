"""Uniform quantizers: floats to integers and back. The numbers come from the C++ core.

    q = QuantizedArray(7, numpy.random.uniform(-2, 2, 10))
    q.qvalues                 # integers of 7 bits
    q.quantizer.scale, q.quantizer.zero_point
    q.dequant()               # scale * (q - zero_point)

Maths in float64, rounding half to even, integers in int64. Scale and zero point are numbers, or arrays with one element
per channel of the last axis. docs/concepts.md has the formulas.
"""

from __future__ import annotations

import copy
import json
from typing import Any, TextIO

import numpy as np

from .. import _core
from ..errors import InvalidCall, WrongDtype
from .recorder import RecordedArray


def _to_json(value: Any) -> Any:
    if isinstance(value, _Record):
        return value.dump_dict()
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "values": value.tolist()}
    if isinstance(value, np.generic):
        return value.item()
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and "type_name" in value:
        return _RECORDS[value["type_name"]].load_dict(value)
    if isinstance(value, dict) and set(value) == {"dtype", "values"}:
        return np.array(value["values"], value["dtype"])
    return value


_RECORDS: dict[str, type[_Record]] = {}


class _Record:
    """Equality and JSON over the attributes named in _fields."""

    _fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        _RECORDS[cls.__name__] = cls

    def dump_dict(self) -> dict:
        return {"type_name": type(self).__name__, **{name: _to_json(getattr(self, name)) for name in self._fields}}

    def dumps(self) -> str:
        return json.dumps(self.dump_dict())

    def dump(self, file: TextIO) -> None:
        file.write(self.dumps())

    @classmethod
    def load_dict(cls, content: dict) -> Any:
        record = cls.__new__(cls)
        for name in cls._fields:
            setattr(record, name, _from_json(content[name]))
        return record

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(
            np.array_equal(getattr(self, name), getattr(other, name))
            if isinstance(getattr(self, name), np.ndarray)
            else bool(np.all(getattr(self, name) == getattr(other, name)))
            for name in self._fields
        )

    __hash__ = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self._fields)})"


_OPTIONS = ("n_bits", "is_signed", "is_symmetric", "is_qat", "is_narrow", "is_precomputed_qat")
_STATS = ("rmax", "rmin")
_PARAMETERS = ("scale", "zero_point", "offset")


class QuantizationOptions(_Record):
    """How to quantize: bits and the kind of range. is_symmetric needs is_signed and excludes is_qat."""

    _fields = _OPTIONS

    def __init__(
        self,
        n_bits: int,
        is_signed: bool = False,
        is_symmetric: bool = False,
        is_qat: bool = False,
        is_narrow: bool = False,
        is_precomputed_qat: bool = False,
    ):
        if isinstance(n_bits, (bool, np.bool_)) or not isinstance(n_bits, (int, np.integer)):
            raise WrongDtype(f"n_bits must be an integer, got {n_bits!r}", "n_bits")
        self.n_bits = int(n_bits)
        self.is_signed = bool(is_signed)
        self.is_symmetric = bool(is_symmetric)
        self.is_qat = bool(is_qat)
        self.is_narrow = bool(is_narrow)
        self.is_precomputed_qat = bool(is_precomputed_qat)
        _core.quantization_parameters(self._core_options(), 0.0, 1.0)  # raises on options that exclude each other

    def _core_options(self) -> _core.QuantizationOptions:
        return _core.QuantizationOptions(**{name: getattr(self, name) for name in _OPTIONS})

    def copy_opts(self, options: QuantizationOptions) -> None:
        for name in _OPTIONS:
            setattr(self, name, getattr(options, name))

    @property
    def quant_options(self) -> QuantizationOptions:
        options = QuantizationOptions.__new__(QuantizationOptions)
        options.copy_opts(self)
        return options


class MinMaxQuantizationStats(_Record):
    """The range of the values that a quantizer was made for."""

    _fields = _STATS

    def __init__(self, rmax: float | None = None, rmin: float | None = None):
        self.rmax = None if rmax is None else float(rmax)
        self.rmin = None if rmin is None else float(rmin)

    def compute_quantization_stats(self, values: np.ndarray) -> None:
        self.rmin, self.rmax = _core.min_max_stats(_floats(values, "values"))

    def copy_stats(self, stats: MinMaxQuantizationStats) -> None:
        self.rmax, self.rmin = stats.rmax, stats.rmin

    @property
    def quant_stats(self) -> MinMaxQuantizationStats:
        return MinMaxQuantizationStats(self.rmax, self.rmin)


class UniformQuantizationParameters(_Record):
    """float = scale * (integer - zero_point); the integers start at -offset.

    The zero point of a network's result may have a fraction (docs/concepts.md, "Results"); quantizers that clip make
    floats of such integers, but no integers of floats.
    """

    _fields = _PARAMETERS

    def __init__(self, scale=None, zero_point=None, offset: int | None = None):
        self.scale = _scale(scale)
        self.zero_point = _zero_point(zero_point)
        self.offset = None if offset is None else int(offset)

    def compute_quantization_parameters(self, options: QuantizationOptions, stats: MinMaxQuantizationStats) -> None:
        computed = _core.quantization_parameters(options._core_options(), stats.rmin, stats.rmax)
        self._take(computed)

    def _take(self, parameters: _core.UniformQuantizationParameters) -> None:
        self.scale = _one_or_many(parameters.scale, np.float64)
        self.zero_point = _one_or_many(parameters.zero_point, np.int64)
        self.offset = parameters.offset

    def copy_params(self, parameters: UniformQuantizationParameters) -> None:
        for name in _PARAMETERS:
            setattr(self, name, copy.deepcopy(getattr(parameters, name)))

    @property
    def quant_params(self) -> UniformQuantizationParameters:
        return UniformQuantizationParameters(self.scale, self.zero_point, self.offset)


class UniformQuantizer(UniformQuantizationParameters, QuantizationOptions, MinMaxQuantizationStats):
    """Floats to integers and back.

    Made from options and either stats (the parameters are computed) or params. Instead of these objects their members
    can be given by name: n_bits, is_signed, ...; rmax and rmin; scale, zero_point and offset. Without offset, it follows
    from is_signed.
    """

    _fields = (*_OPTIONS, *_STATS, *_PARAMETERS, "no_clipping")

    def __init__(
        self,
        options: QuantizationOptions | None = None,
        stats: MinMaxQuantizationStats | None = None,
        params: UniformQuantizationParameters | None = None,
        no_clipping: bool = False,
        **kwargs: Any,
    ):
        unknown = sorted(set(kwargs) - {*_OPTIONS, *_STATS, *_PARAMETERS})
        if unknown:
            raise InvalidCall(
                f"unknown arguments {', '.join(unknown)}; known are {', '.join((*_OPTIONS, *_STATS, *_PARAMETERS))}"
            )
        given = {name: kwargs[name] for name in _OPTIONS if name in kwargs}
        if options is not None:
            given = {**{name: getattr(options, name) for name in _OPTIONS}, **given}
        if "n_bits" not in given:
            raise InvalidCall("n_bits is missing: give options, or n_bits by name")
        QuantizationOptions.__init__(self, **given)
        self.no_clipping = bool(no_clipping)
        MinMaxQuantizationStats.__init__(self, **self._stats(stats, kwargs))
        UniformQuantizationParameters.__init__(self, **self._params(params, kwargs))
        if self.scale is None and self.rmax is not None:
            self.compute_quantization_parameters(self, self)
        elif self.scale is not None:
            self._core_quantizer()  # checks the parameters

    @staticmethod
    def _stats(stats: MinMaxQuantizationStats | None, kwargs: dict) -> dict:
        given = [name for name in _STATS if name in kwargs]
        if stats is not None:
            if given:
                raise InvalidCall(f"stats and {', '.join(given)} are both given")
            return {"rmax": stats.rmax, "rmin": stats.rmin}
        _require_all("stats", given, _STATS)
        return {name: kwargs[name] for name in given}

    def _params(self, params: UniformQuantizationParameters | None, kwargs: dict) -> dict:
        given = [name for name in _PARAMETERS if name in kwargs]
        if params is not None:
            if given:
                raise InvalidCall(f"params and {', '.join(given)} are both given")
            return {name: getattr(params, name) for name in _PARAMETERS}
        if given == ["scale", "zero_point"]:
            return {**{name: kwargs[name] for name in given}, "offset": self._default_offset()}
        _require_all("params", given, _PARAMETERS)
        return {name: kwargs[name] for name in given}

    def _default_offset(self) -> int:
        return 2 ** (self.n_bits - 1) if self.is_signed else 0

    def _core_quantizer(self) -> _core.UniformQuantizer:
        if self.scale is None or self.zero_point is None or self.offset is None:
            raise InvalidCall("the quantizer has no parameters: give stats, params or values")
        scale, zero_point = _of_one_shape(self.scale, _whole(self.zero_point))
        parameters = _core.UniformQuantizationParameters(
            np.ravel(scale).tolist(), np.ravel(zero_point).tolist(), self.offset
        )
        return _core.UniformQuantizer(self._core_options(), parameters)

    @property
    def _has_fractions(self) -> bool:
        return np.asarray(self.zero_point).dtype.kind == "f"

    @classmethod
    def _from_core(cls, quantizer: _core.UniformQuantizer) -> UniformQuantizer:
        options = QuantizationOptions(**{name: getattr(quantizer.options, name) for name in _OPTIONS})
        parameters = UniformQuantizationParameters()
        parameters._take(quantizer.parameters)
        return cls(options, params=parameters)

    def quant(self, values: np.ndarray, dtype: type = np.int64) -> np.ndarray:
        """rint(values / scale + zero_point), clipped to the range of the integers unless no_clipping."""
        if np.dtype(dtype) not in (np.int64, np.int32, np.float32, np.float64):
            raise WrongDtype(f"integers as {np.dtype(dtype)}; int64, int32, float64 and float32 are possible", "dtype")
        if self._has_fractions and not self.no_clipping:
            raise WrongDtype(
                f"zero_point must be an integer, got {self.zero_point!r}", "zero_point",
                "no_clipping=True, for results of a network: theirs alone have fractions",
            )  # fmt: skip
        core = self._core_quantizer()
        if isinstance(values, RecordedArray):
            integers = np.rint(values / self.scale + self.zero_point)
            if not self.no_clipping:
                integers = np.clip(integers, core.lowest, core.highest)
            return integers.astype(dtype)
        floats = _floats(values, "values")
        if self._has_fractions:  # the core has the whole part
            floats = floats + self.scale * (self.zero_point - _whole(self.zero_point))
        return core.quantize(floats, self.no_clipping).astype(dtype, copy=False)

    def dequant(self, qvalues: np.ndarray) -> np.ndarray:
        """scale * (qvalues - zero_point), in float64."""
        core = self._core_quantizer()
        if isinstance(qvalues, RecordedArray):
            return (qvalues - self.zero_point).astype(np.float64) * self.scale
        if self._has_fractions:
            return (_integers(qvalues, "qvalues") - self.zero_point) * self.scale
        return core.dequantize(_integers(qvalues, "qvalues"))


class QuantizedArray(_Record):
    """Floats and their integers.

    values: floats (value_is_float), or integers together with the parameters that they were made with. None builds the
    quantizer alone. The other arguments are those of UniformQuantizer, n_bits counts more than options.n_bits.
    `values` stay the floats that were given until dequant() replaces them.
    """

    _fields = ("quantizer", "values", "qvalues")

    def __init__(
        self,
        n_bits: int,
        values: np.ndarray | None,
        value_is_float: bool = True,
        options: QuantizationOptions | None = None,
        stats: MinMaxQuantizationStats | None = None,
        params: UniformQuantizationParameters | None = None,
        **kwargs: Any,
    ):
        self.quantizer = UniformQuantizer(options, stats, params, **{**kwargs, "n_bits": n_bits})
        self.values = self._qvalues = None
        if values is None:
            return
        if value_is_float:
            self.update_values(values)
            return
        if self.quantizer.scale is None:
            raise InvalidCall("integers need the parameters that they were made with: scale, zero_point and offset")
        self.update_quantized_values(values)

    @property
    def n_bits(self) -> int:
        return self.quantizer.n_bits

    @property
    def qvalues(self) -> np.ndarray:
        if self._qvalues is None and self.values is not None:
            self._qvalues = self.quantizer.quant(self.values)  # recorded floats, quantized when asked for
        return self._qvalues

    @qvalues.setter
    def qvalues(self, qvalues: np.ndarray) -> None:
        self._qvalues = qvalues

    def update_values(self, values: np.ndarray) -> np.ndarray | None:
        """New floats; gives their integers. Without stats or params the first floats decide the range."""
        if isinstance(values, RecordedArray):
            self.values, self._qvalues = values, None
            return None
        floats = _floats(values, "values")
        if self.quantizer.scale is None:
            self.quantizer.compute_quantization_stats(floats)
            self.quantizer.compute_quantization_parameters(self.quantizer, self.quantizer)
        self.values = np.array(floats if np.isscalar(values) or isinstance(values, (list, tuple)) else values)
        return self.quant()

    def update_quantized_values(self, qvalues: np.ndarray) -> np.ndarray:
        """New integers; gives their floats."""
        if isinstance(qvalues, RecordedArray):
            self._qvalues = qvalues
        else:
            if np.asarray(qvalues).dtype.kind not in "iu":
                raise WrongDtype(f"integers expected, got {np.asarray(qvalues).dtype}", "values")
            self._qvalues = _integers(qvalues, "values").copy()
        return self.dequant()

    def quant(self) -> np.ndarray | None:
        """Makes the integers of the floats anew."""
        if self.values is not None:
            self._qvalues = self.quantizer.quant(self.values)
        return self._qvalues

    def dequant(self) -> np.ndarray:
        """Makes the floats of the integers; they replace `values`."""
        if self.qvalues is None:
            raise InvalidCall("the array has no values yet")
        self.values = self.quantizer.dequant(self.qvalues)
        return self.values

    def __call__(self) -> np.ndarray | None:
        return self.qvalues


def _require_all(kind: str, given: list[str], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in given]
    if given and missing:
        raise InvalidCall(f"{kind} are incomplete: {', '.join(missing)} missing, {', '.join(given)} given")


def _scale(value: Any) -> Any:
    if value is None:
        return None
    array = np.asarray(value, np.float64)
    return np.float64(array) if array.ndim == 0 else array.copy()


def _zero_point(value: Any) -> Any:
    if value is None:
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "iuf" or not np.all(np.abs(array) < 2.0**62):
        raise WrongDtype(f"zero_point must be a number below 2^62 in size, got {value!r}", "zero_point")
    if np.any(array != np.rint(array)):
        return float(array) if array.ndim == 0 else array.astype(np.float64)
    return int(array) if array.ndim == 0 else array.astype(np.int64)


def _whole(zero_point: Any) -> np.ndarray:
    array = np.asarray(zero_point)
    return np.rint(array).astype(np.int64) if array.dtype.kind == "f" else array


def _of_one_shape(scale: Any, zero_point: Any) -> tuple[Any, Any]:
    """One of the two may be by channel of the last axis, the other by element."""
    try:
        return np.broadcast_arrays(scale, zero_point)
    except ValueError:
        return scale, zero_point  # the core names the numbers


def _one_or_many(values: list, dtype: type) -> Any:
    if len(values) > 1:
        return np.array(values, dtype)
    return np.float64(values[0]) if dtype is np.float64 else int(values[0])


def _floats(values: Any, where: str) -> np.ndarray:
    """float64, contiguous. Arrays of integers are refused: they are often quantized already."""
    array = np.asarray(values)
    if array.dtype.kind != "f" and not (array.dtype.kind in "iu" and not isinstance(values, np.ndarray)):
        raise WrongDtype(f"floats expected, got an array of {array.dtype}", where, "values.astype(numpy.float64)")
    return np.asarray(array, np.float64, order="C")


def _integers(values: Any, where: str) -> np.ndarray:
    """int64, contiguous. Floats are taken where all of them are whole."""
    array = np.asarray(values)
    if array.dtype.kind == "f" and np.all(array == np.rint(array)) and np.all(np.abs(array) < 2.0**62):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or (array.dtype == np.uint64 and array.size and int(array.max()) >= 1 << 63):
        raise WrongDtype(f"integers of 64 bits with a sign expected, got an array of {array.dtype}", where)
    return np.asarray(array, np.int64, order="C")
