"""Pruning that keeps accumulators narrow.

    prune_to_accumulator(net, bits=7)                     # before training: whatever the weights become
    prune_to_accumulator(net, bits=7, weights="current")  # while training, and at its end: as they are
    finish_pruning(net)                                   # zeros become part of the weights

An accumulator is the sum of a neuron's products of integers, without its bias. Its bits are those of the smallest integer
that holds all values the sum can take: with a sign if some are negative.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn.utils import prune

from ..errors import InvalidArgument, MissingQuantizer, UnknownOption, UnsupportedBits
from .trace import Role, Trace, place_of

Interval = tuple[int, int]


def products_within(bits: int, weights: Interval, inputs: Interval) -> int:
    """How many products of an integer of `weights` and one of `inputs` (least and largest value) add up within `bits` bits,
    whatever the integers are. Numbers of 2 bits: products_within(7, (0, 3), (0, 3)) is 14."""
    least, most = _product_range(weights, inputs)
    low, high = _range_of_bits(bits, is_signed=least < 0)
    limits = [high // most] if most > 0 else []
    if least < 0:
        limits.append(low // least)
    return min(limits) if limits else 2**62


def prune_to_accumulator(model: nn.Module, bits: int | dict[str, int] = 7, weights: str = "any") -> dict[str, int]:
    """Prunes Brevitas layers of `model`, in place, so that no accumulator exceeds `bits` bits on any input.

    bits: of all layers, or by layer name; layers that are not named stay as they are. Each neuron keeps its largest weights.
    weights="any": as many as fit when every weight and every input takes its largest value, so that training may go on
    freely. weights="current": as many as fit with the integers that the weights are now, usually several times more; if
    training goes on, call it again, for example after each epoch and at the end. What is pruned stays pruned; masks are
    those of torch.nn.utils.prune.

    Gives the most inputs that a neuron keeps, by layer. Integers of inputs are those of the quantizer in front, which is
    found by torch.fx. The bias of a layer whose sums are the network's results is added on encrypted data: "current" counts
    it, "any" cannot. Errors: missing_quantizer, naming the layer, for one whose input has no quantizer; not_supported as
    to_qat; invalid_argument if not even one product, or the bias, fits.
    """
    if weights not in ("any", "current"):
        raise UnknownOption(f"weights {weights!r} is not known", "weights", '"any" or "current"')
    kept = {}
    for layer in _layers_of(model, bits):
        if weights == "any":
            count = _count_within(layer)
            mask = None if layer.module.weight[0].numel() <= count else keep_largest(layer.module.weight, count)
        else:
            mask = _fitting(layer)
        if mask is not None and not mask.all():
            apply_mask(layer.module, mask)
        kept[layer.name] = int((layer.module.weight != 0).flatten(1).sum(1).max())
    return kept


def finish_pruning(model: nn.Module) -> nn.Module:
    """Makes zeros part of the weights and drops the masks, in place: state_dict has plain weights then. Compilation does not
    need it. Gives the model."""
    for module in model.modules():
        for name in [key.removesuffix("_mask") for key in module._buffers if key.endswith("_mask")]:
            if f"{name}_orig" in module._parameters:
                prune.remove(module, name)
    return model


def mask_of(module: nn.Module) -> torch.Tensor | None:
    """The pruning mask of its weight."""
    return module._buffers.get("weight_mask")


@torch.no_grad()
def apply_mask(layer: nn.Module, mask: torch.Tensor) -> None:
    """Prunes the weight, besides what is pruned already."""
    if mask_of(layer) is None:
        prune.custom_from_mask(layer, "weight", mask)
    else:
        layer.weight_mask.mul_(mask)
        layer.weight = layer.weight_orig * layer.weight_mask


@torch.no_grad()
def keep_largest(weight: torch.Tensor, count: int) -> torch.Tensor:
    """A mask under which each row keeps its `count` largest magnitudes."""
    rows = weight.detach().abs().flatten(1)
    mask = torch.zeros_like(rows).scatter_(1, rows.topk(count, dim=1).indices, 1.0)
    return mask.view_as(weight)


@dataclass
class _Layer:
    name: str
    module: nn.Module
    inputs: Interval
    quantizers: list[nn.Module]  # of its input, at each place where it is called
    gives_results: bool
    bits: int = 0


def range_of(proxy: nn.Module) -> Interval:
    """The integers of a Brevitas quantizer."""
    with _at_rest(proxy):
        bits = int(proxy.bit_width())
    is_narrow = int(bool(proxy.is_narrow_range))
    if proxy.is_signed:
        return is_narrow - 2 ** (bits - 1), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - is_narrow


@contextmanager
def _at_rest(proxy: nn.Module) -> Iterator[None]:
    """To be asked for its numbers, a quantizer of Brevitas runs on zeros, which it must not take for data."""
    was_training = proxy.training
    proxy.eval()
    try:
        yield
    finally:
        proxy.train(was_training)


def _range_of_bits(bits: int, is_signed: bool) -> Interval:
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)


def _product_range(weights: Interval, inputs: Interval) -> Interval:
    products = [w * x for w in weights for x in inputs]
    return min(products), max(products)


def _count_within(layer: _Layer) -> int:
    weights = range_of(layer.module.weight_quant)
    count = products_within(layer.bits, weights, layer.inputs)
    if count == 0:
        least, most = _product_range(weights, layer.inputs)
        raise InvalidArgument(
            f"products from {least} to {most} do not fit into {layer.bits} bits", f"layer '{layer.name}'",
            "fewer bits for weights and activations, or a wider accumulator",
        )  # fmt: skip
    return count


@torch.no_grad()
def _fitting(layer: _Layer) -> torch.Tensor:
    """A mask of the largest integer weights of each row, as many as fit."""
    integers = layer.module.quant_weight().int()
    rows = integers.flatten(1).double()
    order = rows.abs().argsort(dim=1, descending=True, stable=True)
    ordered = rows.gather(1, order)
    ends = torch.stack([ordered * layer.inputs[0], ordered * layer.inputs[1]])
    bias = _integer_bias(layer)[:, None]
    least, most = ends.amin(0).cumsum(1) + bias, ends.amax(0).cumsum(1) + bias
    signed, unsigned = _range_of_bits(layer.bits, True), _range_of_bits(layer.bits, False)
    fits = torch.where(least < 0, (least >= signed[0]) & (most <= signed[1]), most <= unsigned[1])
    mask = torch.zeros_like(rows).scatter_(1, order, fits.to(rows.dtype).cummin(dim=1).values)
    return mask.view_as(integers).to(layer.module.weight.dtype)


def _integer_bias(layer: _Layer) -> torch.Tensor:
    """What the bias adds to the sums of a layer that gives results, in their units; else it is part of a table."""
    module = layer.module
    if not layer.gives_results or module.bias is None:
        return torch.zeros(module.weight.shape[0], dtype=torch.float64, device=module.weight.device)
    scale = module.quant_weight().scale.flatten().double()
    with _at_rest(layer.quantizers[0]):
        scale = scale * layer.quantizers[0].scale().double()
    bias = (module.bias.double() / scale).round()
    limit = 2 ** (layer.bits - 1) - 1
    if bias.abs().max() > limit:
        raise InvalidArgument(
            f"the bias alone is {int(bias.abs().max())} units of the sum; {layer.bits} bits hold {limit}",
            f"layer '{layer.name}'", "a wider accumulator, or a layer without bias",
        )  # fmt: skip
    return bias


def _layers_of(model: nn.Module, bits: int | dict[str, int]) -> list[_Layer]:
    layers = _traced_layers(model)
    wanted = bits if isinstance(bits, dict) else dict.fromkeys(layers, bits)
    unknown = [name for name in wanted if name not in layers]
    if unknown:
        raise InvalidArgument(f"no layer is named {unknown[0]!r}", "bits", f"names are {', '.join(layers)}")
    for name, width in wanted.items():
        if isinstance(width, bool) or not isinstance(width, numbers.Integral) or not 2 <= width <= 48:
            raise UnsupportedBits(f"an accumulator of {width!r} bits; 2 to 48 are supported", "bits", "5 to 9 bits")
        layers[name].bits = int(width)
    return [layers[name] for name in wanted]


def _traced_layers(model: nn.Module) -> dict[str, _Layer]:
    trace = Trace(model)
    results = {trace.source(operand) for node in trace.graph.find_nodes(op="output") for operand in trace.operands(node)}
    layers: dict[str, _Layer] = {}
    for node in trace.graph.nodes:
        if trace.role(node) is not Role.LINEAR:
            continue
        module = trace.module(node)
        if not hasattr(module, "weight_quant") or not module.weight_quant.is_quant_enabled:
            raise MissingQuantizer("its weights have no quantizer", place_of(node), "to_qat, or a Brevitas layer")
        layer = layers.setdefault(node.target, _Layer(node.target, module, (0, 0), [], False))
        layer.quantizers.append(_quantizer_at(trace, node))
        low, high = range_of(layer.quantizers[-1])
        # Padding reads zeros, whatever the quantizer's range.
        layer.inputs = (min(layer.inputs[0], low), max(layer.inputs[1], high))
        layer.gives_results |= node in results
    if not layers:
        raise InvalidArgument("the network has no layer with weights", type(model).__name__)
    return layers


def _quantizer_at(trace: Trace, node: fx.Node) -> nn.Module:
    (operand,) = trace.operands(node)
    quantizer = trace.quantizer(operand, node)
    if quantizer is None:
        raise MissingQuantizer(
            f"tensor '{operand.name}' reaches layer '{node.target}' without a quantizer", place_of(node),
            "a QuantIdentity before it, or to_qat",
        )  # fmt: skip
    return quantizer


__all__ = ["finish_pruning", "products_within", "prune_to_accumulator"]
