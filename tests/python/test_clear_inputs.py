"""Inputs that travel in the clear beside encrypted ones: results, what is sent, files, refusals."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_networks import floats, model_of
from torch import nn

import torusml
from torusml import errors
from torusml.deployment import FHEModelClient, FHEModelDev, FHEModelServer
from torusml.torch.compile import compile_onnx_model, compile_torch_model

A, B = floats(200, 2, 3), floats(200, 2, 4)
FEW = A[:3], B[:3]
W = np.array([[1.0, -0.5, 0.3], [0.8, -0.7, 0.2]], np.float32)
V = np.array([[0.6, 0.4, -0.9], [-0.2, 0.5, 0.1]], np.float32)


def network(*nodes, outputs=("y",), width=3):
    made = [helper.make_node(op, inputs, [output], name=f"make_{output}") for op, inputs, output in nodes]
    return model_of(made, {"a": [1, 2], "b": [1, 2]}, {name: [1, width] for name in outputs}, {"w": W, "v": V})


SUM = (("MatMul", ["a", "w"], "p"), ("MatMul", ["b", "v"], "q"), ("Add", ["p", "q"], "s"))
NETWORKS = {
    "sum": network(("MatMul", ["a", "w"], "p"), ("MatMul", ["b", "v"], "q"), ("Add", ["p", "q"], "y")),
    "table of the sum": network(*SUM, ("Relu", ["s"], "y")),
    "product": network(("Mul", ["a", "b"], "y"), width=2),
    "a table of each": network(("Sigmoid", ["a"], "p"), ("Abs", ["b"], "q"), ("Add", ["p", "q"], "y"), width=2),
    "a result of each": network(("Relu", ["a"], "y"), ("Relu", ["b"], "z"), outputs=("y", "z"), width=2),
}


def compiled(name, status=None, **options):
    options = {"n_bits": 3, "precision": "exact", "p_error": 2**-20, **options}
    return compile_onnx_model(NETWORKS[name], (A, B), inputs_encryption_status=status, **options)


def status_of(clear):
    return tuple("clear" if name == clear else "encrypted" for name in "ab")


def assert_same(found, expected):
    found, expected = (x if isinstance(x, tuple) else (x,) for x in (found, expected))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("clear", ["a", "b"])
@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_those_of_encrypted_inputs(name, clear):
    module = compiled(name, status_of(clear))
    expected = module.forward(*FEW)
    assert_same(compiled(name).forward(*FEW), expected)
    assert_same(module.forward(*FEW, fhe="simulate"), expected)
    assert_same(module.forward(*FEW, fhe="execute"), expected)


def test_tolerant_results_stay_near_the_clear_ones():
    module = compiled("table of the sum", status_of("b"), precision="tolerant")
    expected = module.forward(A, B)
    step = np.max(module.output_quantizers[0].scale)
    for fhe in ("simulate", "execute"):
        few = (A[:8], B[:8])
        assert np.abs(module.forward(*few, fhe=fhe) - expected[:8]).max() <= 2 * step


def test_a_network_of_torch_sends_one_input_as_it_is(tmp_path):
    class TwoInputs(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right, self.last = nn.Linear(2, 3), nn.Linear(2, 3), nn.Linear(3, 2)

        def forward(self, a, b):
            return self.last(torch.relu(self.left(a) + self.right(b)))

    torch.manual_seed(0)
    module = compile_torch_model(
        TwoInputs(), (torch.from_numpy(A), torch.from_numpy(B)), n_bits=3, precision="exact", p_error=2**-20,
        inputs_encryption_status=("encrypted", "clear"),
    )  # fmt: skip
    module.fhe_circuit.save_client_half(tmp_path / "net.tmc")
    module.fhe_circuit.save_server_half(tmp_path / "net.tms")
    client, server = torusml.Client(tmp_path / "net.tmc"), torusml.Server(tmp_path / "net.tms")
    assert client.clear_inputs == ("b",)
    client.keygen()
    server.load_keys(client.evaluation_keys)
    few = (A[:8], B[:8])
    sent = client.encrypt(*few)
    q_a, q_b = module.quantize_input(*few)
    assert q_b.tobytes() in sent.serialize()
    assert q_a.tobytes() not in sent.serialize()
    sent.save(tmp_path / "x.ct")
    assert_same(client.decrypt(server.run(tmp_path / "x.ct")), module.forward(*few))
    kept = server.run(sent, checkpoint=tmp_path / "run.checkpoint", checkpoint_seconds=0)
    assert_same(client.decrypt(kept), module.forward(*few))


def test_the_short_function_takes_them_too():
    module = torusml.compile(
        NETWORKS["sum"], (A, B), bits=3, precision="exact", inputs_encryption_status=["clear", "encrypted"]
    )
    assert_same(module.forward(*FEW, fhe="execute"), module.forward(*FEW))


def test_both_archives_of_a_deployment(tmp_path):
    module = compiled("table of the sum", status_of("a"))
    FHEModelDev(tmp_path / "m", module).save()
    client, server = FHEModelClient(tmp_path / "m"), FHEModelServer(tmp_path / "m")
    keys = client.get_serialized_evaluation_keys()
    sent = client.quantize_encrypt_serialize(*FEW)
    assert module.quantize_input(*FEW)[0].tobytes() in sent
    y = client.deserialize_decrypt_dequantize(server.run(sent, keys))
    assert_same(y, module.forward(*FEW))


@pytest.mark.parametrize(
    ("b", "error"),
    [
        (np.zeros((3, 3)), errors.WrongShape),
        (np.zeros((2, 2)), errors.WrongShape),
        (np.zeros(2), errors.WrongShape),
        (np.full((3, 2), np.nan), errors.NonFiniteValue),
        (np.full((3, 2), "1"), errors.WrongDtype),
    ],
)
def test_wrong_values_of_a_clear_input_are_refused(b, error):
    client = torusml.Client(compiled("sum", status_of("b")).fhe_circuit)
    client.keygen()
    with pytest.raises(error, match=r"\('?b'?\)"):
        client.encrypt(FEW[0], b)


def test_integers_beyond_the_interval_are_refused():
    module = compiled("sum", status_of("b"))
    client = torusml.Client(module.fhe_circuit)
    client.keygen()
    q_a, q_b = module.quantize_input(*FEW)
    client.encrypt(q_a, q_b)
    assert client.encrypt(*FEW).clipped == 0
    assert client.encrypt(FEW[0], np.full((3, 2), 100.0)).clipped == 6, "counted as if it were encrypted"
    with pytest.raises(errors.InvalidArgument, match=r"element 0 of sample 0 is 1000, outside.*'b'"):
        client.encrypt(q_a, np.full_like(q_b, 1000))


@pytest.mark.parametrize(
    ("status", "error", "pattern"),
    [
        (("clear", "clear"), errors.InvalidArgument, "at least one input must be encrypted"),
        (("clear",), errors.InvalidArgument, "1 values given, the network has 2 inputs"),
        (("clear", "open"), errors.UnknownOption, "'open' is neither"),
    ],
)
def test_wrong_statuses_are_refused(status, error, pattern):
    with pytest.raises(error, match=pattern):
        compiled("sum", status)


def lookups_of(module):
    return module.fhe_circuit.statistics["table_lookup_count"]


def test_tables_of_clear_values_cost_nothing():
    encrypted, clear = compiled("a table of each"), compiled("a table of each", status_of("b"))
    assert lookups_of(encrypted) == 4
    assert lookups_of(clear) == 2
    assert clear.fhe_circuit.statistics["programmable_bootstrap_count"] == 2
    assert 1.5 * clear.fhe_circuit.statistics["complexity"] < encrypted.fhe_circuit.statistics["complexity"]
    assert len(encrypted.fhe_circuit.statistics["lookups"]) == 2
    assert len(clear.fhe_circuit.statistics["lookups"]) == 1


class Branches(nn.Module):
    """A deep branch for b, whose result meets that of a."""

    def __init__(self):
        super().__init__()
        self.left = nn.Linear(2, 3)
        self.right = nn.Sequential(nn.Linear(2, 8), nn.Sigmoid(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        self.last = nn.Linear(3, 2)

    def forward(self, a, b):
        right = torch.tanh(self.right(b))
        return self.last(torch.relu(self.left(a) + right)), right


def branches(status=None, **options):
    torch.manual_seed(0)
    options = {"n_bits": 4, "precision": "exact", "p_error": 2**-20, **options}
    inputset = (torch.from_numpy(A), torch.from_numpy(B))
    return compile_torch_model(Branches(), inputset, inputs_encryption_status=status, **options)


def test_a_branch_of_clear_values_runs_on_integers(tmp_path):
    encrypted, module = branches(), branches(("encrypted", "clear"))
    assert lookups_of(encrypted) >= 8 + 8 + 3 + 3
    assert lookups_of(module) == 3
    few = (A[:6], B[:6])
    expected = module.forward(*few)
    assert_same(encrypted.forward(*few), expected)
    assert_same(module.forward(*few, fhe="simulate"), expected)
    assert_same(module.forward(*few, fhe="execute"), expected)
    module.fhe_circuit.save(tmp_path / "m.tml")
    loaded = torusml.load(tmp_path / "m.tml")
    assert loaded.statistics == module.fhe_circuit.statistics
    client, server = torusml.Client(loaded), torusml.Server(loaded)
    client.keygen()
    server.load_keys(client.evaluation_keys)
    assert_same(client.decrypt(server.run(client.encrypt(*few))), expected)
    page = tmp_path / "m.html"
    module.report_html(page)
    assert "integers, in the clear" in page.read_text()


def test_clear_results_have_no_noise_whatever_is_tolerated():
    module = branches(("encrypted", "clear"), precision="tolerant", tolerance=0.05)
    few = (A[:6], B[:6])
    expected = module.forward(*few)[1]
    for fhe in ("simulate", "execute"):
        assert_same(module.forward(*few, fhe=fhe)[1], expected)


def test_clear_values_beyond_what_calibration_met_are_read_at_the_ends():
    module = branches(("encrypted", "clear"), margin=0)
    few = (A[:4], np.sign(B[:4]) * 10)
    simulated, executed = (module.forward(*few, fhe=fhe) for fhe in ("simulate", "execute"))
    assert_same(executed, simulated)


def test_bits_are_chosen_beside_clear_inputs():
    options = {"bits": "auto", "precision": "exact", "agreement": 0.9, "max_trials": 16, "p_error": 2**-20}
    module = torusml.compile(NETWORKS["a table of each"], (A, B), inputs_encryption_status=status_of("b"), **options)
    assert lookups_of(module) == 2
    assert_same(module.forward(*FEW, fhe="execute"), module.forward(*FEW))


# Embeddings.

TOKENS = np.random.default_rng(5).integers(0, 5, (200, 3)).astype(np.float32)
TABLE = floats(5, 4)


def embedding(*more, tokens=(1, 3), result=(1, 3, 4), table=TABLE, kind=TensorProto.INT64, index="i"):
    nodes = [helper.make_node("Gather", ["table", index], ["rows"], name="pick"), *more]
    inputs = [
        helper.make_tensor_value_info("a", TensorProto.FLOAT, result),
        helper.make_tensor_value_info("i", kind, tokens),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)]
    net = helper.make_model(
        helper.make_graph(nodes, "net", inputs, outputs, [numpy_helper.from_array(table, "table")]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    net.ir_version = 8
    return net


ADDED = helper.make_node("Add", ["rows", "a"], ["y"], name="add")
VECTORS = np.random.default_rng(6).uniform(-1, 1, (200, 3, 4)).astype(np.float32)
OPTIONS = {"n_bits": 4, "precision": "exact", "p_error": 2**-20, "inputs_encryption_status": ("encrypted", "clear")}


@pytest.mark.parametrize("name", ["sum", "table of the sum", "one a sample", "one column"])
def test_a_clear_index_picks_rows(name):
    relu = helper.make_node("Relu", ["s"], ["y"], name="relu")
    added = helper.make_node("Add", ["rows", "a"], ["s"], name="add")
    net, a, tokens = {
        "sum": (embedding(ADDED), VECTORS, TOKENS),
        "table of the sum": (embedding(added, relu), VECTORS, TOKENS),
        "one a sample": (embedding(ADDED, tokens=(1,), result=(1, 4)), VECTORS[:, 0], TOKENS[:, 0]),
        "one column": (embedding(ADDED, result=(1, 3, 1), table=TABLE[:, :1]), VECTORS[:, :, :1], TOKENS),
    }[name]
    module = compile_onnx_model(net, (a, tokens), **OPTIONS)
    few = (a[:3], tokens[:3])
    expected = module.forward(*few)
    wanted = a + (TABLE[:, :1] if name == "one column" else TABLE)[tokens.astype(int)]
    wanted = np.maximum(wanted, 0) if name == "table of the sum" else wanted
    assert np.abs(module.forward(a, tokens) - wanted).max() < 0.4
    assert_same(module.forward(*few, fhe="simulate"), expected)
    assert_same(module.forward(*few, fhe="execute"), expected)
    assert lookups_of(module) == (12 if name == "table of the sum" else 0)


def test_a_network_of_torch_with_an_embedding(tmp_path):
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.left, self.norm = nn.Embedding(5, 4), nn.Linear(4, 4), nn.LayerNorm(4)
            self.last = nn.Linear(12, 2)

        def forward(self, a, tokens):
            hidden = torch.relu(self.left(a) + self.norm(self.table(tokens)))
            return self.last(hidden.flatten(1))

    torch.manual_seed(0)
    net = Embedded().eval()
    module = compile_torch_model(net, (VECTORS, TOKENS), **{**OPTIONS, "n_bits": 6})
    with torch.no_grad():
        wanted = net(torch.from_numpy(VECTORS), torch.from_numpy(TOKENS).long()).numpy()
    assert np.abs(module.forward(VECTORS, TOKENS) - wanted).max() < 0.1 * np.abs(wanted).max()
    few = (VECTORS[:2], TOKENS[:2])
    assert lookups_of(module) == 12
    assert_same(module.forward(*few, fhe="simulate"), module.forward(*few))
    module.fhe_circuit.save_client_half(tmp_path / "net.tmc")
    client, server = torusml.Client(tmp_path / "net.tmc"), torusml.Server(module.fhe_circuit)
    client.keygen()
    server.load_keys(client.evaluation_keys)
    sent = client.encrypt(*few)
    assert TOKENS[:2].astype(np.int64).tobytes() in sent.serialize(), "the index itself travels"
    assert_same(client.decrypt(server.run(sent)), module.forward(*few))


@pytest.mark.parametrize("wrong", [-1, 5, 7, 100])
def test_an_index_beyond_the_table_is_refused(wrong):
    module = compile_onnx_model(embedding(ADDED), (VECTORS, TOKENS), **OPTIONS)
    tokens = np.full((2, 3), float(wrong))
    for fhe in ("disable", "simulate", "execute"):
        with pytest.raises(errors.InvalidArgument, match=r"outside the input's interval \[0, 4\]"):
            module.forward(VECTORS[:2], tokens, fhe=fhe)


@pytest.mark.parametrize(
    ("net", "status", "pattern"),
    [
        (embedding(ADDED), ("encrypted", "encrypted"), "embedding lookup, whose index would be encrypted"),
        (embedding(ADDED), None, "the index in the clear, or cutting the model behind the lookup"),
        (
            embedding(
                helper.make_node("Constant", [], ["last"], value_ints=[2]),
                helper.make_node("Cast", ["i"], ["f"], name="cast", to=TensorProto.FLOAT),
                helper.make_node("Unsqueeze", ["f", "last"], ["u"], name="u"),
                helper.make_node("Add", ["rows", "u"], ["s"], name="sum"),
                helper.make_node("Add", ["s", "a"], ["y"], name="add"),
            ),
            ("encrypted", "clear"),
            "index 'i' of an embedding lookup is also read as a number.*'cast'",
        ),
        (embedding(ADDED, table=TABLE[:1]), ("encrypted", "clear"), "embedding lookup by 'i'"),
    ],
)
def test_other_lookups_by_an_index_are_refused(net, status, pattern):
    with pytest.raises(errors.NotSupported, match=pattern):
        compile_onnx_model(net, (VECTORS, TOKENS), **{**OPTIONS, "inputs_encryption_status": status})
