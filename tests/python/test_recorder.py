"""What a custom operator may do with encrypted values, against NumPy on plain ones."""

import numpy as np
import pytest

from torusml import errors
from torusml.quantization.recorder import RecordedArray

RNG = np.random.default_rng(7)
MATRIX = RNG.integers(-4, 5, (12, 5))
FLOATS = RNG.normal(size=5)


def apply(recorded, samples):
    """Runs what was recorded on plain integers: the linear map, then the function."""
    linear = recorded.linear
    flat = samples.reshape(len(samples), -1)
    coefficients = linear.coefficients.reshape(-1, flat.shape[1])
    accumulators = flat @ coefficients.T
    assert not linear.bias.any()
    return recorded.replay(accumulators.reshape(len(samples), *linear.bias.shape[1:]))


LINEAR = {
    "matmul": lambda x: x.reshape(x.shape[0], 12) @ MATRIX,
    "dot": lambda x: np.dot(x.reshape(x.shape[0], -1), MATRIX),
    "matmul of the last axis": lambda x: x @ MATRIX[:4],
    "matmul from the left": lambda x: MATRIX[:5, :3] @ x,
    "vector": lambda x: x @ MATRIX[:4, 0],
    "sum": lambda x: x.sum(axis=1),
    "sum of two axes": lambda x: np.sum(x, axis=(1, -1), keepdims=True),
    "add.reduce": lambda x: np.add.reduce(x, axis=2),
    "difference of encrypted": lambda x: x[:, 0] - 3 * x[:, 1] + 7,
    "reflected": lambda x: 5 - x,
    "negative": lambda x: -x + (+x) * 2,
    "broadcast": lambda x: x - x.sum(axis=2, keepdims=True),
    "per channel": lambda x: x * np.array([1, -2, 0, 3]),
    "transpose": lambda x: x.transpose(0, 2, 1).reshape(x.shape[0], 12) @ MATRIX,
    "swapaxes": lambda x: np.swapaxes(x, 1, 2) @ MATRIX[:3],
    "moveaxis": lambda x: np.moveaxis(x, 2, 1)[:, :, 0],
    "slice": lambda x: x[:, ::2, 1:3],
    "fancy": lambda x: x[:, [2, 0]],
    "ellipsis": lambda x: x[..., 1],
    "new axis": lambda x: x[:, None] * 2,
    "concatenate": lambda x: np.concatenate([x, -x, np.ones_like(x)], axis=1),
    "stack": lambda x: np.stack([x, 2 * x], axis=-1),
    "expand and squeeze": lambda x: np.squeeze(np.expand_dims(x, 1), 1) + 1,
    "ravel": lambda x: x.sum(axis=1).copy().astype(np.int32),
    "in place": lambda x: _in_place(x),
}

TAILS = {
    "scale": lambda a: a * 0.25,
    "floats per channel": lambda a: a * FLOATS[: a.shape[-1]] + 1.5,
    "univariate": lambda a: np.tanh(a / 3.0) * np.exp(-np.abs(a) * 0.1),
    "self gating": lambda a: a.astype(np.float64) / (1.0 + np.exp(-a * 0.5)),
    "where": lambda a: np.where(a > 2, a, 0.1 * a),
    "clip and round": lambda a: np.round(np.clip(a * 0.3, -2.0, 2.0), 1),
    "quantize": lambda a: np.clip(np.rint(a * 0.7 + 3), 0, 7).astype(np.int64),
    "integer division": lambda a: a // 3 % 5,
    "power": lambda a: (a**2).astype(np.float64),
    "interp": lambda a: np.interp(a, [-10.0, 0.0, 10.0], [1.0, 0.0, 2.0]),
    "same order": lambda a: (a * 0.5).reshape(a.shape[0], -1) + 1.0,
    "maximum": lambda a: np.maximum(a, 0) - np.minimum(a, 1.5),
}


def _in_place(x):
    y = x * 2
    z = y
    y += 3
    return y - z * 2


@pytest.mark.parametrize("name", LINEAR)
def test_linear(name):
    (x,) = RecordedArray.encrypted([(1, 3, 4)])
    samples = RNG.integers(-8, 8, (6, 3, 4))
    recorded = LINEAR[name](x)
    assert recorded.is_integer
    # A plain array changes in place, a recorded one does not: `y += 3` is `y = y + 3` there.
    expected = 2 * samples + 3 - 4 * samples if name == "in place" else LINEAR[name](samples)
    result = apply(recorded, samples)
    assert result.shape == expected.shape
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("name", TAILS)
def test_tail(name):
    (x,) = RecordedArray.encrypted([(1, 12)])
    samples = RNG.integers(-8, 8, (6, 12))
    recorded = TAILS[name](x @ MATRIX)
    expected = TAILS[name](samples @ MATRIX)
    assert not recorded.is_integer
    assert recorded.shape == (1, *expected.shape[1:]) and recorded.dtype == expected.dtype
    np.testing.assert_allclose(apply(recorded, samples), expected, rtol=1e-15, atol=1e-15)


def test_two_encrypted_inputs():
    a, b = RecordedArray.encrypted([(1, 3), (1, 2, 2)])
    recorded = (a @ MATRIX[:3] - b.reshape(1, 4) @ MATRIX[:4]) * 0.5
    x, y = RNG.integers(-8, 8, (5, 3)), RNG.integers(-8, 8, (5, 4))
    expected = (x @ MATRIX[:3] - y @ MATRIX[:4]) * 0.5
    assert np.array_equal(apply(recorded, np.concatenate([x, y], axis=1)), expected)


def test_large_coefficients_are_exact():
    (x,) = RecordedArray.encrypted([(1, 2)])
    big = np.array([[2**40], [1]])
    recorded = (x * (2**15 + 1)) @ big
    assert recorded.linear.coefficients.ravel().tolist() == [2**40, 1]
    assert recorded.replay(np.array([[7]])).tolist() == [[7 * (2**15 + 1)]]


def test_common_factors_and_biases_leave_the_accumulators():
    (x,) = RecordedArray.encrypted([(1, 2)])
    recorded = (5 - x * np.array([4, -6])) * 0.5
    assert recorded.linear.coefficients.tolist() == [[[2, 0], [0, -3]]]
    assert recorded.replay(np.array([[2, -3]])).tolist() == [[0.5, 5.5]]


REFUSED = {
    "numpy.linalg.norm": lambda x: np.linalg.norm(x),
    "numpy.max": lambda x: np.max(x, axis=1),
    "numpy.sort": lambda x: np.sort(x),
    "numpy.einsum": lambda x: np.einsum("ij->i", x),
    "numpy.mean": lambda x: np.mean(x, axis=1),
    "ndarray.argmax": lambda x: x.argmax(),
    "numpy.maximum.reduce": lambda x: np.maximum.reduce(x, axis=1),
    "numpy.matmul": lambda x: x @ x.reshape(1, 4, 1),
    "numpy.matmul on": lambda x: x @ np.ones((4, 2)),
    "numpy.asarray": lambda x: np.asarray(x),
    "bool": lambda x: 1 if x[:, 0] > 3 else 0,
    "float": lambda x: float(x[:, 0]),
    "numpy.sum": lambda x: x.sum(),
    "numpy.reshape": lambda x: x.reshape(-1),
    "numpy.transpose": lambda x: x.T,
    "indexing": lambda x: x[0],
    "assignment": lambda x: x.__setitem__((0, 1), 3),
    "numpy.concatenate": lambda x: np.concatenate([x, x]),
    "numpy.multiply": lambda x: x[:, :2] * x[:, 2:],
    "numpy.add": lambda x: 0.5 * x[:, :2] + 0.5 * x[:, 2:],
    "numpy.sum on": lambda x: np.sum(x * 0.5, axis=1),
    "indexing on": lambda x: np.tanh(x)[:, 1],
    "numpy.exp": lambda x: np.exp(x, out=np.zeros((1, 4))),
    "numpy.modf": lambda x: np.modf(x),
    "numpy.interp": lambda x: np.interp(1.0, x, x),
    "numpy.add on": lambda x: x * 0.5 + np.ones((3, 4)),
    "numpy.full_like": lambda x: np.full_like(x, x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    (x,) = RecordedArray.encrypted([(1, 4)])
    with pytest.raises(NotImplementedError) as raised:
        REFUSED[name](x)
    assert raised.value.code == "TML-E022 not-supported"
    if name != "numpy.full_like":
        assert name.removesuffix(" on") in raised.value.message
    assert "matmul" in raised.value.hint and "numpy.where" in raised.value.hint


def test_coefficients_beyond_62_bits():
    (x,) = RecordedArray.encrypted([(1, 2)])
    with pytest.raises(errors.AccumulatorTooWide):
        x * 2**40 * 2**40


def test_univariate_probe_takes_functions_of_elements_only():
    x = RecordedArray.floating((1, 4))
    y = np.where(x > 0, x, np.expm1(x))
    plain = RNG.normal(size=(5, 4))
    np.testing.assert_array_equal(y.replay(plain), np.where(plain > 0, plain, np.expm1(plain)))
    with pytest.raises(NotImplementedError, match="numpy.sum"):
        np.exp(x) / np.sum(np.exp(x), axis=1)
