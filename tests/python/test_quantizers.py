"""torusml.quantization's quantizers: the numbers of the seed's text, and every wrong use."""

import io
import json

import numpy
import pytest

from torusml import errors
from torusml.quantization import (
    MinMaxQuantizationStats,
    QuantizationOptions,
    QuantizedArray,
    UniformQuantizationParameters,
    UniformQuantizer,
)


@pytest.fixture
def values():
    numpy.random.seed(0)
    return numpy.random.uniform(-2, 2, 10)


def test_seven_bits_as_printed(values):
    q_a = QuantizedArray(7, values)
    assert q_a.qvalues.tolist() == [37, 73, 48, 36, 9, 58, 12, 112, 127, 0]
    assert q_a.qvalues.dtype == numpy.int64
    assert q_a.quantizer.scale == 0.018274684777173276
    assert q_a.quantizer.zero_point == 26
    printed = [0.20102153, 0.85891018, 0.40204307, 0.18274685, -0.31066964]
    printed += [0.58478991, -0.25584559, 1.57162289, 1.84574316, -0.4751418]
    assert numpy.abs(q_a.dequant() - printed).max() < 5e-9


def test_three_bits_as_printed(values):
    q_a = QuantizedArray(3, values)
    assert str(q_a.qvalues) == "[2 4 2 2 0 3 0 6 7 0]"
    assert q_a.quantizer.zero_point == 1


def test_three_bits_signed_symmetric_as_printed(values):
    q_a = QuantizedArray(3, values, is_signed=True, is_symmetric=True)
    assert str(q_a.qvalues) == "[ 0  1  1  0  0  1  0  3  3 -1]"
    assert q_a.quantizer.zero_point == 0


def test_explicit_parameters_with_and_without_offset():
    integers = numpy.array([[0, 3], [7, 1]])
    full = QuantizedArray(3, integers, value_is_float=False, scale=0.5, zero_point=2, offset=0)
    short = QuantizedArray(3, integers, value_is_float=False, scale=0.5, zero_point=2)
    assert full.dequant().tolist() == [[-1.0, 0.5], [2.5, -0.5]]
    assert full == short
    signed = QuantizedArray(3, integers - 4, value_is_float=False, is_signed=True, scale=0.5, zero_point=2)
    assert signed.quantizer.offset == 4


def test_values_stay_until_dequant(values):
    q_a = QuantizedArray(3, values)
    assert numpy.array_equal(q_a.values, values)
    back = q_a.dequant()
    assert numpy.array_equal(q_a.values, back)
    assert not numpy.array_equal(back, values)


def test_inputs_are_copied(values):
    q_a = QuantizedArray(3, values)
    values[0] = 99
    assert q_a.values[0] != 99


def test_updates(values):
    q_a = QuantizedArray(7, values)
    scale = q_a.quantizer.scale
    assert q_a.update_values(values / 2).tolist() == q_a.quantizer.quant(values / 2).tolist()
    assert q_a.quantizer.scale == scale
    assert q_a.update_quantized_values(numpy.array([26, 27])).tolist() == [0.0, scale]
    assert q_a().tolist() == [26, 27]


def test_any_shape_and_dtype(values):
    shaped = values.reshape(5, 1, 2)
    assert QuantizedArray(7, shaped).qvalues.shape == (5, 1, 2)
    assert (
        QuantizedArray(7, numpy.asfortranarray(shaped)).qvalues.ravel().tolist()
        == QuantizedArray(7, values).qvalues.tolist()
    )
    assert QuantizedArray(7, shaped.astype(numpy.float32)).qvalues.dtype == numpy.int64
    assert QuantizedArray(7, [0.0, 1.0]).qvalues.tolist() == [0, 127]
    assert QuantizedArray(7, 3.0).qvalues == 1


@pytest.mark.parametrize("dtype", [numpy.int64, numpy.int32, numpy.float32, numpy.float64])
def test_quant_dtype(values, dtype):
    q = QuantizedArray(7, values).quantizer
    assert q.quant(values, dtype=dtype).dtype == dtype
    with pytest.raises(TypeError, match="TML-E003"):
        q.quant(values, dtype=numpy.int8)


def test_per_channel():
    params = UniformQuantizationParameters(numpy.array([0.5, 2.0]), numpy.array([0, 1]), 0)
    q = UniformQuantizer(QuantizationOptions(4), params=params)
    assert q.quant(numpy.array([[1.0, 4.0], [2.0, 2.0]])).tolist() == [[2, 3], [4, 2]]
    assert q.dequant(numpy.array([[2, 3], [4, 2]])).tolist() == [[1.0, 4.0], [2.0, 2.0]]


def test_zero_points_of_results_have_fractions():
    quantizer = UniformQuantizer(
        QuantizationOptions(4, True), scale=numpy.array([0.5, 2.0]), zero_point=numpy.array([0.25, -1.0]), no_clipping=True
    )
    integers = numpy.array([[0, 0], [3, -7]])
    floats = quantizer.dequant(integers)
    assert floats.tolist() == [[-0.125, 2.0], [1.375, -12.0]]
    assert numpy.array_equal(quantizer.quant(floats), integers)
    assert UniformQuantizer.load_dict(json.loads(quantizer.dumps())) == quantizer
    with pytest.raises(ValueError, match="TML-E004"):
        quantizer.quant(numpy.array([[0.0, numpy.nan]]))
    with pytest.raises(TypeError, match="TML-E003"):
        quantizer.dequant(numpy.array([[0.5, 1.0]]))
    of_integers = QuantizedArray(4, integers, value_is_float=False, scale=quantizer.scale, zero_point=quantizer.zero_point)
    assert numpy.array_equal(of_integers.dequant(), floats)
    with pytest.raises(TypeError, match="TML-E003.*no_clipping"):
        of_integers.quant()


def test_quantizer_from_stats_clips():
    q = UniformQuantizer(n_bits=3, rmax=1.0, rmin=-1.0)
    assert q.quant(numpy.array([-5.0, 5.0])).tolist() == [0, 7]
    free = UniformQuantizer(QuantizationOptions(3), MinMaxQuantizationStats(1.0, -1.0), no_clipping=True)
    assert free.quant(numpy.array([5.0])).tolist() == [22]


def test_quantizer_alone():
    q_a = QuantizedArray(4, None, is_signed=True)
    assert q_a.qvalues is None and q_a.values is None
    assert q_a.quantizer.n_bits == 4 and q_a.quantizer.is_signed


def test_n_bits_overrides_options(values):
    assert QuantizedArray(3, values, options=QuantizationOptions(7, is_signed=True)).quantizer.n_bits == 3


def test_json_round_trip(values):
    original = QuantizedArray(7, values, is_signed=True)
    file = io.StringIO()
    original.dump(file)
    assert QuantizedArray.load_dict(json.loads(file.getvalue())) == original
    assert QuantizedArray(6, values, is_signed=True) != original
    for record in (original.quantizer, original.quantizer.quant_options, original.quantizer.quant_params):
        assert type(record).load_dict(json.loads(record.dumps())) == record


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"rmax": 1.0}, ["rmin", "missing", "rmax"]),
        ({"zero_point": 1}, ["scale", "offset", "missing"]),
        ({"scale": 1.0, "offset": 0}, ["zero_point missing"]),
        ({"scales": 1.0}, ["unknown", "scales"]),
    ],
)
def test_incomplete_or_unknown_arguments(values, arguments, names):
    with pytest.raises(TypeError) as raised:
        QuantizedArray(3, values, **arguments)
    assert all(name in str(raised.value) for name in names)
    assert raised.value.code == "TML-E001 invalid-argument"


@pytest.mark.parametrize(
    ("make", "builtin", "code"),
    [
        (lambda v: QuantizedArray(0, v), ValueError, "TML-E007"),
        (lambda v: QuantizedArray(33, v), ValueError, "TML-E007"),
        (lambda v: QuantizedArray(2.5, v), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, v, is_symmetric=True), ValueError, "TML-E001"),
        (lambda v: QuantizedArray(3, v, is_signed=True, is_symmetric=True, is_qat=True), ValueError, "TML-E001"),
        (lambda v: QuantizedArray(3, numpy.arange(4)), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, v, value_is_float=False, scale=1.0, zero_point=0), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, numpy.arange(4), value_is_float=False), TypeError, "TML-E001"),
        (lambda v: QuantizedArray(3, v, scale=0.0, zero_point=0), ValueError, "TML-E001"),
        (lambda v: QuantizedArray(3, v, scale=1.0, zero_point=0.5), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, v, scale=1.0, zero_point="0.5"), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, v, scale=1.0, zero_point=2.0**63), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, v, scale=1.0, zero_point=numpy.nan), TypeError, "TML-E003"),
        (lambda v: QuantizedArray(3, numpy.array([])), ValueError, "TML-E005"),
        (lambda v: QuantizedArray(3, numpy.array([1.0, numpy.nan])), ValueError, "TML-E004"),
        (lambda v: QuantizedArray(3, numpy.array(["a"])), TypeError, "TML-E003"),
        (lambda v: UniformQuantizer(QuantizationOptions(3)).quant(v), TypeError, "TML-E001"),
        (lambda v: QuantizedArray(3, None).dequant(), TypeError, "TML-E001"),
    ],
)
def test_wrong_use(values, make, builtin, code):
    with pytest.raises(builtin) as raised:
        make(values)
    assert isinstance(raised.value, errors.Error)
    assert raised.value.code.startswith(code)


def test_errors_are_built_in_ones_too():
    assert issubclass(errors.NotCompiled, AttributeError)
    assert issubclass(errors.FileUnreadable, OSError)
    assert issubclass(errors.AccumulatorTooWide, RuntimeError)
    error = errors.FileUnreadable("no such file", "net.tml", "another path")
    assert str(error) == "TML-E010 file-unreadable: no such file (net.tml). Try: another path"
    assert (error.message, error.where, error.hint) == ("no such file", "net.tml", "another path")


def test_every_code_has_a_class():
    from torusml import _core

    for name, (number, code) in _core.error_codes.items():
        error = errors.make_error(number, "message", "", "")
        assert error.name == name and error.code == code and type(error) is not errors.Error
