"""The command `torusml`, as a user runs it: the whole life of a model."""

import json
import os
import stat
import subprocess

import numpy as np
import onnx
import pytest
from command_line import COMMAND, COMPILE_EXACT, EXACT, FIRST, SECOND, fails, network, predict, save_network, torusml


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
    for part in (
        "3 lookups a sample",
        "a sample alone",
        "in a batch of 32",
        "a sample on 8 cores like these",
        "evaluation keys",
    ):
        assert part in text
    assert "accuracy, simulated" in text
    assert "400 calibration samples: simulated " in text and " as the float network's; in the clear " in text
    estimate = json.loads(torusml("estimate", *many, "--batch", 4, "--without-changes", "--json", folder=life))
    assert estimate["batch"] == 4 and estimate["changes"] == []
    assert 0 < estimate["seconds_one_sample"] < 10
    assert estimate["fidelity_simulated"] > 0.9
    assert estimate["layers"][0]["tables"] == 3
    fails(1, "estimate", *many, "--batch", 0, folder=life)
    fails(1, "estimate", *many, "--cores", 0, folder=life)
    fails(2, "estimate", *many, "--labels", "x.npy", folder=life)
    np.save(life / "from_1.npy", np.load(life / "labels.npy") + 1)
    text = fails(1, "estimate", *many, "--labels", "from_1.npy", folder=life)
    assert "is 2; output 'y' has the classes 0 to 1" in text
    assert json.loads(torusml("estimate", *many, *EXACT, "--json", folder=life))["changes"]


def test_estimate_says_which_bits_it_chose(life, many):
    options = (*many[:-1], "auto", "--without-changes")
    found = json.loads(torusml("compile", *options[:-1], "-o", "bits.tml", "--json", folder=life))["bits_search"]
    assert json.loads(torusml("estimate", *options, "--json", folder=life))["bits_search"] == found
    assert "  bits auto: " in torusml("estimate", *options, folder=life)


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


def test_help_and_version(tmp_path):
    assert "compile" in torusml("--help", folder=tmp_path)
    assert "--calibration" in torusml("compile", "--help", folder=tmp_path)
    assert torusml("--version", folder=tmp_path).startswith("torusml ")
