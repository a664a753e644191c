"""Models and data that cannot be run: each is refused with a code, the place, and the way out."""

import pathlib
from dataclasses import dataclass, field

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_networks import floats, model_of

from torusml import errors
from torusml.torch.compile import compile_onnx_model

QONNX = "qonnx.custom_op.general"


def gemm(source="x", weight="w", result="y", name="fc"):
    return helper.make_node("Gemm", [source, weight], [result], name=name, transB=1)


def weight(rows=2, columns=3, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


def linear(nodes=None, inputs=None, constants=None, opset=17):
    """x -> fc -> y, but for what is given."""
    constants = {"w": weight()} if constants is None else constants
    return model_of(nodes or [gemm()], inputs or {"x": [1, 3]}, {"y": [1, 2]}, constants, opset)


def two_layers(first, second=None):
    nodes = [gemm("x", "w1", "h", "fc1"), helper.make_node("Relu", ["h"], ["a"], name="relu"), gemm("a", "w2", "y", "fc2")]
    return linear(nodes, constants={"w1": first, "w2": weight(2, 2) if second is None else second})


def with_domain(model, domain, version=1):
    model.opset_import.append(helper.make_opsetid(domain, version))
    return model


def with_value(value):
    broken = weight()
    broken[1, 2] = value
    return linear(constants={"w": broken})


def custom_operator():
    nodes = [gemm(result="h"), helper.make_node("Swirl", ["h"], ["y"], name="swirl", domain="my.ops")]
    return with_domain(linear(nodes), "my.ops")


def external(location):
    model = linear()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return model


def quant(source, result, scale="s", bits="b", name="quant", **attributes):
    attributes = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
    return helper.make_node("Quant", [source, scale, "zero", bits], [result], name=name, domain=QONNX, **attributes)


NUMBERS = {
    "s": np.float32(0.125), "s0": np.float32(0), "sw": np.float32(0.25), "zero": np.float32(0),
    "b": np.float32(4), "b40": np.float32(40), "b2.5": np.float32(2.5), "sn": np.float32(np.nan),
    "channels": np.array([[0.125, 0.25, 0.5]], np.float32),
}  # fmt: skip


def trained(nodes):
    """Weights: qw and qv are quantized; x may be read through x's quantizer, which the nodes bring along."""
    weights = [quant("w", "qw", "sw", name="weight_quant", narrow=1), quant("v", "qv", "sw", name="v_quant", narrow=1)]
    model = linear([*weights, *nodes], constants=NUMBERS | {"w": weight(), "v": weight(2, 2)})
    return with_domain(model, QONNX)


@dataclass
class Case:
    name: str
    model: object
    error: type
    text: str  # what happened, with the numbers
    where: str
    hint: str
    import_qat: bool = False
    n_bits: object = 6
    data: tuple = field(default_factory=lambda: (floats(40, 3),))


CASES = [
    Case(
        "dynamic features", linear(inputs={"x": ["n", "features"]}), errors.DynamicShape,
        r"axis 1 has no fixed size \('features'\)", "input 'x'", "fixed shapes",
    ),
    Case("old opset", linear(opset=10), errors.FileVersion, "opset 10; 11 to 28", "", "opset_version="),
    Case("future opset", linear(opset=99), errors.FileVersion, "opset 99; 11 to 28", "", "opset_version="),
    Case(
        "custom operator", custom_operator(), errors.UnsupportedOperator, r"node 'swirl' \(my.ops.Swirl\)", "",
        "one of these: Abs",
    ),
    Case(
        "external data outside", external("../weights.bin"), errors.PathOutsideModelFolder, r"'\.\./weights\.bin'",
        "tensor 'w'", "beside the model",
    ),
    Case(
        "external data by an absolute path", external("/weights.bin"), errors.PathOutsideModelFolder, "absolute",
        "tensor 'w'", "beside the model",
    ),
    Case(
        "external data that is not there", external("weights.bin"), errors.FileUnreadable, "'weights.bin' cannot be found",
        "tensor 'w'", "beside the model",
    ),
    Case("NaN in a weight", with_value(np.nan), errors.NonFiniteValue, "element 5 of weight 'w' is nan", "'fc'", "train"),
    Case("infinity in a weight", with_value(np.inf), errors.NonFiniteValue, "of weight 'w' is inf", "'fc'", "learning rate"),
    Case(
        "weights of zeros", two_layers(np.zeros((2, 3), np.float32)), errors.InvalidModel, "all 6 weights of 'w1' are 0",
        "'fc1'", "pruning",
    ),
    Case(
        "quantizer of scale zero", trained([quant("x", "a", "s0"), gemm("a", "qw")]), errors.InvalidModel, "scale 0",
        "'quant'", "a scale above 0",
    ),
    Case(
        "quantizer of scale NaN", trained([quant("x", "a", "sn"), gemm("a", "qw")]), errors.InvalidModel, "scale nan",
        "'quant'", "a scale above 0",
    ),
    Case(
        "quantizer of 40 bits", trained([quant("x", "a", bits="b40"), gemm("a", "qw")]), errors.UnsupportedBits, "40 bits",
        "'quant'", "1 to 32",
    ),
    Case(
        "quantizer of 2.5 bits", trained([quant("x", "a", bits="b2.5"), gemm("a", "qw")]), errors.UnsupportedBits,
        "2.5 bits", "'quant'", "1 to 32",
    ),
    Case(
        "scales by input channel", trained([quant("x", "a", "channels"), gemm("a", "qw")]), errors.NotSupported,
        "3 different scales", "'quant'", "per-tensor", import_qat=True,
    ),
    Case(
        "path without quantizer", trained([quant("x", "a"), gemm("a", "qw", "h", "fc1"),
                                           helper.make_node("Sigmoid", ["h"], ["p"], name="act"),
                                           gemm("p", "qv", "y", "fc2")]),
        errors.MissingQuantizer, r"'p' \(read by 'fc2'\)", "", "QuantIdentity", import_qat=True,
    ),
    Case(
        "weight without quantizer", trained([quant("x", "a"), gemm("a", "w")]), errors.MissingQuantizer,
        "weight 'w' has no quantizer", "'fc'", "QuantLinear", import_qat=True,
    ),
    Case(
        "no quantizers at all", linear(), errors.MissingQuantizer, "'w'", "'fc'", "QuantLinear", import_qat=True,
    ),
    Case(
        "operands of Gemm exchanged", linear([helper.make_node("Gemm", ["w", "x"], ["y"], name="fc", transB=1)]),
        errors.NotSupported, "its first axis is not the batch", "'fc'", "exchanged",
    ),
    Case(
        "scale and input of a quantizer exchanged",
        trained([helper.make_node("Quant", ["s", "x", "zero", "b"], ["a"], name="quant", domain=QONNX, signed=1, narrow=0),
                 gemm("a", "qw")]),
        errors.NotSupported, r"operand 1 \('x'\) is not constant", "'quant'", "exchanged", import_qat=True,
    ),
    Case(
        "sums of 17 bits", two_layers(weight(2, 3) + 3), errors.AccumulatorTooWide, "at most 16", "'fc1'", "pruning",
        n_bits=9,
    ),
    Case(
        "data of another width", linear(), errors.WrongShape, r"\(40, 4\), the model takes \(1, 3\)", "'x'", "one row",
        data=(floats(40, 4),),
    ),
    Case(
        "inputs in the wrong order",
        linear([gemm("a", "w", "h", "left"), gemm("b", "v", "g", "right"),
                helper.make_node("Add", ["h", "g"], ["y"], name="sum")],
               inputs={"a": [1, 3], "b": [1, 4]}, constants={"w": weight(), "v": weight(2, 4)}),
        errors.WrongShape, r"\(40, 4\), the model takes \(1, 3\)", "'a'", "one row", data=(floats(40, 4), floats(40, 3)),
    ),
    Case("NaN in the data", linear(), errors.NonFiniteValue, "nan", "'x'", "", data=(np.full((40, 3), np.nan),)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_bad_model_is_refused(case, tmp_path):
    path = pathlib.Path(tmp_path) / "net.onnx"
    path.write_bytes(case.model.SerializeToString())
    data = case.data if len(case.data) > 1 else case.data[0]
    with pytest.raises(errors.Error, match=case.text) as raised:
        compile_onnx_model(path, data, n_bits=case.n_bits, import_qat=case.import_qat, precision="exact", p_error=2**-20)
    assert type(raised.value) is case.error
    assert case.where in raised.value.where or case.where in raised.value.message
    assert case.hint in raised.value.hint


def test_table_covers_every_wish():
    assert len({case.name for case in CASES}) == len(CASES) >= 20
    assert onnx.defs.onnx_opset_version() <= 28  # else read newer operator sets, and say so in docs/operators.md
