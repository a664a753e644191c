"""The server in a process of its own, with clients in Python, C++ and by the command: results, tenants, faults."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from command_line import torusml as command
from openapi_check import OpenApi
from running_server import REPOSITORY, RunningServer, free_port
from small_networks import floats, mlp, two_inputs_two_outputs

import torusml
from torusml import errors

NAMES = ("first", "second", "pair")
SERVED = (*NAMES, "open")  # as "pair", with input b in the clear


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Three models and their halves; .tml lie apart from what the server sees."""
    folder = tmp_path_factory.mktemp("models")
    served = folder / "served"
    served.mkdir()
    networks = {"first": mlp((3, 4, 2), seed=1), "second": mlp((3, 3, 2), seed=2), "pair": two_inputs_two_outputs()}
    networks["open"] = networks["pair"]
    for name, network in networks.items():
        onnx.save(network, folder / f"{name}.onnx")
        inputs = (
            {"x": floats(200, 3, 3)} if name in ("first", "second") else {"a": floats(200, 2, 3), "b": floats(200, 2, 4)}
        )
        calibration = []
        for variable, values in inputs.items():
            np.save(folder / f"{name}_{variable}.npy", values)
            calibration += ["--calibration", f"{variable}={name}_{variable}.npy"]
        options = ("--bits", 3, "--precision", "exact", "--max-key-sets", 1)
        if name == "open":
            options += ("--clear", "b")
        command("compile", f"{name}.onnx", *calibration, *options, "-o", f"{name}.tml", folder=folder)
        halves = ("--client", served / f"{name}.tmc", "--server", served / f"{name}.tms")
        command("export", f"{name}.tml", *halves, folder=folder)
    return folder


def inputs_of(name, count=2, seed=9):
    return (floats(count, 3, seed),) if name in ("first", "second") else (floats(count, 2, seed), floats(count, 2, seed + 1))


def clear(models, name, x):
    model = torusml.load(models / f"{name}.tml")
    client = torusml.Client(models / f"{name}.tml")
    integers = client.quantize(*x)
    integers = integers if isinstance(integers, tuple) else (integers,)
    results = model.run_clear(*integers)
    return client.dequantize(*(results if isinstance(results, tuple) else (results,)))


def assert_equal(found, expected):
    for one, other in zip(
        found if isinstance(found, tuple) else (found,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def server(models, tmp_path_factory):
    running = RunningServer(models / "served", tmp_path_factory.mktemp("data") / "registry")
    running.tokens = {
        "alice": running.add_token("alice"),
        "bob": running.add_token("bob"),
        "carol": running.add_token("carol", "--model", "second"),
    }
    yield running
    assert running.stop() == 0
    log = "".join(running.log)
    assert not any(token.split("_", 2)[2] in log for token in running.tokens.values())


@pytest.fixture(scope="module")
def keys(models, tmp_path_factory):
    """Key files of two clients, for all three models."""
    folder = tmp_path_factory.mktemp("keys")
    halves = [models / "served" / f"{name}.tmc" for name in SERVED]
    made = {}
    for tenant in ("alice", "bob"):
        made[tenant] = {"keys": folder / f"{tenant}.key", "evaluation": folder / f"{tenant}.eval"}
        files = ("--secret", made[tenant]["keys"], "--evaluation", made[tenant]["evaluation"])
        command("keygen", *halves, *files, folder=folder)
    return made


def inference_of(key, encrypted, samples=1):
    """The body of a request for inference, and its header."""
    tensor = {"name": "encrypted_inputs", "datatype": "UINT8", "shape": [len(encrypted)]}
    tensor["parameters"] = {"binary_data_size": len(encrypted)}
    text = json.dumps({"id": "7", "parameters": {"key": key, "samples": samples}, "inputs": [tensor]}).encode()
    return text + encrypted, {"Inference_Header_Content_Length": str(len(text))}


def client_of(server, keys, tenant, name, **options):
    return torusml.Client(server.url, model=name, token=server.tokens[tenant], **keys[tenant], **options)


def test_two_tenants_and_three_models_at_once(models, server, keys):
    expected = {(name, seed): clear(models, name, inputs_of(name, seed=seed)) for name in NAMES for seed in (20, 30)}
    failures = []

    def work(tenant, name):
        try:
            client = client_of(server, keys, tenant, name)
            for seed, function in ((20, client.predict), (30, client.infer)):
                assert_equal(function(*inputs_of(name, seed=seed)), expected[name, seed])
        except BaseException as error:
            failures.append((tenant, name, repr(error)))

    threads = [threading.Thread(target=work, args=(tenant, name)) for tenant in ("alice", "bob") for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    # One key for three models: uploaded once for each tenant, whatever came first.
    sizes = sum(keys[tenant]["evaluation"].stat().st_size for tenant in ("alice", "bob"))
    whole = json.loads(server.request("GET", "/v2/keys", token=server.tokens["alice"])[2])["keys"]
    assert len(whole) == 1 and whole[0]["received"] == whole[0]["bytes"]
    assert sizes > 0


def test_the_second_request_transfers_no_keys(server, keys):
    client = client_of(server, keys, "alice", "first")
    x = inputs_of("first", 1)
    client.predict(*x)
    route = 'torusml_received_bytes_total{route="PUT /v2/keys/{id}"}'
    received, sent = server.metric(route), client.transfer
    client.predict(*x)
    assert server.metric(route) == received
    assert client.transfer["key_bytes"] == sent["key_bytes"]
    assert client.transfer["sent_bytes"] - sent["sent_bytes"] < 10_000
    other = client_of(server, keys, "alice", "second")
    other.predict(*inputs_of("second", 1))
    assert other.transfer["key_bytes"] == 0


def test_large_batches_and_jobs(models, server, keys):
    client = client_of(server, keys, "alice", "second", max_request_samples=2)
    x = inputs_of("second", 5)
    job = client.submit(*x)
    assert len(job.ids) == 3
    assert_equal(client.job(job.ids).result(), clear(models, "second", x))
    with pytest.raises(errors.NotFound):
        job.result()
    cancelled = client.submit(*x)
    done, total = cancelled.progress
    assert 0 <= done <= total
    cancelled.cancel()
    cancelled.cancel()
    with pytest.raises(errors.NotFound):
        assert cancelled.done is not None


def test_foreign_tokens_see_nothing(models, server, keys):
    """Every endpoint, by every kind of token."""
    alice = client_of(server, keys, "alice", "first")
    alice.upload()
    job = alice.submit(*inputs_of("first", 1))
    deadline = time.monotonic() + 30
    while not job.done and time.monotonic() < deadline:
        time.sleep(0.05)
    key, job_id = alice.key_id, job.ids[0]
    inference, length = inference_of(key, b"")
    own = [  # of alice: method, path, body, headers
        ("GET", f"/v2/jobs/{job_id}", None, {}),
        ("GET", f"/v2/jobs/{job_id}/result", None, {}),
        ("HEAD", f"/v2/keys/{key}", None, {}),
        ("DELETE", f"/v2/jobs/{job_id}", None, {}),
        ("DELETE", f"/v2/keys/{key}", None, {}),
    ]
    of_models = [
        (method, f"/v2/models/first{version}{suffix}", body, headers)
        for version in ("", "/versions/1")
        for method, suffix, body, headers in (
            ("GET", "", None, {}),
            ("GET", "/ready", None, {}),
            ("GET", "/client", None, {}),
            ("POST", "/infer", inference, length),
        )
    ]
    lists = [("GET", "/v2/models", None, {}), ("GET", "/v2/keys", None, {})]
    put = ("PUT", f"/v2/keys/{'0' * 64}", b"x", {})
    for token in (None, "", "tml_0_0", server.tokens["alice"] + "0", server.tokens["alice"][:-1]):
        for method, path, body, headers in [*own, *of_models, *lists, put]:
            status, found, content = server.request(method, path, body, token, **headers)
            assert status == 401, (token, method, path)
            assert found["WWW-Authenticate"] == "Bearer"
            assert method == "HEAD" or b"TML-E033" in content
    for tenant in ("bob", "carol"):
        for method, path, body, headers in own:
            assert server.request(method, path, body, server.tokens[tenant], **headers)[0] == 404, (tenant, method, path)
    for method, path, body, headers in of_models:
        status, _, content = server.request(method, path, body, server.tokens["carol"], **headers)
        assert status == 404 and b"there is no model" in content, (method, path)
    # Bob sees the model, and cannot use alice's key with it.
    half = torusml.Client(models / "served" / "first.tmc", keys["bob"]["keys"])
    body, length = inference_of(key, half.encrypt(*inputs_of("first", 1)).serialize())
    status, _, content = server.request("POST", "/v2/models/first/infer", body, server.tokens["bob"], **length)
    assert status == 404 and b"there is no key" in content
    listed = {
        tenant: [json.loads(server.request("GET", path, None, token)[2]) for path in ("/v2/models", "/v2/keys")]
        for tenant, token in server.tokens.items()
    }
    assert [model["name"] for model in listed["carol"][0]["models"]] == ["second"]
    assert sorted(model["name"] for model in listed["bob"][0]["models"]) == sorted(SERVED)
    assert listed["carol"][1]["keys"] == []
    assert key not in [found["id"] for found in listed["bob"][1]["keys"]]
    # All of it is still there for its owner.
    for method, path, body, headers in own[:3]:
        assert server.request(method, path, body, server.tokens["alice"], **headers)[0] == 200
    job.cancel()


def test_errors_of_the_server_arrive_as_they_are(server, keys, tmp_path):
    with pytest.raises(errors.Unauthorized, match="TML-E033"):
        torusml.Client(server.url, model="first")
    with pytest.raises(errors.Unauthorized) as caught:
        torusml.Client(server.url, model="first", token="tml_0123_4567")
    assert "4567" not in str(caught.value)
    with pytest.raises(errors.NotFound, match="there is no model missing"):
        torusml.Client(server.url, model="missing", token=server.tokens["alice"])
    with pytest.raises(errors.WrongModel):
        client_of(server, keys, "alice", "first", model_hash="00" * 32)
    with pytest.raises(errors.ServerRefused):
        torusml.Client(f"http://127.0.0.1:{free_port()}", model="first")
    with pytest.raises(errors.InvalidArgument, match="https"):
        torusml.Client("http://fhe.example.org", model="first", token="tml_a_b")
    with pytest.raises(errors.WrongShape):
        client_of(server, keys, "alice", "first").predict(floats(2, 2))
    with pytest.raises(errors.WrongKey):
        files = {"keys": keys["alice"]["keys"], "evaluation": keys["bob"]["evaluation"]}
        torusml.Client(server.url, model="first", token=server.tokens["alice"], **files).upload()
    with pytest.raises(errors.InvalidArgument):
        torusml.Client(server.url, model="first", token=server.tokens["alice"], passphrase="x")
    client = client_of(server, keys, "alice", "first", deadline=1)
    with pytest.raises(errors.DeadlineExceeded):
        client.predict(*inputs_of("first", 800))


def test_the_command_predicts(models, server, keys, tmp_path):
    x = inputs_of("first", 2)
    np.save(tmp_path / "x.npy", x[0])
    (tmp_path / "token").write_text(server.tokens["bob"] + "\n")
    (tmp_path / "token").chmod(0o600)
    at = ("predict", "--url", server.url, "--name", "first", "--input", "x.npy")
    files = ("--secret", keys["bob"]["keys"], "--evaluation", keys["bob"]["evaluation"])
    for mode in ((), ("--async",)):
        text = command(*at, *files, "--token", "file:token", *mode, "-o", "y.npy", folder=tmp_path)
        assert text.startswith("server: 2 samples in ")
        np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), clear(models, "first", x))
    summary = json.loads(command(*at, *files, "--token", "file:token", "--json", "-o", "y.npy", folder=tmp_path))
    assert summary["key_bytes"] == 0 and summary["samples"] == 2
    # Keys of its own, made where there are none, sealed.
    (tmp_path / "passphrase").write_text("open\n")
    (tmp_path / "passphrase").chmod(0o600)
    own = ("--secret", "own.key", "--passphrase", "file:passphrase", "--token", "file:token")
    command(*at, *own, "-o", "y.npy", folder=tmp_path)
    assert (tmp_path / "own.key").stat().st_mode & 0o777 == 0o600 and (tmp_path / "own.key.eval").exists()
    command(*at, *own, "-o", "y.npy", folder=tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), clear(models, "first", x))

    def refused(status, code, *arguments):
        text = command(*arguments, folder=tmp_path, expect=status)
        assert f"TML-E{code:03}" in text or code == 0, text
        assert server.tokens["bob"] not in text
        return text

    refused(5, 33, *at, "-o", "y.npy")
    refused(5, 34, *at[:4], "missing", *at[5:], "--token", "file:token", "-o", "y.npy")
    refused(5, 43, *at[:2], f"http://127.0.0.1:{free_port()}", *at[3:], "-o", "y.npy")
    refused(2, 8, *at, "--token", server.tokens["bob"], "-o", "y.npy")
    refused(2, 1, *at, "--token", "env:NOT_THERE_AT_ALL", "-o", "y.npy")
    refused(2, 1, "predict", "--url", server.url, "--input", "x.npy", "-o", "y.npy")
    refused(2, 1, "predict", "--input", "x.npy", "-o", "y.npy")
    refused(2, 0, "predict", "net.tml", *at[1:], "-o", "y.npy")
    (tmp_path / "token").chmod(0o644)
    refused(4, 41, *at, "--token", "file:token", "-o", "y.npy")


def test_an_input_goes_in_the_clear_only_where_the_client_names_it(models, server, keys, tmp_path):
    x = inputs_of("open")
    with pytest.raises(errors.InvalidArgument, match="takes input 'b' in the clear.*name it in clear_inputs"):
        client_of(server, keys, "alice", "open")
    with pytest.raises(errors.InvalidArgument, match="takes input 'b' in the clear"):
        client_of(server, keys, "alice", "open", clear_inputs=["a"])
    with pytest.raises(errors.WrongDtype, match="list of names"):
        client_of(server, keys, "alice", "open", clear_inputs="b")
    client = client_of(server, keys, "alice", "open", clear_inputs=["b"])
    assert client.clear_inputs == ("b",)
    assert [one.get("clear", False) for one in client.metadata["torusml"]["inputs"]] == [False, True]
    for function in (client.predict, client.infer):
        assert_equal(function(*x), clear(models, "open", x))
    client_of(server, keys, "alice", "pair", clear_inputs=["b"]).infer(*x)  # that takes it encrypted

    (tmp_path / "token").write_text(server.tokens["alice"] + "\n")
    (tmp_path / "token").chmod(0o600)
    inputs = []
    for name, values in zip("ab", x, strict=True):
        np.save(tmp_path / f"{name}.npy", values)
        inputs += ["--input", f"{name}={name}.npy"]
    at = ("predict", "--url", server.url, "--name", "open", "--token", "file:token", *inputs)
    at += ("--secret", keys["alice"]["keys"], "--evaluation", keys["alice"]["evaluation"])
    at += ("-o", "y=y.npy", "-o", "z=z.npy")
    assert "input 'b' in the clear" in command(*at, folder=tmp_path, expect=2)
    command(*at, "--clear", "b", folder=tmp_path)
    assert_equal((np.load(tmp_path / "y.npy"), np.load(tmp_path / "z.npy")), clear(models, "open", x))


@pytest.mark.parametrize("burst", ["1", "2"])
def test_a_client_that_is_too_fast_comes_again(models, keys, tmp_path, burst):
    """Also while it uploads its keys, and where no two requests may come at once."""
    server = RunningServer(models / "served", tmp_path / "registry", "--tenant-rate", "2", "--tenant-burst", burst)
    client = torusml.Client(server.url, model="first", **keys["alice"])
    x = inputs_of("first", 1)
    while server.request("GET", "/v2/models")[0] == 200:
        pass
    time.sleep(0.5)  # one more is let in, which asks what the server has of the keys
    assert_equal(client.infer(*x), clear(models, "first", x))
    assert server.stop() == 0


def test_ctrl_c_stops_a_prediction_and_its_job(models, server, keys):
    script = f"""
import signal, numpy as np, torusml
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
client = torusml.Client({server.url!r}, model="first", token={server.tokens["bob"]!r},
                        keys={str(keys["bob"]["keys"])!r}, evaluation={str(keys["bob"]["evaluation"])!r})
client.upload()
print("ready", flush=True)
client.predict(np.zeros((900, 3), dtype=np.float32))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    deadline = time.monotonic() + 20
    while server.metric("torusml_jobs_unfinished") < 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in text, text
    while server.metric("torusml_jobs_unfinished") > 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.metric("torusml_jobs_unfinished") == 0


def test_a_job_survives_a_killed_server(models, keys, tmp_path):
    server = RunningServer(models / "served", tmp_path / "registry")
    client = torusml.Client(server.url, model="first", **keys["alice"])
    client.infer(*inputs_of("first", 1))
    x = inputs_of("first", 30)
    results = []
    waiting = threading.Thread(target=lambda: results.append(client.predict(*x)))
    waiting.start()
    deadline = time.monotonic() + 20
    while server.metric("torusml_jobs_unfinished") < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    server.kill()
    time.sleep(0.3)
    server.start()
    waiting.join(60)
    assert_equal(results[0], clear(models, "first", x))
    assert client.transfer["repeats"] > 0
    assert client.transfer["key_bytes"] == keys["alice"]["evaluation"].stat().st_size
    assert server.stop() == 0


def test_an_upload_continues_after_a_killed_server(models, keys, tmp_path):
    server = RunningServer(models / "served", tmp_path / "registry")
    client = torusml.Client(server.url, model="first", **keys["alice"])
    content = keys["alice"]["evaluation"].read_bytes()
    first, second = len(content) // 3, len(content) // 2
    path = f"/v2/keys/{client.key_id}"
    for begin, end in ((0, first), (first, second)):
        content_range = f"bytes {begin}-{end - 1}/{len(content)}"
        assert server.request("PUT", path, content[begin:end], Content_Range=content_range)[0] == 202
    status, headers, _ = server.request("PUT", path, content[:100], Content_Range=f"bytes 0-99/{len(content)}")
    assert status == 409 and headers["Upload-Offset"] == str(second)
    server.kill()
    server.start()
    headers = server.request("HEAD", path)[1]
    assert (headers["Upload-Offset"], headers["Upload-Length"]) == (str(second), str(len(content)))
    x = inputs_of("first", 1)
    assert_equal(client.infer(*x), clear(models, "first", x))
    assert client.transfer["key_bytes"] == len(content) - second
    server.kill()


def certificate(folder, subject="IP:127.0.0.1"):
    files = ("-keyout", folder / "key.pem", "-out", folder / "certificate.pem")
    options = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test")
    arguments = ["openssl", "req", "-x509", *options, *files, "-addext", f"subjectAltName={subject}"]
    subprocess.run([str(part) for part in arguments], check=True, capture_output=True)
    (folder / "key.pem").chmod(0o600)
    return ("--certificate", str(folder / "certificate.pem"), "--private-key", str(folder / "key.pem"))


def test_tls_with_a_checked_certificate(models, keys, tmp_path):
    server = RunningServer(models / "served", tmp_path / "registry", *certificate(tmp_path))
    assert server.url.startswith("https://127.0.0.1:")
    x = inputs_of("second", 1)
    expected = clear(models, "second", x)
    authority = tmp_path / "certificate.pem"
    client = torusml.Client(server.url, model="second", ca_file=authority, **keys["alice"])
    assert_equal(client.predict(*x), expected)
    assert_equal(client.infer(*x), expected)
    with pytest.raises(errors.ServerRefused, match="certificate is not accepted"):
        torusml.Client(server.url, model="second", **keys["alice"])
    with pytest.raises(errors.ServerRefused, match="certificate is not accepted"):
        torusml.Client(server.url.replace("127.0.0.1", "localhost"), model="second", ca_file=authority)
    server.kill()


def test_every_path_is_as_described(server, keys, models):
    status, _, body = server.request("GET", "/v2/openapi.json")
    assert status == 200
    assert json.loads(body) == json.loads((REPOSITORY / "src" / "server" / "openapi.json").read_bytes())
    api = OpenApi(json.loads(body))
    api.check_references()
    token = server.tokens["alice"]
    client = client_of(server, keys, "alice", "second")
    client.upload()
    key, content = client.key_id, keys["alice"]["evaluation"].read_bytes()
    half = torusml.Client(models / "served" / "second.tmc", keys["alice"]["keys"])
    encrypted = half.encrypt(*inputs_of("second", 1)).serialize()

    def call(method, path, body=None, token=token, path_values=(), expect=None, **headers):
        url = path
        for name, value in path_values:
            url = url.replace("{" + name + "}", value)
        status, found, content = server.request(method, url, body, token, **headers)
        api.check(method, path, status, found, content)
        assert expect is None or status == expect, (method, url, status, content[:300])
        return status, found, content

    def results(found, content):
        length = int(found["Inference-Header-Content-Length"])
        header = json.loads(content[:length])
        api.check_value({"$ref": "#/components/schemas/InferenceResponse"}, header, "results")
        y = half.decrypt(torusml.EncryptedOutputs.deserialize(content[length:]))
        np.testing.assert_array_equal(y, clear(models, "second", inputs_of("second", 1)))

    for path in ("/v2/health/live", "/v2/health/ready", "/v2", "/v2/openapi.json", "/metrics", "/v2/models", "/v2/keys"):
        call("GET", path, token=None if "health" in path else token, expect=200)
    for path in ("/v2/models", "/v2/keys"):
        call("GET", path, token=None, expect=401)
    for prefix in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        here = (("model", "second"), ("version", client.metadata["versions"][-1]))
        nowhere = (("model", "none"), ("version", "1"))
        for suffix in ("", "/ready", "/client"):
            call("GET", prefix + suffix, path_values=here, expect=200)
            call("GET", prefix + suffix, path_values=nowhere, expect=404)
            call("GET", prefix + suffix, path_values=here, token=None, expect=401)
        body, length = inference_of(key, encrypted)
        header = json.loads(body[: int(length["Inference_Header_Content_Length"])])
        api.check_value({"$ref": "#/components/schemas/InferenceRequest"}, header, "request")
        infer = prefix + "/infer"
        _, found, content_ = call("POST", infer, body, path_values=here, expect=200, **length)
        results(found, content_)
        call("POST", infer, body, path_values=nowhere, expect=404, **length)
        call("POST", infer, body, path_values=here, expect=400)
        wrong, wrong_length = inference_of(key, encrypted, samples=50)
        call("POST", infer, wrong, path_values=here, expect=422, **wrong_length)
        wrong, wrong_length = inference_of("0" * 64, encrypted)
        call("POST", infer, wrong, path_values=here, expect=404, **wrong_length)
        wrong, wrong_length = inference_of(key, encrypted, samples=10**6)
        call("POST", infer, wrong, path_values=here, expect=413, **wrong_length)
        sync = {"Prefer": "respond-async", "Idempotency_Key": f"described-{len(prefix)}"}
        _, found, _ = call("POST", infer, body, path_values=here, expect=202, **length, **sync)
        assert call("POST", infer, body, path_values=here, expect=202, **length, **sync)[1]["Location"] == found["Location"]
        job = (("id", found["Location"].removeprefix("/v2/jobs/")),)
        deadline = time.monotonic() + 30
        while json.loads(call("GET", "/v2/jobs/{id}", path_values=job, expect=200)[2])["state"] in ("queued", "running"):
            call("GET", "/v2/jobs/{id}/result", path_values=job)  # 409, until it is done
            assert time.monotonic() < deadline
        _, found, content_ = call("GET", "/v2/jobs/{id}/result", path_values=job, expect=200)
        results(found, content_)
        call("DELETE", "/v2/jobs/{id}", path_values=job, expect=204)
        for method, path in (("GET", "/v2/jobs/{id}"), ("GET", "/v2/jobs/{id}/result"), ("DELETE", "/v2/jobs/{id}")):
            call(method, path, path_values=job, expect=404)
            call(method, path, path_values=job, token=None, expect=401)
    path, values = "/v2/keys/{id}", (("id", key),)
    call("HEAD", path, path_values=values, expect=200)
    call("PUT", path, content, path_values=values, expect=200)
    call("DELETE", path, path_values=values, expect=204)
    for method, status in (("DELETE", 404), ("HEAD", 404)):
        call(method, path, path_values=values, expect=status)
        call(method, path, path_values=values, token=None, expect=401)
    part, size = len(content) // 2, len(content)
    _, found, _ = call(
        "PUT", path, content[:part], path_values=values, expect=202, Content_Range=f"bytes 0-{part - 1}/{size}"
    )
    assert found["Upload-Offset"] == str(part)
    call("PUT", path, b"ab", path_values=values, expect=409, Content_Range=f"bytes 5-6/{size}")
    call("PUT", path, b"ab", path_values=values, expect=416, Content_Range="bytes 5-9/4")
    last = f"bytes {part}-{size - 1}/{size}"
    call("PUT", path, content[part:], path_values=values, expect=201, Content_Range=last)
    call("PUT", path, b"not it", path_values=(("id", "0" * 64),), expect=422)
    call("PUT", path, b"x", path_values=(("id", "no-hash"),), expect=400)
    call("PUT", path, b"x", path_values=values, token=None, expect=401)
    used = {(method, path) for method, path, _ in api.used}
    assert used == set(api.operations())


@pytest.fixture(scope="module")
def cpp_client(tmp_path_factory):
    """The C++ example, built against the installed client library."""
    folder = tmp_path_factory.mktemp("cpp")
    build = os.environ.get("TORUSML_BUILD", REPOSITORY / "build" / "release")
    for arguments in (
        ("cmake", "--install", build, "--prefix", folder / "prefix", "--component", "torusml"),
        (
            "cmake",
            "-S",
            REPOSITORY / "examples" / "server" / "cpp",
            "-B",
            folder / "build",
            f"-DCMAKE_PREFIX_PATH={folder}/prefix",
        ),
        ("cmake", "--build", folder / "build"),
    ):
        done = subprocess.run([str(part) for part in arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "remote_prediction"


def test_a_cpp_program_predicts(models, server, keys, cpp_client, tmp_path):
    environment = {**os.environ, "TORUSML_TOKEN": server.tokens["alice"]}
    arguments = [str(cpp_client), server.url, "first", str(tmp_path / "client.key"), "0.5", "-0.25", "0.125"]
    expected = clear(models, "first", (np.array([[0.5, -0.25, 0.125]]),))[0]
    for _ in range(2):
        done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose([float(word) for word in done.stdout.split()], expected, rtol=1e-5)
    environment["TORUSML_TOKEN"] = "tml_0_0"
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 1 and "TML-E033" in done.stderr


def test_the_client_library_has_only_the_clients_half(cpp_client):
    """Neither importer, compiler and server nor protobuf, by the libraries it needs and by its own symbols."""
    library = next((cpp_client.parents[1] / "prefix").rglob("libtorusml_client.so"))
    needed = subprocess.run(["readelf", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    assert "libssl" in needed and "libcrypto" in needed
    for name in ("protobuf", "libtorusml.so", "python", "sqlite"):
        assert name not in needed
    symbols = subprocess.run(["nm", "-C", str(library)], check=True, capture_output=True, text=True).stdout
    assert "torusml::RemoteModel::predict" in symbols and "torusml::make_evaluation_keys" in symbols
    for name in (
        "import_onnx", "compile_model", "quantize_network", "ServerModel", "run_encrypted", "bootstrap_batch",
        "Registry", "HttpServer", "protobuf", "protozero",
    ):  # fmt: skip
        assert f"torusml::{name}" not in symbols and f"{name}::" not in symbols, name
    whole = next((cpp_client.parents[1] / "prefix").rglob("libtorusml.so"))
    assert library.stat().st_size < whole.stat().st_size
