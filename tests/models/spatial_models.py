"""Cases of operators/ on images: convolutions, poolings, moves, reductions, normalizations, resizing."""

import numpy as np
from onnx import TensorProto
from operator_cases import X, case, f32, i64, node, scalar

# Its own numbers, so that adding a case here leaves the files of others as they are.
SPATIAL = np.random.default_rng(11)


def image(*shape):
    return SPATIAL.uniform(-2, 2, shape).astype(np.float32)


def convolutions():
    def conv(name, x, weight, bias=False, opset=20, **attributes):
        constants = {"w": image(*weight)}
        if bias:
            constants["b"] = image(weight[0])
        case(f"conv_{name}", node("Conv", ["x", *constants], **attributes), image(*x), constants, opset)

    conv("1d", (3, 2, 9), (4, 2, 3), bias=True)
    conv("1d_strided", (2, 2, 9), (3, 2, 4), strides=[3], pads=[2, 1], dilations=[2])
    conv("2d", (3, 2, 6, 5), (4, 2, 3, 3), bias=True)
    conv("2d_opset11", (2, 1, 5, 5), (2, 1, 3, 3), bias=True, opset=11, kernel_shape=[3, 3])
    conv("2d_padded", (2, 2, 5, 4), (3, 2, 3, 2), bias=True, pads=[1, 0, 2, 1])
    conv("2d_strided", (2, 2, 7, 8), (3, 2, 3, 3), strides=[2, 3], pads=[1, 1, 1, 1])
    conv("2d_dilated", (2, 2, 8, 7), (3, 2, 3, 2), dilations=[2, 3], pads=[1, 2, 1, 0])
    conv("2d_groups", (2, 4, 5, 5), (6, 2, 3, 3), bias=True, group=2, pads=[1, 1, 1, 1])
    conv("2d_depthwise", (2, 3, 5, 5), (6, 1, 2, 2), group=3)
    conv("2d_pointwise", (2, 3, 4, 4), (5, 3, 1, 1), bias=True, strides=[2, 1])
    conv("2d_whole_image", (2, 2, 4, 3), (5, 2, 4, 3), bias=True)
    conv("3d", (2, 2, 4, 5, 4), (3, 2, 2, 3, 2), bias=True, strides=[1, 2, 1], pads=[0, 1, 1, 1, 0, 0])
    for auto_pad in ["VALID", "SAME_UPPER", "SAME_LOWER"]:
        conv(auto_pad.lower(), (2, 2, 6, 7), (3, 2, 4, 3), auto_pad=auto_pad, strides=[2, 3])
    conv("same_even", (2, 1, 6, 6), (2, 1, 3, 3), auto_pad="SAME_UPPER", strides=[4, 1])


def pads():
    x = image(2, 2, 4, 3)
    for mode in ["constant", "edge", "reflect", "wrap"]:
        case(f"pad_{mode}", node("Pad", ["x", "p"], mode=mode), x, {"p": i64(0, 0, 1, 2, 0, 0, 3, 1)})
    case("pad_value", node("Pad", ["x", "p", "c"]), x, {"p": i64(0, 1, 0, 2, 0, 0, 1, 0), "c": scalar(0.75)})
    case("pad_axes", node("Pad", ["x", "p", "", "a"], mode="edge"), x, {"p": i64(2, 1, 0, 3), "a": i64(-1, 2)})
    case("pad_opset11", node("Pad", ["x", "p", "c"]), x, {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "c": scalar(0)}, 11)
    case("pad_opset25", node("Pad", ["x", "p"], mode="reflect"), x, {"p": i64(0, 0, 1, 2, 0, 0, 3, 1)}, 25)
    constants = {"p": i64(0, 0, 1, 1, 0, 0, 1, 1), "w": image(2, 2, 3, 3)}
    case("pad_before_conv", [node("Pad", ["x", "p"], ["q"], mode="edge"), node("Conv", ["q", "w"])], x, constants)


def averages():
    def pool(name, x, opset=20, **attributes):
        case(f"averagepool_{name}", node("AveragePool", ["x"], **attributes), image(*x), opset=opset)

    pool("1d", (3, 2, 9), kernel_shape=[3])
    pool("2d", (2, 3, 6, 4), kernel_shape=[2, 2], strides=[2, 2])
    pool("padded", (2, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    pool("include_pad", (2, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    pool("ceil", (2, 2, 6, 7), kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1)
    pool("ceil_padded", (2, 1, 6, 6), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)
    pool(
        "ceil_include_pad",
        (2, 1, 6, 6),
        kernel_shape=[3, 3],
        strides=[2, 2],
        pads=[1, 1, 1, 1],
        ceil_mode=1,
        count_include_pad=1,
    )
    pool("ceil_drops_window", (2, 1, 4, 4), kernel_shape=[1, 1], strides=[3, 2], pads=[0, 0, 0, 0], ceil_mode=1)
    pool("dilated", (2, 2, 7, 6), kernel_shape=[3, 2], dilations=[2, 3])
    pool("same_upper", (2, 2, 5, 6), kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    pool("same_lower", (2, 2, 5, 6), kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    pool("3d", (2, 1, 4, 4, 3), kernel_shape=[2, 2, 2], strides=[2, 1, 1])
    pool("opset11", (2, 2, 5, 5), 11, kernel_shape=[2, 2])
    case("globalaveragepool", node("GlobalAveragePool", ["x"]), image(3, 4, 3, 2))
    case("globalaveragepool_1d", node("GlobalAveragePool", ["x"]), image(3, 2, 5))
    for op in ["ReduceMean", "ReduceSum"]:
        name, x = op.lower(), image(3, 4, 3, 2)
        case(name, node(op, ["x", "a"]), x, {"a": i64(1, 3)})
        case(f"{name}_squeezed", node(op, ["x", "a"], keepdims=0), x, {"a": i64(-1, -2)})
        case(f"{name}_noop", node(op, ["x"], noop_with_empty_axes=1), x)
        case(f"{name}_opset11", node(op, ["x"], axes=[2], keepdims=0), x, opset=11)


def moves():
    x = image(2, 3, 4, 5)
    two = {"x": x, "z": image(2, 2, 4, 5)}
    case("concat_channels", node("Concat", ["x", "z"], axis=1), two)
    case("concat_itself", node("Concat", ["x", "x"], axis=-1), x)
    case(
        "slice_image",
        node("Slice", ["x", "f", "t", "a", "s"]),
        x,
        {"f": i64(1, -1), "t": i64(4, 0), "a": i64(2, 3), "s": i64(2, -2)},
    )
    case("gather_channel", node("Gather", ["x", "i"], axis=1), x, {"i": scalar(-1, np.int64)})
    case("gather_columns", node("Gather", ["x", "i"], axis=3), x, {"i": np.array([[0, 4], [2, 2]], np.int64)})


def maxima():
    def pool(name, x, opset=20, **attributes):
        case(f"maxpool_{name}", node("MaxPool", ["x"], **attributes), image(*x), opset=opset)

    pool("1d", (3, 2, 9), kernel_shape=[3])
    pool("2d", (2, 3, 6, 4), kernel_shape=[2, 2], strides=[2, 2])
    pool("padded", (2, 2, 5, 5), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    pool("ceil", (2, 2, 6, 7), kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1)
    pool("dilated", (2, 2, 7, 6), kernel_shape=[3, 2], dilations=[2, 3])
    pool("same_lower", (2, 2, 5, 6), kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    pool("3d", (2, 1, 4, 4, 3), kernel_shape=[2, 2, 2], strides=[2, 1, 1])
    pool("opset11", (2, 2, 5, 5), 11, kernel_shape=[2, 2])
    case("globalmaxpool", node("GlobalMaxPool", ["x"]), image(3, 4, 3, 2))


def transposed():
    def conv(name, x, weight, bias=False, opset=20, **attributes):
        constants = {"w": image(*weight)}
        if bias:
            constants["b"] = image(weight[1] * attributes.get("group", 1))
        case(f"convtranspose_{name}", node("ConvTranspose", ["x", *constants], **attributes), image(*x), constants, opset)

    conv("1d", (2, 2, 5), (2, 3, 3), bias=True)
    conv("2d", (2, 2, 3, 4), (2, 3, 2, 3), strides=[2, 3])
    conv("padded", (2, 2, 3, 3), (2, 2, 3, 3), bias=True, strides=[2, 2], pads=[1, 0, 1, 2], output_padding=[1, 0])
    conv("dilated", (2, 1, 3, 4), (1, 2, 2, 3), dilations=[2, 3])
    conv("groups", (2, 4, 3, 3), (4, 2, 2, 2), bias=True, group=2, strides=[2, 1])
    conv("output_shape", (2, 2, 3, 3), (2, 2, 3, 3), strides=[2, 2], output_shape=[6, 7])
    conv("same_upper", (2, 1, 3, 3), (1, 2, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
    conv("opset11", (2, 1, 3, 3), (1, 2, 3, 3), opset=11)


def more_moves():
    x = image(2, 5, 4)
    parts = ("y", "z")
    case("split_sizes", node("Split", ["x", "s"], parts, axis=1), x, {"s": i64(2, 3)}, outputs=parts)
    case("split_equal", node("Split", ["x"], parts, axis=-2, num_outputs=2), x, outputs=parts)
    case("split_opset11", node("Split", ["x"], ("y", "unused"), axis=2, split=[1, 3]), x, opset=11)
    case("tile", node("Tile", ["x", "r"]), x, {"r": i64(1, 2, 3)})
    case("trilu", node("Trilu", ["x"], upper=0), image(2, 4, 4))
    case("trilu_shifted", node("Trilu", ["x", "k"]), image(2, 3, 4), {"k": scalar(1, np.int64)})
    for places in ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]:
        for rounding in ["floor", "round_prefer_floor"]:
            case(
                f"resize_{places}_{rounding}",
                node("Resize", ["x", "", "s"], coordinate_transformation_mode=places, nearest_mode=rounding),
                image(2, 1, 3, 4),
                {"s": f32(1, 1, 2, 0.75)},
            )
    case("resize_ceil", node("Resize", ["x", "", "s"], nearest_mode="ceil"), image(2, 1, 3), {"s": f32(1, 1, 2)})
    sizes = {"s": i64(2, 1, 5, 6)}
    case(
        "resize_sizes",
        node("Resize", ["x", "", "", "s"], nearest_mode="round_prefer_ceil"),
        image(2, 1, 3, 4),
        sizes,
        batch=2,
    )
    case("mod", node("Mod", ["x", "c"], fmod=1), X, {"c": scalar(0.7)})
    case(
        "mod_integers",
        [node("Cast", ["x"], ["i"], to=TensorProto.INT64), node("Mod", ["i", "c"])],
        X * 3,
        {"c": scalar(-4, np.int64)},
        output_type=TensorProto.INT64,
    )
    above, below = node("Greater", ["x", "a"], ["p"]), node("Less", ["x", "b"], ["q"])
    bounds = {"a": scalar(-1), "b": scalar(1)}
    case("xor", [above, below, node("Xor", ["p", "q"])], constants=bounds, output_type=TensorProto.BOOL)


def reductions():
    for op in ["ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"]:
        name, x = op.lower(), image(3, 4, 3, 2)
        x = np.abs(x) + 0.5 if op == "ReduceLogSum" else x
        case(name, node(op, ["x", "a"]), x, {"a": i64(1, 3)})
        case(f"{name}_squeezed", node(op, ["x", "a"], keepdims=0), x, {"a": i64(-2)})
        case(f"{name}_opset11", node(op, ["x"], axes=[2], keepdims=0), x, opset=11)


def normalizations():
    x = image(3, 4, 3, 2)
    for op in ["Softmax", "LogSoftmax"]:
        name = op.lower()
        case(name, node(op, ["x"]), x)
        case(f"{name}_axis", node(op, ["x"], axis=1), x)
        case(f"{name}_opset11", node(op, ["x"], axis=2), x, opset=11)
        case(f"{name}_large", node(op, ["x"]), x * 300)
    case("layernormalization", node("LayerNormalization", ["x", "s", "b"]), x, {"s": image(2), "b": image(2)})
    constants = {"s": image(3, 2)}
    case("layernormalization_axis", node("LayerNormalization", ["x", "s"], axis=2, epsilon=0.1), x, constants)
    case("rmsnormalization", node("RMSNormalization", ["x", "s"], axis=2), x, constants, opset=23)
    constants = {"s": image(4), "b": image(4)}
    case("instancenormalization", node("InstanceNormalization", ["x", "s", "b"]), x, constants)
    case("groupnormalization", node("GroupNormalization", ["x", "s", "b"], num_groups=2), x, constants, opset=21)
    mask = np.array([[0, -np.inf, -np.inf], [0, 0, -np.inf], [0, 0, 0]], np.float32)
    case("softmax_masked", [node("Add", ["x", "m"], ["a"]), node("Softmax", ["a"])], image(2, 3, 3), {"m": mask})


def selections():
    equal = np.round(image(4, 5))  # many elements of a row are the same
    for op in ["ArgMax", "ArgMin"]:
        name = op.lower()
        case(name, node(op, ["x"], axis=1), equal, output_type=TensorProto.INT64)
        last = node(op, ["x"], axis=-1, keepdims=0, select_last_index=1)
        case(f"{name}_last", last, equal, output_type=TensorProto.INT64)
        case(f"{name}_axis", node(op, ["x"], axis=2), np.round(image(3, 4, 3, 2)), output_type=TensorProto.INT64)
    k, both = {"k": i64(2)}, ("v", "i")
    case("topk_values", node("TopK", ["x", "k"], both), equal, k, outputs=("v",))
    case("topk_places", node("TopK", ["x", "k"], both), equal, k, output_type=TensorProto.INT64, outputs=("i",))
    least = node("TopK", ["x", "k"], both, axis=1, largest=0)
    case("topk_least", least, np.round(image(3, 4, 2)), k, output_type=TensorProto.INT64, outputs=("i",))


def linear_resizes():
    for places in ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]:
        for scale in [0.5, 1.6, 2]:
            case(
                f"resize_linear_{places}_{scale}".replace(".", "_"),
                node("Resize", ["x", "", "s"], mode="linear", coordinate_transformation_mode=places),
                image(2, 2, 4, 5),
                {"s": f32(1, 1, scale, 2)},
            )
    volume = node("Resize", ["x", "", "", "s"], mode="linear", coordinate_transformation_mode="align_corners")
    case("resize_linear_3d", volume, image(2, 1, 2, 3, 2), {"s": i64(2, 1, 3, 4, 3)}, batch=2)


def spatial():
    convolutions()
    pads()
    averages()
    moves()
    maxima()
    transposed()
    more_moves()
    reductions()
    normalizations()
    selections()
    linear_resizes()
