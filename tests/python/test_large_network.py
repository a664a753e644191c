"""A network of the size of an MNIST classifier, encrypted: wide accumulators, many lookups, a large input."""

import numpy as np
import pytest
from small_networks import mlp

from torusml.torch.compile import compile_onnx_model


@pytest.mark.long
def test_784_inputs_and_128_neurons_encrypted() -> None:
    calibration = np.random.default_rng(1).uniform(0, 1, (300, 784))
    module = compile_onnx_model(mlp((784, 128, 10)), calibration, n_bits=3, precision="tolerant")
    assert module.fhe_circuit.statistics["programmable_bootstrap_count"] == 128
    x = calibration[:2]
    clear = module.forward(x)
    for fhe in ("simulate", "execute"):
        noisy = module.forward(x, fhe=fhe)
        assert np.abs(noisy - clear).max() < 0.25 * (clear.max() - clear.min())
