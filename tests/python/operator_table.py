"""The operators that docs/operators.md promises, one small ONNX model for each: what the tests run and the page counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(17)


@dataclass(frozen=True)
class Row:
    """`bound`: of the error in the clear, as a part of the largest absolute result, at `bits` bits."""

    operator: str
    case: str
    nodes: list
    inputs: dict[str, tuple[int, ...]]
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    bits: int = 5
    bound: float = 0.12
    low: float = -1
    high: float = 1
    opset: int = 20
    boolean: bool = False  # the result, or `integer`: of which `bound` is the share that may differ
    integer: bool = False
    share: float = 1.0  # of the results that keep the bound: less than all where a bit may flip
    outputs: tuple[str, ...] = ("y",)
    encrypted_bits: int = 3

    @property
    def name(self) -> str:
        return f"{self.operator}_{self.case}" if self.case else self.operator

    def model(self) -> onnx.ModelProto:
        kind = TensorProto.BOOL if self.boolean else TensorProto.INT64 if self.integer else TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "row",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in self.inputs.items()],
            [helper.make_tensor_value_info(n, kind, None) for n in self.outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 9
        return model

    def model_behind_linear_layers(self) -> onnx.ModelProto:
        """Each input goes through a layer that mixes its last axis and keeps values between `low` and `high`."""
        model = self.model()
        layers = []
        for name, shape in self.inputs.items():
            one = np.eye(shape[-1], dtype=np.float32)
            weight = numpy_helper.from_array(0.75 * one + 0.25 * np.roll(one, 1, axis=1), f"{name}_weight")
            model.graph.initializer.append(weight)
            layers.append(op("MatMul", [name, weight.name], [f"{name}_mixed"]))
        nodes = list(model.graph.node)
        for node in nodes:
            node.input[:] = [f"{name}_mixed" if name in self.inputs else name for name in node.input]
        del model.graph.node[:]
        model.graph.node.extend(layers + nodes)
        return model

    def samples(self, count: int, seed: int = 3) -> tuple[np.ndarray, ...]:
        generator = np.random.default_rng(seed)
        return tuple(
            generator.uniform(self.low, self.high, (count, *shape)).astype(np.float32) for shape in self.inputs.values()
        )


def op(op_type, inputs, outputs=("y",), **attributes):
    return helper.make_node(op_type, list(inputs), list(outputs), name=f"{op_type.lower()}_{outputs[0]}", **attributes)


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def i64(*values):
    return np.array(values, dtype=np.int64)


def f32(*values):
    return np.array(values, dtype=np.float32)


def one(operator, inputs=None, case="", constants=None, **kwargs):
    """A single node of the encrypted inputs, then the constants."""
    attributes = kwargs.pop("attributes", {})
    names = kwargs.pop("names", None)
    inputs = inputs or {"x": (4,)}
    names = names or [*inputs, *(constants or {})]
    return Row(operator, case, [op(operator, names, **attributes)], inputs, constants or {}, **kwargs)


def moves():
    yield Row(
        "Split",
        "",
        [op("Split", ["x", "s"], ("a", "b"), axis=1), op("Relu", ["b"], ("r",)), op("Concat", ["r", "a"], axis=1)],
        {"x": (6,)},
        {"s": i64(2, 4)},
    )
    yield Row("Split", "outputs", [op("Split", ["x"], ("y", "z"), axis=1, num_outputs=2)], {"x": (5,)}, outputs=("y", "z"))
    yield one("Tile", {"x": (2, 2)}, constants={"r": i64(1, 2, 2)})
    yield one(
        "Resize",
        {"x": (1, 2, 2)},
        names=["x", "", "s"],
        constants={"s": f32(1, 1, 2, 2)},
        attributes={"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    )
    yield one(
        "Resize",
        {"x": (1, 3, 2)},
        "sizes",
        names=["x", "", "", "s"],
        constants={"s": i64(2, 3)},
        attributes={"mode": "nearest", "axes": [2, 3]},
    )
    yield one("Trilu", {"x": (3, 3)}, attributes={"upper": 0})
    yield Row(
        "Concat",
        "scales",
        [
            op("Mul", ["x", "k"], ("a",)),
            op("Relu", ["a"], ("r",)),
            op("Relu", ["z"], ("s",)),
            op("Concat", ["r", "s"], axis=1),
        ],
        {"x": (3,), "z": (3,)},
        {"k": f32(0.3)},
    )


def resized(case, shape, **attributes):
    scales = attributes.pop("scales", None)
    sizes = {} if scales else {"s": i64(*attributes.pop("sizes"))}
    names = ["x", "", "s"] if scales else ["x", "", "", "s"]
    constants = {"s": f32(1, 1, *scales)} if scales else sizes
    return one(
        "Resize", {"x": shape}, f"linear_{case}", names=names, constants=constants,
        attributes={"mode": "linear", **attributes},
    )  # fmt: skip


def linear():
    yield resized("1d", (1, 3, 2), sizes=(5, 2), axes=[2, 3], coordinate_transformation_mode="align_corners")
    yield resized("2d", (1, 2, 2), scales=(2, 2))
    yield resized("3d", (1, 2, 1, 2), scales=(2, 1, 2), coordinate_transformation_mode="asymmetric")
    yield one("ConvTranspose", {"x": (2, 3, 3)}, constants={"w": weights(2, 1, 2, 2)}, attributes={"strides": [2, 2]})
    yield one(
        "ConvTranspose",
        {"x": (2, 4)},
        "padded",
        constants={"w": weights(2, 2, 3), "b": weights(2)},
        attributes={"strides": [2], "pads": [1, 1], "output_padding": [1]},
    )
    yield Row(
        "AveragePool",
        "adaptive",
        [op("Relu", ["x"], ("r",)), op("AveragePool", ["r"], kernel_shape=[2, 2], strides=[2, 2])],
        {"x": (1, 4, 4)},
    )


def reductions():
    axes = {"a": i64(1)}
    for operator in ("ReduceMax", "ReduceMin"):
        yield one(operator, {"x": (5,)}, constants=axes)
        yield one(operator, {"x": (2, 3, 2)}, "axes", constants={"a": i64(1, 3)}, attributes={"keepdims": 0})
    for operator in ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"):
        yield one(operator, {"x": (4,)}, constants=axes)
    yield one("ReduceLogSum", {"x": (4,)}, constants=axes, low=0.2, high=2)


def selections():
    for operator in ("ArgMax", "ArgMin"):
        yield one(operator, {"x": (5,)}, attributes={"axis": 1}, integer=True, bits=7)
    yield one("ArgMax", {"x": (10,)}, "of 10", attributes={"axis": 1, "keepdims": 0}, integer=True, bits=7)
    yield one(
        "ArgMax", {"x": (3, 2)}, "axis", attributes={"axis": 1, "select_last_index": 1}, integer=True, bits=7
    )  # fmt: skip
    for result, outputs in (("values", ("y", "i")), ("places", ("v", "y"))):
        for count, size in ((1, 5), (2, 5), (5, 5), (2, 16)):
            case = f"{result}, {count} of {size}"
            node = op("TopK", ["x", "k"], outputs, axis=1)
            yield Row("TopK", case, [node], {"x": (size,)}, {"k": i64(count)}, integer=result == "places", bits=7)


def products():
    two = {"x": (4,), "z": (4,)}
    yield one("Mul", two)
    yield Row(
        "Mul",
        "broadcast",
        [op("Unsqueeze", ["z", "a"], ("w",)), op("Mul", ["x", "w"])],
        {"x": (2, 3), "z": (3,)},
        {"a": i64(1)},
    )
    yield Row("Mul", "square", [op("Mul", ["x", "x"])], {"x": (4,)})
    yield one("Div", two, low=0.5, high=2)
    yield one("MatMul", {"x": (2, 3), "z": (3, 2)}, bound=0.2)
    yield Row("PRelu", "", [op("PRelu", ["x", "z"])], two)


def choices():
    two = {"x": (4,), "z": (4,)}
    for operator in ("Min", "Max"):
        yield one(operator, two)
    yield one("Max", {"x": (4,), "z": (4,), "v": (4,)}, "three")
    for operator in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"):
        yield one(operator, two, boolean=True, bound=0.1)
    for operator in ("And", "Or", "Xor"):
        nodes = [op("Greater", ["x", "t"], ("p",)), op("Less", ["z", "t"], ("q",)), op(operator, ["p", "q"])]
        yield Row(operator, "", nodes, two, {"t": f32(0.1)}, boolean=True, bound=0.1)
    nodes = [op("Greater", ["x", "t"], ("p",)), op("Where", ["p", "z", "v"])]
    yield Row("Where", "", nodes, {"x": (4,), "z": (4,), "v": (4,)}, {"t": f32(0)}, share=0.9)
    nodes = [op("Where", ["m", "x", "z"])]
    yield Row("Where", "constant", nodes, two, {"m": np.array([True, False, True, True])})
    nodes = [op("Greater", ["x", "t"], ("p",)), op("Cast", ["p"], ("c",), to=1), op("Mul", ["c", "z"])]
    yield Row("Mul", "bit", nodes, two, {"t": f32(0)}, share=0.9)


def normalizations():
    yield one("Softmax", {"x": (4,)}, low=-3, high=3, bits=6)
    yield one("Softmax", {"x": (3, 2)}, "axis", attributes={"axis": 1}, low=-2, high=2)
    yield one("LogSoftmax", {"x": (4,)}, low=-3, high=3)
    scale, shift = f32(1, 0.5, 2, 1), f32(0.1, 0, -0.2, 0.3)
    yield one("LayerNormalization", {"x": (4,)}, constants={"s": scale, "b": shift}, bits=6, bound=0.25)
    yield one("RMSNormalization", {"x": (4,)}, constants={"s": scale}, bits=6, bound=0.25, opset=23)
    yield one("InstanceNormalization", {"x": (2, 4)}, constants={"s": f32(1, 2), "b": f32(0, 0.5)}, bits=6, bound=0.25)
    yield one(
        "GroupNormalization",
        {"x": (4, 2)},
        constants={"s": scale, "b": shift},
        attributes={"num_groups": 2},
        bits=6,
        bound=0.25,
        opset=21,
    )
    yield one("Gelu", {"x": (4,)}, low=-3, high=3)
    nodes = [op("Sigmoid", ["x"], ("s",)), op("Mul", ["x", "s"])]
    yield Row("Sigmoid", "silu", nodes, {"x": (4,)}, low=-3, high=3)


# Heading, what becomes of the operators, rows: the sections of the page.
FAMILIES = [
    (
        "Moves of elements",
        "Part of the linear map that reads them. Operands of different scales are brought to one step. In these "
        "rows what is read or written needs the lookups, not the move.",
        list(moves()),
    ),
    (
        "Transposed convolutions, averages and linear interpolation",
        "Sparse linear maps. What neighbours count in an interpolation is quantized as weights are.",
        list(linear()),
    ),
    (
        "Reductions",
        "Extrema and logarithms of sums of exponentials are tournaments: max(x, y) = y + relu(x - y), min(x, y) = "
        "x - relu(x - y), log(e^x + e^y) = y + softplus(x - y), a lookup for each pair, all on the operand's step."
        " Norms are a table of each element, a sum, and a table of the sum.",
        list(reductions()),
    ),
    (
        "First elements and their places",
        "The place of the first is a tournament among neighbours. Each comparison is a sign and, but for the last one, a "
        "maximum of the same difference; from the second round on, the place of the winner is one lookup of the difference "
        "of two places plus a large number times the sign. Of equal integers the first or last one wins, as the node asks "
        "for. The first K values are what a sorting network gives, a lookup for each pair that meets: the loser of a and b "
        "is a + b less the winner. Their places are found by the rank of each element, a comparison for each pair and a "
        "table of each rank for each place; or, where that is less, by the values: each element is compared with each of "
        "them, and those before it are counted.",
        list(selections()),
    ),
    (
        "Products of encrypted tensors",
        "x y = ((x + y)^2 - (x - y)^2) / 4: both factors are brought to one magnitude and quantized on one step, "
        "so that sum and difference are exact; two lookups for each product. A quotient is a product with the "
        "reciprocal. A matrix product takes two for each of its M K N products. The square of one tensor is one "
        "table. A factor that is a truth value costs one lookup.",
        list(products()),
    ),
    (
        "Comparisons and choices",
        "A comparison is a step of the difference, Min and Max are as above, And, Or and Xor are tables of the "
        "bits' sum, and Where(c, a, b) = b + c (a - b), with one lookup of a - b plus a large number times c.",
        list(choices()),
    ),
    (
        "Softmax, normalizations, activations",
        "Softmax is exp(x - log(sum of exp)), with the tournament for the logarithm, so that it needs no product "
        "and nothing overflows: 2 K - 1 lookups for a row of K, besides those that make the operand's integers. "
        "What lies too far below every row's maximum to count is held there, so that masks of -inf do not widen "
        "the steps. LayerNormalization and its kin: mean, difference, square, mean, reciprocal of the root, "
        "product; variances are held at the least that quantization resolves, so that rows that are almost constant "
        "come out smaller, not many times too large. GELU and SiLU are one table.",
        list(normalizations()),
    ),
]
ROWS = [row for _, _, rows in FAMILIES for row in rows]
