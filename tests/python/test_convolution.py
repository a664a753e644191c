"""Convolutional networks from PyTorch and Brevitas to encrypted data."""

import time

import brevitas.nn as qnn
import numpy as np
import pytest
import torch
from brevitas.quant import Int8WeightPerChannelFloat
from small_networks import model_of
from torch import nn

import torusml
from torusml.torch.compile import build_quantized_module, compile_brevitas_qat_model, compile_torch_model

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 1, (200, 1, 6, 6)).astype(np.float32)


def digits_cnn():
    """Conv, batch normalization and ReLU twice, then a pooling and a linear layer."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 2),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    for _ in range(20):
        net.train()(torch.from_numpy(IMAGES))
    return net.eval()


class QuantizedCnn(nn.Module):
    def __init__(self, per_channel):
        super().__init__()
        weights = {"weight_bit_width": 3}
        if per_channel:
            weights["weight_quant"] = Int8WeightPerChannelFloat
        self.quant = qnn.QuantIdentity(bit_width=3, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(1, 3, 3, stride=2, padding=1, bias=True, **weights)
        self.relu1 = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
        self.conv2 = qnn.QuantConv2d(3, 4, 2, bias=False, groups=1, **weights)
        self.relu2 = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
        self.fc = qnn.QuantLinear(16, 3, bias=True, **weights)

    def forward(self, x):
        x = self.relu1(self.conv1(self.quant(x)))
        return self.fc(self.relu2(self.conv2(x)).flatten(1))


class QuantizedLine(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = qnn.QuantIdentity(bit_width=3, return_quant_tensor=True)
        self.conv = qnn.QuantConv1d(6, 3, 3, padding=1, bias=True, weight_bit_width=3)
        self.relu = qnn.QuantReLU(bit_width=3, return_quant_tensor=True)
        self.fc = qnn.QuantLinear(18, 3, bias=False, weight_bit_width=3)

    def forward(self, x):
        return self.fc(self.relu(self.conv(self.quant(x.squeeze(1)))).flatten(1))


def trained(make, *arguments):
    """The same network whatever ran before."""
    torch.manual_seed(2)
    net = make(*arguments)
    for _ in range(20):
        net.train()(torch.from_numpy(IMAGES))
    return net.eval()


def result_of(net, x):
    with torch.no_grad():
        result = net(torch.from_numpy(x))
    return getattr(result, "value", result).numpy()


def check_encrypted(module):
    """Clear, simulated and encrypted results of two samples, where lookups are exact."""
    x = IMAGES[:2]
    expected = module.forward(x)
    assert np.array_equal(module.forward(x, fhe="simulate"), expected)
    assert np.array_equal(module.forward(x, fhe="execute"), expected)


@pytest.mark.parametrize("precision", ["exact", "tolerant"])
def test_after_training(precision):
    net = digits_cnn()
    module = compile_torch_model(net, IMAGES, n_bits=6, precision=precision)
    expected = result_of(net, IMAGES)
    assert np.abs(module.forward(IMAGES) - expected).max() < 0.1 * np.abs(expected).max()
    # One lookup for each place behind a ReLU: the pooling is part of the last layer.
    assert module.fhe_circuit.statistics["table_lookup_count"] == 3 * 9 + 4 * 4


def test_encrypted_after_training():
    check_encrypted(compile_torch_model(digits_cnn(), IMAGES, n_bits=2))


@pytest.mark.parametrize("per_channel", [False, True])
def test_brevitas(per_channel):
    net = trained(QuantizedCnn, per_channel)
    module = compile_brevitas_qat_model(net, IMAGES)
    step = np.max(module.output_quantizers[0].scale)
    np.testing.assert_allclose(module.forward(IMAGES), result_of(net, IMAGES), atol=step * 1e-3)
    tolerant = compile_brevitas_qat_model(net, IMAGES, precision="tolerant")
    assert np.array_equal(tolerant.forward(IMAGES), module.forward(IMAGES))


def test_brevitas_of_one_axis():
    net = trained(QuantizedLine)
    module = compile_brevitas_qat_model(net, IMAGES)
    step = np.max(module.output_quantizers[0].scale)
    np.testing.assert_allclose(module.forward(IMAGES), result_of(net, IMAGES), atol=step * 1e-3)


def test_encrypted_brevitas():
    check_encrypted(compile_brevitas_qat_model(trained(QuantizedCnn, True), IMAGES))


class QuantizedPlanes(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = qnn.QuantIdentity(bit_width=3, return_quant_tensor=True)
        self.conv = qnn.QuantConv2d(1, 2, 3, bias=True, weight_bit_width=3, weight_quant=Int8WeightPerChannelFloat)

    def forward(self, x):
        return self.conv(self.quant(x))


def test_a_convolution_at_the_end(tmp_path):
    """Scales and zero points differ along the first axis of the result, so that there is one for each element."""
    net = trained(QuantizedPlanes)
    module = compile_brevitas_qat_model(net, IMAGES)
    quantizer = module.output_quantizers[0]
    assert quantizer.scale.shape == quantizer.zero_point.shape == (2, 4, 4)
    check_saved(module, net, tmp_path)


def check_saved(module, net, folder):
    """Floats are those of the network to a thousandth of a step, also by the quantizer of the results and from files."""
    quantizer = module.output_quantizers[0]
    y = module.forward(IMAGES)
    np.testing.assert_allclose(y, result_of(net, IMAGES), atol=np.max(quantizer.scale) * 1e-3)
    integers = module.quantized_forward(module.quantize_input(IMAGES))
    assert np.array_equal(quantizer.dequant(integers), y)
    assert np.array_equal(quantizer.quant(y), integers)
    module.fhe_circuit.save(folder / "net.tml")
    client, server = torusml.Client(folder / "net.tml"), torusml.Server(folder / "net.tml")
    client.keygen()
    server.load_keys(client.evaluation_keys)
    assert np.array_equal(client.decrypt(server.run(client.encrypt(IMAGES[:2]))), y[:2])


class QuantizedRows(nn.Module):
    """A linear layer on each row, with a scale for each of its two channels."""

    def __init__(self, *offset_shape):
        super().__init__()
        self.quant = qnn.QuantIdentity(bit_width=3, return_quant_tensor=True)
        self.fc = qnn.QuantLinear(6, 2, bias=False, weight_bit_width=3, weight_quant=Int8WeightPerChannelFloat)
        self.offset = nn.Parameter(torch.rand(offset_shape)) if offset_shape else None

    def forward(self, x):
        y = self.fc(self.quant(x.squeeze(1)))
        return y if self.offset is None else y + self.offset


@pytest.mark.parametrize("shape", [(), (2,), (6, 2)])
def test_zero_points_of_other_shapes_than_scales(shape, tmp_path):
    """One for all, one by channel, one by element, beside scales by channel."""
    net = trained(QuantizedRows, *shape)
    module = compile_brevitas_qat_model(net, IMAGES)
    quantizer = module.output_quantizers[0]
    assert quantizer.scale.shape == (2,)
    assert np.shape(quantizer.zero_point) == shape
    check_saved(module, net, tmp_path)


class QuantizedMaxima(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant = qnn.QuantIdentity(bit_width=3, return_quant_tensor=True)
        self.conv1 = qnn.QuantConv2d(1, 2, 3, bias=True, weight_bit_width=3)
        self.relu1 = qnn.QuantReLU(bit_width=2, return_quant_tensor=True)
        self.pool = nn.MaxPool2d(2)
        self.fc = qnn.QuantLinear(8, 3, bias=True, weight_bit_width=3)

    def forward(self, x):
        return self.fc(self.pool(self.relu1(self.conv1(self.quant(x)))).flatten(1))


def test_brevitas_maxima():
    """A maximum of integers is exact; 2 x 4 x 4 lookups behind the convolution, then 2 x 4 x 2 and 2 x 2 x 2."""
    net = trained(QuantizedMaxima)
    module = compile_brevitas_qat_model(net, IMAGES)
    step = np.max(module.output_quantizers[0].scale)
    np.testing.assert_allclose(module.forward(IMAGES), result_of(net, IMAGES), atol=step * 1e-3)
    assert module.fhe_circuit.statistics["table_lookup_count"] == 32 + 16 + 8
    check_encrypted(module)


def test_maxima_after_training():
    torch.manual_seed(5)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d(3, 2, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)
    )
    net = trained(lambda: net)
    module = compile_torch_model(net, IMAGES, n_bits=6, precision="tolerant")
    expected = result_of(net, IMAGES)
    assert np.abs(module.forward(IMAGES) - expected).max() < 0.15 * np.abs(expected).max()


def test_replicate_padding():
    """The network NN-20 of the literature begins like this."""
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"),
        nn.ReLU(),
        nn.BatchNorm2d(1),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.ReLU(),
        nn.BatchNorm1d(8),
        nn.Linear(8, 3),
    )
    net = trained(lambda: net)
    module = compile_torch_model(net, IMAGES, n_bits=6, precision="tolerant")
    expected = result_of(net, IMAGES)
    assert np.abs(module.forward(IMAGES) - expected).max() < 0.1 * np.abs(expected).max()
    assert module.fhe_circuit.statistics["table_lookup_count"] == 36 + 8


def test_fashion_mnist_size_in_seconds():
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(4, 8, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(200, 10),
    )
    images = RNG.uniform(0, 1, (500, 1, 28, 28)).astype(np.float32)
    start = time.process_time()
    module = compile_torch_model(net, images, n_bits=4, precision="tolerant")
    assert time.process_time() - start < 60  # of the processor; it takes 3 s where nothing else runs
    # Of 4 * 144 + 8 * 25 values four bits leave 92 constant or unread.
    assert module.fhe_circuit.statistics["table_lookup_count"] == 4 * 144 + 8 * 25 - 92


def refused(nodes, constants, shape=(1, 4, 5, 5), opset=18):
    model = model_of(nodes, {"x": list(shape)}, {"y": None}, constants, opset)
    with pytest.raises(torusml.Error) as raised:
        build_quantized_module(model, RNG.uniform(0, 1, (10, *shape[1:])).astype(np.float32))
    return str(raised.value)


def op(op_type, inputs, **attributes):
    import onnx

    return [onnx.helper.make_node(op_type, inputs, ["y"], name="layer", **attributes)]


W = np.ones((6, 4, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("nodes", "constants", "says"),
    [
        (op("Conv", ["x", "w"], group=3), {"w": W}, "3 groups do not divide 4 input"),
        (op("Conv", ["x", "w"], group=2), {"w": W}, "weights for 2 each"),
        (op("Conv", ["x", "w"]), {"w": np.ones((1, 4, 7, 7), np.float32)}, "spans 7 places on an input of 5"),
        (op("Conv", ["x", "w"], pads=[0, 0, -1, 0]), {"w": W}, "'pads' has an entry -1"),
        (op("Conv", ["x", "w"], strides=[0, 1]), {"w": W}, "'strides' has an entry 0"),
        (op("Conv", ["x", "w"], strides=[1]), {"w": W}, "'strides' has 1 entries, expected 2"),
        (op("Conv", ["x", "w"], auto_pad="SAME"), {"w": W}, "'auto_pad' is 'SAME'"),
        (op("Conv", ["x", "w"], kernel_shape=[2, 2]), {"w": W}, "'kernel_shape' is"),
        (op("Conv", ["x", "w", "b"]), {"w": W, "b": np.ones(5, np.float32)}, "6 output channels"),
        (op("Conv", ["x", "x"]), {}, "operand 1 ('x') is not constant"),
        (op("Pad", ["x", "p"]), {"p": np.array([0, 0, 0, 0, 0, 0, -1, 0])}, "a pad of -1"),
        (op("Pad", ["x", "p"], mode="reflect"), {"p": np.array([0, 0, 0, 5, 0, 0, 0, 0])}, "reflect padding of 5 and 0"),
        (op("Pad", ["x", "p"], mode="mirror"), {"p": np.zeros(8, int)}, "'mode' is 'mirror'"),
        (op("Pad", ["x", "p"]), {"p": np.array([1, 0, 0, 0, 0, 0, 0, 0])}, "first axis is not the batch"),
        (op("AveragePool", ["x"]), {}, "it needs 2 axes"),
        (op("AveragePool", ["x"], kernel_shape=[2, 2], pads=[2, 0, 0, 0]), {}, "wholly in the padding"),
        (op("AveragePool", ["x"], kernel_shape=[6, 6], ceil_mode=1), {}, "spans 6 places on an input of 5"),
        (op("ReduceMean", ["x", "a"]), {"a": np.array([0, 2])}, "samples of a batch apart"),
        (op("ReduceSum", ["x"]), {}, "samples of a batch apart"),
        (op("MaxPool", ["x"], kernel_shape=[6, 6]), {}, "spans 6 places on an input of 5"),
        (op("MaxUnpool", ["x", "x"], kernel_shape=[2, 2]), {}, "MaxUnpool"),
    ],
)
def test_errors_name_the_node(nodes, constants, says):
    text = refused(nodes, constants)
    assert says in text, text
    assert "'layer'" in text, text


def test_dynamic_channels():
    model = model_of(op("Conv", ["x", "w"]), {"x": [1, "c", 5, 5]}, {"y": None}, {"w": W})
    with pytest.raises(torusml.Error, match="axis 1 has no fixed size"):
        build_quantized_module(model, RNG.uniform(0, 1, (10, 4, 5, 5)).astype(np.float32))
