"""torusml.quantize: methods of post-training quantization, from Python and the command."""

from __future__ import annotations

import numpy as np
import pytest
from small_networks import floats, mlp

import torusml
from torusml import errors
from torusml.torch.compile import compile_onnx_model

METHODS = ("minmax", "percentile", "mse", "entropy", "best")
CALIBRATION = floats(200, 3)
FRESH = floats(50, 3, seed=5)


def network():
    return mlp(sizes=(3, 8, 6, 2), seed=3)


def float_outputs(x: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(network().SerializeToString())
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])


@pytest.mark.parametrize("method", METHODS)
def test_all_executors_agree(method):
    module = torusml.quantize(network(), CALIBRATION, bits=3, method=method)
    assert not module.is_compiled
    clear = module.forward(FRESH[:8])
    module.compile(CALIBRATION)
    assert np.array_equal(module.forward(FRESH[:8]), clear)
    assert np.array_equal(module.forward(FRESH[:8], fhe="simulate"), clear)
    module.fhe_circuit.keygen()
    assert np.array_equal(module.forward(FRESH[:2], fhe="execute"), clear[:2])


def test_best_is_nearest_to_the_floats_and_repeats():
    expected = float_outputs(FRESH)

    def error(method: str | None) -> float:
        module = torusml.quantize(network(), CALIBRATION, bits=3, method=method or "compatible", margin=0.5)
        return float(((module.forward(FRESH) - expected) ** 2).mean())

    best = error("best")
    assert best == error("best")
    assert best < 0.5 * error("minmax")
    assert best < 0.5 * error(None)


def test_the_compatible_method_is_what_the_compatible_functions_do():
    module = torusml.quantize(network(), CALIBRATION, bits=3, method="compatible")
    other = compile_onnx_model(network(), CALIBRATION, n_bits=3)
    assert str(module) == str(other)
    assert np.array_equal(module.forward(FRESH[:5]), other.forward(FRESH[:5]))


def test_compile_takes_a_method():
    arguments = {"bits": 3, "precision": "exact"}
    compiled = torusml.compile(network(), CALIBRATION, method="mse", **arguments)
    module = torusml.quantize(network(), CALIBRATION, bits=3, method="mse")
    assert np.array_equal(compiled.forward(FRESH[:5]), module.forward(FRESH[:5]))


def test_accumulators_stay_narrow():
    def widest(bits: int | None) -> int:
        module = torusml.quantize(network(), CALIBRATION, bits=5, method="best", accumulator_bits=bits)
        module.compile(CALIBRATION)
        reports = module.bitwidth_and_range_report()
        return max(reports[name]["bitwidth"] for name in ("fc0", "fc1"))

    # 2^6 values on the samples that are fitted; those that are held out may need a bit more.
    assert widest(6) <= 7 < widest(None)


def test_compatible_functions_refuse_nothing_new():
    module = compile_onnx_model(network(), CALIBRATION[:10], n_bits=3)  # too few for best
    assert module.is_compiled


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"method": "adaround"}, errors.UnknownOption),
        ({"method": 3}, errors.WrongDtype),
        ({"method": "percentile", "percentile": 50}, errors.InvalidArgument),
        ({"method": "percentile", "percentile": 101}, errors.InvalidArgument),
        ({"method": "percentile", "percentile": "99"}, errors.WrongDtype),
        ({"method": "best", "accumulator_bits": 17}, errors.InvalidArgument),
        ({"method": "mse", "accumulator_bits": 8}, errors.InvalidArgument),
        ({"method": "best", "seed": -1}, errors.InvalidArgument),
        ({"method": "mse", "bits": {"op_inputs": 3, "op_weights": 1}}, errors.UnsupportedBits),
    ],
)
def test_wrong_use(arguments, error):
    with pytest.raises(error):
        torusml.quantize(network(), CALIBRATION, **{"bits": 3, **arguments})


def test_too_few_samples():
    with pytest.raises(errors.CalibrationTooSmall, match="32"):
        torusml.quantize(network(), CALIBRATION[:31], bits=3)


def test_a_method_and_the_networks_own_quantizers_exclude_each_other():
    with pytest.raises(errors.InvalidArgument, match="own"):
        torusml.compile(network(), CALIBRATION, bits=3, method="mse", import_qat=True, precision="exact")
