"""QuantizedModule and its circuit on a small ONNX network: floats, integers, encrypted integers."""

import os
import signal
import sys
import threading
import time
import traceback
import warnings

import numpy as np
import onnxruntime
import pytest
import small_networks

import torusml
from torusml import errors, progress
from torusml.quantization import QuantizedArray, QuantizedModule
from torusml.torch.compile import build_quantized_module, compile_onnx_model

CALIBRATION = small_networks.floats(400, 3)
X = small_networks.floats(6, 3, seed=9)


@pytest.fixture(scope="module")
def module() -> QuantizedModule:
    return compile_onnx_model(small_networks.mlp(), CALIBRATION, n_bits=3)


@pytest.fixture(scope="module")
def uncompiled() -> QuantizedModule:
    return build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=3)


@pytest.fixture(scope="module")
def larger() -> QuantizedModule:
    return compile_onnx_model(small_networks.mlp((3, 24, 2)), CALIBRATION, n_bits=3)


def reference(x):
    session = onnxruntime.InferenceSession(small_networks.mlp().SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])


def test_forward_is_close_to_the_floats(module):
    expected = reference(CALIBRATION)
    error = np.abs(module.forward(CALIBRATION) - expected)
    assert error.mean() < 0.4 * np.abs(expected).mean()  # three bits
    assert np.array_equal(module(X), module.forward(X, fhe="disable"))
    finer = build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=8)
    assert np.abs(finer.forward(CALIBRATION) - expected).max() < 0.1 * error.max()


def test_steps_make_up_forward(module):
    q = module.quantize_input(X)
    assert q.dtype == np.int64 and q.shape == X.shape
    assert np.array_equal(q, module.input_quantizers[0].quant(X))
    q_y = module.quantized_forward(q)
    assert q_y.dtype == np.int64 and q_y.shape == (6, 2)
    y = module.dequantize_output(q_y)
    assert np.array_equal(y, module.forward(X))
    assert np.array_equal(y, module.output_quantizers[0].dequant(q_y))


def test_encrypted_equals_clear(module):
    q = module.quantize_input(X)
    assert np.array_equal(module.fhe_circuit.encrypt_run_decrypt(q), module.quantized_forward(q))
    assert np.array_equal(module.quantized_forward(q[:2], fhe="execute"), module.quantized_forward(q[:2]))
    assert np.array_equal(module.forward(X[:2], fhe="execute"), module.forward(X[:2]))


def test_simulated_equals_clear(module):
    q = module.quantize_input(CALIBRATION)
    assert np.array_equal(module.fhe_circuit.simulate(q), module.quantized_forward(q))
    assert np.array_equal(module.forward(X, fhe="simulate"), module.forward(X))


def test_the_loop_of_the_seed(module):
    """Step by step as in the documentation, one sample at a time and by the old name of the circuit."""
    quantized_module, data = module, X[:2]
    x_test_q = quantized_module.quantize_input(data)
    for i in range(x_test_q.shape[0]):
        x_q = np.expand_dims(x_test_q[i, :], 0)
        out_fhe = quantized_module.forward_fhe.encrypt_run_decrypt(x_q)
        output = quantized_module.dequantize_output(out_fhe)
        y_pred = np.argmax(output, 1)
        assert y_pred == np.argmax(module.forward(X)[i])


def test_own_dequantize_output(module):
    """The seed's way to write it: a QuantizedArray of integers with explicit scale and zero point."""

    class OwnModule(QuantizedModule):
        def dequantize_output(self, qvalues: np.ndarray) -> np.ndarray:
            output = self.output_quantizers[0]
            return QuantizedArray(
                output.n_bits,
                qvalues,
                value_is_float=False,
                is_signed=output.is_signed,
                scale=output.scale,
                zero_point=output.zero_point,
            ).dequant()

    own = OwnModule(module._core)
    assert np.array_equal(own.forward(X), module.forward(X))


def test_encrypt_run_decrypt_in_steps(module):
    circuit = module.fhe_circuit
    circuit.keygen()
    key = circuit.client.key_id
    circuit.keygen()
    assert circuit.client.key_id == key and circuit.keys.are_generated
    q = module.quantize_input(X[:2])
    encrypted = circuit.encrypt(q)
    assert encrypted.shapes == {"x": (2, 3)}
    result = circuit.run(encrypted)
    assert result.shapes == {"y": (2, 2)}
    assert np.array_equal(circuit.decrypt(result), module.quantized_forward(q))
    with pytest.raises(NotImplementedError):
        circuit.keygen(seed=3)


def test_new_keys_do_not_read_old_ciphertexts(module):
    circuit = module.fhe_circuit
    encrypted = circuit.encrypt(module.quantize_input(X[:1]))
    circuit.keygen(force=True)
    with pytest.raises(errors.WrongKey):
        circuit.run(encrypted)


def test_is_compiled(module, uncompiled):
    assert module.is_compiled and not uncompiled.is_compiled
    module.check_model_is_compiled()
    for use in (
        uncompiled.check_model_is_compiled,
        lambda: uncompiled.fhe_circuit,
        lambda: uncompiled.forward_fhe,
        lambda: uncompiled.forward(X, fhe="execute"),
        lambda: uncompiled.forward(X, fhe="simulate"),
    ):
        with pytest.raises(AttributeError, match="TML-E023"):
            use()


def test_report(module, uncompiled):
    assert uncompiled.bitwidth_and_range_report() is None
    report = module.bitwidth_and_range_report()
    for entry in report.values():
        low, high = entry["range"]
        assert low <= entry["calibrated"][0] <= entry["calibrated"][1] <= high
        assert entry["guaranteed"][0] <= low and high <= entry["guaranteed"][1]
    assert max(entry["bitwidth"] for entry in report.values()) <= module.fhe_circuit.graph.maximum_integer_bit_width()


def test_graph_and_statistics(module):
    circuit = module.fhe_circuit
    assert 1 < circuit.graph.maximum_integer_bit_width() <= 9
    low, high = circuit.graph.integer_range()
    assert low < 0 < high
    assert "= lut" in str(circuit) and "lookup" in circuit.plan_text()
    statistics = circuit.statistics
    # Of five neurons one does not depend on the inputs.
    assert statistics["programmable_bootstrap_count"] == 4
    assert statistics["table_lookup_count"] == statistics["key_switch_count"] == 4
    assert statistics["p_error"] == 2.0**-40
    assert 0 < statistics["global_p_error"] < 1e-9
    circuit.keygen()
    keys = circuit.client.evaluation_keys
    assert statistics["size_of_bootstrap_keys"] == keys.bootstrap_key_bytes
    assert statistics["size_of_keyswitch_keys"] == keys.keyswitch_key_bytes
    stored = len(keys.serialize())
    assert 0 <= stored - keys.bootstrap_key_bytes - keys.keyswitch_key_bytes < 4096
    assert 0 <= len(circuit.encrypt(module.quantize_input(X[:1])).serialize()) - statistics["size_of_inputs"] < 4096
    assert statistics["size_of_secret_keys"] > 0 and statistics["size_of_outputs"] > 0 and statistics["complexity"] > 0


def test_layers(module):
    y, layers = module.forward(X, debug=True)
    assert np.array_equal(y, module.forward(X))
    assert {array.shape for array in layers.values()} == {(6, 5), (6, 2)}
    with pytest.raises(ValueError, match="debug"):
        module.forward(X, fhe="simulate", debug=True)


def test_two_inputs_and_outputs():
    a, b = small_networks.floats(200, 2, seed=2), small_networks.floats(200, 2, seed=3)
    module = compile_onnx_model(small_networks.two_inputs_two_outputs(), (a, b), n_bits=3)
    y, z = module.forward(a, b)
    assert y.shape == z.shape == (200, 3)
    q_a, q_b = module.quantize_input(a[:2], b[:2])
    encrypted = module.fhe_circuit.encrypt_run_decrypt(q_a, q_b)
    assert all(np.array_equal(e, c) for e, c in zip(encrypted, module.quantized_forward(q_a, q_b), strict=True))
    assert module.quantize_input(a[:2], None)[1] is None
    assert module.ordered_module_input_names == ("a", "b") and module.ordered_module_output_names == ("y", "z")
    with pytest.raises(ValueError, match="1 inputs given"):
        module.quantize_input(a)


@pytest.mark.parametrize("fhe", ["disable", "simulate", "execute"])
def test_wrong_input(module, fhe):
    q = module.quantize_input(X)
    cases = [
        (lambda: module.forward(X.astype(np.int64), fhe=fhe), TypeError, "TML-E003"),
        (lambda: module.forward(X[:, :2], fhe=fhe), ValueError, "TML-E002"),
        (lambda: module.forward(X[0], fhe=fhe), ValueError, "TML-E002"),
        (lambda: module.forward(np.float32(1), fhe=fhe), ValueError, "TML-E002"),
        (lambda: module.forward(X[:0], fhe=fhe), ValueError, "TML-E002"),
        (lambda: module.forward(X, X, fhe=fhe), ValueError, "TML-E002"),
        (lambda: module.forward(X * np.float32(np.nan), fhe=fhe), ValueError, "TML-E004"),
        (lambda: module.forward(X * np.float32(np.inf), fhe=fhe), ValueError, "TML-E004"),
        (lambda: module.forward("abc", fhe=fhe), TypeError, "TML-E003"),
        (lambda: module.forward(X.astype(object), fhe=fhe), TypeError, "TML-E003"),
        (lambda: module.quantized_forward(X, fhe=fhe), TypeError, "TML-E003"),
        (lambda: module.quantized_forward(q[:, :1], fhe=fhe), ValueError, "TML-E002"),
        (lambda: module.quantized_forward(q + 1000, fhe=fhe), ValueError, "TML-E001"),
    ]
    for use, builtin, code in cases:
        with pytest.raises(builtin) as raised:
            use()
        assert raised.value.code.startswith(code), str(raised.value)
    with pytest.raises(ValueError, match="TML-E008"):
        module.forward(X, fhe=fhe.upper())


def test_integers_of_any_type(module):
    q = module.quantize_input(X)
    assert np.array_equal(module.quantized_forward(q.astype(np.int8)), module.quantized_forward(q))
    assert np.array_equal(module.quantized_forward(np.asfortranarray(q)), module.quantized_forward(q))


def test_client_and_server_apart(module, tmp_path):
    path = tmp_path / "net.tml"
    module.fhe_circuit.save(path)
    client = torusml.Client(path)
    with pytest.raises(errors.WrongKey, match="keygen"):
        client.encrypt(X)
    client.keygen()
    client.save(tmp_path / "client.key")
    assert os.stat(tmp_path / "client.key").st_mode & 0o777 == 0o600
    client.evaluation_keys.save(tmp_path / "eval.key")
    sent = client.encrypt(X[:2])
    assert sent.clipped == 0 and client.encrypt(X[:2] * 10).clipped > 0
    sent.save(tmp_path / "x.ct")

    server = torusml.Server(path, tmp_path / "eval.key")
    assert server.key_bytes > 0
    server.run(tmp_path / "x.ct").save(tmp_path / "y.ct")

    again = torusml.Client(path, secret=tmp_path / "client.key")
    assert np.array_equal(again.decrypt(tmp_path / "y.ct"), module.forward(X[:2]))
    raw = again.decrypt(torusml.EncryptedOutputs.load(tmp_path / "y.ct"), raw=True)
    assert np.array_equal(raw, module.quantized_forward(module.quantize_input(X[:2])))

    received = server.run(torusml.EncryptedInputs.deserialize(sent.serialize()), client.evaluation_keys.serialize())
    assert np.array_equal(client.decrypt(torusml.EncryptedOutputs.deserialize(received.serialize())), module.forward(X[:2]))
    with pytest.raises(OSError):
        client.save(tmp_path / "client.key")
    client.save(tmp_path / "client.key", replace=True)


def test_prepared_keys_are_shared(module, tmp_path):
    circuit, folder = module.fhe_circuit, tmp_path / "prepared"
    client = circuit.client
    sent = client.encrypt(X[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = torusml.Server(circuit, client.evaluation_keys)
        servers = [torusml.Server(circuit, client.evaluation_keys, prepared_keys=folder) for _ in range(2)]
    assert not plain.keys_are_mapped
    assert len(list(folder.iterdir())) == 1
    expected = plain.run(sent).serialize()
    for server in servers:
        assert server.keys_are_mapped and server.key_bytes == plain.key_bytes
        assert server.run(sent).serialize() == expected
    with pytest.warns(RuntimeWarning, match="prepared keys are not shared: TML-E028"):
        server = torusml.Server(circuit, client.evaluation_keys, prepared_keys=tmp_path / "no" / "such")
    assert not server.keys_are_mapped and server.run(sent).serialize() == expected


def test_limits_change_no_result(module, tmp_path):
    circuit = module.fhe_circuit
    expected = module.forward(X)
    least = circuit.memory_estimate(threads=1)
    assert least["total"] == sum(least[part] for part in ("keys", "ciphertexts", "tables", "scratch"))
    assert circuit.memory_estimate(batch=6, threads=1)["total"] > least["total"]
    enough = {"threads": 1, "memory_limit_bytes": 10 * least["total"]}
    assert np.array_equal(module.forward(X, fhe="execute", threads=1), expected)
    assert np.array_equal(module.forward(X, fhe="execute", threads=np.int64(2), memory_limit_bytes=10**30), expected)
    assert np.array_equal(circuit.predict(X, executor="encrypted", **enough), expected)
    client = circuit.client
    server = torusml.Server(circuit, client.evaluation_keys, **enough)
    assert np.array_equal(client.decrypt(server.run(client.encrypt(X), **enough)), expected)


def test_memory_limit_is_kept(module):
    circuit = module.fhe_circuit
    circuit.keygen(threads=1)
    sent = circuit.encrypt(module.quantize_input(X))
    with pytest.raises(errors.MemoryLimitExceeded, match="evaluation keys"):
        torusml.Server(circuit, circuit.keys.evaluation, memory_limit_bytes=1000)
    server = torusml.Server(circuit, circuit.keys.evaluation)
    with pytest.raises(MemoryError, match=r"TML-E030 .* the limit is 1.00 kB \(layer '.*'\). Try: "):
        server.run(sent, memory_limit_bytes=1000)


@pytest.mark.parametrize(
    ("limits", "builtin", "code"),
    [
        ({"threads": -1}, ValueError, 1),
        ({"threads": 1.5}, TypeError, 3),
        ({"threads": True}, TypeError, 3),
        ({"threads": "2"}, TypeError, 3),
        ({"threads": None}, TypeError, 3),
        ({"memory_limit_bytes": -1}, ValueError, 1),
        ({"memory_limit_bytes": "2GB"}, TypeError, 3),
    ],
)
def test_wrong_limits(module, limits, builtin, code):
    sent = module.fhe_circuit.encrypt(module.quantize_input(X))
    calls = [
        lambda: module.forward(X, fhe="execute", **limits),
        lambda: module.fhe_circuit.run(sent, **limits),
        lambda: module.fhe_circuit.predict(X, executor="encrypted", **limits),
        lambda: torusml.Server(module.fhe_circuit, module.fhe_circuit.keys.evaluation, **limits),
    ]
    for call in calls:
        with pytest.raises(builtin, match=f"TML-E{code:03} .*{next(iter(limits))}"):
            call()


def test_limits_are_for_encrypted_runs(module):
    for fhe in ("disable", "simulate"):
        with pytest.raises(errors.InvalidArgument, match='fhe="execute"'):
            module.forward(X, fhe=fhe, threads=2)
    with pytest.raises(errors.InvalidArgument, match='executor="encrypted"'):
        module.fhe_circuit.predict(X, memory_limit_bytes=10**9)


def test_loaded_model(module, tmp_path):
    module.fhe_circuit.save(tmp_path / "net.tml")
    model = torusml.load(tmp_path / "net.tml")
    for executor in ("clear", "simulated", "encrypted"):
        assert np.array_equal(model.predict(X[:2], executor=executor), module.forward(X[:2]))
    assert str(model) == str(module.fhe_circuit) and model.plan_text() == module.fhe_circuit.plan_text()
    module.fhe_circuit.save(tmp_path / "again.tml")
    assert (tmp_path / "again.tml").read_bytes() == (tmp_path / "net.tml").read_bytes()
    with pytest.raises(ValueError, match="TML-E008"):
        model.predict(X, executor="quick")


def test_foreign_files_and_keys(module, tmp_path):
    path = tmp_path / "net.tml"
    module.fhe_circuit.save(path)
    content = path.read_bytes()
    (tmp_path / "cut.tml").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.tml").write_text("hello")
    with pytest.raises(OSError):
        torusml.load(tmp_path / "missing.tml")
    with pytest.raises(ValueError, match="TML-E0(11|12|14)"):
        torusml.load(tmp_path / "cut.tml")
    with pytest.raises(ValueError, match="TML-E0(11|12)"):
        torusml.load(tmp_path / "text.tml")
    with pytest.raises(ValueError, match="TML-E012"):
        torusml.EncryptedInputs.load(path)
    with pytest.raises(OSError):
        module.fhe_circuit.save(tmp_path / "no" / "folder.tml")
    with pytest.raises(ValueError):
        torusml.EvaluationKeys.deserialize(b"")
    with pytest.raises(TypeError):
        torusml.Server(path).run(b"bytes")
    with pytest.raises(TypeError):
        torusml.Client(3)

    client = torusml.Client(path)
    client.keygen()
    with pytest.raises(errors.WrongKey):
        torusml.Server(path).run(client.encrypt(X))
    stranger = torusml.Client(path)
    stranger.keygen()
    with pytest.raises(errors.WrongKey):
        torusml.Server(path, stranger.evaluation_keys).run(client.encrypt(X))
    other = compile_onnx_model(small_networks.mlp(seed=5), CALIBRATION, n_bits=3)
    with pytest.raises((errors.WrongModel, errors.WrongKey)):
        torusml.Server(other.fhe_circuit).run(client.encrypt(X), client.evaluation_keys)


def test_progress_is_shown_when_asked_for(larger, capsys, monkeypatch):
    monkeypatch.setattr(progress, "enabled", True)
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    larger.fhe_circuit.keygen(force=True)
    q = larger.quantize_input(X[:1])
    larger.fhe_circuit.encrypt_run_decrypt(q)
    shown = capsys.readouterr()
    assert "22/22" in shown.err and "evaluation keys" in shown.err and not shown.out
    monkeypatch.setattr(progress, "enabled", None)  # stderr is no terminal here
    larger.fhe_circuit.encrypt_run_decrypt(q)
    assert capsys.readouterr().err == ""


@pytest.fixture
def interrupts():
    """A shell's background job starts with interrupts ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_within(function):
    """Ctrl-C half a second after the main thread is seen in this function."""
    main = threading.main_thread().ident

    def is_called():
        return any(frame.f_code is function.__code__ for frame, _ in traceback.walk_stack(sys._current_frames()[main]))

    def interrupt():
        while not is_called():
            time.sleep(0.01)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()


def test_interrupt_stops_long_work(larger, interrupts):
    circuit = larger.fhe_circuit
    encrypted = circuit.encrypt(larger.quantize_input(small_networks.floats(400, 3)))  # a minute and more of processor time
    start = time.process_time()
    interrupt_within(circuit.run)
    with pytest.raises(KeyboardInterrupt):
        circuit.run(encrypted)
    assert time.process_time() - start < 20
    few = larger.quantize_input(X[:1])
    assert np.array_equal(circuit.encrypt_run_decrypt(few), larger.quantized_forward(few))


def test_other_threads_run_meanwhile(larger):
    circuit = larger.fhe_circuit
    circuit.keygen()
    counts = [0]
    stop = threading.Event()

    def count():
        while not stop.is_set():
            counts[0] += 1
            time.sleep(0.001)

    def counted_in_a_run():
        before = counts[0]
        circuit.encrypt_run_decrypt(larger.quantize_input(X))
        return counts[0] - before

    thread = threading.Thread(target=count)
    thread.start()
    try:
        assert any(counted_in_a_run() > 10 for _ in range(20))  # a busy machine may keep it waiting for a whole run
    finally:
        stop.set()
        thread.join()


def test_callback_that_raises(module):
    q = module.quantize_input(CALIBRATION)

    def fail(done, total):
        raise LookupError("stop")

    with pytest.raises(LookupError):
        module.fhe_circuit._core.run_simulated([q], 1, fail)


COMPILE_ERRORS = [
    ({"p_error": 0.01, "global_p_error": 0.01}, ValueError, "TML-E001"),
    ({"p_error": 0.0}, ValueError, "TML-E009"),
    ({"p_error": 1.0}, ValueError, "TML-E009"),
    ({"global_p_error": -1.0}, ValueError, "TML-E009"),
    ({"precision": "rough"}, ValueError, "TML-E008"),
    ({"profile": "public"}, ValueError, "TML-E008"),
    ({"p_error": "2^-40"}, TypeError, "TML-E003"),
    ({"security_level": "128"}, TypeError, "TML-E003"),
    ({"security_level": 80}, ValueError, "TML-E0"),
    ({"precision": "tolerant", "profile": "shared_results"}, ValueError, "TML-E027"),
    ({"precision": "tolerant", "tolerance": 0.0}, ValueError, "TML-E001"),
    ({"device": "cuda"}, NotImplementedError, "TML-E022"),
    ({"device": "tpu"}, ValueError, "TML-E008"),
    ({"show_mlir": True}, NotImplementedError, "TML-E022"),
    ({"configuration": object()}, NotImplementedError, "TML-E022"),
    ({"artifacts": object()}, NotImplementedError, "TML-E022"),
    ({"inputs_encryption_status": ("clear",)}, ValueError, "TML-E001"),
    ({"inputs_encryption_status": ("encrypted", "clear")}, ValueError, "TML-E001"),
    ({"inputs_encryption_status": ("secret",)}, ValueError, "TML-E008"),
]


@pytest.mark.parametrize(("arguments", "builtin", "code"), COMPILE_ERRORS)
def test_wrong_arguments_of_compile(uncompiled, arguments, builtin, code):
    with pytest.raises(builtin) as raised:
        uncompiled.compile(CALIBRATION, **arguments)
    assert raised.value.code.startswith(code), str(raised.value)
    assert not uncompiled.is_compiled


def test_tolerant_and_global_p_error():
    module = build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=6)
    circuit = module.compile(CALIBRATION, precision="tolerant", global_p_error=1e-6, inputs_encryption_status=("encrypted",))
    assert circuit.statistics["precision"] == "tolerant"
    assert circuit.statistics["global_p_error"] <= 1e-6
    q = module.quantize_input(CALIBRATION)
    steps = np.abs(circuit.simulate(q, seed=1) - module.quantized_forward(q))
    width = module._core.outputs[0]["interval"]
    assert steps.max() < 0.2 * (width[1] - width[0])
    assert np.array_equal(circuit.simulate(q, seed=1), circuit.simulate(q, seed=1))


def test_flip_counts():
    module = build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=6)
    circuit = module.compile(CALIBRATION, precision="tolerant", tolerance=0.02)
    counts = module.flip_counts(CALIBRATION, seed=1)
    plans = circuit.statistics["lookups"]
    assert counts.keys() == plans.keys() and counts
    for layer, found in counts.items():
        assert found["events"] == len(CALIBRATION) * plans[layer]["lookup_count"]
        assert found["events"] > found["flips"] >= found["far"] >= found["wraps"] >= 0
        assert 1 >= plans[layer]["step_probability"] >= plans[layer]["far_probability"] > 0
    assert sum(found["flips"] for found in counts.values()) > 0
    assert counts == module.flip_counts(CALIBRATION, seed=1) != module.flip_counts(CALIBRATION, seed=2)
    assert circuit.flip_counts(module.quantize_input(CALIBRATION), seed=1) == counts
    with pytest.raises(Exception, match="TML-E"):
        build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=6).flip_counts(CALIBRATION)


def test_too_wide_for_exact():
    with pytest.raises(RuntimeError, match="TML-E017") as raised:
        compile_onnx_model(small_networks.mlp((3, 20, 2)), CALIBRATION, n_bits=12)
    assert raised.value.hint and raised.value.where


def test_verbose_prints_circuit_and_plan(capsys):
    compile_onnx_model(small_networks.mlp(), CALIBRATION, n_bits=3, verbose=True)
    shown = capsys.readouterr().out
    assert "circuit" in shown and "plan" in shown and "= lut" in shown


@pytest.mark.parametrize(
    ("inputset", "builtin", "code"),
    [
        (CALIBRATION[:0], ValueError, "TML-E0"),
        (CALIBRATION[:, :2], ValueError, "TML-E002"),
        (CALIBRATION.astype(np.int32), TypeError, "TML-E003"),
        (np.full((10, 3), np.nan, np.float32), ValueError, "TML-E004"),
        ((CALIBRATION, CALIBRATION), ValueError, "TML-E002"),
        ("data", TypeError, "TML-E003"),
    ],
)
def test_wrong_calibration(inputset, builtin, code):
    with pytest.raises(builtin) as raised:
        build_quantized_module(small_networks.mlp(), inputset)
    assert raised.value.code.startswith(code), str(raised.value)


def test_constant_calibration():
    with pytest.raises(ValueError, match="TML-E006"):
        build_quantized_module(small_networks.mlp(), np.ones((10, 3), np.float32))


@pytest.mark.parametrize(
    ("n_bits", "builtin", "code"),
    [
        (0, ValueError, "TML-E007"),
        (33, ValueError, "TML-E007"),
        (2.5, TypeError, "TML-E003"),
        ({"op_inputs": 3}, KeyError, "TML-E008"),
        ({"op_inputs": 3, "op_weights": 3, "bits": 2}, KeyError, "TML-E008"),
        ({"op_inputs": 6, "op_weights": 3, "model_outputs": 4}, AssertionError, "TML-E001"),
    ],
)
def test_wrong_bits(n_bits, builtin, code):
    with pytest.raises(builtin) as raised:
        build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=n_bits)
    assert raised.value.code.startswith(code)


def test_bits_by_role():
    module = build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits={"op_inputs": 3, "op_weights": 4})
    assert module.input_quantizers[0].n_bits in (3, 5)  # a single consumer lends its quantizer to the input
    wide = build_quantized_module(
        small_networks.mlp(), CALIBRATION, n_bits={"op_inputs": 7, "op_weights": 7, "model_inputs": 7, "model_outputs": 8}
    )
    assert wide.input_quantizers[0].n_bits == 7


def test_models_as_path_bytes_and_proto(tmp_path):
    import onnx

    path = tmp_path / "net.onnx"
    onnx.save(small_networks.mlp(), path)
    by_path = build_quantized_module(path, CALIBRATION, n_bits=4)
    by_bytes = build_quantized_module(path.read_bytes(), CALIBRATION, n_bits=4, keep_onnx=False)
    assert np.array_equal(by_path.forward(X), by_bytes.forward(X))
    assert by_path.onnx_model.graph.node[0].op_type == "Gemm" and by_bytes.onnx_model is None
    with pytest.raises(OSError):
        compile_onnx_model(tmp_path / "missing.onnx", CALIBRATION)
    with pytest.raises(AssertionError, match="TML-E003"):
        compile_onnx_model(3, CALIBRATION)
    with pytest.raises(ValueError, match="Hardmax"):
        compile_onnx_model(small_networks.mlp(activation="Hardmax"), CALIBRATION)


def test_the_short_door():
    module = torusml.compile(small_networks.mlp(), CALIBRATION, bits=3)
    assert module.is_compiled
    assert np.array_equal(module.forward(X), build_quantized_module(small_networks.mlp(), CALIBRATION, n_bits=3).forward(X))


def test_a_network_without_activations_needs_no_lookup():
    module = compile_onnx_model(small_networks.mlp((3, 4)), CALIBRATION, n_bits=8)
    assert module.fhe_circuit.statistics["programmable_bootstrap_count"] == 0
    assert np.array_equal(module.forward(X, fhe="execute"), module.forward(X))
