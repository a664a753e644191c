"""torusml.torch.compile on PyTorch and Brevitas networks."""

import pathlib

import brevitas.nn as qnn
import numpy as np
import pytest
import small_networks
import torch
from onnx import helper
from torch import nn

import torusml
from torusml.quantization import QuantizedModule
from torusml.torch.compile import (
    build_quantized_module,
    compile_brevitas_qat_model,
    compile_onnx_model,
    compile_torch_model,
)

MODELS = pathlib.Path(__file__).parent.parent / "models"
RNG = np.random.default_rng(0)
DATA = RNG.uniform(-1, 1, (300, 4)).astype(np.float32)


def float_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def quantized_net():
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.quant = qnn.QuantIdentity(bit_width=3, return_quant_tensor=True)
            self.fc1 = qnn.QuantLinear(4, 6, bias=True, weight_bit_width=3)
            self.relu = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
            self.fc2 = qnn.QuantLinear(6, 2, bias=True, weight_bit_width=3)

        def forward(self, x):
            return self.fc2(self.relu(self.fc1(self.quant(x))))

    net = Net()
    net.train()
    for _ in range(20):
        net(torch.from_numpy(DATA))
    return net.eval()


def torch_result(net, x):
    with torch.no_grad():
        result = net(torch.from_numpy(x))
    return getattr(result, "value", result).numpy()


def mixed_net():
    """30 lookups of 5 bits, and two of 9 bits that take sums of 15 results."""
    net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        for parameter in net[:3].parameters():
            parameter.zero_()
        for i in range(30):
            net[0].weight[i, i % 4] = 1.0
            net[2].weight[i % 2, i] = 1.0
    return net


def test_demanding_lookups_have_a_key_set_of_their_own():
    net, bits = mixed_net(), {"op_inputs": 3, "op_weights": 2, "model_inputs": 3, "model_outputs": 8}
    two = torusml.compile(net, DATA, bits=bits, precision="exact").fhe_circuit.statistics
    assert [key_set["lookup_count"] for key_set in two["key_sets"]] == [2, 30]
    assert two["key_set"] == " + ".join(key_set["name"] for key_set in two["key_sets"])
    module = torusml.compile(net, DATA, bits=bits, precision="exact", max_key_sets=1)
    one = module.fhe_circuit.statistics
    assert len(one["key_sets"]) == 1 and one["one_key_set"] is None
    assert two["one_key_set"]["name"] == one["key_set"]
    assert two["one_key_set"]["cost_ms_per_core"] == one["complexity"] > two["complexity"] / 0.85

    module = torusml.compile(net, DATA, bits=bits, precision="exact")
    circuit = module.fhe_circuit
    circuit.keygen()
    keys = circuit.client.evaluation_keys
    assert two["size_of_bootstrap_keys"] == keys.bootstrap_key_bytes
    assert two["size_of_keyswitch_keys"] == keys.keyswitch_key_bytes
    assert np.array_equal(module.forward(DATA[:2], fhe="execute"), module.forward(DATA[:2]))
    for wrong in (0, 3):
        with pytest.raises(torusml.errors.InvalidArgument, match="max_key_sets"):
            torusml.compile(net, DATA, bits=bits, precision="exact", max_key_sets=wrong)


def test_results_travel_packed():
    net = float_net()
    loose = torusml.compile(net, DATA, bits=3, precision="exact").fhe_circuit.statistics
    module = torusml.compile(net, DATA, bits=3, precision="exact", pack_outputs="on")
    packed = module.fhe_circuit.statistics
    assert packed["key_set"] == loose["key_set"] + "-r2x16"
    # Two results: a mask of 2048 words and two bodies in place of two masks and bodies.
    assert packed["size_of_outputs"] < 0.55 * loose["size_of_outputs"]
    module.fhe_circuit.keygen()
    assert np.array_equal(module.forward(DATA[:3], fhe="execute"), module.forward(DATA[:3]))
    with pytest.raises(torusml.errors.UnknownOption, match="pack_outputs"):
        torusml.compile(net, DATA, bits=3, pack_outputs="yes")
    with pytest.raises(torusml.errors.NotSupported, match="GLWE dimension 2"):
        torusml.compile(net, DATA, bits=2, precision="exact", pack_outputs="on")
    with pytest.raises(torusml.errors.NotSupported, match="without a lookup"):
        torusml.compile(nn.Linear(4, 2), DATA, bits=4, pack_outputs="on")


def test_results_of_wide_lookups_travel_packed():
    net = float_net()
    sizes = {}
    for pack in ("auto", "off"):
        statistics = torusml.compile(net, DATA, bits=4, precision="exact", pack_outputs=pack).fhe_circuit.statistics
        sizes[statistics["size_of_outputs"]] = statistics["key_set"]
    assert len(sizes) == 2 and len(set(sizes.values())) == 1


def test_torch_network(capfd):
    net = float_net()
    module = compile_torch_model(net, torch.from_numpy(DATA), n_bits=6, precision="tolerant")
    assert isinstance(module, QuantizedModule) and module.is_compiled
    expected = torch_result(net, DATA)
    assert np.abs(module.forward(DATA) - expected).max() < 0.15 * np.abs(expected).max()
    assert net.training  # as it was
    assert module.onnx_model.graph.node[0].op_type == "Gemm"
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == ""


def test_inputs_in_every_form():
    net = float_net()
    by_tensor = build_quantized_module(net, torch.from_numpy(DATA), n_bits=4)
    by_double = build_quantized_module(net, DATA.astype(np.float64), n_bits=4)
    by_tuple = build_quantized_module(net, (DATA,), n_bits=4)
    expected = by_tensor.forward(torch.from_numpy(DATA))
    assert np.array_equal(by_double.forward(DATA.astype(np.float64)), expected)
    assert np.array_equal(by_tuple.forward(DATA), expected)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.last = nn.Linear(4, 3), nn.Linear(2, 3), nn.Linear(3, 2)

    def forward(self, a, b):
        return self.last(torch.relu(self.left(a) + self.right(b)))


def test_several_inputs():
    a, b = DATA, RNG.uniform(-1, 1, (300, 2)).astype(np.float32)
    torch.manual_seed(0)
    net = TwoInputs()
    module = build_quantized_module(net, (torch.from_numpy(a), torch.from_numpy(b)), n_bits=6)
    with torch.no_grad():
        expected = net(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert module.ordered_module_input_names == ("a", "b")
    assert np.abs(module.forward(a, b) - expected).max() < 0.1 * np.abs(expected).max()


def test_encrypted_torch_network():
    module = compile_torch_model(float_net(), DATA, n_bits=3)
    q = module.quantize_input(DATA[:2])
    assert np.array_equal(module.quantized_forward(q, fhe="execute"), module.quantized_forward(q))


def test_brevitas_network(capfd, tmp_path):
    net = quantized_net()
    module = compile_brevitas_qat_model(net, DATA, output_onnx_file=tmp_path / "net.onnx")
    assert "Quant" in {node.op_type for node in module.onnx_model.graph.node}
    np.testing.assert_allclose(module.forward(DATA), torch_result(net, DATA), atol=_last_step(module) * 1.01)
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err == ""
    again = compile_onnx_model(tmp_path / "net.onnx", DATA, import_qat=True)
    assert np.array_equal(again.forward(DATA), module.forward(DATA))
    automatic = torusml.compile(net, DATA)
    assert np.array_equal(automatic.forward(DATA), module.forward(DATA))


def _last_step(module):
    return float(np.max(module.output_quantizers[0].scale))


def test_encrypted_brevitas_network():
    module = compile_brevitas_qat_model(quantized_net(), DATA)
    q = module.quantize_input(DATA[:2])
    assert np.array_equal(module.fhe_circuit.encrypt_run_decrypt(q), module.quantized_forward(q))


def test_networks_in_the_wrong_place():
    with pytest.raises(AssertionError, match="compile_brevitas_qat_model"):
        compile_torch_model(quantized_net(), DATA)
    with pytest.raises(AssertionError, match="compile_torch_model"):
        compile_brevitas_qat_model(float_net(), DATA)
    for compile_it in (compile_torch_model, compile_brevitas_qat_model):
        with pytest.raises(AssertionError, match="torch.nn.Module"):
            compile_it(lambda x: x, DATA)
    with pytest.raises(ValueError, match="TML-E029"):
        build_quantized_module(object(), DATA)


def test_network_that_cannot_be_exported():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("no forward pass")

    with pytest.raises(ValueError, match="TML-E029.*no forward pass"):
        build_quantized_module(Fails(), DATA)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 3, batch_first=True)

    def forward(self, x):
        return self.gru(x.unsqueeze(1))[0]


def test_unsupported_layer():
    with pytest.raises(ValueError, match="TML-E015.*GRU"):
        build_quantized_module(Recurrent(), DATA)


@pytest.mark.parametrize(
    ("arguments", "builtin"),
    [
        ({"rounding_threshold_bits": "auto"}, NotImplementedError),
        ({"rounding_threshold_bits": 9}, ValueError),
        ({"reduce_sum_copy": True}, NotImplementedError),
        ({"device": "cuda"}, NotImplementedError),
        ({"show_mlir": True}, NotImplementedError),
        ({"p_error": 0.1, "global_p_error": 0.1}, ValueError),
        ({"inputs_encryption_status": ("clear",)}, ValueError),
        ({"precision": "sloppy"}, ValueError),
    ],
)
@pytest.mark.parametrize("compile_it", [compile_torch_model, compile_brevitas_qat_model, compile_onnx_model])
def test_refused_arguments(compile_it, arguments, builtin):
    model = {
        compile_torch_model: float_net,
        compile_brevitas_qat_model: quantized_net,
        compile_onnx_model: lambda: MODELS / "checkerboard_qat_seed0.onnx",
    }[compile_it]()
    data = DATA[:, :2] if compile_it is compile_onnx_model else DATA
    with pytest.raises(builtin) as raised:
        compile_it(model, data, **arguments)
    assert isinstance(raised.value, torusml.Error)


@pytest.mark.parametrize("n_bits", [{"model_inputs": 8}, {"model_inputs": 8, "model_outputs": 8, "op_inputs": 3}])
def test_bits_of_a_brevitas_network(n_bits):
    with pytest.raises(KeyError, match="model_outputs"):
        compile_brevitas_qat_model(quantized_net(), DATA, n_bits=n_bits)


@pytest.fixture(scope="module")
def checkerboard():
    arrays = np.load(MODELS / "checkerboard_qat_seed0.npz")
    model = MODELS / "checkerboard_qat_seed0.onnx"
    return build_quantized_module(model, arrays["calibration"], import_qat=True), arrays


def test_checkerboard_integers_are_those_of_brevitas(checkerboard):
    """Layer by layer on all 500 points. The sums before a table are compared without their bias, which the table holds."""
    module, arrays = checkerboard
    points = arrays["points"]
    _, layers = module.forward(points, debug=True)
    q_input = module.quantize_input(points)
    _same(q_input, arrays["int_input"])
    by_shape = [array for array in layers.values() if array.shape == (500, 100)]
    for name, array in zip(("int_fc1", "int_relu1", "int_fc2", "int_relu2"), by_shape, strict=True):
        _same(array, arrays[name])
    (q_output,) = [array for array in layers.values() if array.shape == (500, 2)]
    bias = q_output - arrays["int_fc3"].astype(np.int64)
    _same(bias, np.broadcast_to(np.median(bias, axis=0).astype(np.int64), bias.shape))
    assert np.abs(module.dequantize_output(q_output) - arrays["logits"]).max() <= 1e-3 * arrays["scale_fc3"]


def _same(ours, theirs):
    """Equal, but for ties at a rounding boundary: at most one in a thousand, and by one."""
    difference = ours.astype(np.int64) - theirs.astype(np.int64)
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= difference.size / 1000


def test_checkerboard_encrypted(checkerboard):
    module, arrays = checkerboard
    circuit = module.compile(arrays["calibration"], precision="tolerant")
    points = arrays["points"][:3]
    clear = module.forward(points)
    encrypted = module.forward(points, fhe="execute")
    width = circuit.statistics["tolerance"] * (clear.max() - clear.min()) * 12
    assert np.abs(encrypted - clear).max() < max(width, 8 * arrays["scale_fc3"])
    simulated = module.forward(arrays["points"], fhe="simulate")
    agree = np.argmax(simulated, 1) == np.argmax(module.forward(arrays["points"]), 1)
    assert agree.mean() > 0.97


def test_a_constant_output_is_told():
    constants = {"w": np.eye(2, dtype=np.float32), "b": np.float32([-9, -9])}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="fc"),
        helper.make_node("Relu", ["h"], ["y"], name="relu"),
    ]
    model = small_networks.model_of(nodes, {"x": [1, 2]}, {"y": [1, 2]}, constants)
    with pytest.warns(RuntimeWarning, match="output 'y' is the same for all inputs"):
        module = compile_onnx_model(model, small_networks.floats(50, 2))
    assert not module.forward(small_networks.floats(3, 2), fhe="execute").any()
