"""A network of the size of an MNIST classifier, encrypted: wide accumulators, many lookups, a large input."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_networks import mlp

from torusml.torch.compile import compile_onnx_model


@pytest.mark.long
def test_784_inputs_and_128_neurons_encrypted() -> None:
    calibration = np.random.default_rng(1).uniform(0, 1, (300, 784))
    module = compile_onnx_model(mlp((784, 128, 10)), calibration, n_bits=3, precision="tolerant")
    assert module.fhe_circuit.statistics["programmable_bootstrap_count"] == 122  # of 128: six are idle
    x = calibration[:2]
    clear = module.forward(x)
    for fhe in ("simulate", "execute"):
        noisy = module.forward(x, fhe=fhe)
        assert np.abs(noisy - clear).max() < 0.25 * (clear.max() - clear.min())


WIDE = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from scale import IMAGE, NetworkBuilder
from torusml.torch.compile import build_quantized_module

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

builder = NetworkBuilder(0)
builder.convolutions(2, 48)
builder.pooling()
builder.convolutions(1, 48)
model = builder.finish()
before = peak()
images = np.random.default_rng(1).uniform(0, 1, (1, *IMAGE)).astype(np.float32)
module = build_quantized_module(model, images, n_bits=3)
module.compile(images, precision="tolerant")
module.forward(images, fhe="simulate")
print(module.fhe_circuit.statistics["table_lookup_count"], peak() - before)
"""


def test_convolutions_take_memory_by_their_kernel() -> None:
    """110,336 lookups, 26 million products of weights and elements: entries for each take 800 MB. A channel is constant."""
    bench = Path(__file__).resolve().parents[2] / "bench"
    result = subprocess.run([sys.executable, "-c", WIDE, bench], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    lookups, megabytes = result.stdout.split()
    assert int(lookups) == 2 * 48 * 32 * 32 + 47 * 16 * 16
    assert float(megabytes) < 300
