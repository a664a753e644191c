"""A network of floats becomes its twin for quantization-aware training with Brevitas.

    net = to_qat(float_net, bits=3, non_zero=30)     # weights copied; nothing of float_net changes
    train(net)                                        # the usual loop, a smaller learning rate perhaps
    module = compile_brevitas_qat_model(net, calibration)

Modules are replaced by name in a copy: their names, and with them the keys of state_dict, stay. docs/qat.md has the table of
replacements.
"""

from __future__ import annotations

import copy
import math
import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.quant import (
    Int8ActPerTensorFloat,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFloat,
    Uint8ActPerTensorFloat,
)
from torch import fx, nn

from ..errors import InvalidArgument, NotSupported, RefusedType, UnknownKey, UnsupportedBits
from .pruning import apply_mask, keep_largest, mask_of
from .trace import INPUT, OPERAND, RESULT, Role, Trace, place_of

# Brevitas watches this many batches before it trains a quantizer's scale.
OBSERVED_BATCHES = 20

_LAYERS = {nn.Linear: qnn.QuantLinear, nn.Conv1d: qnn.QuantConv1d, nn.Conv2d: qnn.QuantConv2d, nn.Conv3d: qnn.QuantConv3d}
_ACTIVATIONS = {
    nn.ReLU: qnn.QuantReLU,
    nn.Sigmoid: qnn.QuantSigmoid,
    nn.Tanh: qnn.QuantTanh,
    nn.Hardtanh: qnn.QuantHardTanh,
}
_ROLES = ("op_weights", "op_inputs", "model_inputs")


def to_qat(
    model: nn.Module,
    bits: int | dict[str, int] = 3,
    non_zero: int | dict[str, int] | None = None,
    *,
    input_range: float | None = None,
    per_channel: bool = False,
    return_quant_tensor: bool = False,
) -> nn.Module:
    """A copy of `model` in which every operand of a linear map, a sum, an average or an extremum passes a quantizer.

    bits: of weights and activations, or a dictionary of op_weights, op_inputs (activations) and model_inputs (op_inputs
    unless given). non_zero: how many inputs of each neuron stay, those of the largest weights; the others are pruned by
    masks of torch.nn.utils.prune. A dictionary says it by layer name. input_range: quantizers of the network's inputs go
    from -input_range to the step below input_range, and stay so; unless given, training finds it. per_channel: a weight
    scale for each output channel. return_quant_tensor: Brevitas' quantizers hand on their integers beside the values; only
    for networks of modules.

    Linear and Conv become QuantLinear and QuantConv, ReLU, Sigmoid, Tanh and Hardtanh their quantized kin where a linear map
    reads them; behind other modules, before modules that read a function's result, and at the inputs QuantIdentity is called
    by hooks. So the forward code stays, unless it adds or concatenates activations, or averages the result of a function:
    then the copy is a torch.fx.GraphModule with the same submodules. Brevitas layers are left as they are; what is
    quantized once is not quantized again, but for sums, whose operands need one step.

    Errors: not_supported, naming the line, where torch.fx cannot follow the forward pass, for subclasses of layers, and for
    operators without a twin in Brevitas; unsupported_bits, invalid_argument.
    """
    if not isinstance(model, nn.Module):
        raise RefusedType(f"a torch.nn.Module expected, got {type(model).__name__}", "model")
    widths = _widths(bits)
    twin = _copy_of(model)
    plan = _Plan(Trace(twin))
    if input_range is not None and not plan.inputs:
        raise InvalidArgument("no quantizer is added at an input", "input_range", "a network that reads floats")
    twin = _Rewriter(twin, plan, widths, per_channel, return_quant_tensor, _checked_range(input_range)).run()
    if non_zero is not None:
        _prune(twin, non_zero)
    return twin.train(model.training)


class _Plan:
    """What must be quantized where, read off a trace."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.inputs: list[fx.Node] = []
        self.modules: list[fx.Node] = []  # quantized behind
        self.operands: dict[fx.Node, list[fx.Node]] = {}  # results of functions, and the modules that read them
        self.functions: list[fx.Node] = []  # results of functions that functions read
        self.sums: list[fx.Node] = []
        for node in trace.graph.nodes:
            if trace.role(node) is Role.SUM and node.op != "call_module":
                if not self._shares_quantizer(node):
                    self.sums.append(node)
            elif trace.role(node) in (Role.LINEAR, Role.SUM, Role.AVERAGE, Role.EXTREMUM) or trace.moves(node):
                for operand in trace.operands(node):
                    self._need(operand, node)

    def _shares_quantizer(self, node: fx.Node) -> bool:
        quantizers = [self.trace.quantizer(operand, node) for operand in self.trace.operands(node)]
        return quantizers[0] is not None and all(quantizer is quantizers[0] for quantizer in quantizers)

    def _need(self, operand: fx.Node, reader: fx.Node) -> None:
        if self.trace.quantizer(operand, reader) is not None:
            return
        source = self.trace.source(operand)
        if source.op == "placeholder":
            _append(self.inputs, source)
        elif source.op == "call_module":
            _append(self.modules, source)
        elif reader.op == "call_module":
            _append(self.operands.setdefault(source, []), reader)
        else:
            _append(self.functions, source)


class _Rewriter:
    def __init__(
        self,
        twin: nn.Module,
        plan: _Plan,
        widths: dict[str, int],
        per_channel: bool,
        quant_tensors: bool,
        input_range: float | None,
    ):
        self.twin, self.plan, self.trace = twin, plan, plan.trace
        self.widths, self.per_channel, self.quant_tensors = widths, per_channel, quant_tensors
        self.input_range = input_range

    def run(self) -> nn.Module:
        names = {node.target for node in self.trace.graph.nodes if node.op == "call_module"}
        for name in sorted(names):
            if self.trace.modules[name] in self._linear_layers():
                _replace(self.twin, self.trace.modules[name], self._layer(self.trace.modules[name], name))
        for target in dict.fromkeys(node.target for node in self.plan.modules):
            self._quantize_result(next(node for node in self.plan.modules if node.target == target))
        for source, readers in self.plan.operands.items():
            if source not in self.plan.functions:
                self._quantize_operand(source, readers)
        if self.plan.sums or self.plan.functions:
            return self._rewritten()
        self._quantize_inputs()
        return self.twin

    def _linear_layers(self) -> list[nn.Module]:
        nodes = (node for node in self.trace.graph.nodes if self.trace.role(node) is Role.LINEAR)
        layers = []
        for node in nodes:
            module = self.trace.modules[node.target]
            if type(module) in _LAYERS:
                layers.append(module)
            elif type(module).__module__.split(".")[0] != "brevitas" and not hasattr(module, "weight_quant"):
                raise NotSupported(
                    f"{type(module).__name__} has a base class with a quantized twin, but code of its own",
                    place_of(node), f"{next(kind.__name__ for kind in _LAYERS if isinstance(module, kind))}",
                )  # fmt: skip
        return layers

    def _layer(self, module: nn.Module, name: str) -> nn.Module:
        """The quantized twin of a layer, with its weights and, if it is pruned, its mask."""
        sizes = ("in_features", "out_features") if isinstance(module, nn.Linear) else _CONVOLUTION
        twin = _LAYERS[type(module)](
            **{size: getattr(module, size) for size in sizes},
            bias=module.bias is not None,
            bias_quant=None,
            weight_quant=Int8WeightPerChannelFloat if self.per_channel else Int8WeightPerTensorFloat,
            weight_bit_width=self.widths["op_weights"],
            weight_narrow_range=True,
        )
        mask = mask_of(module)
        weight = module.weight if mask is None else module.weight_orig
        if not torch.isfinite(weight).all():
            raise InvalidArgument("a weight is not finite", f"layer '{name}'", "weights of a network that was trained")
        twin = twin.to(device=weight.device, dtype=weight.dtype)
        with torch.no_grad():  # in place: the quantizer holds these very parameters
            twin.weight.copy_(weight)
            if module.bias is not None:
                twin.bias.copy_(module.bias)
        for own, old in ((twin.weight, weight), (twin.bias, module.bias)):
            if own is not None:
                own.requires_grad_(old.requires_grad)
        if mask is not None:
            apply_mask(twin, mask)
        return twin

    def _activation(self, node: fx.Node, module: nn.Module) -> nn.Module:
        options: dict[str, Any] = {}
        if isinstance(module, nn.Hardtanh):
            options = {"min_val": module.min_val, "max_val": module.max_val}
        else:
            options = {"act_collect_stats_steps": OBSERVED_BATCHES}
        return self._to_device(
            _ACTIVATIONS[type(module)](bit_width=self.widths["op_inputs"], return_quant_tensor=self.quant_tensors, **options)
        )

    def _identity(self, is_signed: bool, role: str = "op_inputs") -> qnn.QuantIdentity:
        scaling: dict[str, Any] = {"act_collect_stats_steps": OBSERVED_BATCHES}
        if role == "model_inputs" and self.input_range is not None:
            scaling = {"scaling_impl_type": "const", "scaling_init": self.input_range}
        return self._to_device(
            qnn.QuantIdentity(
                bit_width=self.widths[role],
                act_quant=Int8ActPerTensorFloat if is_signed else Uint8ActPerTensorFloat,
                return_quant_tensor=self.quant_tensors,
                **scaling,
            )
        )

    def _to_device(self, module: nn.Module) -> nn.Module:
        parameter = next((p for p in self.twin.parameters() if p.is_floating_point()), None)
        return module if parameter is None else module.to(device=parameter.device, dtype=parameter.dtype)

    def _quantize_result(self, node: fx.Node) -> None:
        module = self.trace.modules[node.target]
        if type(module) in _ACTIVATIONS:
            _replace(self.twin, module, self._activation(node, module))
            return
        module = self.twin.get_submodule(node.target)  # a layer's twin, perhaps
        module.add_module(RESULT, self._identity(not self.trace.is_non_negative(node)))
        module.register_forward_hook(_quantize_result)

    def _quantize_operand(self, source: fx.Node, readers: list[fx.Node]) -> None:
        identity = self._identity(not self.trace.is_non_negative(source))
        for target in dict.fromkeys(reader.target for reader in readers):
            module = self.twin.get_submodule(target)
            if hasattr(module, OPERAND):  # read by the same module in another place
                continue
            module.add_module(OPERAND, identity)
            module.register_forward_pre_hook(_quantize_operand)

    def _quantize_inputs(self) -> None:
        names = self._add_input_quantizers()
        if not names:
            return
        if type(self.twin).forward is nn.Sequential.forward:  # it calls its children in their order
            _to_front(self.twin, INPUT)
        else:
            every = self.trace.graph.find_nodes(op="placeholder")
            positions = {name: (every.index(node), node.target) for node, name in names.items()}
            self.twin.register_forward_pre_hook(_QuantizeInputs(positions), with_kwargs=True)

    def _add_input_quantizers(self) -> dict[fx.Node, str]:
        several = len(self.trace.graph.find_nodes(op="placeholder")) > 1
        names = {node: f"{INPUT}_{node.target}" if several else INPUT for node in self.plan.inputs}
        for name in names.values():
            self._add(name, self._identity(True, "model_inputs"))
        return names

    def _rewritten(self) -> fx.GraphModule:
        """Copies of graph modules lose their hooks, so inputs are quantized in the graph, too."""
        graph = self.trace.graph
        for node, name in self._add_input_quantizers().items():
            self._quantize_for_all_readers(node, name)
        for node in self.plan.functions:
            name = f"{node.name}_{RESULT}"
            self._add(name, self._identity(not self.trace.is_non_negative(node)))
            self._quantize_for_all_readers(node, name)
        for node in self.plan.sums:
            operands = self.trace.operands(node)
            name = f"{node.name}_quant"
            self._add(name, self._identity(not all(self.trace.is_non_negative(operand) for operand in operands)))
            for operand in node.all_input_nodes:
                if operand in operands or operand.op == "call_module":
                    with graph.inserting_before(node):
                        node.replace_input_with(operand, graph.call_module(name, (operand,)))
        graph.lint()
        return fx.GraphModule(self.twin, graph, class_name=type(self.twin).__name__)

    def _quantize_for_all_readers(self, node: fx.Node, name: str) -> None:
        readers = list(node.users)
        with self.trace.graph.inserting_after(node):
            quantized = self.trace.graph.call_module(name, (node,))
        for reader in readers:
            reader.replace_input_with(node, quantized)

    def _add(self, name: str, quantizer: nn.Module) -> None:
        if hasattr(self.twin, name):
            raise InvalidArgument(f"the network has a '{name}' of its own", type(self.twin).__name__, "another name for it")
        self.twin.add_module(name, quantizer)


_CONVOLUTION = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode",
)  # fmt: skip


# Hooks are functions and objects of this module, so that networks can be pickled and copied.
def _quantize_result(module: nn.Module, _: Any, result: torch.Tensor) -> torch.Tensor:
    return getattr(module, RESULT)(result)


def _quantize_operand(module: nn.Module, arguments: tuple) -> tuple:
    return (getattr(module, OPERAND)(arguments[0]), *arguments[1:])


class _QuantizeInputs:
    def __init__(self, positions: dict[str, tuple[int, str]]):
        self.positions = positions  # by the quantizer's name: an input's place and name

    def __call__(self, module: nn.Module, arguments: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        values = list(arguments)
        named = dict(named)
        for quantizer, (position, name) in self.positions.items():
            if position < len(values):
                values[position] = getattr(module, quantizer)(values[position])
            elif name in named:
                named[name] = getattr(module, quantizer)(named[name])
        return tuple(values), named


def _to_front(sequence: nn.Sequential, name: str) -> None:
    others = {key: value for key, value in sequence._modules.items() if key != name}
    own = sequence._modules[name]
    sequence._modules.clear()
    sequence._modules.update({name: own, **others})


def _append(nodes: list[fx.Node], node: fx.Node) -> None:
    if node not in nodes:
        nodes.append(node)


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Under every name that the module has."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is old:
                parent._modules[name] = new


def _copy_of(model: nn.Module) -> nn.Module:
    with _without_results(model):
        return copy.deepcopy(model)


@contextmanager
def _without_results(model: nn.Module) -> Iterator[None]:
    """A pruned module keeps the masked weight of its last call, which torch refuses to copy while it has a gradient."""
    kept = [(module, module.weight) for module in model.modules() if mask_of(module) is not None]
    try:
        for module, weight in kept:
            module.weight = weight.detach()
        yield
    finally:
        for module, weight in kept:
            module.weight = weight


def _checked_range(input_range: float | None) -> float | None:
    if input_range is None:
        return None
    if isinstance(input_range, bool) or not isinstance(input_range, numbers.Real):
        raise RefusedType(f"a number expected, got {type(input_range).__name__}", "input_range")
    if not (math.isfinite(input_range) and input_range > 0):
        raise InvalidArgument(f"{input_range} is no range", "input_range", "a number above 0")
    return float(input_range)


def _widths(bits: int | dict[str, int]) -> dict[str, int]:
    given = dict(bits) if isinstance(bits, dict) else {"op_weights": bits, "op_inputs": bits}
    unknown = sorted(set(given) - set(_ROLES))
    missing = [role for role in _ROLES[:2] if role not in given]
    if unknown or missing:
        raise UnknownKey(
            f"bits needs op_weights and op_inputs, and may have model_inputs; unknown: {unknown}, missing: {missing}", "bits"
        )
    given.setdefault("model_inputs", given["op_inputs"])
    for role, value in given.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 2 <= value <= 16:
            raise UnsupportedBits(f"{role} has {value!r} bits; 2 to 16 are supported", "bits", "2 to 8 bits")
    return {role: int(value) for role, value in given.items()}


def _prune(twin: nn.Module, non_zero: int | dict[str, int]) -> None:
    layers = {name: module for name, module in twin.named_modules() if hasattr(module, "weight_quant")}
    if isinstance(non_zero, dict):
        unknown = sorted(set(non_zero) - set(layers))
        if unknown:
            raise InvalidArgument(f"no layer is named {unknown[0]!r}", "non_zero", f"names are {', '.join(layers)}")
    wanted = non_zero if isinstance(non_zero, dict) else dict.fromkeys(layers, non_zero)
    for name, count in wanted.items():
        if isinstance(count, bool) or not isinstance(count, numbers.Integral) or count < 1:
            raise InvalidArgument(f"{count!r} inputs of a neuron cannot stay", "non_zero", "a number from 1 on")
        if layers[name].weight[0].numel() > count:
            apply_mask(layers[name], keep_largest(layers[name].weight, int(count)))


__all__ = ["to_qat"]
