"""What a network does with its activations, read off a torch.fx trace: which operators need quantized operands, and where
the values that they read come from.

    trace = Trace(net)
    for node in trace.graph.nodes:
        if trace.role(node) is Role.LINEAR:
            sources = [trace.source(operand) for operand in trace.operands(node)]
"""

from __future__ import annotations

import enum
import inspect
import traceback

import torch
from brevitas.nn.mixin.base import QuantLayerMixin
from torch import fx, nn

from ..errors import NotSupported

# Children by which to_qat adds quantizers to modules: see qat.py.
RESULT, OPERAND, INPUT = "result_quant", "operand_quant", "input_quant"


class Role(enum.Enum):
    """What a node is to quantization. Operands of LINEAR, SUM, AVERAGE and EXTREMUM must be integers on encrypted data."""

    INPUT = enum.auto()
    QUANTIZER = enum.auto()
    LINEAR = enum.auto()  # a module with weights
    SUM = enum.auto()  # sums, concatenations and maxima of several activations
    AVERAGE = enum.auto()
    EXTREMUM = enum.auto()  # of rows of one activation; values of a grid, too
    PASSES = enum.auto()  # values on a grid stay on it
    FUNCTION = enum.auto()  # of one activation, element by element
    OTHER = enum.auto()  # constants, shapes, the output


_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_AVERAGES = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
)  # fmt: skip
_PASSES = (
    nn.Identity, nn.Flatten, nn.Unflatten, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout,
    nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
    nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
)  # fmt: skip
# Functions and methods go by their names.
_OF_SEVERAL_NAMES = {"add", "add_", "iadd", "sub", "sub_", "isub", "maximum", "minimum", "max", "min"}
_SUM_NAMES = {*_OF_SEVERAL_NAMES, "cat", "concat", "concatenate", "stack", "hstack", "vstack"}
_EXTREMUM_NAMES = {"amax", "amin", "max", "min", "topk", "sort"}
_AVERAGE_NAMES = {
    "mean", "sum", "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
}  # fmt: skip
# Elements change their places, which only integers can on encrypted data.
_MOVES_NAMES = {
    "chunk", "expand", "getitem", "movedim", "narrow", "pad", "permute", "select", "split", "swapaxes", "t", "transpose",
    "unbind",
}  # fmt: skip
_PASSES_NAMES = _MOVES_NAMES | {
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "clone", "contiguous", "detach", "dropout",
    "dropout1d", "dropout2d", "dropout3d", "flatten", "float", "max_pool1d", "max_pool2d", "max_pool3d", "ravel", "reshape",
    "squeeze", "to", "unflatten", "unsqueeze", "view",
}  # fmt: skip
_SHAPE_NAMES = {"size", "dim", "numel", "len"}
_BY_HAND = "or quantizers by hand"
_NO_SOFTMAX = f"no softmax, which can run on decrypted results, {_BY_HAND}"
_NORM = f"batch normalization, {_BY_HAND}"
_REFUSED_NAMES = {
    "linear": "an nn.Linear", "bilinear": "an nn.Linear", "matmul": "an nn.Linear", "mm": "an nn.Linear",
    "bmm": "an nn.Linear", "addmm": "an nn.Linear", "einsum": "an nn.Linear", "conv1d": "an nn.Conv1d",
    "conv2d": "an nn.Conv2d", "conv3d": "an nn.Conv3d", "softmax": _NO_SOFTMAX, "log_softmax": _NO_SOFTMAX,
    "logsumexp": _NO_SOFTMAX, "scaled_dot_product_attention": "another layer", "layer_norm": _NORM, "group_norm": _NORM,
    "instance_norm": _NORM,
}  # fmt: skip
_REFUSED = {
    nn.Softmax: _NO_SOFTMAX, nn.LogSoftmax: _NO_SOFTMAX, nn.LayerNorm: _NORM, nn.GroupNorm: _NORM,
    nn.RNNBase: "linear layers", nn.MultiheadAttention: "linear layers",
    nn.Embedding: "one-hot inputs and an nn.Linear", nn.Bilinear: "an nn.Linear",
    nn.ConvTranspose1d: "a Linear or Conv layer", nn.ConvTranspose2d: "a Linear or Conv layer",
    nn.ConvTranspose3d: "a Linear or Conv layer",
}  # fmt: skip
_TORCH = torch.__path__[0]
_NON_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
_NON_NEGATIVE_NAMES = {"relu", "relu_", "relu6", "sigmoid", "hardsigmoid", "softplus", "abs", "exp", "square"}


class _Tracer(fx.Tracer):
    record_stack_traces = True

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, (QuantLayerMixin, *_LINEAR)) or super().is_leaf_module(module, qualified_name)


class Trace:
    """Errors: not_supported, naming the line, for forward passes that torch.fx cannot follow and for operators that have no
    twin in Brevitas."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.modules = dict(model.named_modules())
        self.graph = self._trace()
        self._roles: dict[fx.Node, Role] = {}
        self._roots: dict[fx.Node, fx.Node] = {}  # of tensors that depend on the inputs
        for node in self.graph.nodes:
            self._add(node)

    def role(self, node: fx.Node) -> Role:
        return self._roles[node]

    def operands(self, node: fx.Node) -> list[fx.Node]:
        """Activations among the arguments, in order, each once."""
        return [argument for argument in node.all_input_nodes if argument in self._roots]

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[node.target] if node.op == "call_module" else None

    def moves(self, node: fx.Node) -> bool:
        """Whether elements change their places."""
        return self._roles[node] is Role.PASSES and node.op != "call_module" and name_of(node) in _MOVES_NAMES

    def source(self, node: fx.Node) -> fx.Node:
        """The node whose values these are, moved or left out at most."""
        while self._roles[node] in (Role.PASSES, Role.EXTREMUM) and not self._is_quantized_behind(node):
            node = self.operands(node)[0]
        return node

    def quantizer(self, operand: fx.Node, reader: fx.Node) -> nn.Module | None:
        """The quantizer on whose grid `reader` finds this operand; None if there is none."""
        module = self.module(reader)
        own = getattr(module, OPERAND, None)
        if own is not None:
            return own.act_quant
        proxy = getattr(module, "input_quant", None) if isinstance(module, QuantLayerMixin) else None
        if proxy is not None and proxy.is_quant_enabled:
            return proxy
        source = self.source(operand)
        module = self.module(source)
        if source.op == "placeholder":
            return _act_quant(self._input_quantizer(source))
        if module is None:
            return None
        if self._is_quantized_behind(source):
            return getattr(module, RESULT).act_quant
        for name in ("act_quant", "output_quant", "trunc_quant"):
            proxy = getattr(module, name, None) if isinstance(module, QuantLayerMixin) else None
            if proxy is not None and proxy.is_quant_enabled:
                return proxy
        return None

    def is_non_negative(self, node: fx.Node) -> bool:
        module = self.module(node)
        if self._is_quantized_behind(node):
            return not getattr(module, RESULT).act_quant.is_signed
        if self._roles[node] is Role.QUANTIZER:
            return not (_act_quant(module) or module.output_quant).is_signed
        if isinstance(module, _NON_NEGATIVE) or (module is None and name_of(node) in _NON_NEGATIVE_NAMES):
            return True
        keeps_sign = self._roles[node] in (Role.PASSES, Role.AVERAGE, Role.EXTREMUM)
        if self._roles[node] is Role.SUM:
            keeps_sign = "sub" not in name_of(node)
        return keeps_sign and all(self.is_non_negative(operand) for operand in self.operands(node))

    def _is_quantized_behind(self, node: fx.Node) -> bool:
        return getattr(self.module(node), RESULT, None) is not None

    def _input_quantizer(self, node: fx.Node) -> nn.Module | None:
        for hook in self.model._forward_pre_hooks.values():
            names = {name: key for key, (_, name) in getattr(hook, "positions", {}).items()}
            if node.target in names:
                return getattr(self.model, names[node.target])
        return None

    def _trace(self) -> fx.Graph:
        parameters = inspect.signature(self.model.forward).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}
        try:
            return _Tracer().trace(self.model, defaults or None)
        except Exception as error:  # whatever a forward pass raises on proxies
            raise NotSupported(
                f"torch.fx cannot follow the forward pass: {str(error).strip().splitlines()[0] if str(error) else error!r}",
                _line_of(error) or type(self.model).__name__,
                "a forward pass without branches on values, or Brevitas layers put in by hand (docs/qat.md)",
            ) from error

    def _add(self, node: fx.Node) -> None:
        self._roles[node] = role = self._find_role(node)
        if role is Role.OTHER:
            return
        by_element = role in (Role.QUANTIZER, Role.PASSES, Role.FUNCTION)
        mixes = not by_element or self.moves(node) or len(self._operand_roots(node)) != 1
        self._roots[node] = node if mixes else self._operand_roots(node)[0]

    def _operand_roots(self, node: fx.Node) -> list[fx.Node]:
        return list(dict.fromkeys(self._roots[operand] for operand in self.operands(node)))

    def _find_role(self, node: fx.Node) -> Role:
        if node.op == "placeholder":
            return Role.INPUT
        if node.op in ("output", "get_attr") or not self.operands(node):
            return Role.OTHER
        return self._role_of_module(node) if node.op == "call_module" else self._role_of_function(node)

    def _role_of_module(self, node: fx.Node) -> Role:
        module = self.modules[node.target]
        for kind, instead in _REFUSED.items():
            if isinstance(module, kind):
                raise NotSupported(f"{type(module).__name__} on encrypted data", place_of(node), instead)
        if isinstance(module, _LINEAR):
            return Role.LINEAR
        if isinstance(module, QuantLayerMixin):
            is_average = hasattr(module, "trunc_quant")
            is_sum = not is_average and _act_quant(module) is None
            return Role.AVERAGE if is_average else Role.SUM if is_sum else Role.QUANTIZER
        if isinstance(module, _AVERAGES):
            return Role.AVERAGE
        return Role.PASSES if isinstance(module, _PASSES) else Role.FUNCTION

    def _role_of_function(self, node: fx.Node) -> Role:
        name = name_of(node)
        if name in _SHAPE_NAMES or name.startswith("_assert") or (name == "getattr" and node.args[1] != "value"):
            return Role.PASSES if name == "getattr" and node.args[1] == "T" else Role.OTHER
        if name in _REFUSED_NAMES:
            raise NotSupported(f"the function '{name}' in a network to be quantized", place_of(node), _REFUSED_NAMES[name])
        if name in _AVERAGE_NAMES:
            return Role.AVERAGE
        if name in _EXTREMUM_NAMES and len(self.operands(node)) == 1:
            return Role.EXTREMUM
        if name in _SUM_NAMES:
            is_sum = len(self._operand_roots(node)) > 1 or name not in _OF_SEVERAL_NAMES
            return Role.SUM if is_sum else Role.FUNCTION
        return Role.PASSES if name in _PASSES_NAMES or name == "getattr" else Role.FUNCTION


def name_of(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def place_of(node: fx.Node) -> str:
    """The node and, where it is known, its line: "node 'add', net.py line 12: x = x + y"."""
    lines = [line.strip() for line in (node.stack_trace or "").splitlines()]
    frames = [i for i, line in enumerate(lines) if line.startswith("File ") and _TORCH not in line]
    if not frames:
        return f"node '{node.name}'"
    file, line = lines[frames[-1]].removeprefix("File ").split(", ")[:2]
    code = "".join(lines[frames[-1] + 1 : frames[-1] + 2])
    return f"node '{node.name}', {_short(file.strip(chr(34)))} {line}: {code}"


def _line_of(error: Exception) -> str:
    """The last line of the network's own code that the error went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_TORCH, __file__, "<eval"))]
    return f"{_short(frames[-1].filename)} line {frames[-1].lineno}: {frames[-1].line}" if frames else ""


def _short(path: str) -> str:
    return path.replace("\\", "/").rsplit("/", 1)[-1]


def _act_quant(module: nn.Module | None) -> nn.Module | None:
    proxy = getattr(module, "act_quant", None)
    return proxy if proxy is not None and proxy.is_quant_enabled else None
