"""From a trained network to one that runs on encrypted data.

    module = compile_torch_model(net, calibration, n_bits=6)             # post-training quantization
    module = compile_brevitas_qat_model(net, calibration)                # quantization-aware training
    module = compile_onnx_model("net.onnx", calibration, import_qat=True)

Names and arguments are those of Concrete ML; what comes after them is TorusML's: precision, tolerance, margin, profile,
security_level, parameters, layers, search (torusml.precision). An argument that is not supported yet raises NotSupported.
"""

from __future__ import annotations

import dataclasses
import numbers
import os
from typing import Any

from .. import _core, progress
from ..arrays import to_floats, to_numpy
from ..errors import InvalidArgument, NotSupported, RefusedArgument, RefusedType, UnknownKey, UnsupportedBits, WrongDtype
from ..precision import PrecisionSearch
from ..quantization.custom_operators import make_factory
from ..quantization.quantized_module import (
    QuantizedModule,
    check_encryption_status,
    plan_options,
    refuse_foreign_arguments,
    rounding_text,
)

MAX_BITWIDTH_BACKWARD_COMPATIBLE = 8
DEFAULT_MODEL_BITS = 5


@dataclasses.dataclass(frozen=True)
class Method:
    """How post-training quantization chooses steps and integers, see torusml.quantize; None: as Concrete ML does."""

    name: str | None = None
    percentile: float = 99.9
    accumulator_bits: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name is not None and not isinstance(self.name, str):
            raise WrongDtype(f"the name of a method expected, got {self.name!r}", "method")
        if isinstance(self.percentile, bool) or not isinstance(self.percentile, numbers.Real):
            raise WrongDtype(f"a number expected, got {self.percentile!r}", "percentile")
        for name in ("accumulator_bits", "seed"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Integral)):
                raise WrongDtype(f"a whole number expected, got {value!r}", name)
        if self.accumulator_bits is not None and not 2 <= self.accumulator_bits <= 16:
            raise InvalidArgument(f"accumulator_bits is {self.accumulator_bits}; 2 to 16 are possible", "accumulator_bits")
        if self.seed is None or not 0 <= self.seed < 2**63:
            raise InvalidArgument(f"seed is {self.seed}; it must not be negative", "seed")

    def arguments(self) -> dict[str, Any]:
        return {
            "method": self.name or "",
            "percentile": float(self.percentile),
            "accumulator_bits": int(self.accumulator_bits or 0),
            "seed": int(self.seed),
        }


AUTO_BITS = "auto"


@dataclasses.dataclass(frozen=True)
class BitsSearch:
    """Bits of every layer by a target between the float and the quantized network, and by the plan's predicted time."""

    plan: _core.PlanOptions
    target: PrecisionSearch
    clear: tuple[bool, ...] = ()  # by input

    def run(
        self, graph: Any, calibration: list, import_qat: bool, margin: float, rounding: str, method: Method
    ) -> dict[str, Any]:
        arguments = method.arguments()
        arguments["quantization_seed"] = arguments.pop("seed")
        with progress.bar("trials of bits") as shown:
            return _core.search_bits(
                graph, calibration, import_qat, margin, rounding, **arguments, plan=self.plan,
                **self.target.arguments(len(calibration[0])), clear=self.clear, progress=shown,
            )  # fmt: skip


def build_quantized_module(
    model: Any,
    torch_inputset: Any,
    import_qat: bool = False,
    n_bits: int | dict[str, int] = MAX_BITWIDTH_BACKWARD_COMPATIBLE,
    rounding_threshold_bits: Any = None,
    reduce_sum_copy: bool = False,
    keep_onnx: bool = True,
    device: str = "cpu",
    *,
    margin: float = 0.05,
) -> QuantizedModule:
    """Quantizes a network without compiling it.

    model: torch.nn.Module, onnx.ModelProto, path of an .onnx file. torch_inputset: calibration data, floats, batch axis
    first; a tuple for several inputs. import_qat: the network carries its own quantizers. n_bits: one number, or a
    dictionary of op_inputs, op_weights, model_inputs, model_outputs. rounding_threshold_bits: accumulators are rounded to
    2 to 8 bits before their tables, 6 or {"n_bits": 6, "method": "EXACT" or "APPROXIMATE"}. margin: widening of the
    calibrated ranges, a fraction of their width on each side.
    """
    refuse_foreign_arguments(None, None, False, device)
    rounding = rounding_text(rounding_threshold_bits)
    if reduce_sum_copy:
        raise NotSupported("copies before sums", "reduce_sum_copy", "reduce_sum_copy=False")
    return _build(model, torch_inputset, import_qat, bits_of(n_bits), keep_onnx, margin, rounding)


def compile_torch_model(
    torch_model: Any,
    torch_inputset: Any,
    import_qat: bool = False,
    configuration: Any = None,
    artifacts: Any = None,
    show_mlir: bool = False,
    n_bits: int | dict[str, int] = MAX_BITWIDTH_BACKWARD_COMPATIBLE,
    rounding_threshold_bits: Any = None,
    p_error: float | None = None,
    global_p_error: float | None = None,
    verbose: bool = False,
    inputs_encryption_status: Any = None,
    reduce_sum_copy: bool = False,
    device: str = "cpu",
    *,
    precision: str | None = None,
    tolerance: float | None = None,
    margin: float = 0.05,
    profile: str = "private_results",
    security_level: int = 128,
    parameters: str = "catalogue",
    max_key_sets: int = 2,
    pack_outputs: str = "auto",
    layers: dict[str, str | float] | None = None,
    search: PrecisionSearch | None = None,
) -> QuantizedModule:
    """Quantizes a PyTorch network of floats and compiles it."""
    _check_torch_model(torch_model, needs_brevitas=False)
    return _compile(
        torch_model, torch_inputset, bits_of(n_bits), import_qat, rounding_threshold_bits, reduce_sum_copy, device,
        margin, configuration=configuration, artifacts=artifacts, show_mlir=show_mlir, p_error=p_error,
        global_p_error=global_p_error, verbose=verbose, inputs_encryption_status=inputs_encryption_status,
        precision=precision, tolerance=tolerance, profile=profile, security_level=security_level,
        parameters=parameters, max_key_sets=max_key_sets, pack_outputs=pack_outputs, layers=layers, search=search,
    )  # fmt: skip


def compile_onnx_model(
    onnx_model: Any,
    torch_inputset: Any,
    import_qat: bool = False,
    configuration: Any = None,
    artifacts: Any = None,
    show_mlir: bool = False,
    n_bits: int | dict[str, int] = MAX_BITWIDTH_BACKWARD_COMPATIBLE,
    rounding_threshold_bits: Any = None,
    p_error: float | None = None,
    global_p_error: float | None = None,
    verbose: bool = False,
    inputs_encryption_status: Any = None,
    reduce_sum_copy: bool = False,
    device: str = "cpu",
    *,
    precision: str | None = None,
    tolerance: float | None = None,
    margin: float = 0.05,
    profile: str = "private_results",
    security_level: int = 128,
    parameters: str = "catalogue",
    max_key_sets: int = 2,
    pack_outputs: str = "auto",
    layers: dict[str, str | float] | None = None,
    search: PrecisionSearch | None = None,
) -> QuantizedModule:
    """Quantizes an ONNX network (onnx.ModelProto, or the path of a file) and compiles it."""
    if not _is_onnx(onnx_model):
        raise RefusedType(f"an onnx.ModelProto or a path expected, got {type(onnx_model).__name__}", "onnx_model")
    return _compile(
        onnx_model, torch_inputset, bits_of(n_bits), import_qat, rounding_threshold_bits, reduce_sum_copy, device,
        margin, configuration=configuration, artifacts=artifacts, show_mlir=show_mlir, p_error=p_error,
        global_p_error=global_p_error, verbose=verbose, inputs_encryption_status=inputs_encryption_status,
        precision=precision, tolerance=tolerance, profile=profile, security_level=security_level,
        parameters=parameters, max_key_sets=max_key_sets, pack_outputs=pack_outputs, layers=layers, search=search,
    )  # fmt: skip


def compile_brevitas_qat_model(
    torch_model: Any,
    torch_inputset: Any,
    n_bits: int | dict[str, int] | None = None,
    configuration: Any = None,
    artifacts: Any = None,
    show_mlir: bool = False,
    rounding_threshold_bits: Any = None,
    p_error: float | None = None,
    global_p_error: float | None = None,
    output_onnx_file: str | os.PathLike | None = None,
    verbose: bool = False,
    inputs_encryption_status: Any = None,
    reduce_sum_copy: bool = False,
    device: str = "cpu",
    *,
    precision: str | None = None,
    tolerance: float | None = None,
    margin: float = 0.05,
    profile: str = "private_results",
    security_level: int = 128,
    parameters: str = "catalogue",
    max_key_sets: int = 2,
    pack_outputs: str = "auto",
    layers: dict[str, str | float] | None = None,
    search: PrecisionSearch | None = None,
) -> QuantizedModule:
    """Compiles a network that was trained with Brevitas layers.

    n_bits: of inputs and outputs that have no quantizer of their own. output_onnx_file: keeps the exported network.
    """
    _check_torch_model(torch_model, needs_brevitas=True)
    return _compile(
        torch_model, torch_inputset, _qat_bits(n_bits), True, rounding_threshold_bits, reduce_sum_copy, device, margin,
        output_onnx_file=output_onnx_file, configuration=configuration, artifacts=artifacts, show_mlir=show_mlir,
        p_error=p_error, global_p_error=global_p_error, verbose=verbose,
        inputs_encryption_status=inputs_encryption_status, precision=precision, tolerance=tolerance, profile=profile,
        security_level=security_level, parameters=parameters, max_key_sets=max_key_sets, pack_outputs=pack_outputs,
        layers=layers, search=search,
    )  # fmt: skip


def compile_any(
    model: Any,
    inputset: Any,
    bits: int | str | dict[str, int],
    import_qat: bool | None,
    margin: float,
    rounding: Any,
    method: Method,
    bits_target: PrecisionSearch,
    inputs_encryption_status: Any,
    **options: Any,
) -> QuantizedModule:
    """torusml.compile. bits_target: of bits "auto"."""
    check_encryption_status(inputs_encryption_status, len(inputset) if isinstance(inputset, tuple) else 1)
    text = rounding_text(rounding, "rounding")
    plan = plan_options(**options, rounding=text)
    if isinstance(bits, str) and bits == AUTO_BITS:
        clear = tuple(status == "clear" for status in inputs_encryption_status or ())
        search = BitsSearch(plan, bits_target, clear)
        module = _build(model, inputset, import_qat, bits_of(8), True, margin, text, method=method, search=search)
    else:
        module = _build(model, inputset, import_qat, bits_of(bits), True, margin, text, method=method)
    module.compile(inputset, inputs_encryption_status=inputs_encryption_status, **options)
    return module


def quantize_any(
    model: Any, inputset: Any, bits: int | dict[str, int], margin: float, rounding: Any, method: Method
) -> QuantizedModule:
    """torusml.quantize."""
    return _build(model, inputset, False, bits_of(bits), True, margin, rounding_text(rounding, "rounding"), method=method)


def _compile(
    model: Any,
    inputset: Any,
    bits: list[int],
    import_qat: bool,
    rounding_threshold_bits: Any,
    reduce_sum_copy: bool,
    device: str,
    margin: float,
    output_onnx_file: Any = None,
    **compilation: Any,
) -> QuantizedModule:
    # What can be refused is refused before the network is exported and calibrated.
    refuse_foreign_arguments(compilation["configuration"], compilation["artifacts"], compilation["show_mlir"], device)
    input_count = len(inputset) if isinstance(inputset, tuple) else 1
    check_encryption_status(compilation["inputs_encryption_status"], input_count)
    names = (
        "p_error", "global_p_error", "precision", "tolerance", "profile", "security_level", "parameters", "max_key_sets",
        "pack_outputs", "layers", "search",
    )  # fmt: skip
    rounding = rounding_text(rounding_threshold_bits)
    plan_options(**{name: compilation[name] for name in names}, rounding=rounding)
    if reduce_sum_copy:
        raise NotSupported("copies before sums", "reduce_sum_copy", "reduce_sum_copy=False")
    module = _build(model, inputset, import_qat, bits, True, margin, rounding, output_onnx_file)
    module.compile(inputset, device=device, **compilation)
    return module


def _build(
    model: Any,
    inputset: Any,
    import_qat: bool | None,
    bits: list[int],
    keep_onnx: bool,
    margin: float,
    rounding: str = "",
    output_onnx_file: Any = None,
    method: Method = Method(),
    search: BitsSearch | None = None,
) -> QuantizedModule:
    inputs = inputset if isinstance(inputset, tuple) else (inputset,)
    calibration = [to_floats(value, f"torch_inputset[{i}]") for i, value in enumerate(inputs)]
    factory = make_factory(bits[0], bits[1])
    onnx_bytes = None
    if isinstance(model, (str, os.PathLike)):
        graph = _core.import_onnx(os.fspath(model), factory)
        if keep_onnx:
            with open(model, "rb") as file:
                onnx_bytes = file.read()
    else:
        onnx_bytes = _to_onnx_bytes(model, inputs)
        graph = _core.import_onnx_bytes(onnx_bytes, type(model).__name__, factory)
    if output_onnx_file is not None:
        with open(output_onnx_file, "wb") as file:
            file.write(onnx_bytes)
    import_qat = graph.has_quantizers if import_qat is None else bool(import_qat)
    layers: dict[str, tuple[int, int]] = {}
    report = None
    if search is not None:
        found = search.run(graph, calibration, import_qat, float(margin), rounding, method)
        bits, layers, report = found["bits"], found["layers"], found["report"]
    with progress.bar("quantization") as shown:
        core = _core.QuantizedModule.build(
            graph,
            calibration,
            bits,
            import_qat,
            float(margin),
            rounding,
            **method.arguments(),
            layers=layers,
            progress=shown,
        )
    return QuantizedModule(core, onnx_bytes if keep_onnx else None, rounding, report)


def _to_onnx_bytes(model: Any, inputs: tuple) -> bytes:
    if isinstance(model, (bytes, bytearray)):
        return bytes(model)
    if hasattr(model, "SerializeToString"):
        return model.SerializeToString()
    from .export import export_onnx

    return export_onnx(model, [to_numpy(value, "torch_inputset") for value in inputs])


def _is_onnx(model: Any) -> bool:
    return isinstance(model, (str, os.PathLike, bytes, bytearray)) or hasattr(model, "SerializeToString")


def _check_torch_model(model: Any, needs_brevitas: bool) -> None:
    import torch

    from .export import brevitas_layers

    if not isinstance(model, torch.nn.Module):
        raise RefusedType(f"a torch.nn.Module expected, got {type(model).__name__}", "torch_model")
    layers = brevitas_layers(model)
    if needs_brevitas and not layers:
        raise RefusedArgument("the network has no Brevitas layer", "torch_model", "compile_torch_model")
    if not needs_brevitas and layers:
        raise RefusedArgument(
            f"the network has Brevitas layers ({', '.join(layers[:3])})", "torch_model", "compile_brevitas_qat_model"
        )


def bits_of(n_bits: int | dict[str, int]) -> list[int]:
    """[op_inputs, op_weights, model_inputs, model_outputs]"""
    if isinstance(n_bits, dict):
        known = ("op_inputs", "op_weights", "model_inputs", "model_outputs")
        unknown = sorted(set(n_bits) - set(known))
        missing = [name for name in known[:2] if name not in n_bits]
        if unknown or missing:
            raise UnknownKey(
                f"n_bits needs op_inputs and op_weights, and may have model_inputs and model_outputs; unknown: {unknown}, "
                f"missing: {missing}",
                "n_bits",
            )
        bits = {name: _one_number(value, f"n_bits[{name!r}]") for name, value in n_bits.items()}
        op_inputs = bits["op_inputs"]
        outputs = bits.get("model_outputs", max(DEFAULT_MODEL_BITS, op_inputs))
        if outputs < op_inputs:
            raise RefusedArgument(f"model_outputs ({outputs}) is less than op_inputs ({op_inputs})", "n_bits")
        return [op_inputs, bits["op_weights"], bits.get("model_inputs", DEFAULT_MODEL_BITS), outputs]
    bits = _one_number(n_bits, "n_bits")
    model_bits = max(DEFAULT_MODEL_BITS, bits)
    return [bits, bits, model_bits, model_bits]


def _qat_bits(n_bits: int | dict[str, int] | None) -> list[int]:
    if isinstance(n_bits, dict):
        if set(n_bits) != {"model_inputs", "model_outputs"}:
            raise UnknownKey(
                f"n_bits must have model_inputs and model_outputs and nothing else, got {sorted(n_bits)}", "n_bits"
            )
        inputs = _one_number(n_bits["model_inputs"], "n_bits['model_inputs']")
        outputs = _one_number(n_bits["model_outputs"], "n_bits['model_outputs']")
        return [MAX_BITWIDTH_BACKWARD_COMPATIBLE, MAX_BITWIDTH_BACKWARD_COMPATIBLE, inputs, outputs]
    return [_one_number(MAX_BITWIDTH_BACKWARD_COMPATIBLE if n_bits is None else n_bits, "n_bits")] * 4


def _one_number(value: Any, where: str) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise WrongDtype(f"a number of bits expected, got {value!r}", where)
    bits = int(value)
    if not 1 <= bits <= 32:
        raise UnsupportedBits(f"{bits} bits; 1 to 32 are supported", where)
    return bits


__all__ = [
    "build_quantized_module",
    "compile_brevitas_qat_model",
    "compile_onnx_model",
    "compile_torch_model",
]
