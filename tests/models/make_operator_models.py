"""Writes operators/: small models of every operator that is read, with onnxruntime's results.

    python tests/models/make_operator_models.py

QONNX's Quant is not known to onnxruntime: its results come from the formula, with the rounding
modes of Python's decimal module.
"""

import decimal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from operator_cases import FIXTURES, HALVES, IMAGE, POSITIVE, RNG, UNIT, X, case, f32, i64, node, scalar
from spatial_models import image, spatial


def activations():
    for op in [
        "Abs",
        "Ceil",
        "Celu",
        "Cos",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Relu",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Asinh",
        "Atan",
        "Cosh",
        "Sinh",
        "Shrink",
    ]:
        case(op.lower(), node(op, ["x"]))
    for op in ["Log", "Sqrt", "Reciprocal"]:
        case(op.lower(), node(op, ["x"]), POSITIVE)
    for op in ["Acos", "Asin", "Atanh"]:
        case(op.lower(), node(op, ["x"]), UNIT)
    case("acosh", node("Acosh", ["x"]), POSITIVE + 1)
    case("round", node("Round", ["x"]), HALVES)
    case("celu_alpha", node("Celu", ["x"], alpha=0.6))
    case("elu_alpha", node("Elu", ["x"], alpha=2.5))
    case("gelu_tanh", node("Gelu", ["x"], approximate="tanh"))
    case("hardsigmoid_attributes", node("HardSigmoid", ["x"], alpha=0.4, beta=0.3))
    case("leakyrelu_alpha", node("LeakyRelu", ["x"], alpha=0.3))
    case("selu_attributes", node("Selu", ["x"], alpha=1.2, gamma=0.8))
    case("shrink_attributes", node("Shrink", ["x"], bias=0.3, lambd=0.9))
    case("thresholdedrelu_alpha", node("ThresholdedRelu", ["x"], alpha=0.4))
    case("swish", node("Swish", ["x"], alpha=0.7), opset=24)
    case("relu_opset11", node("Relu", ["x"]), opset=11)
    case("relu_opset28", node("Relu", ["x"]), opset=28, expected=[np.maximum(X, 0)])
    case("prelu_channel", node("PRelu", ["x", "s"]), constants={"s": f32(0.1, 0.2, 0.3, -0.4, 0.5, 0)})
    case("prelu_scalar", node("PRelu", ["x", "s"]), constants={"s": f32(0.25)})
    case("dropout", node("Dropout", ["x"], seed=1))
    case(
        "dropout_operands",
        node("Dropout", ["x", "r", "t"], ["y", "mask"]),
        constants={"r": scalar(0.5), "t": scalar(False, bool)},
    )
    case("dropout_opset11", node("Dropout", ["x"], ratio=0.5), opset=11)
    case(
        "softshrink_where",
        [
            node("Greater", ["x", "l"], ["above"]),
            node("Sub", ["x", "l"], ["down"]),
            node("Less", ["x", "m"], ["below"]),
            node("Add", ["x", "l"], ["up"]),
            node("Where", ["below", "up", "zero"], ["negative"]),
            node("Where", ["above", "down", "negative"]),
        ],
        constants={"l": scalar(0.5), "m": scalar(-0.5), "zero": scalar(0)},
    )


def broadcasting():
    channel = {"c": f32(0.5, -1, 2, 4, -0.25, 1)}
    for op in ["Add", "Sub", "Mul", "Div", "Min", "Max"]:
        case(op.lower(), node(op, ["x", "c"]), constants=channel)
        case(f"{op.lower()}_constant_first", node(op, ["c", "x"]), POSITIVE, channel)
        case(f"{op.lower()}_two", node(op, ["x", "z"]), {"x": X, "z": POSITIVE})
    case("max_three", node("Max", ["x", "c", "d"]), constants={**channel, "d": np.zeros((1, 1), np.float32)})
    case("min_one", node("Min", ["x"]))
    case("add_wide", node("Add", ["x", "c"]), IMAGE, {"c": RNG.uniform(-1, 1, (4, 1, 2)).astype(np.float32)})
    case("pow", node("Pow", ["x", "e"]), constants={"e": scalar(3)})
    case("pow_integer_exponent", node("Pow", ["x", "e"]), constants={"e": scalar(2, np.int64)})
    case("pow_half", node("Pow", ["x", "e"]), POSITIVE, {"e": scalar(0.5)})
    case("clip", node("Clip", ["x", "a", "b"]), constants={"a": scalar(-1), "b": scalar(1.5)})
    case("clip_low", node("Clip", ["x", "a"]), constants={"a": scalar(-1)})
    case("clip_high", node("Clip", ["x", "", "b"]), constants={"b": scalar(1.5)})
    case("clip_crossed", node("Clip", ["x", "a", "b"]), constants={"a": scalar(1), "b": scalar(-1)})
    for op in ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]:
        x = HALVES
        case(op.lower(), node(op, ["x", "c"]), x, {"c": scalar(0.5)}, output_type=TensorProto.BOOL)
    above, below = node("Greater", ["x", "a"], ["p"]), node("Less", ["x", "b"], ["q"])
    bounds = {"a": scalar(-1), "b": scalar(1)}
    for op in ["And", "Or"]:
        case(op.lower(), [above, below, node(op, ["p", "q"])], constants=bounds, output_type=TensorProto.BOOL)
        case(
            f"{op.lower()}_constant",
            [above, node(op, ["p", "mask"])],
            constants={"a": scalar(-1), "mask": np.array([True, False] * 3)},
            output_type=TensorProto.BOOL,
        )
    case("not", [above, node("Not", ["p"])], constants={"a": scalar(-1)}, output_type=TensorProto.BOOL)
    case("where", [above, node("Where", ["p", "x", "b"])], constants=bounds)
    case(
        "where_constant_condition",
        node("Where", ["mask", "x", "b"]),
        constants={"mask": np.array([True, False] * 3), "b": f32(9)},
    )
    for name, to in [
        ("int32", TensorProto.INT32),
        ("bool", TensorProto.BOOL),
        ("float16", TensorProto.FLOAT16),
        ("double", TensorProto.DOUBLE),
    ]:
        case(f"cast_{name}", node("Cast", ["x"], to=to), output_type=to)
    case(
        "cast_wraps",
        [
            node("Cast", ["x"], ["i"], to=TensorProto.INT32),
            node("Mul", ["i", "c"], ["j"]),
            node("Cast", ["j"], to=TensorProto.UINT8),
        ],
        constants={"c": scalar(100, np.int32)},
        output_type=TensorProto.UINT8,
    )
    case(
        "integer_division",
        [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Mul", ["i", "c"], ["j"]), node("Div", ["j", "d"])],
        constants={"c": i64(7), "d": i64(2)},
        output_type=TensorProto.INT64,
    )


def linear():
    w, b = RNG.normal(size=(6, 5)).astype(np.float32), RNG.normal(size=5).astype(np.float32)
    case("gemm", node("Gemm", ["x", "w", "b"]), constants={"w": w, "b": b})
    case(
        "gemm_transposed", node("Gemm", ["x", "w", "b"], transB=1, alpha=0.5, beta=2.0), constants={"w": w.T.copy(), "b": b}
    )
    case("gemm_no_bias", node("Gemm", ["x", "w"]), constants={"w": w})
    case("gemm_scalar_bias", node("Gemm", ["x", "w", "b"]), constants={"w": w, "b": f32(0.75)})
    case("matmul", node("MatMul", ["x", "w"]), constants={"w": w})
    case("matmul_vector", node("MatMul", ["x", "w"]), constants={"w": w[:, 0].copy()})
    case("matmul_batched", node("MatMul", ["x", "w"]), IMAGE, {"w": RNG.normal(size=(4, 2, 3)).astype(np.float32)})
    case("matmul_weights_first", node("MatMul", ["w", "x"]), IMAGE[:, 0], {"w": RNG.normal(size=(3, 2)).astype(np.float32)})
    case("matmul_wide", node("MatMul", ["x", "w"]), IMAGE, {"w": RNG.normal(size=(2, 3)).astype(np.float32)})
    parameters = {name: RNG.uniform(0.5, 2, 6).astype(np.float32) for name in "sbmv"}
    case("batchnormalization", node("BatchNormalization", ["x", *"sbmv"]), constants=parameters)
    case(
        "batchnormalization_opset11",
        node("BatchNormalization", ["x", *"sbmv"], epsilon=0.01),
        constants=parameters,
        opset=11,
    )
    case(
        "batchnormalization_image",
        node("BatchNormalization", ["x", *"sbmv"], epsilon=0.1),
        IMAGE,
        {name: value[:4] for name, value in parameters.items()},
    )


def shapes():
    case("flatten", node("Flatten", ["x"]), IMAGE)
    case("reshape", node("Reshape", ["x", "s"]), IMAGE, {"s": i64(0, 2, -1)})
    case("reshape_minus_one_first", node("Reshape", ["x", "s"]), IMAGE, {"s": i64(-1, 16)})
    case("reshape_traced_batch", node("Reshape", ["x", "s"]), IMAGE, {"s": i64(3, 8, 2)}, batch=3)
    case(
        "reshape_of_shape",
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Unsqueeze", ["n", "axes"], ["n1"]),
            node("Concat", ["n1", "rest"], ["t"], axis=0),
            node("Reshape", ["x", "t"]),
        ],
        IMAGE,
        {"zero": scalar(0, np.int64), "axes": i64(0), "rest": i64(-1)},
    )
    case(
        "reshape_of_shape_opset11",
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "zero"], ["n"]),
            node("Unsqueeze", ["n"], ["n1"], axes=[0]),
            node("Concat", ["n1", "rest"], ["t"], axis=0),
            node("Reshape", ["x", "t"]),
        ],
        IMAGE,
        {"zero": scalar(0, np.int64), "rest": i64(-1)},
        opset=11,
    )
    case(
        "reshape_of_size",
        [
            node("Shape", ["x"], ["s"], start=0, end=1),
            node("Size", ["x"], ["all"]),
            node("Div", ["all", "s"], ["each"]),
            node("Concat", ["s", "each"], ["t"], axis=0),
            node("Reshape", ["x", "t"]),
        ],
        IMAGE,
    )
    case("squeeze", node("Squeeze", ["x", "a"]), IMAGE[:, :, :1], {"a": i64(2)})
    case("squeeze_all", node("Squeeze", ["x"]), IMAGE[:, :1, :1])
    case("squeeze_opset11", node("Squeeze", ["x"], axes=[-2]), IMAGE[:, :, :1], opset=11)
    case("unsqueeze", node("Unsqueeze", ["x", "a"]), X, {"a": i64(1, -1)})
    case("unsqueeze_opset11", node("Unsqueeze", ["x"], axes=[2]), X, opset=11)
    case("transpose", node("Transpose", ["x"], perm=[0, 2, 3, 1]), IMAGE)
    case("expand", node("Expand", ["x", "s"]), IMAGE[:, :, :1], {"s": i64(1, 4, 3, 2)})
    case("expand_traced_batch", node("Expand", ["x", "s"]), IMAGE[:, :, :1], {"s": i64(3, 4, 3, 2)}, batch=3)
    case(
        "expanded_bias",
        [node("Shape", ["x"], ["s"]), node("Expand", ["b", "s"], ["c"]), node("Add", ["x", "c"])],
        constants={"b": f32(1, 2, 3, 4, 5, 6)},
        batch=4,
    )
    weights = np.arange(12, dtype=np.float32).reshape(2, 6)
    case(
        "constant_chain",
        [
            node("Constant", [], ["w"], value=numpy_helper.from_array(weights)),
            node("Slice", ["w", "from", "to", "axes", "steps"], ["half"]),
            node("Transpose", ["half"], ["t"]),
            node("Squeeze", ["t", "one"], ["v"]),
            node("Range", ["start", "limit", "delta"], ["r"]),
            node("Cast", ["r"], ["rf"], to=1),
            node("Gather", ["v", "r"], ["g"]),
            node("Concat", ["g", "rf"], ["c"], axis=0),
            node("Constant", [], ["h"], value_float=0.5),
            node("Mul", ["c", "h"], ["scaled"]),
            node("ConstantOfShape", ["six"], ["zeros"]),
            node("Add", ["scaled", "zeros"], ["k"]),
            node("Mul", ["x", "k"]),
        ],
        constants={
            "from": i64(1, -1),
            "to": i64(2**63 - 1, -(2**63) + 1),
            "axes": i64(0, 1),
            "steps": i64(1, -2),
            "one": i64(1),
            "start": scalar(0, np.int64),
            "limit": scalar(3, np.int64),
            "delta": scalar(1, np.int64),
            "six": i64(6),
        },
    )
    case("two_outputs", [node("Relu", ["x"]), node("Neg", ["y"], ["z"])], outputs=("y", "z"))
    case(
        "opset28_chain",
        [node("Shape", ["x"], ["s"]), node("Reshape", ["x", "s"], ["r"]), node("Tanh", ["r"])],
        opset=28,
        expected=[np.tanh(X)],
    )


def typed_tensors():
    """The data types and both ways to store them; the constant is cast and added."""
    values = [0, 1, 2, 3, 4, 5]
    for name, kind in [
        ("float", TensorProto.FLOAT),
        ("double", TensorProto.DOUBLE),
        ("float16", TensorProto.FLOAT16),
        ("bfloat16", TensorProto.BFLOAT16),
        ("int8", TensorProto.INT8),
        ("uint8", TensorProto.UINT8),
        ("int16", TensorProto.INT16),
        ("uint16", TensorProto.UINT16),
        ("int32", TensorProto.INT32),
        ("uint32", TensorProto.UINT32),
        ("int64", TensorProto.INT64),
        ("uint64", TensorProto.UINT64),
        ("bool", TensorProto.BOOL),
    ]:
        items = [v % 2 for v in values] if name == "bool" else values
        if name in ("float", "double", "float16", "bfloat16"):
            items = [v / 4 - 0.5 for v in values]
        if name in ("int8", "int16", "int32", "int64"):
            items = [v - 3 for v in values]
        for way in ("typed", "raw"):
            tensor = helper.make_tensor("c", kind, [6], items)
            if way == "raw":
                array = numpy_helper.to_array(tensor)
                tensor = numpy_helper.from_array(array, "c")
                assert tensor.data_type == kind and tensor.HasField("raw_data")
            nodes = [node("Cast", ["c"], ["f"], to=TensorProto.FLOAT), node("Add", ["x", "f"])]
            case(f"tensor_{name}_{way}", nodes, constants={"c": tensor})


def quantizers():
    for name, zero in [("uint8", np.uint8(3)), ("int8", np.int8(-2)), ("int16", np.int16(5)), ("uint16", np.uint16(7))]:
        constants = {"s": scalar(0.0371), "z": np.array(zero)}
        case(
            f"quantizelinear_{name}",
            node("QuantizeLinear", ["x", "s", "z"]),
            X * 3,
            constants,
            21,
            helper.np_dtype_to_tensor_dtype(zero.dtype),
        )
        case(
            f"qdq_{name}",
            [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])],
            X * 3,
            constants,
            21,
        )
    case(
        "quantizelinear_no_zero_point", node("QuantizeLinear", ["x", "s"]), X * 9, {"s": scalar(0.05)}, 13, TensorProto.UINT8
    )
    case(
        "quantizelinear_ties",
        node("QuantizeLinear", ["x", "s", "z"]),
        HALVES,
        {"s": scalar(1), "z": np.array(np.int8(0))},
        13,
        TensorProto.INT8,
    )
    case(
        "quantizelinear_output_type",
        node("QuantizeLinear", ["x", "s"], output_dtype=TensorProto.INT8),
        X * 20,
        {"s": scalar(0.31)},
        21,
        TensorProto.INT8,
    )
    channels = {"s": RNG.uniform(0.02, 0.1, 6).astype(np.float32), "z": RNG.integers(-5, 5, 6).astype(np.int8)}
    case(
        "qdq_per_channel",
        [node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=-1), node("DequantizeLinear", ["q", "s", "z"], axis=1)],
        constants=channels,
        opset=13,
    )
    weights = RNG.integers(-7, 8, (5, 6)).astype(np.int8)
    case(
        "qdq_weights",
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("Clip", ["q", "lo", "hi"], ["c"]),
            node("DequantizeLinear", ["c", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
            node("Gemm", ["d", "wd"], transB=1),
        ],
        constants={
            "s": scalar(0.5),
            "z": np.array(np.int8(0)),
            "lo": np.array(np.int8(-4)),
            "hi": np.array(np.int8(3)),
            "w": weights,
            "ws": RNG.uniform(0.1, 0.2, 5).astype(np.float32),
            "wz": np.zeros(5, np.int8),
        },
        opset=13,
    )
    case(
        "zero_point_by_cast",
        [
            node("Constant", [], ["z32"], value=numpy_helper.from_array(np.array(-3, np.int32))),
            node("Cast", ["z32"], ["z"], to=TensorProto.INT8),
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"]),
        ],
        X * 20,
        {"s": scalar(0.25)},
    )


ROUNDINGS = {
    "ROUND": decimal.ROUND_HALF_EVEN,
    "CEIL": decimal.ROUND_CEILING,
    "FLOOR": decimal.ROUND_FLOOR,
    "UP": decimal.ROUND_UP,
    "DOWN": decimal.ROUND_DOWN,
    "HALF_UP": decimal.ROUND_HALF_UP,
    "HALF_DOWN": decimal.ROUND_HALF_DOWN,
}


def quantized(x, scale, zero, bits, signed, narrow, mode):
    low = -(2 ** (bits - 1)) + narrow if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1 - narrow

    def one(value, s):
        inner = min(max(float(value) / float(s) + zero, low), high)
        return (int(decimal.Decimal(inner).to_integral_value(ROUNDINGS[mode])) - zero) * float(s)

    scales = np.broadcast_to(scale, x.shape)
    values = [one(*pair) for pair in zip(x.reshape(-1), scales.reshape(-1), strict=False)]
    return np.array(values).reshape(x.shape)


QUARTER = scalar(0.25)


def qonnx():
    def quant(name, x=X, scale=QUARTER, zero=0, bits=4, signed=1, narrow=0, mode="ROUND", domain="qonnx.custom_op.general"):
        n = helper.make_node(
            "Quant", ["x", "s", "z", "b"], ["y"], domain=domain, signed=signed, narrow=narrow, rounding_mode=mode
        )
        case(
            name,
            n,
            x,
            {"s": scale, "z": scalar(zero), "b": scalar(bits)},
            expected=[quantized(x, scale, zero, bits, signed, narrow, mode)],
        )

    for mode in ROUNDINGS:
        quant(f"quant_{mode.lower()}", HALVES, scalar(1), mode=mode)
    quant("quant_signed", X)
    quant("quant_narrow", X, bits=3, narrow=1)
    quant("quant_unsigned", X, signed=0, zero=5)
    quant("quant_unsigned_narrow", X, signed=0, narrow=1, bits=3)
    quant("quant_brevitas_domain", X, domain="onnx.brevitas")
    quant("quant_per_channel", X, RNG.uniform(0.1, 0.5, (1, 6)).astype(np.float32))


def packed_tensors():
    x = image(3, 5)
    for name, kind, items in [("int4", TensorProto.INT4, [-8, 7, -1, 0, 3]), ("uint4", TensorProto.UINT4, [15, 0, 8, 7, 1])]:
        typed = helper.make_tensor("c", kind, [5], items)
        raw = numpy_helper.from_array(numpy_helper.to_array(typed), "c")
        assert typed.int32_data and raw.HasField("raw_data")
        for way, tensor in [("typed", typed), ("raw", raw)]:
            nodes = [node("DequantizeLinear", ["c", "s"], ["f"]), node("Add", ["x", "f"])]
            case(f"tensor_{name}_{way}", nodes, x, {"c": tensor, "s": scalar(0.5)}, 21)


def truncations():
    x = (np.arange(-12, 12).reshape(4, 6) * 0.25).astype(np.float32)
    for mode in ["FLOOR", "ROUND"]:
        integers = [decimal.Decimal(float(v)) for v in x.reshape(-1) / 0.25 / 4]
        rounded = [int(v.to_integral_value(ROUNDINGS[mode])) for v in integers]
        expected = (np.clip(rounded, -2, 1) * 1.0).reshape(x.shape)
        numbers = {"s": QUARTER, "z": scalar(0), "i": scalar(5), "o": scalar(1), "b": scalar(2)}
        trunc = helper.make_node(
            "Trunc", ["x", *numbers], ["y"], domain="qonnx.custom_op.general", signed=1, narrow=0, rounding_mode=mode
        )
        case(f"trunc_{mode.lower()}", trunc, x, numbers, expected=[expected])
    # As older files have it: the step follows from the bits.
    numbers = {"s": QUARTER, "z": scalar(0), "i": scalar(4), "b": scalar(2)}
    trunc = helper.make_node("Trunc", ["x", *numbers], ["y"], domain="onnx.brevitas")
    case("trunc_bits", trunc, x, numbers, expected=[np.clip(np.floor(x), -2, 1)])


def check_with_reference():
    """onnx's own evaluator has a second opinion on the operators newer than onnxruntime."""
    for name in ["relu_opset28", "opset28_chain"]:
        model = onnx.load(FIXTURES.folder / f"{name}.onnx")
        expected = np.maximum(X, 0) if name.startswith("relu") else np.tanh(X)
        np.testing.assert_allclose(ReferenceEvaluator(model).run(None, {"x": X})[0], expected, atol=1e-6)


activations()
broadcasting()
linear()
shapes()
typed_tensors()
quantizers()
qonnx()
spatial()
packed_tensors()
truncations()
FIXTURES.save()
check_with_reference()
