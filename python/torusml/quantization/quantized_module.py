"""A network with quantizers on it: runs in the clear, and on encrypted data once it is compiled.

    module = compile_torch_model(net, calibration, n_bits=6)
    module.forward(x)                               # floats to floats, integers inside
    module.forward(x, fhe="execute")                # the same on encrypted data

    q = module.quantize_input(x)                    # step by step
    q_y = module.fhe_circuit.encrypt_run_decrypt(q)
    y = module.dequantize_output(q_y)

All of them take batches: the first axis.
"""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import numpy as np

from .. import _core, progress
from ..arrays import one_or_tuple, to_floats, to_integers
from ..compiled_model import CompiledModel, limits_if
from ..errors import (
    InvalidArgument,
    NotCompiled,
    NotSupported,
    PErrorOutOfRange,
    UnknownKey,
    UnknownOption,
    UnsupportedBits,
    WrongDtype,
    WrongShape,
)
from ..precision import PrecisionSearch
from .quantizers import QuantizationOptions, UniformQuantizationParameters, UniformQuantizer

_FHE_MODES = ("disable", "simulate", "execute")


class QuantizedModule:
    """Made by torusml.torch.compile.build_quantized_module and by the functions that compile."""

    def __init__(
        self,
        core: _core.QuantizedModule,
        onnx_bytes: bytes | None = None,
        rounding: str = "",
        bits_report: dict[str, Any] | None = None,
    ):
        self._core = core
        self._bits_report = bits_report
        self._rounding = rounding  # "" or "6:exact"
        self._onnx_bytes = onnx_bytes
        self._compiled: CompiledModel | None = None
        self._compilation: tuple | None = None  # inputs, options, target

    # What is inside.

    @property
    def bits_report(self) -> dict[str, Any] | None:
        """What bits "auto" chose: layers {name: (bits of inputs, of weights)}, criterion, loss on held out samples,
        most_loss, samples, trials; None where bits were given."""
        return self._bits_report

    @property
    def input_quantizers(self) -> list[UniformQuantizer]:
        return [UniformQuantizer._from_core(spec["quantizer"]) for spec in self._core.inputs]

    @property
    def output_quantizers(self) -> list[UniformQuantizer]:
        """Scale and zero point of each output; the integers are accumulators, as they leave the circuit."""
        return [output_quantizer(spec) for spec in self._core.outputs]

    @property
    def ordered_module_input_names(self) -> tuple[str, ...]:
        return tuple(spec["name"] for spec in self._core.inputs)

    @property
    def ordered_module_output_names(self) -> tuple[str, ...]:
        return tuple(spec["name"] for spec in self._core.outputs)

    @property
    def onnx_model(self) -> Any:
        """The network as it was read, an onnx.ModelProto; None if it was not kept."""
        if self._onnx_bytes is None:
            return None
        import onnx

        return onnx.load_model_from_string(self._onnx_bytes)

    def __str__(self) -> str:
        return self._core.circuit_text(False)

    # Floats and integers.

    def quantize_input(self, *x: Any, dtype: type = np.int64) -> Any:
        """Integers of floats, one array per input of the network; None stays None."""
        self._check_count(x, self._core.inputs, "inputs")
        names = self.ordered_module_input_names
        return one_or_tuple(
            [
                None if value is None else self._core.quantize_input(i, to_floats(value, names[i])).astype(dtype)
                for i, value in enumerate(x)
            ]
        )

    def dequantize_output(self, *q: Any) -> Any:
        """Floats of the integers that leave the network."""
        self._check_count(q, self._core.outputs, "outputs")
        names = self.ordered_module_output_names
        return one_or_tuple(self._core.dequantize_outputs([to_integers(value, names[i]) for i, value in enumerate(q)]))

    def forward(
        self, *x: Any, fhe: str = "disable", debug: bool = False, threads: int = 0, memory_limit_bytes: int = 0
    ) -> Any:
        """Floats to floats. fhe: "disable" (exact integers in the clear), "simulate" (with the noise of encryption) or
        "execute" (encrypted). debug, in the clear only, adds a dictionary with the integers of every layer. threads and
        memory_limit_bytes, encrypted only, are those of torusml.Server."""
        _check_mode(fhe)
        limits = limits_if(fhe == "execute", 'fhe="execute"', threads, memory_limit_bytes)
        if debug and fhe != "disable":
            raise InvalidArgument(f'debug needs fhe="disable", got fhe={fhe!r}', "debug")
        q_x = self.quantize_input(*x)
        q_x = q_x if isinstance(q_x, tuple) else (q_x,)
        q_y = self.quantized_forward(*q_x, fhe=fhe, **limits)
        y = self.dequantize_output(*(q_y if isinstance(q_y, tuple) else (q_y,)))
        return (y, self._core.run_clear_layers(self._integers(q_x))) if debug else y

    def __call__(self, *x: Any) -> Any:
        return self.forward(*x)

    def quantized_forward(self, *q_x: Any, fhe: str = "disable", threads: int = 0, memory_limit_bytes: int = 0) -> Any:
        """Integers to integers, see forward."""
        _check_mode(fhe)
        limits = limits_if(fhe == "execute", 'fhe="execute"', threads, memory_limit_bytes)
        self._check_count(q_x, self._core.inputs, "inputs")
        integers = self._integers(q_x)
        if fhe == "disable":
            return one_or_tuple(self._core.run_clear(integers))
        self.check_model_is_compiled()
        if fhe == "simulate":
            return self.fhe_circuit.simulate(*integers)
        return self.fhe_circuit.encrypt_run_decrypt(*integers, **limits)

    def flip_counts(self, *x: Any, seed: int | None = None) -> dict[str, dict[str, int]]:
        """Floats to counts: what goes wrong at the lookups of a simulated run, see CompiledModel.flip_counts."""
        self.check_model_is_compiled()
        q_x = self.quantize_input(*x)
        return self.fhe_circuit.flip_counts(*(q_x if isinstance(q_x, tuple) else (q_x,)), seed=seed)

    def post_processing(self, values: np.ndarray) -> np.ndarray:
        """What a client does with the floats: nothing, for networks."""
        return values

    def _integers(self, q_x: tuple) -> list[np.ndarray]:
        names = self.ordered_module_input_names
        return [to_integers(value, names[i]) for i, value in enumerate(q_x)]

    @staticmethod
    def _check_count(given: tuple, expected: list, what: str) -> None:
        if len(given) != len(expected):
            names = ", ".join(spec["name"] for spec in expected)
            raise WrongShape(f"{len(given)} {what} given, the network has {len(expected)}: {names}", what)

    # Compilation.

    def compile(
        self,
        inputs: Any,
        configuration: Any = None,
        artifacts: Any = None,
        show_mlir: bool = False,
        p_error: float | None = None,
        global_p_error: float | None = None,
        verbose: bool = False,
        inputs_encryption_status: Any = None,
        device: str = "cpu",
        *,
        precision: str | None = None,
        tolerance: float | None = None,
        profile: str = "private_results",
        security_level: int = 128,
        parameters: str = "catalogue",
        max_key_sets: int = 2,
        pack_outputs: str = "auto",
        layers: dict[str, str | float] | None = None,
        search: PrecisionSearch | None = None,
    ) -> CompiledModel:
        """Chooses parameters for the ranges that `inputs` (floats) reach, and gives the circuit.

        p_error: of each table lookup and each output value (default 2^-40); global_p_error: of a whole sample.
        precision: "exact" (the default); "tolerant", which keeps more bits and lets values near the step of a table take
        the neighbouring one, tolerance being then the noise as a fraction of the interval; or "auto", the fastest choice
        for each layer with which simulated results agree with exact ones as `search` asks. A module that rounds brings its
        own precision: rounded, or tolerant. layers: by the name of a lookup or output, in place of precision: "exact",
        "tolerant", or a tolerance. profile: "private_results", or "shared_results" where others than the key's owner see
        results. parameters: "catalogue", whose published key sets models share, or "custom", which searches freely.
        inputs_encryption_status: "encrypted" or "clear" for each input; a clear one travels as integers that the server can
        read, and what depends on such inputs alone takes no lookups. max_key_sets: 1, or 2 where demanding lookups may have
        a key set of their own if that saves enough time. pack_outputs: whether results travel many in a ciphertext, "auto"
        where the key set has the keys for it anyway, "on" with a key set that has them added, or "off". verbose prints the
        circuit and its plan.
        """
        refuse_foreign_arguments(configuration, artifacts, show_mlir, device)
        clear = clear_inputs(inputs_encryption_status, self.ordered_module_input_names)
        options = plan_options(
            p_error, global_p_error, precision, tolerance, profile, security_level, parameters, max_key_sets,
            pack_outputs, layers, search, self._rounding,
        )  # fmt: skip
        values = inputs if isinstance(inputs, tuple) else (inputs,)
        self._check_count(values, self._core.inputs, "inputs")
        names = self.ordered_module_input_names
        arrays = [to_floats(value, names[i]) for i, value in enumerate(values)]
        arguments = (search or PrecisionSearch()).arguments(len(arrays[0]))
        with progress.bar("trials of precision") as shown:
            core = self._core.compile(
                arrays, options, **arguments, clear_inputs=clear, progress=shown, after_pass=None
            )  # fmt: skip
        for output in core.constant_outputs:
            warnings.warn(
                f"output '{output}' is the same for all inputs; more bits, or calibration data of more variety",
                RuntimeWarning,
                stacklevel=2,
            )
        self._compiled = CompiledModel(core)
        self._compilation = (arrays, options, arguments)
        if verbose:
            print(self._compiled)
            print(self._compiled.plan_text())
        return self._compiled

    @property
    def is_compiled(self) -> bool:
        return self._compiled is not None

    def check_model_is_compiled(self) -> None:
        if self._compiled is None:
            raise NotCompiled("the network is quantized but not compiled", hint="quantized_module.compile(inputs)")

    @property
    def fhe_circuit(self) -> CompiledModel:
        """The compiled circuit and its keys."""
        self.check_model_is_compiled()
        return self._compiled

    def report_html(self, path: Any) -> None:
        """Writes a page about the compiled network, see CompiledModel.report_html."""
        self.fhe_circuit.report_html(path)

    def estimate(self, batch: int = 32, threads: int = 0, cores: int | None = None, changes: int = 3) -> dict[str, Any]:
        """What encrypted runs will take, before there are keys; in seconds of work.

        Times of one sample and of a batch on this machine, measured on some lookups of each kind, and scaled to `cores`
        like its own; bytes of ciphertexts and memory (those of keys are in fhe_circuit.statistics); how near simulated
        results come to the float network's on calibration samples (share of equal largest outputs, or 1 - relative
        error); and up to `changes` changes that would save time, each compiled and simulated.
        """
        self.check_model_is_compiled()
        numbers_given = {"batch": batch, "threads": threads, "cores": 0 if cores is None else cores, "changes": changes}
        for name, value in numbers_given.items():
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise WrongDtype(f"a whole number expected, got {value!r}", name)
            if value < (1 if name == "batch" or (name == "cores" and cores is not None) else 0):
                raise InvalidArgument(f"{name} is {value}, which is too small", name)
        arrays, options, arguments = self._compilation
        with progress.bar("estimates") as shown:
            return _core.estimate(
                self._core, self._compiled._core, arrays, options, **arguments, batch=batch, threads=threads,
                cores=cores or 0, most_changes=changes, progress=shown,
            )  # fmt: skip

    forward_fhe = fhe_circuit  # the name of older documents

    def bitwidth_and_range_report(self) -> dict[str, dict] | None:
        """By layer: "range" that the encoding is built for, its "bitwidth", and the "calibrated" and "guaranteed"
        ranges, all of them with channels shifted and scaled as they are encoded. None before compilation."""
        if self._compiled is None:
            return None
        return {report.pop("name"): report for report in self._core.ranges}


def output_quantizer(spec: dict) -> UniformQuantizer:
    is_signed = spec["interval"][0] < 0
    n_bits = min(max(spec["bits"], 1), 32)
    params = UniformQuantizationParameters(
        _for_shape(spec["scale"], spec["shape"]),
        _for_shape(spec["zero_point"], spec["shape"]),
        2 ** (n_bits - 1) if is_signed else 0,
    )
    return UniformQuantizer(QuantizationOptions(n_bits, is_signed), params=params, no_clipping=True)


def _for_shape(values: list[float], shape: list[int]) -> Any:
    """A number, one for each channel of the last axis, or one for each element in their shape."""
    if len(values) == 1:
        return values[0]
    return np.array(values).reshape(shape if len(values) == math.prod(shape) else -1)


def refuse_foreign_arguments(configuration: Any, artifacts: Any, show_mlir: bool, device: str) -> None:
    """Arguments of Concrete ML that have no meaning here."""
    if configuration is not None:
        raise NotSupported(
            "a configuration object",
            "configuration",
            "precision=, tolerance=, profile=, security_level=, parameters=, p_error=",
        )
    if artifacts is not None:
        raise NotSupported("an artifacts folder", "artifacts", "verbose=True prints the circuit and its plan")
    if show_mlir:
        raise NotSupported("there is no MLIR", "show_mlir", "verbose=True prints the circuit and its plan")
    if device == "cuda":
        raise NotSupported('device="cuda"', "device", 'device="cpu"')
    if device != "cpu":
        raise UnknownOption(f'device {device!r}; "cpu" is known', "device")


def check_encryption_status(status: Any, input_count: int) -> None:
    if status is None:
        return
    status, where = tuple(status), "inputs_encryption_status"
    if len(status) != input_count:
        raise InvalidArgument(f"{len(status)} values given, the network has {input_count} inputs", where)
    wrong = [value for value in status if value not in ("encrypted", "clear")]
    if wrong:
        raise UnknownOption(f'{wrong[0]!r} is neither "encrypted" nor "clear"', where)
    if "encrypted" not in status:
        raise InvalidArgument("at least one input must be encrypted", where)


def clear_inputs(status: Any, names: tuple[str, ...]) -> list[str]:
    """The inputs that travel in the clear, by name."""
    check_encryption_status(status, len(names))
    return [name for name, value in zip(names, status or (), strict=False) if value == "clear"]


def plan_options(
    p_error: float | None,
    global_p_error: float | None,
    precision: str | None,
    tolerance: float | None,
    profile: str,
    security_level: int,
    parameters: str,
    max_key_sets: int = 2,
    pack_outputs: str = "auto",
    layers: dict[str, str | float] | None = None,
    search: PrecisionSearch | None = None,
    rounding: str = "",
) -> _core.PlanOptions:
    if precision is None and not rounding:
        precision = "exact"
    if search is not None and not isinstance(search, PrecisionSearch):
        raise WrongDtype(f"a PrecisionSearch expected, got {search!r}", "search")
    if search is not None and precision != "auto":
        given = f'"{precision}"' if precision else "rounding"
        raise InvalidArgument(f'a target is for precision "auto", not {given}', "search", 'precision="auto"')
    if tolerance is not None and precision == "auto":
        raise InvalidArgument('precision "auto" chooses tolerances itself', "tolerance", 'precision="tolerant", or layers=')
    if p_error is not None and global_p_error is not None:
        raise InvalidArgument("p_error and global_p_error exclude each other", "p_error")
    for name, value in (("p_error", p_error), ("global_p_error", global_p_error), ("tolerance", tolerance)):
        if value is not None and not isinstance(value, numbers.Real):
            raise WrongDtype(f"a number expected, got {value!r}", name)
    if not isinstance(security_level, numbers.Integral):
        raise WrongDtype(f"a number of bits expected, got {security_level!r}", "security_level")
    if not isinstance(max_key_sets, numbers.Integral):
        raise WrongDtype(f"a number of key sets expected, got {max_key_sets!r}", "max_key_sets")
    if not 1 <= max_key_sets <= 2:
        raise InvalidArgument(f"max_key_sets is {max_key_sets}; a plan has 1 or 2 key sets", "max_key_sets")
    for name, value in (("p_error", p_error), ("global_p_error", global_p_error)):
        if value is not None and not 0 < value < 1:
            raise PErrorOutOfRange(f"{name} is {value}; it must lie between 0 and 1", name)
    options = _core.PlanOptions(
        _core.precision_with("" if precision is None else str(precision), rounding),
        str(profile),
        float(p_error or 0),
        float(global_p_error or 0),
        _core.default_tolerance if tolerance is None else float(tolerance),
        int(security_level),
        str(parameters),
        int(max_key_sets),
        str(pack_outputs),
        layer_precisions(layers),
    )
    _core.check_rounding(options, rounding)
    return options


def rounding_text(value: Any, where: str = "rounding_threshold_bits") -> str:
    """ "6:exact" of 6, {"n_bits": 6} or {"n_bits": 6, "method": "EXACT"}; "" of None."""
    if value is None:
        return ""
    method: Any = "exact"
    if isinstance(value, dict):
        unknown = sorted(str(key) for key in set(value) - {"n_bits", "method"})
        if unknown or "n_bits" not in value:
            raise UnknownKey(
                f"rounding needs n_bits and may have method; unknown: {unknown}, "
                f"missing: {[] if 'n_bits' in value else ['n_bits']}",
                where,
            )
        value, method = value["n_bits"], value.get("method", "exact")
    if value == "auto":
        raise NotSupported("rounding to a number of bits found automatically", where, 'precision="auto"')
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InvalidArgument(f"a number of bits or a dictionary expected, got {value!r}", where)
    if not 2 <= value <= 8:
        raise UnsupportedBits(f"rounding to {value} bits; 2 to 8 are supported", where, "None keeps all bits")
    names = [method, getattr(method, "name", None), getattr(method, "value", None)]
    for name in names:
        if isinstance(name, str) and name.lower() in ("exact", "approximate"):
            return f"{int(value)}:{name.lower()}"
    raise UnknownOption(f"rounding method {method!r} is not known", where, '"EXACT" or "APPROXIMATE"')


def layer_precisions(layers: dict[str, str | float] | None) -> dict[str, tuple[str, float]]:
    if layers is None:
        return {}
    if not isinstance(layers, dict):
        raise WrongDtype(f"a dictionary of layers expected, got {layers!r}", "layers")
    precisions = {}
    for name, value in layers.items():
        is_tolerance = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not isinstance(name, str) or not (is_tolerance or isinstance(value, str)):
            raise WrongDtype(f'{name!r}: {value!r}; "exact", "tolerant" or a tolerance expected', "layers")
        precisions[name] = ("tolerant", float(value)) if is_tolerance else (value, 0.0)
    return precisions


def _check_mode(fhe: str) -> None:
    if fhe not in _FHE_MODES:
        raise UnknownOption(f"fhe={fhe!r}; known are {', '.join(_FHE_MODES)}", "fhe")
