"""torusml.torch.to_qat, prune_to_accumulator, and what is said of networks that are not quantized from end to end."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from torch import nn
from torch.nn.utils import prune

pytest.importorskip("brevitas")

import brevitas.nn as qnn  # noqa: E402

import torusml  # noqa: E402
from torusml import errors  # noqa: E402
from torusml.torch import finish_pruning, products_within, prune_to_accumulator, to_qat  # noqa: E402
from torusml.torch.compile import build_quantized_module, compile_brevitas_qat_model  # noqa: E402

POINTS = np.random.default_rng(0).uniform(-1, 1, (300, 4)).astype(np.float32)
IMAGES = np.random.default_rng(1).uniform(-1, 1, (60, 1, 6, 6)).astype(np.float32)


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)

    def forward(self, x):
        return self.fc2(self.relu(self.fc1(x)))


class Functional(nn.Module):
    """Activations as functions, and one without a quantized twin."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.gelu, self.fc3 = nn.Linear(4, 6), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 2)

    def forward(self, x):
        x = functional.relu(self.fc1(x))
        return self.fc3(self.gelu(self.fc2(x)))


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm, self.relu1 = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2, self.relu2, self.average = nn.Conv2d(3, 4, 2), nn.ReLU(), nn.AvgPool2d(2)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.pool(self.relu1(self.norm(self.conv1(x))))
        return self.fc(torch.flatten(self.average(self.relu2(self.conv2(x))), 1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.relu1, self.fc2, self.relu2 = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU()
        self.fc3 = nn.Linear(10, 2)

    def forward(self, x):
        h = self.relu1(self.fc1(x))
        s = self.relu2(self.fc2(h) + h)
        return self.fc3(torch.cat([s, h], 1))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right, self.tanh, self.last = nn.Linear(4, 3), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)

    def forward(self, a, b):
        return self.last(self.tanh(self.left(a) - self.right(b)))


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.sigmoid, self.hard = nn.Conv1d(2, 3, 3), nn.Sigmoid(), nn.Hardtanh(-0.5, 0.5)
        self.fc1, self.fc2 = nn.Linear(12, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.fc2(self.hard(self.fc1(self.sigmoid(self.conv(x)).flatten(1))))


def sequential():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))


NETWORKS = {
    "mlp": (Mlp, (POINTS,)),
    "sequential": (sequential, (POINTS,)),
    "functional": (Functional, (POINTS,)),
    "cnn": (Cnn, (IMAGES,)),
    "residual": (Residual, (POINTS,)),
    "two inputs": (TwoInputs, (POINTS, POINTS[::-1].copy())),
    "line": (Line, (np.random.default_rng(2).uniform(-1, 1, (90, 2, 6)).astype(np.float32),)),
}


def made(name):
    torch.manual_seed(0)
    make, inputs = NETWORKS[name]
    return make(), inputs


def train_briefly(net, inputs, steps=30):
    """Enough for Brevitas to have watched the ranges, and for gradients to have passed everywhere."""
    torch.manual_seed(1)
    tensors = [torch.from_numpy(value) for value in inputs]
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        result = net(*tensors)
        getattr(result, "value", result).square().mean().backward()
        optimizer.step()
    return net.eval()


def results(net, inputs):
    with torch.no_grad():
        result = net(*[torch.from_numpy(value) for value in inputs])
    return getattr(result, "value", result).numpy()


def children(net):
    return {name: type(module).__name__ for name, module in net.named_children()}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_twins_compile_and_give_brevitas_results(name, per_channel):
    net, inputs = made(name)
    before = copy.deepcopy(net.state_dict())
    twin = train_briefly(to_qat(net, bits=4, per_channel=per_channel), inputs)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    module = compile_brevitas_qat_model(twin, inputs, precision="exact", p_error=2**-20)
    expected = results(twin, inputs)
    step = np.max([quantizer.scale for quantizer in module.output_quantizers])
    wrong = np.abs(module.forward(*inputs) - expected) > 1e-3 * step + 1e-5
    assert wrong.mean() < 0.005  # ties of float32 at the edge of a step


@pytest.mark.parametrize("name", ["mlp", "residual"])
def test_twins_run_encrypted(name):
    net, inputs = made(name)
    twin = train_briefly(to_qat(net, bits=2, non_zero=2), inputs)
    module = compile_brevitas_qat_model(twin, inputs, precision="exact", p_error=2**-20)
    few = [value[:2] for value in inputs]
    clear = module.forward(*few)
    assert np.array_equal(module.forward(*few, fhe="simulate"), clear)
    assert np.array_equal(module.forward(*few, fhe="execute"), clear)


def test_equal_integers_are_not_equal_scores(tmp_path):
    """The bias of the last layer is a float for Brevitas. Its whole steps are added on encrypted data; the rest is part of
    the zero points, and decides where the integers of two classes are equal."""
    net, inputs = made("mlp")
    twin = train_briefly(to_qat(net, bits=3), inputs)
    module = compile_brevitas_qat_model(twin, inputs, precision="exact", p_error=2**-20)
    integers = module.quantized_forward(module.quantize_input(POINTS))
    expected = results(twin, inputs)
    rows = np.sort(integers, axis=1)
    tied = rows[:, -1] == rows[:, -2]
    scores = np.sort(expected, axis=1)
    assert tied.sum() >= 10
    assert (scores[tied, -1] - scores[tied, -2]).min() > 1e-3 * module.output_quantizers[0].scale

    clear = module.forward(POINTS)
    np.testing.assert_allclose(clear, expected, atol=1e-4 * module.output_quantizers[0].scale)
    assert np.array_equal(clear.argmax(axis=1), expected.argmax(axis=1))
    assert np.array_equal(clear, module.dequantize_output(integers))
    assert np.array_equal(clear, module.output_quantizers[0].dequant(integers))
    assert np.array_equal(module.forward(POINTS, fhe="simulate"), clear)
    few = POINTS[np.flatnonzero(tied)[:2]]
    assert np.array_equal(module.forward(few, fhe="execute"), module.forward(few))

    module.fhe_circuit.save_client_half(tmp_path / "net.tmc")
    module.fhe_circuit.save_server_half(tmp_path / "net.tms")
    client, server = torusml.Client(tmp_path / "net.tmc"), torusml.Server(tmp_path / "net.tms")
    client.keygen()
    server.load_keys(client.evaluation_keys)
    assert np.array_equal(client.decrypt(server.run(client.encrypt(few))), module.forward(few))


def test_names_code_and_weights_stay():
    net, _ = made("mlp")
    twin = to_qat(net.eval(), bits=3)
    assert isinstance(twin, Mlp) and not twin.training
    assert children(twin) == {
        "fc1": "QuantLinear",
        "relu": "QuantReLU",
        "fc2": "QuantLinear",
        "input_quant": "QuantIdentity",
    }
    for key, value in net.state_dict().items():
        assert torch.equal(twin.state_dict()[key], value)
    net, _ = made("sequential")
    twin = to_qat(net)
    assert list(children(twin)) == ["input_quant", "0", "1", "2", "3"]
    assert twin.load_state_dict(net.state_dict(), strict=False).unexpected_keys == []


def test_functions_need_quantizers_of_their_own():
    twin = to_qat(made("functional")[0])
    assert isinstance(twin, Functional)  # hooks suffice
    assert isinstance(twin.fc2.operand_quant, qnn.QuantIdentity) and not twin.fc2.operand_quant.act_quant.is_signed
    assert isinstance(twin.gelu.result_quant, qnn.QuantIdentity) and twin.gelu.result_quant.act_quant.is_signed
    twin = to_qat(made("residual")[0])
    assert isinstance(twin, torch.fx.GraphModule)
    assert {"add_quant", "cat_quant", "input_quant"} <= set(children(twin))
    assert twin.code.count("self.add_quant(") == twin.code.count("self.cat_quant(") == 2


class Mixed(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.function = function

    def forward(self, x):
        return self.function(self.first(x), self.second)


MIXED = {
    "gate": lambda y, layer: (lambda halves: torch.cat([halves[0], halves[1].sigmoid()], 1))(y.chunk(2, 1)),
    "sum of halves": lambda y, layer: y[:, :3].relu() + y[:, 3:].sigmoid(),
    "mean of a residual": lambda y, layer: (y + layer(y).relu()).mean(1, keepdim=True),
    "transposed": lambda y, layer: layer(y.reshape(-1, 2, 3).permute(0, 2, 1).relu().flatten(1)),
    "below the largest": lambda y, layer: layer(y.relu() - y.relu().amax(1, keepdim=True)),
    "sorted": lambda y, layer: layer(y.sort(1)[0] + y),
    "top": lambda y, layer: y.topk(4, 1)[0].sigmoid(),
    "larger of two": lambda y, layer: torch.maximum(y, layer(y)),
}


@pytest.mark.parametrize("name", MIXED)
def test_networks_that_move_and_compare(name):
    torch.manual_seed(3)
    twin = to_qat(Mixed(MIXED[name]), 5)
    x = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    with torch.no_grad():
        for _ in range(30):
            twin(torch.from_numpy(x))
    expected = twin.eval()(torch.from_numpy(x[:50])).detach().numpy()
    module = compile_brevitas_qat_model(twin, x, precision="exact")
    clear = module.forward(x[:50])
    error = np.abs(clear - expected).max() / np.abs(expected).max()
    # The last function of these two has no quantizer behind it, and gets results of 8 bits.
    assert error <= (0.01 if name in ("top", "larger of two") else 1e-6)
    assert np.array_equal(module.forward(x[:50], fhe="simulate"), clear)


def test_pools_and_norms():
    twin = to_qat(made("cnn")[0])
    assert isinstance(twin, Cnn)
    assert not hasattr(twin.norm, "result_quant")  # the ReLU behind it quantizes
    assert not hasattr(twin.pool, "result_quant")  # largest values of a grid lie on it
    assert not twin.average.result_quant.act_quant.is_signed


def test_activations_that_no_layer_reads_stay():
    twin = to_qat(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1), nn.Sigmoid()))
    assert list(children(twin).values()) == ["QuantIdentity", "QuantLinear", "QuantReLU", "QuantLinear", "Sigmoid"]


def test_nothing_is_quantized_twice():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.start = qnn.QuantIdentity(bit_width=5, return_quant_tensor=True)
            self.fc1 = qnn.QuantLinear(4, 6, bias=True, weight_bit_width=4)
            self.relu, self.fc2 = nn.ReLU(), nn.Linear(6, 2)

        def forward(self, x):
            return self.fc2(self.relu(self.fc1(self.start(x))))

    twin = to_qat(Mixed(), bits=3)
    assert children(twin) == {"start": "QuantIdentity", "fc1": "QuantLinear", "relu": "QuantReLU", "fc2": "QuantLinear"}
    assert int(twin.fc1.weight_quant.bit_width()) == 4 and int(twin.fc2.weight_quant.bit_width()) == 3
    for name in NETWORKS:
        once = to_qat(made(name)[0])
        assert [n for n, _ in to_qat(once).named_modules()] == [n for n, _ in once.named_modules()]


def test_bits_by_role():
    twin = to_qat(made("mlp")[0], bits={"op_weights": 2, "op_inputs": 4, "model_inputs": 6})
    assert [int(twin.fc1.weight_quant.bit_width()), int(twin.relu.act_quant.bit_width())] == [2, 4]
    assert int(twin.input_quant.act_quant.bit_width()) == 6
    with pytest.raises(errors.UnknownKey, match="op_inputs"):
        to_qat(made("mlp")[0], bits={"op_weights": 2})
    for wrong in (1, 17, 2.5, True):
        with pytest.raises(errors.UnsupportedBits):
            to_qat(made("mlp")[0], bits=wrong)


@pytest.mark.parametrize("name", ["mlp", "functional", "residual", "two inputs"])
def test_input_range_is_fixed(name):
    net, inputs = made(name)
    twin = train_briefly(to_qat(net, bits=4, input_range=0.6), inputs)
    quantizers = [module for key, module in twin.named_modules() if key.startswith("input_quant") and key.count(".") == 0]
    assert len(quantizers) == len(inputs)
    for quantizer in quantizers:
        assert not list(quantizer.parameters())
        assert float(quantizer.act_quant.scale()) == pytest.approx(0.6 / 8)
    module = compile_brevitas_qat_model(twin, inputs if len(inputs) > 1 else inputs[0])
    for quantizer in module.input_quantizers:
        assert quantizer.scale == pytest.approx(0.6 / 8)


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, errors.InvalidArgument), (-1.5, errors.InvalidArgument), (float("nan"), errors.InvalidArgument),
     (float("inf"), errors.InvalidArgument), ("1", errors.RefusedType), (True, errors.RefusedType)],
)  # fmt: skip
def test_input_range_has_to_be_a_number_above_0(value, error):
    with pytest.raises(error, match="input_range"):
        to_qat(made("mlp")[0], input_range=value)


def test_input_range_needs_an_input_to_quantize():
    with pytest.raises(errors.InvalidArgument, match="input_range"):
        to_qat(to_qat(made("mlp")[0]), input_range=1.0)


def test_twins_can_be_copied_and_stored():
    for name in ("mlp", "functional", "residual"):
        net, inputs = made(name)
        twin = train_briefly(to_qat(net, non_zero=3), inputs)
        state = twin.state_dict()
        again = to_qat(made(name)[0], non_zero=3).eval()
        again.load_state_dict(state)
        assert np.array_equal(results(again, inputs), results(twin, inputs))
    plain = to_qat(made("mlp")[0])
    assert len(copy.deepcopy(plain)._forward_pre_hooks) == 1
    assert pickle.loads(pickle.dumps(list(plain._forward_pre_hooks.values())[0])).positions == {"input_quant": (0, "x")}


def test_inputs_by_name():
    net, inputs = made("two inputs")
    twin = train_briefly(to_qat(net), inputs)
    a, b = (torch.from_numpy(value) for value in inputs)
    with torch.no_grad():
        assert torch.equal(twin(a, b=b), twin(a, b))


def non_zeros(layer):
    return (layer.weight != 0).flatten(1).sum(1)


def test_pruning_keeps_the_largest_inputs_of_each_neuron():
    net, inputs = made("cnn")
    twin = to_qat(net, bits=3, non_zero={"conv2": 5, "fc": 2})
    assert (non_zeros(twin.conv2) == 5).all() and (non_zeros(twin.fc) == 2).all()
    assert not prune.is_pruned(twin.conv1) and prune.is_pruned(twin.fc)
    for row, kept in zip(net.fc.weight, twin.fc.weight_mask, strict=True):
        assert row.abs()[kept == 0].max() <= row.abs()[kept == 1].min()
    train_briefly(twin, inputs)
    assert (non_zeros(twin.conv2) <= 5).all()
    with pytest.raises(errors.InvalidArgument, match="fc9"):
        to_qat(net, non_zero={"fc9": 2})
    for wrong in (0, -1, 2.5):
        with pytest.raises(errors.InvalidArgument):
            to_qat(net, non_zero=wrong)


def test_masks_of_the_float_network_are_kept():
    net, inputs = made("mlp")
    prune.l1_unstructured(net.fc2, "weight", amount=12)
    net(torch.from_numpy(POINTS))[0].sum().backward()
    kept = net.fc2.weight
    twin = to_qat(net)
    assert net.fc2.weight is kept
    assert torch.equal(twin.fc2.weight_mask, net.fc2.weight_mask)
    train_briefly(twin, inputs)
    assert (twin.fc2.weight[net.fc2.weight_mask == 0] == 0).all()


@pytest.mark.parametrize("how", ["float", "twin"])
def test_pruned_networks_compile_as_they_are(how):
    net, inputs = made("mlp")
    if how == "float":
        prune.l1_unstructured(net.fc2, "weight", amount=12)
        pruned = net.eval()
    else:
        pruned = train_briefly(to_qat(net, non_zero=3), inputs)
    make = build_quantized_module if how == "float" else compile_brevitas_qat_model
    options = {"n_bits": 5} if how == "float" else {}
    masked = make(pruned, POINTS, **options)
    assert prune.is_pruned(pruned)
    before = results(pruned, inputs)
    assert finish_pruning(pruned) is pruned and not prune.is_pruned(pruned)
    assert not any("mask" in key or "orig" in key for key in pruned.state_dict())
    assert np.array_equal(results(pruned, inputs), before)
    assert np.array_equal(make(pruned, POINTS, **options).forward(POINTS), masked.forward(POINTS))


def test_parametrized_networks_compile_as_they_are():
    class Positive(nn.Module):
        def forward(self, weight):
            return weight * (weight > 0)

    net, inputs = made("mlp")
    nn.utils.parametrize.register_parametrization(net.fc1, "weight", Positive())
    module = build_quantized_module(net.eval(), POINTS, n_bits=6)
    assert np.abs(module.forward(POINTS) - results(net, inputs)).max() < 0.1


@pytest.mark.parametrize(
    ("bits", "weights", "inputs", "count"),
    [
        (7, (0, 3), (0, 3), 14),  # the guide's example: products of 2-bit numbers
        (7, (-1, 1), (0, 3), 21),  # 2-bit weights of Brevitas
        (7, (-2, 1), (0, 3), 10),
        (7, (-3, 3), (0, 7), 3),
        (8, (-3, 3), (-4, 3), 10),
        (3, (-3, 3), (0, 7), 0),
    ],
)
def test_products_within(bits, weights, inputs, count):
    assert products_within(bits, weights, inputs) == count
    products = [w * x for w in weights for x in inputs]
    for number, fits in ((count, True), (count + 1, False)):
        low, high = number * min(products), number * max(products)
        limit = 2**bits - 1 if low >= 0 else 2 ** (bits - 1) - 1
        assert (high <= limit and low >= -limit - 1) is fits


def integer_sums(module):
    """Bits of the sums in front of tables, of a compiled network."""
    report = module.bitwidth_and_range_report()
    return {name: row["bitwidth"] for name, row in report.items()}


@pytest.mark.parametrize("name", ["mlp", "cnn", "functional"])
@pytest.mark.parametrize("bits", [6, 7])
def test_no_accumulator_exceeds_the_bound(name, bits):
    net, inputs = made(name)
    twin = to_qat(net, bits={"op_weights": 2, "op_inputs": 3})
    kept = prune_to_accumulator(twin, bits=bits)
    for layer, count in kept.items():
        layer = twin.get_submodule(layer)
        inputs_range = (-4, 3) if layer in (getattr(twin, "fc1", None), getattr(twin, "conv1", None)) else (0, 7)
        if name != "functional" or layer is twin.fc1:
            assert count == min(products_within(bits, (-1, 1), inputs_range), layer.weight[0].numel())
    for layer in (twin.get_submodule(layer) for layer in kept):  # the worst weights that training can make
        with torch.no_grad():
            getattr(layer, "weight_orig", layer.weight).fill_(1.0)
            if layer.bias is not None:
                layer.bias.zero_()
    train_briefly(twin, inputs, steps=0)
    twin.train()
    for _ in range(25):
        with torch.no_grad():
            twin(*[torch.from_numpy(value) for value in inputs])
    module = compile_brevitas_qat_model(twin.eval(), inputs, margin=0.5, precision="exact", p_error=2**-20)
    assert max(integer_sums(module).values()) <= bits


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_current_weights_allow_more_inputs(name):
    net, inputs = made(name)
    twin = train_briefly(to_qat(net, bits=3), inputs)
    any_weights = prune_to_accumulator(copy.deepcopy(twin), bits=6)
    current = prune_to_accumulator(twin, bits=6, weights="current")
    assert all(current[layer] >= any_weights[layer] for layer in current) and current != any_weights
    last = twin.get_submodule(list(current)[-1])
    assert non_zeros(last).max() == current[list(current)[-1]]
    module = compile_brevitas_qat_model(twin, inputs, margin=0.5, precision="exact", p_error=2**-20)
    assert max(integer_sums(module).values()) <= 6  # with the last layer's bias
    assert prune_to_accumulator(twin, bits=6, weights="current") == current


def test_bounds_by_layer_and_refusals():
    twin = to_qat(made("mlp")[0], bits=3)
    assert prune_to_accumulator(twin, bits={"fc2": 7}) == {"fc2": 3}
    assert not prune.is_pruned(twin.fc1)
    with pytest.raises(errors.InvalidArgument, match="'fc9'"):
        prune_to_accumulator(twin, bits={"fc9": 7})
    with pytest.raises(errors.InvalidArgument, match="fc1.*|fc2.*"):
        prune_to_accumulator(twin, bits=4)
    with pytest.raises(errors.UnsupportedBits):
        prune_to_accumulator(twin, bits=1)
    with pytest.raises(errors.UnknownOption):
        prune_to_accumulator(twin, weights="later")
    with pytest.raises(errors.MissingQuantizer, match="fc1"):
        prune_to_accumulator(made("mlp")[0])
    open_ended = nn.Sequential(
        qnn.QuantIdentity(bit_width=3), qnn.QuantLinear(4, 3, bias=True), qnn.QuantLinear(3, 2, bias=True)
    )
    with pytest.raises(errors.MissingQuantizer, match="tensor '_1' reaches layer '2'"):
        prune_to_accumulator(open_ended)


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x) if x.sum() > 0 else x


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2))

    def forward(self, x):
        return torch.matmul(x, self.weight)


class OwnLinear(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("net", "pattern"),
    [
        (Branch(), "test_qat.py line .*if x.sum"),
        (Product(), "matmul.*test_qat.py line .*torch.matmul.*nn.Linear"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), "Softmax.*'_1'.*decrypted"),
        (nn.Sequential(OwnLinear(4, 3)), "OwnLinear.*Linear"),
    ],
)
def test_networks_without_a_twin(net, pattern):
    with pytest.raises(errors.NotSupported, match=pattern):
        to_qat(net)


def test_bad_arguments():
    with pytest.raises(errors.Error, match="torch.nn.Module"):
        to_qat("net")
    broken = made("mlp")[0]
    with torch.no_grad():
        broken.fc1.weight[0, 0] = torch.nan
    with pytest.raises(errors.InvalidArgument, match="'fc1'"):
        to_qat(broken)


def quant_linear(inputs, outputs):
    return qnn.QuantLinear(inputs, outputs, bias=True, weight_bit_width=3)


def with_identity(*layers):
    return nn.Sequential(qnn.QuantIdentity(bit_width=3), *layers)


class OpenSum(nn.Module):
    """A residual whose second operand has no quantizer."""

    def __init__(self):
        super().__init__()
        self.start, self.fc1, self.relu = qnn.QuantIdentity(bit_width=3), quant_linear(4, 4), qnn.QuantReLU(bit_width=3)
        self.fc2 = quant_linear(4, 4)

    def forward(self, x):
        x = self.start(x)
        return self.fc2(self.relu(self.fc1(x))) + x


@pytest.mark.parametrize(
    ("net", "tensor"),
    [
        (nn.Sequential(quant_linear(4, 3)), "'input' \\(read by '/0/Gemm'\\)"),
        (with_identity(quant_linear(4, 3), quant_linear(3, 2)), "'/1/Gemm_output_0' \\(read by '/2/Gemm'\\)"),
        (with_identity(quant_linear(4, 3), nn.ReLU(), quant_linear(3, 2)), "Relu_output_0' \\(read by '/3/Gemm'\\)"),
        (with_identity(quant_linear(4, 3), nn.GELU(), nn.Dropout(), quant_linear(3, 2)), "read by '/4/Gemm'"),
        (with_identity(quant_linear(4, 4), qnn.QuantReLU(bit_width=3), nn.BatchNorm1d(4), quant_linear(4, 2)), "'/4/Gemm'"),
        (OpenSum(), "read by '/Add'"),
    ],
)
def test_missing_quantizers_are_named(net, tensor):
    net.train()
    for _ in range(3):
        net(torch.from_numpy(POINTS))
    with pytest.raises(errors.MissingQuantizer, match=tensor) as raised:
        compile_brevitas_qat_model(net.eval(), POINTS)
    assert "QuantIdentity" in raised.value.hint and "to_qat" in raised.value.hint


def test_float_layer_between_quantized_ones_is_named():
    net = with_identity(quant_linear(4, 3), qnn.QuantReLU(bit_width=3), nn.Linear(3, 2))
    net.train()(torch.from_numpy(POINTS))
    with pytest.raises(errors.MissingQuantizer, match="'3.weight'.*/3/Gemm.*QuantLinear"):
        compile_brevitas_qat_model(net.eval(), POINTS)
    twin = train_briefly(to_qat(net), (POINTS,))  # what the hint says
    assert compile_brevitas_qat_model(twin, POINTS).forward(POINTS[:3]).shape == (3, 2)
