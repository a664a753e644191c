"""The command `torusml`, as a user runs it: the whole life of a model, and every wrong use.

TORUSML_COMMAND names the program; without it, build/release/torusml is taken.
"""

import json
import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("TORUSML_COMMAND", str(REPOSITORY / "build" / "release" / "torusml"))


def torusml(*arguments, folder, expect=0):
    """Runs the command in `folder`; gives its standard output, or standard error if it is to fail."""
    result = subprocess.run([COMMAND, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == expect, result.stdout + result.stderr
    assert "terminate called" not in result.stderr and "Sanitizer" not in result.stderr
    return result.stdout if expect == 0 else result.stderr


STATUS = {2: (1, 7, 8, 9), 3: (*range(2, 7), *range(10, 17), 24, 25, 26, 29, 31, 42), 4: (20, 21, 40, 41), 5: (43,)}


def fails(code, *arguments, folder):
    status = next((status for status, codes in STATUS.items() if code in codes), 1)
    text = torusml(*arguments, folder=folder, expect=status)
    assert text.startswith(f"torusml: TML-E{code:03} "), text
    assert text.count("\n") == 1
    return text


def save_network(path, weights, inputs=("x",), relu=True):
    """y = W2 relu(W1 (sum of inputs) + b): Gemm layers, ReLU or not."""
    first, second = (np.asarray(w, dtype=np.float32) for w in weights)
    features = first.shape[1]
    nodes, summed = [], inputs[0]
    for other in inputs[1:]:
        nodes.append(helper.make_node("Add", [summed, other], [f"sum_{other}"], name=f"add_{other}"))
        summed = f"sum_{other}"
    bias = np.linspace(-0.3, 0.3, first.shape[0], dtype=np.float32)
    constants = {"w1": first, "b1": bias, "w2": second}
    nodes.append(helper.make_node("Gemm", [summed, "w1", "b1"], ["h"], name="fc1", transB=1))
    if relu:
        nodes.append(helper.make_node("Relu", ["h"], ["r"], name="relu1"))
    nodes.append(helper.make_node("Gemm", ["r" if relu else "h", "w2"], ["y"], name="fc2", transB=1))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", features]) for name in inputs],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", second.shape[0]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


FIRST = [[1.0, -0.5], [0.3, 0.8], [-0.7, 0.2]]
SECOND = [[0.6, -0.4, 0.9], [-0.2, 0.5, 0.1]]


EXACT = ("--precision", "exact")
COMPILE_EXACT = ("compile", "net.onnx", "--calibration", "calibration.npy", *EXACT)


def network(x, relu=True):
    hidden = x @ np.array(FIRST).T + np.linspace(-0.3, 0.3, 3)
    return (np.maximum(hidden, 0) if relu else hidden) @ np.array(SECOND).T


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A compiled model with keys, an encrypted batch and its results."""
    folder = tmp_path_factory.mktemp("life")
    random = np.random.default_rng(1)
    save_network(folder / "net.onnx", (FIRST, SECOND))
    np.save(folder / "calibration.npy", random.uniform(-1, 1, (200, 2)).astype(np.float32))
    np.save(folder / "x.npy", random.uniform(-0.9, 0.9, (3, 2)))
    torusml(*COMPILE_EXACT, "--bits", 3, "-o", "m.tml", folder=folder)
    torusml("keygen", "m.tml", "--secret", "client.key", "--evaluation", "eval.key", folder=folder)
    torusml("encrypt", "m.tml", "--secret", "client.key", "--input", "x.npy", "-o", "x.ct", folder=folder)
    torusml("run", "m.tml", "--evaluation", "eval.key", "--input", "x.ct", "-o", "y.ct", folder=folder)
    torusml("decrypt", "m.tml", "--secret", "client.key", "--input", "y.ct", "-o", "y.npy", folder=folder)
    return folder


def predict(folder, executor, *options, model="m.tml", inputs=("--input", "x.npy")):
    out = f"predicted_{executor}.npy"
    text = torusml("predict", model, *inputs, "--executor", executor, "-o", out, *options, folder=folder)
    return np.load(folder / out), text


def test_encrypted_results_equal_clear_ones(life):
    y = np.load(life / "y.npy")
    clear, text = predict(life, "clear")
    assert y.dtype == np.float64 and y.shape == (3, 2)
    assert np.array_equal(y, clear)
    assert "3 samples" in text and "0 of 6 input values clipped" in text
    assert np.abs(clear - network(np.load(life / "x.npy"))).max() < 0.7  # 3 bits


def test_executors_agree(life):
    clear, _ = predict(life, "clear")
    simulated, _ = predict(life, "simulated", "--seed", 7)
    encrypted, _ = predict(life, "encrypted")
    with_keys, _ = predict(life, "encrypted", "--secret", "client.key", "--evaluation", "eval.key")
    assert np.array_equal(simulated, clear)
    assert np.array_equal(encrypted, clear)
    assert np.array_equal(with_keys, clear)


def test_limits_change_no_result(life):
    clear, _ = predict(life, "clear", "--threads", 1)
    simulated, _ = predict(life, "simulated", "--seed", 7, "--threads", 1)
    encrypted, _ = predict(life, "encrypted", "--threads", 1, "--memory-limit", "4GB")
    assert np.array_equal(simulated, clear) and np.array_equal(encrypted, clear)
    run = ("run", "m.tml", "--evaluation", "eval.key", "--input", "x.ct")
    torusml(*run, "-o", "limited.ct", "--threads", 1, "--memory-limit", "2.5GiB", folder=life)
    torusml("decrypt", "m.tml", "--secret", "client.key", "--input", "limited.ct", "-o", "limited.npy", folder=life)
    assert np.array_equal(np.load(life / "limited.npy"), clear)


def test_limits_are_kept(life):
    run = ("run", "m.tml", "--evaluation", "eval.key", "--input", "x.ct", "-o", "never.ct")
    fails(30, *run, "--memory-limit", "1kB", folder=life)
    memory = json.loads(torusml("inspect", "m.tml", "--json", folder=life))["model"]["memory"]
    assert memory["bytes"] == sum(memory[f"{part}_bytes"] for part in ("key", "ciphertext", "table", "scratch"))
    text = fails(30, *run, "--memory-limit", memory["key_bytes"], folder=life)
    assert "evaluation keys" in text  # their wire form comes beside them
    for limit in ("lots", "-1", "0", "1e9"):
        assert "--memory-limit" in fails(1, *run, f"--memory-limit={limit}", folder=life)
    assert "threads" in fails(1, *run, "--threads=-1", folder=life)
    fails(1, "keygen", "m.tml", "--secret", "n.key", "--evaluation", "n.eval", "--threads=-1", folder=life)
    assert not (life / "n.key").exists() and not (life / "never.ct").exists()
    out = ("predict", "m.tml", "--input", "x.npy", "-o", "never.npy")
    fails(1, *out, "--threads=-1", folder=life)
    fails(1, *out, "--memory-limit", "1GB", folder=life)
    torusml(*run, "--threads", "two", folder=life, expect=2)
    assert "of memory for one sample" in torusml("inspect", "m.tml", folder=life)


def test_eight_bits_are_close_to_the_network(life):
    # The sum of a few products of 8 bits is as wide as exact lookups go.
    compile_model = ("compile", "net.onnx", "--calibration", "calibration.npy")
    text = torusml(*compile_model, *EXACT, "-o", "b.tml", folder=life)
    assert "exact, 16 bits at most" in text and " ms" in text
    assert "circuit bootstrapping for wide lookups" in torusml("inspect", "b.tml", folder=life)
    clear, _ = predict(life, "clear", model="b.tml")
    assert np.abs(clear - network(np.load(life / "x.npy"))).max() < 0.05
    assert np.array_equal(predict(life, "simulated", "--seed", 3, model="b.tml")[0], clear)
    assert np.array_equal(predict(life, "encrypted", model="b.tml")[0], clear)
    torusml(*compile_model, "--precision", "tolerant", "-o", "t.tml", folder=life)
    clear, _ = predict(life, "clear", model="t.tml")
    assert np.abs(clear - network(np.load(life / "x.npy"))).max() < 0.05


def test_raw_results_are_integers(life):
    out = ("decrypt", "m.tml", "--secret", "client.key", "--input", "y.ct", "-o", "raw.npy", "--raw")
    torusml(*out, folder=life)
    raw = np.load(life / "raw.npy")
    assert raw.dtype == np.int64 and raw.shape == (3, 2)
    y = np.load(life / "y.npy")
    for column in range(2):  # scale and zero point per output channel: an affine map
        a, b = np.polyfit(raw[:, column], y[:, column], 1)
        assert np.allclose(a * raw[:, column] + b, y[:, column])


def test_encrypt_says_what_it_clipped(life):
    np.save(life / "wide.npy", np.array([[50.0, 0.1], [0.2, -50.0]]))
    text = torusml(*("encrypt", "m.tml", "--secret", "client.key", "--input", "wide.npy", "-o", "wide.ct"), folder=life)
    assert "2 of 4 values clipped" in text


def test_secret_key_is_private_and_kept(life):
    assert stat.S_IMODE(os.stat(life / "client.key").st_mode) == 0o600
    before = (life / "client.key").read_bytes()
    fails(28, "keygen", "m.tml", "--secret", "client.key", "--evaluation", "e.key", folder=life)
    assert (life / "client.key").read_bytes() == before
    assert not (life / "e.key").exists()
    torusml("keygen", "m.tml", "--secret", "again.key", "--evaluation", "e.key", folder=life)
    torusml("keygen", "m.tml", "--secret", "again.key", "--evaluation", "e.key", "--force", folder=life)
    assert not list(life.glob("*.partial-*"))


def test_compiling_is_reproducible(life):
    torusml(*COMPILE_EXACT, "--bits", 3, "-o", "again.tml", folder=life)
    assert (life / "again.tml").read_bytes() == (life / "m.tml").read_bytes()


def test_a_constant_output_is_told(tmp_path):
    first = 0.01 * np.asarray(FIRST)  # the bias of the first neuron, -0.3, keeps it at zero
    second = np.zeros((2, len(first)))
    second[:, 0] = 1, 2
    save_network(tmp_path / "net.onnx", (first, second))
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(-1, 1, (400, 2)))
    command = [COMMAND, "compile", "net.onnx", "--calibration", "x.npy", "-o", "m.tml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "torusml: warning: output 'y' is the same for all inputs" in result.stderr


def test_inspect_names_every_kind(life):
    described = {
        name: json.loads(torusml("inspect", name, "--json", folder=life))
        for name in ("m.tml", "client.key", "eval.key", "x.ct", "y.ct")
    }
    model = described["m.tml"]["model"]
    assert described["m.tml"]["kind"] == "model"
    assert model["lookups"] == model["rotations"] == model["keyswitches"] == 3
    assert model["p_error"] == 2.0**-40 and model["security_bits"] == 128
    assert model["profile"] == "private_results" and model["precision"] == "exact"
    kinds = [layer["kind"] for layer in model["layers"]]
    assert kinds == ["input", "linear", "lookup", "linear", "output"]
    lookup = model["layers"][2]
    assert 0 < lookup["far_probability"] < lookup["step_probability"] <= 2.0**-40
    assert lookup["flip_probability"] <= lookup["step_probability"] and lookup["wrap_probability"] <= 2.0**-40
    assert "plan" in model["plan"]
    key = described["client.key"]["properties"]["key_id"]
    assert len(key) == 32
    for name in ("eval.key", "x.ct", "y.ct"):
        assert described[name]["properties"]["key_id"] == key
        assert described[name]["properties"]["model_hash"] == described["m.tml"]["properties"]["model_hash"]
    key_sets = [key_set["parameters"] for key_set in model["key_sets"]]
    assert described["client.key"]["key_sets"] == described["eval.key"]["key_sets"] == key_sets
    assert model["key_sets"][0]["name"] == model["key_set"] and model["key_sets"][0]["lookups"] == 3
    assert described["x.ct"]["tensors"][0]["shape"] == [3, 2]
    assert described["x.ct"]["properties"]["content"] == "encrypted inputs"
    text = torusml("inspect", "m.tml", folder=life)
    for part in (
        "fc1",
        "relu1",
        "off by one",
        "by more",
        "lookups",
        "2^-40",
        "private_results",
        "128 bits of security",
        "parameters: n ",
    ):
        assert part in text
    assert "shape (3, 2)" in torusml("inspect", "y.ct", folder=life)


def test_json_summaries(life):
    summary = json.loads(
        torusml(
            *(*COMPILE_EXACT, "--bits", 3, "-o", "j.tml", "--json"),
            folder=life,
        )
    )
    assert summary["lookups"] == summary["rotations"] == summary["keyswitches"] == 3
    assert summary["p_error"] == 2.0**-40
    _, text = predict(life, "clear", "--json")
    assert json.loads(text)["samples"] == 3


def test_print_after_shows_a_rewrite(life):
    arguments = (*COMPILE_EXACT, "--bits", 3, "-o", "p.tml", "--print-after")
    text = torusml(*arguments, "lowering", folder=life)
    assert "circuit" in text and "= lut %" in text
    assert "fold-affine-luts" in fails(8, *arguments, "nonsense", folder=life)


def test_options_reach_the_plan(life):
    def options(*arguments):
        precision = () if {"--precision", "--rounding"} & set(arguments) else EXACT
        torusml(
            *("compile", "net.onnx", "--calibration", "calibration.npy", "--bits", 2, "-o", "o.tml"),
            *(*precision, *arguments),
            folder=life,
        )
        return json.loads(torusml("inspect", "o.tml", "--json", folder=life))["model"]

    assert options("--p-error", "1e-5")["p_error"] == 1e-5
    assert options("--p-error", "2^-20")["p_error"] == 2.0**-20
    assert options("--profile", "shared_results")["p_error"] == 2.0**-128
    assert options("--security", 132)["security_bits"] == 132
    assert options("--precision", "tolerant", "--tolerance", "2^-6")["precision"] == "tolerant"
    assert options("--rounding", 3)["precision"] == "rounded"
    assert options("--rounding", "4:approximate")["precision"] == "tolerant"
    assert 0 < options("--global-p-error", "1e-3")["p_error"] < 1e-3


@pytest.fixture(scope="module")
def many(life):
    """A calibration set that is large enough to judge precisions by."""
    x = np.random.default_rng(5).uniform(-1, 1, (400, 2))
    np.save(life / "many.npy", x)
    np.save(life / "labels.npy", network(x).argmax(axis=1))
    return ("net.onnx", "--calibration", "many.npy", "--bits", 4)


def test_auto_is_the_default_and_says_what_it_found(life, many):
    text = torusml("compile", *many, "-o", "auto.tml", folder=life)
    assert "of predictions as under exact, simulated on 267 samples held out (asked for 99.5 %)" in text
    for part in ("layer", "effective bits", "flips", "relu1", "y (output)", "exact lookups would take"):
        assert part in text
    summary = json.loads(torusml("compile", *many, "-o", "auto.tml", "--json", folder=life))
    assert summary["precision"] == "auto" and summary["precision_search"]["loss"] <= 0.005
    assert [layer["name"] for layer in summary["layers"]] == ["relu1", "y"]
    predict(life, "simulated", model="auto.tml")
    model = json.loads(torusml("inspect", "auto.tml", "--json", folder=life))["model"]
    assert model["precision"] == "auto"
    assert "calibration samples are too few" in fails(31, *COMPILE_EXACT[:4], "-o", "few.tml", folder=life)


def test_precision_by_layer(life, many):
    torusml("compile", *many, "--layer", "relu1=tolerant:2^-9", "--layer", "y=exact", *EXACT, "-o", "l.tml", folder=life)
    text = torusml("inspect", "l.tml", "--json", folder=life)
    assert "tolerant tolerance 0.001953125" in json.loads(text)["model"]["plan"]
    for wrong, code in (("relu1", 1), ("relu1=sloppy", 8), ("relu9=exact", 8), ("relu1=tolerant:2", 1), ("relu1=auto", 1)):
        fails(code, "compile", *many, *EXACT, "--layer", wrong, "-o", "l.tml", folder=life)
    twice = ("--layer", "relu1=exact", "--layer", "relu1=tolerant")
    assert "given twice" in fails(1, "compile", *many, *twice, "-o", "l.tml", folder=life)


def test_estimate_before_there_are_keys(life, many):
    text = torusml("estimate", *many, "--cores", 8, "--labels", "labels.npy", folder=life)
    for part in ("3 lookups a sample", "a sample alone", "in a batch of 32", "on 8 cores like these", "evaluation keys"):
        assert part in text
    assert "accuracy, simulated" in text and "of predictions as the float network's simulated" in text
    estimate = json.loads(torusml("estimate", *many, "--batch", 4, "--without-changes", "--json", folder=life))
    assert estimate["batch"] == 4 and estimate["changes"] == []
    assert 0 < estimate["seconds_one_sample"] < 10
    assert estimate["fidelity_simulated"] > 0.9
    assert estimate["layers"][0]["tables"] == 3
    fails(1, "estimate", *many, "--batch", 0, folder=life)
    fails(1, "estimate", *many, "--cores", 0, folder=life)
    fails(2, "estimate", *many, "--labels", "x.npy", folder=life)
    assert json.loads(torusml("estimate", *many, *EXACT, "--json", folder=life))["changes"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--agreement", "0.9", *EXACT), 1),
        (("--agreement", "1"), 1),
        (("--agreement", "high"), 1),
        (("--relative-error", "-1"), 1),
        (("--max-trials", "2"), 1),
        (("--tolerance", "2^-8"), 1),
        (("--agreement", "0.9999"), 31),
    ],
)
def test_wrong_targets(life, many, options, code):
    fails(code, "compile", *many, *options, "-o", "w.tml", folder=life)


def test_two_inputs_go_by_name(tmp_path):
    random = np.random.default_rng(2)
    save_network(tmp_path / "net.onnx", (FIRST, SECOND), inputs=("left", "right"))
    for name in ("left", "right"):
        np.save(tmp_path / f"{name}.npy", random.uniform(-1, 1, (100, 2)))
        np.save(tmp_path / f"{name}_x.npy", random.uniform(-0.9, 0.9, (2, 2)))
    calibration = ("--calibration", "right=right.npy", "--calibration", "left=left.npy")
    torusml("compile", "net.onnx", *calibration, *EXACT, "--bits", 2, "-o", "m.tml", folder=tmp_path)
    both = ("--input", "left=left_x.npy", "--input", "right=right_x.npy")
    clear, _ = predict(tmp_path, "clear", inputs=both)
    encrypted, _ = predict(tmp_path, "encrypted", inputs=both)
    assert np.array_equal(clear, encrypted)
    predict_one = ("predict", "m.tml", "-o", "y.npy", "--executor", "clear", "--input")
    assert "'right' is missing" in fails(1, *predict_one, "left=left_x.npy", folder=tmp_path)
    assert "--input left=FILE" in fails(1, *predict_one, "left_x.npy", folder=tmp_path)
    np.save(tmp_path / "three.npy", np.zeros((3, 2)))
    fails(2, *predict_one, "left=left_x.npy", "--input", "right=three.npy", folder=tmp_path)


def test_an_input_in_the_clear(tmp_path):
    random = np.random.default_rng(1)
    save_network(tmp_path / "net.onnx", (FIRST, SECOND), inputs=("a", "b"))
    for name in "ab":
        np.save(tmp_path / f"{name}.npy", random.uniform(-1, 1, (100, 2)).astype(np.float32))
        np.save(tmp_path / f"{name}_few.npy", random.uniform(-0.5, 0.5, (2, 2)).astype(np.float32))
    calibration = ("--calibration", "a=a.npy", "--calibration", "b=b.npy")
    compile_it = ("compile", "net.onnx", *calibration, *EXACT, "--bits", 3, "-o", "m.tml")
    assert "no input 'c'" in fails(8, *compile_it, "--clear", "c", folder=tmp_path)
    assert "all inputs are in the clear" in fails(1, *compile_it, "--clear", "a", "--clear", "b", folder=tmp_path)
    torusml(*compile_it, "--clear", "b", folder=tmp_path)
    assert "input 'b' travels in the clear" in torusml("inspect", "m.tml", folder=tmp_path)
    layers = json.loads(torusml("inspect", "m.tml", "--json", folder=tmp_path))["model"]["layers"]
    assert [layer["name"] for layer in layers if layer.get("clear")] == ["b"]
    torusml("export", "m.tml", "--client", "m.tmc", "--server", "m.tms", folder=tmp_path)
    for half in ("m.tmc", "m.tms"):
        assert json.loads(torusml("inspect", half, "--json", folder=tmp_path))["clear_inputs"] == ["b"]
    few = ("--input", "a=a_few.npy", "--input", "b=b_few.npy")
    torusml("keygen", "m.tml", "--secret", "client.key", "--evaluation", "eval.key", folder=tmp_path)
    encrypt = ("encrypt", "m.tmc", "--secret", "client.key")
    assert "input 'b' is not encrypted" in torusml(*encrypt, *few, "-o", "x.ct", folder=tmp_path)
    assert "tensor 'b': shape (2, 2), in the clear" in torusml("inspect", "x.ct", folder=tmp_path)
    torusml("run", "m.tms", "--evaluation", "eval.key", "--input", "x.ct", "-o", "y.ct", folder=tmp_path)
    torusml("decrypt", "m.tmc", "--secret", "client.key", "--input", "y.ct", "-o", "y.npy", folder=tmp_path)
    clear, _ = predict(tmp_path, "clear", inputs=few)
    assert np.array_equal(np.load(tmp_path / "y.npy"), clear)
    for executor in ("simulated", "encrypted"):
        assert np.array_equal(predict(tmp_path, executor, inputs=few)[0], clear)
    complex_array = np.zeros((2, 2), complex)
    wrong = ((np.zeros((2, 3)), 2, "'b'"), (np.full((2, 2), np.nan), 4, "'b'"), (complex_array, 3, "wrong.npy"))
    for array, code, where in wrong:
        np.save(tmp_path / "wrong.npy", array)
        assert where in fails(code, *encrypt, *few[:2], "--input", "b=wrong.npy", "-o", "w.ct", folder=tmp_path)
        assert not (tmp_path / "w.ct").exists()
    np.save(tmp_path / "b_few.npy", np.full((2, 2), 100.0))
    assert "4 of 8 values clipped" in torusml(*encrypt, *few, "-o", "x.ct", folder=tmp_path)


def test_a_model_without_lookups_needs_no_evaluation_material(tmp_path):
    save_network(tmp_path / "net.onnx", (FIRST, SECOND), relu=False)
    np.save(tmp_path / "c.npy", np.random.default_rng(3).uniform(-1, 1, (100, 2)))
    np.save(tmp_path / "x.npy", np.array([[0.5, -0.25]]))
    # Only the first layer: Gemm after Gemm would need its inputs quantized again.
    first = onnx.load(str(tmp_path / "net.onnx"))
    del first.graph.node[1]
    first.graph.output[0].name = "h"
    first.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(first, str(tmp_path / "linear.onnx"))
    torusml("compile", "linear.onnx", "--calibration", "c.npy", *EXACT, "--bits", 6, "-o", "m.tml", folder=tmp_path)
    torusml("keygen", "m.tml", "--secret", "s.key", "--evaluation", "e.key", folder=tmp_path)
    assert (tmp_path / "e.key").stat().st_size < 2000
    torusml("encrypt", "m.tml", "--secret", "s.key", "--input", "x.npy", "-o", "x.ct", folder=tmp_path)
    torusml("run", "m.tml", "--evaluation", "e.key", "--input", "x.ct", "-o", "y.ct", folder=tmp_path)
    torusml("decrypt", "m.tml", "--secret", "s.key", "--input", "y.ct", "-o", "y.npy", folder=tmp_path)
    clear, _ = predict(tmp_path, "clear")
    assert np.array_equal(np.load(tmp_path / "y.npy"), clear)
    expected = np.array([[0.5, -0.25]]) @ np.array(FIRST).T + np.linspace(-0.3, 0.3, 3)
    assert np.abs(clear - expected).max() < 0.1


# Wrong use.


def compile_with(life, *options, calibration="calibration.npy", network_file="net.onnx"):
    precision = () if {"--precision", "--rounding"} & set(options) else EXACT
    return ("compile", network_file, "--calibration", calibration, "-o", "bad.tml", *precision, *options)


@pytest.mark.parametrize(
    "options, code",
    [
        (("--bits", 0), 7),
        (("--bits", 33), 7),
        (("--precision", "sloppy"), 8),
        (("--profile", "public"), 8),
        (("--rounding", "9"), 7),
        (("--rounding", "6:sloppy"), 8),
        (("--rounding", "auto"), 22),
        (("--rounding", "6", "--precision", "tolerant"), 1),
        (("--rounding", "6:approximate", "--precision", "exact"), 1),
        (("--rounding", "6:approximate", "--profile", "shared_results"), 27),
        (("--p-error", 2), 9),
        (("--p-error", 0), 9),
        (("--p-error", -1), 9),
        (("--global-p-error", "1"), 9),
        (("--p-error", "small"), 1),
        (("--tolerance", 0.9), 1),
        (("--security", 64), 1),
        (("--margin", -1), 1),
        (("--bits", 2, "--precision", "tolerant", "--profile", "shared_results"), 27),
    ],
)
def test_wrong_compile_options(life, options, code):
    fails(code, *compile_with(life, *options), folder=life)
    assert not (life / "bad.tml").exists()


def bad_arrays():
    nan = np.zeros((5, 2))
    nan[3, 1] = np.nan
    return {
        "nan": (nan, 4),
        "infinite": (np.array([[np.inf, 0.0]]), 4),
        "three_features": (np.zeros((5, 3)), 2),
        "no_batch_axis": (np.zeros(2), 2),
        "no_samples": (np.zeros((0, 2)), None),
        "scalar": (np.float64(3), 2),
        "complex": (np.zeros((5, 2), dtype=np.complex64), 3),
        "text": (np.full((5, 2), "a"), 3),
        "boolean": (np.zeros((5, 2), dtype=bool), 3),
        "big_endian": (np.zeros((5, 2), dtype=">f4"), 3),
        "fortran": (np.asfortranarray(np.zeros((5, 2))), 22),
    }


@pytest.mark.parametrize("name", bad_arrays())
def test_wrong_arrays(life, name):
    array, code = bad_arrays()[name]
    np.save(life / f"bad_{name}.npy", array)
    for command in (
        ("encrypt", "m.tml", "--secret", "client.key", "--input", f"bad_{name}.npy", "-o", "bad.ct"),
        ("predict", "m.tml", "--executor", "clear", "--input", f"bad_{name}.npy", "-o", "bad_out.npy"),
    ):
        fails(code or 2, *command, folder=life)
    fails(code or 5, *compile_with(life, "--bits", 3, calibration=f"bad_{name}.npy"), folder=life)
    for left in ("bad.ct", "bad_out.npy", "bad.tml"):
        assert not (life / left).exists()


def test_constant_calibration(life):
    np.save(life / "constant.npy", np.full((50, 2), 0.5))
    fails(6, *compile_with(life, "--bits", 3, calibration="constant.npy"), folder=life)


def test_dynamic_shapes(life):
    model = onnx.load(str(life / "net.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    onnx.save(model, str(life / "dynamic.onnx"))
    assert "features" in fails(16, *compile_with(life, network_file="dynamic.onnx"), folder=life)


def test_missing_and_foreign_files(life):
    (life / "foreign").write_bytes(b"PK\3\4 a zip archive, say")
    (life / "empty").write_bytes(b"")
    run = ("run", "m.tml", "--evaluation", "eval.key", "-o", "bad.ct", "--input")
    fails(10, *run, "absent.ct", folder=life)
    fails(10, *run, ".", folder=life)
    fails(12, *run, "foreign", folder=life)
    fails(11, *run, "empty", folder=life)
    fails(10, *compile_with(life, network_file="absent.onnx"), folder=life)
    fails(10, *compile_with(life, calibration="absent.npy"), folder=life)
    fails(12, *compile_with(life, calibration="foreign"), folder=life)
    fails(12, "inspect", "foreign", folder=life)
    # Each kind where another is expected.
    assert "kind 'evaluation keys'" in fails(12, *run, "eval.key", folder=life)
    fails(12, *run, "y.ct", folder=life)
    fails(12, *run, "m.tml", folder=life)
    fails(12, "run", "client.key", "--evaluation", "eval.key", "--input", "x.ct", "-o", "bad.ct", folder=life)
    decrypt = ("decrypt", "m.tml", "-o", "bad.npy")
    fails(12, *decrypt, "--secret", "eval.key", "--input", "y.ct", folder=life)
    fails(12, *decrypt, "--secret", "client.key", "--input", "x.ct", folder=life)


def test_unwritable_places(life):
    fails(28, "keygen", "m.tml", "--secret", "no/folder.key", "--evaluation", "new.key", folder=life)
    assert not (life / "new.key").exists()
    encrypt = ("encrypt", "m.tml", "--secret", "client.key", "--input", "x.npy", "-o")
    fails(28, *encrypt, "no/folder.ct", folder=life)
    fails(28, *encrypt, ".", folder=life)


@pytest.mark.parametrize("name", ["m.tml", "client.key", "eval.key", "x.ct", "y.ct"])
def test_cut_and_flipped_files(life, name):
    """At a few places here; the unit tests try every byte."""
    whole = (life / name).read_bytes()
    commands = {
        "m.tml": ("keygen", "changed", "--secret", "new.key", "--evaluation", "new_eval.key"),
        "client.key": ("decrypt", "m.tml", "--secret", "changed", "--input", "y.ct", "-o", "bad.npy"),
        "eval.key": ("run", "m.tml", "--evaluation", "changed", "--input", "x.ct", "-o", "bad.ct"),
        "x.ct": ("run", "m.tml", "--evaluation", "eval.key", "--input", "changed", "-o", "bad.ct"),
        "y.ct": ("decrypt", "m.tml", "--secret", "client.key", "--input", "changed", "-o", "bad.npy"),
    }
    (life / "changed").touch(mode=0o600)
    (life / "changed").chmod(0o600)  # as a secret key must be
    places = {0, 1, 7, 8, 12, 20, 47, 48, 100, len(whole) // 2, len(whole) - 1}
    for place in places:
        (life / "changed").write_bytes(whole[:place])
        fails(11, *commands[name], folder=life)
        fails(11, "inspect", "changed", folder=life)
        flipped = bytearray(whole)
        flipped[place] ^= 0x55
        (life / "changed").write_bytes(flipped)
        text = torusml(*commands[name], folder=life, expect=3)
        assert any(f"TML-E0{code} " in text for code in (11, 12, 13, 14)), text
    for left in ("new.key", "bad.npy", "bad.ct"):
        assert not (life / left).exists()


@pytest.fixture(scope="module")
def stranger(life):
    """Another model in the same folder, with its own keys and ciphertexts."""
    save_network(life / "other.onnx", (np.array(FIRST) * 0.9, SECOND))
    compile_other = ("compile", "other.onnx", "--calibration", "calibration.npy", *EXACT, "--bits", 2, "--p-error", "2^-30")
    torusml(*compile_other, "-o", "other.tml", folder=life)
    torusml("keygen", "other.tml", "--secret", "other.key", "--evaluation", "other_eval.key", folder=life)
    torusml("encrypt", "other.tml", "--secret", "other.key", "--input", "x.npy", "-o", "other_x.ct", folder=life)
    torusml("keygen", "m.tml", "--secret", "second.key", "--evaluation", "second_eval.key", folder=life)
    return life


def test_keys_and_ciphertexts_of_others(stranger):
    def short(name, key):
        return json.loads(torusml("inspect", name, "--json", folder=stranger))["properties"][key][:12]

    run = ("run", "m.tml", "-o", "bad.ct")
    text = fails(21, *run, "--evaluation", "eval.key", "--input", "other_x.ct", folder=stranger)
    assert short("m.tml", "model_hash") in text and short("other_x.ct", "model_hash") in text
    fails(20, *run, "--evaluation", "other_eval.key", "--input", "x.ct", folder=stranger)
    text = fails(20, *run, "--evaluation", "second_eval.key", "--input", "x.ct", folder=stranger)
    assert short("second_eval.key", "key_id") in text and short("x.ct", "key_id") in text
    text = fails(20, "encrypt", "m.tml", "--secret", "other.key", "--input", "x.npy", "-o", "bad.ct", folder=stranger)
    assert short("other.key", "key_id") in text
    decrypt = ("decrypt", "-o", "bad.npy", "--input", "y.ct", "--secret")
    fails(20, *decrypt, "second.key", "m.tml", folder=stranger)
    fails(21, *decrypt, "other.key", "other.tml", folder=stranger)
    keys = ("--secret", "client.key", "--evaluation", "second_eval.key")
    predict_encrypted = ("predict", "m.tml", "--executor", "encrypted", "--input", "x.npy", "-o", "bad.npy")
    fails(20, *predict_encrypted, *keys, folder=stranger)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("compile",),
        ("compile", "net.onnx", "-o", "m2.tml"),
        ("compile", "net.onnx", "--calibration", "c.npy", "-o", "m2.tml", "--bits", "three"),
        ("compile", "net.onnx", "--calibration", "c.npy", "-o", "m2.tml", "--p-error", "1e-5", "--global-p-error", "1e-3"),
        ("keygen", "m.tml", "--secret", "s.key"),
        ("run", "m.tml", "--no-such-option"),
        ("predict", "m.tml", "--input", "x.npy", "--executor", "encrypted", "--secret", "client.key", "-o", "y.npy"),
        ("bench",),
        ("bench", "everything"),
        ("bench", "lut", "--no-such-option"),
        ("bench", "lut", "--batch", "-1"),
        ("bench", "kernels", "--bits", "2"),
    ],
)
def test_wrong_usage_ends_with_2(life, arguments):
    assert torusml(*arguments, folder=life, expect=2)


def test_executors_are_named(life):
    predict_arguments = ("predict", "m.tml", "--input", "x.npy", "-o", "bad.npy", "--executor")
    fails(8, *predict_arguments, "psychic", folder=life)
    keys = ("--secret", "client.key", "--evaluation", "eval.key")
    fails(1, *predict_arguments, "clear", *keys, folder=life)


def run_mapped(life, output, *options, environment=None):
    """`torusml run` with what it says on both streams; its result must equal that of unmapped keys."""
    run = ("run", "m.tml", "--evaluation", "eval.key", "--input", "x.ct", "-o", output)
    result = subprocess.run(
        [COMMAND, *map(str, (*run, *options))],
        cwd=life,
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | (environment or {}),
    )
    assert result.returncode == 0, result.stderr
    assert (life / output).read_bytes() == (life / "y.ct").read_bytes()
    return result.stdout, result.stderr


def test_prepared_keys_are_mapped(life):
    folder = life / "prepared"
    out, error = run_mapped(life, "y1.ct", "--prepared-keys", "prepared")
    assert ", keys mapped in " in out and error == ""
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(folder.stat().st_mode) == 0o700
    written = file.stat().st_mtime_ns
    out, error = run_mapped(life, "y2.ct", environment={"TORUSML_PREPARED_KEYS": str(folder)})
    assert ", keys mapped in " in out and error == ""
    options = ("--secret", "client.key", "--evaluation", "eval.key", "--prepared-keys", "prepared", "--json")
    predicted, text = predict(life, "encrypted", *options)
    assert json.loads(text)["keys_are_mapped"] is True
    assert np.array_equal(predicted, predict(life, "clear")[0])
    assert file.stat().st_mtime_ns == written
    # Keys that are made for one call are not stored.
    _, text = predict(life, "encrypted", "--prepared-keys", "prepared", "--json")
    assert json.loads(text)["keys_are_mapped"] is False
    assert list(folder.iterdir()) == [file]
    # Without the option nothing is mapped.
    out, _ = run_mapped(life, "y3.ct")
    assert ", keys loaded in " in out


def test_prepared_keys_that_are_damaged(life):
    run_mapped(life, "y1.ct", "--prepared-keys", "damaged")
    (file,) = (life / "damaged").iterdir()
    content = bytearray(file.read_bytes())
    content[2**21 + 12345] ^= 1
    for wrong in (content, content[: len(content) // 2], b""):
        file.write_bytes(wrong)
        out, error = run_mapped(life, "y2.ct", "--prepared-keys", "damaged")
        assert ", keys mapped in " in out
        assert error.startswith("torusml: warning: prepared keys were made anew: TML-E01") and error.count("\n") == 1
        assert run_mapped(life, "y2.ct", "--prepared-keys", "damaged")[1] == ""
    assert list((life / "damaged").iterdir()) == [file]
    out, error = run_mapped(life, "y2.ct", "--prepared-keys", "no/such")
    assert ", keys loaded in " in out
    assert error.startswith("torusml: warning: prepared keys are not shared: TML-E028 ") and "'no/such'" in error


def test_prepared_keys_of_processes_that_start_at_once(life):
    run = [COMMAND, "run", "m.tml", "--evaluation", "eval.key", "--input", "x.ct", "--prepared-keys", "at_once"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen([*run, "-o", f"at_once{i}.ct"], cwd=life, **pipes) for i in range(3)]
    for i, process in enumerate(started):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0 and ", keys mapped in " in output and "warning" not in output, output
        assert (life / f"at_once{i}.ct").read_bytes() == (life / "y.ct").read_bytes()
    assert len(list((life / "at_once").iterdir())) == 1


def test_bench_maps_keys(tmp_path):
    options = ("--bits", 2, "--batch", 4, "--rounds", 1, "--threads", 1, "--json")
    (tmp_path / "keys").mkdir()
    line = json.loads(torusml("bench", "lut", *options, "--prepared-keys", "keys", folder=tmp_path))
    assert line["key_store_s"] > 0 and line["key_map_s"] > 0 and line["checked"] == line["correct"] == 4
    assert list((tmp_path / "keys").iterdir()) == []
    fails(28, "bench", "lut", *options, "--prepared-keys", "none", folder=tmp_path)


def test_bench_measures_lookups(tmp_path):
    options = ("--bits", "2..3", "--batch", 4, "--rounds", 2, "--threads", 1)
    lines = torusml("bench", "lut", *options, "--json", folder=tmp_path).splitlines()
    measured = [json.loads(line) for line in lines]
    assert [line["bits"] for line in measured] == [2, 3]
    for line in measured:
        assert line["system"] == "torusml" and line["version"] and line["cpu"] and line["instruction_set"]
        assert line["threads"] == 1 and line["batch"] == 4 and line["rounds"] == 2 and line["norm2"] == 1
        assert line["p_error"] == 2.0**-40 and line["security_bits"] == 128
        assert line["checked"] == line["correct"] == 8
        assert 0 < line["ms_per_lookup_min"] <= line["ms_per_lookup"] <= line["ms_per_lookup_max"]
        assert line["predicted_ms"] > 0 and line["keygen_s"] > 0 and line["prepare_s"] > 0
        for size in ("evaluation_key_bytes", "bootstrap_key_bytes", "keyswitch_key_bytes", "input_bytes_per_value"):
            assert line[size] > 0
        for name in ("n", "k", "N", "bootstrap_levels", "bootstrap_base_log2", "keyswitch_levels", "keyswitch_base_log2"):
            assert line["parameters"][name] > 0
        assert {"grouping_factor", "accumulator_bits", "extension_log2"} < line["parameters"].keys()
        assert "key_map_s" not in line
    text = torusml("bench", "lut", "--bits", 2, "--batch", 4, "--rounds", 1, folder=tmp_path)
    assert "128 bits of security" in text and "2^-40" in text
    options = ("--bits", 2, "--tables", "1,3", "--batch", 2, "--rounds", 1, "--json")
    alone, shared = (json.loads(line) for line in torusml("bench", "lut", *options, folder=tmp_path).splitlines())
    assert (alone["tables"], shared["tables"]) == (1, 3) and shared["correct"] == 6
    assert alone["parameters"]["tables_log2"] == 0 and shared["parameters"]["tables_log2"] > 0


def test_bench_measures_kernels(tmp_path):
    lines = [json.loads(line) for line in torusml("bench", "kernels", "--json", folder=tmp_path).splitlines()]
    measures = {line["measure"] for line in lines}
    assert {"fma_peak", "transform", "keyswitch", "key_preparation"} <= measures
    sizes = [line["polynomial_size"] for line in lines if line["measure"] == "transform"]
    assert sizes == [2**e for e in range(9, 17)]
    for line in lines:
        if line["measure"] == "transform":
            assert line["forward_ns"] > 0 and line["inverse_ns"] > 0 and line["share_of_peak"] > 0


@pytest.mark.parametrize(
    "code, options",
    [
        (7, ("--bits", "0")),
        (7, ("--bits", "2,17")),
        (1, ("--bits", "few")),
        (1, ("--bits", "8..2")),
        (9, ("--p-error", "0")),
        (9, ("--p-error", "2")),
        (9, ("--p-error", "2^-2000")),
        (1, ("--p-error", "small")),
        (1, ("--batch", "0")),
        (1, ("--threads", "0")),
        (1, ("--threads", "100000")),
        (1, ("--rounds", "0")),
        (1, ("--security", "100")),
        (1, ("--norm2", "nan")),
        (18, ("--bits", "2", "--norm2", "1e9")),
    ],
)
def test_wrong_bench_options(tmp_path, code, options):
    fails(code, "bench", "lut", *options, folder=tmp_path)


def test_help_and_version(tmp_path):
    assert "compile" in torusml("--help", folder=tmp_path)
    assert "--calibration" in torusml("compile", "--help", folder=tmp_path)
    assert torusml("--version", folder=tmp_path).startswith("torusml ")
