"""TorusML: neural networks on encrypted data.

from torusml.torch.compile import compile_torch_model

module = compile_torch_model(net, calibration, n_bits=4)
y = module.forward(x, fhe="execute")          # x is encrypted, computed on, and decrypted
"""

from __future__ import annotations

from typing import Any

from . import errors, progress
from .client import Client, EncryptedInputs, EncryptedOutputs, EvaluationKeys, Server
from .compiled_model import CompiledModel, load
from .errors import Error
from .precision import PrecisionSearch
from .remote import RemoteClient, RemoteJob

__version__ = "0.1.0"


def quantize(
    model: Any,
    calibration: Any,
    *,
    bits: int | dict[str, int] = 8,
    method: str = "best",
    percentile: float = 99.9,
    accumulator_bits: int | None = None,
    seed: int = 0,
    rounding: Any = None,
    margin: float = 0.05,
) -> Any:
    """A network of floats, quantized after training and not compiled: gives a QuantizedModule.

    model and calibration: as for compile. bits: one number, for weights and activations (inputs and outputs get 5 at
    least), or a dictionary of op_inputs, op_weights, model_inputs, model_outputs. method: how activations are calibrated,
    weights having a step for every output channel: "minmax", "percentile" (the percentile and its mirror image), "mse",
    "entropy"; or "best", which fits the integers to what the float network computes, layer by layer and then to its
    outputs, on the calibration samples (docs/quantization.md). "compatible" is what the functions of Concrete ML's names do.
    accumulator_bits: method "best" keeps accumulators that tables read within 2^accumulator_bits values. seed: of the
    samples that "best" looks at. Then module.forward(x), module.compile(calibration).
    """
    from .torch.compile import Method, quantize_any

    return quantize_any(model, calibration, bits, margin, rounding, Method(method, percentile, accumulator_bits, seed))


def compile(
    model: Any,
    calibration: Any,
    *,
    bits: int | str | dict[str, int] = 8,
    import_qat: bool | None = None,
    precision: str | None = None,
    rounding: Any = None,
    p_error: float | None = None,
    global_p_error: float | None = None,
    tolerance: float | None = None,
    margin: float = 0.05,
    profile: str = "private_results",
    security_level: int = 128,
    parameters: str = "catalogue",
    max_key_sets: int = 2,
    pack_outputs: str = "auto",
    layers: dict[str, str | float] | None = None,
    agreement: float | None = None,
    relative_error: float | None = None,
    metric: Any = None,
    labels: Any = None,
    max_loss: float = 0.01,
    max_trials: int = 64,
    seed: int = 0,
    method: str | None = None,
    percentile: float = 99.9,
    accumulator_bits: int | None = None,
    inputs_encryption_status: Any = None,
) -> Any:
    """A network, quantized and compiled: gives a QuantizedModule.

    model: a torch.nn.Module, an onnx.ModelProto or the path of an .onnx file. import_qat: whether the network carries its
    own quantizers; None looks for them. precision: "auto" (the default) finds the fastest one whose simulated results agree
    with exact ones; agreement .. seed say how well (torusml.precision.PrecisionSearch). rounding: accumulators are rounded
    before their tables, 6 or {"n_bits": 6, "method": "EXACT" or "APPROXIMATE"}, which brings its own precision. bits: of
    weights and activations; "auto" takes for every layer as few as keep the same target between the float network and the
    quantized one in the clear, where that saves time (QuantizedModule.bits_report). method,
    percentile, accumulator_bits: of post-training quantization, see quantize; None quantizes as Concrete ML does.
    inputs_encryption_status: "encrypted" or "clear" for each input (docs/deployment.md). The
    other arguments are those of torusml.torch.compile.
    """
    from .torch.compile import Method, compile_any

    if precision is None and rounding is None:
        precision = "auto"
    search = PrecisionSearch(agreement, relative_error, metric, labels, max_loss, max_trials, seed)
    return compile_any(
        model, calibration, bits, import_qat, margin, rounding, Method(method, percentile, accumulator_bits, seed), search,
        inputs_encryption_status,
        precision=precision, p_error=p_error, global_p_error=global_p_error, tolerance=tolerance, profile=profile,
        security_level=security_level, parameters=parameters, max_key_sets=max_key_sets,
        pack_outputs=pack_outputs, layers=layers,
        search=search if precision == "auto" or (bits != "auto" and search != PrecisionSearch()) else None,
    )  # fmt: skip


__all__ = [
    "Client",
    "CompiledModel",
    "EncryptedInputs",
    "EncryptedOutputs",
    "Error",
    "EvaluationKeys",
    "PrecisionSearch",
    "RemoteClient",
    "RemoteJob",
    "Server",
    "compile",
    "errors",
    "load",
    "progress",
    "quantize",
]
