"""After a full run, no bit of a secret key and no plaintext is in the server's memory, its log or its data folder."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from command_line import torusml as command
from format_reader import File, big_key
from running_server import RunningServer
from secret_traces import files_in, forms_of_key, forms_of_values, found_in, memory_of
from small_networks import floats, mlp

SAMPLES, SEED = 8, 11
CLIENT = """
import sys
import numpy as np
import torusml
url, token, keys, seed, samples = *sys.argv[1:4], *map(int, sys.argv[4:])
x = np.random.default_rng(seed).uniform(-1, 1, (samples, 3)).astype(np.float32)
client = torusml.Client(url, model="net", token=token, keys=keys)
y = client.predict(x)
assert np.array_equal(client.infer(x), y)
job = client.submit(x)
assert np.array_equal(job.result(), y)
print(len(y), flush=True)
sys.stdin.readline()  # holds all of it until then
"""


def skip_unless_readable(pid):
    try:
        next(memory_of(pid), None)
    except PermissionError as error:
        pytest.skip(
            f"the kernel does not let a process read its child's memory (/proc/sys/kernel/yama/ptrace_scope): {error}"
        )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A server and a client that have done everything and still live, and the secrets that they had to do with."""
    folder = tmp_path_factory.mktemp("traces")
    (folder / "served").mkdir()
    onnx.save(mlp((3, 4, 2), seed=1), folder / "net.onnx")
    np.save(folder / "x.npy", floats(200, 3, 3))
    options = ("--calibration", "x=x.npy", "--bits", 3, "--precision", "exact", "--max-key-sets", 1)
    command("compile", "net.onnx", *options, "-o", "net.tml", folder=folder)
    halves = ("--client", folder / "served" / "net.tmc", "--server", folder / "served" / "net.tms")
    command("export", "net.tml", *halves, folder=folder)
    server = RunningServer(folder / "served", folder / "data", "--finished-job", "86400")
    token = server.add_token("alice")
    arguments = [sys.executable, "-c", CLIENT, server.url, token, folder / "client.key", SEED, SAMPLES]
    with subprocess.Popen(
        [str(part) for part in arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout.readline() == f"{SAMPLES}\n"
        skip_unless_readable(server.pid)
        yield server, client, folder, token
        client.communicate("\n")
    if server.process.poll() is None:
        server.stop()


@pytest.fixture(scope="module")
def key(run):
    return forms_of_key(big_key(File(run[2] / "client.key")))


@pytest.fixture(scope="module")
def plaintexts(run):
    import torusml

    _, _, folder, _ = run
    x = floats(SAMPLES, 3, SEED)
    client = torusml.Client(folder / "net.tml")
    integers = client.quantize(x)
    y = torusml.load(folder / "net.tml").run_clear(integers)
    return {
        **forms_of_values("inputs", x, 4),
        **forms_of_values("inputs as doubles", x.astype(np.float64), 4),
        **forms_of_values("quantized inputs", integers, 24),
        **forms_of_values("results", y, 16),
        **forms_of_values("results as floats", client.dequantize(y), 16),
    }


def test_the_scanner_finds_the_key_where_it_is_held(run, key, plaintexts):
    _, client, folder, _ = run
    found = found_in(key | plaintexts, memory_of(client.pid))
    assert {"key words of 64 bits", "inputs", "results as floats"} <= found
    assert found_in(key, files_in(folder)) == {"packed key"}


def test_the_scanner_finds_what_a_server_has(run):
    server, _, folder, _ = run
    evaluation = (folder / "client.key.eval").read_bytes()
    known = {"evaluation keys at 0": evaluation[len(evaluation) // 2 :][:64]}
    assert found_in(known, files_in(folder / "data")) == {"evaluation keys"}
    assert found_in({"tenant at 0": b"alice", "model at 0": b"net.tms"}, memory_of(server.pid)) == {"tenant", "model"}


def test_the_servers_memory_has_no_secret(run, key, plaintexts):
    assert found_in(key | plaintexts, memory_of(run[0].pid)) == set()


def test_the_servers_data_and_log_have_no_secret(run, key, plaintexts):
    server, _, folder, token = run
    secrets = key | plaintexts | {"token at 0": token.split("_", 2)[2].encode()}
    assert found_in(secrets, files_in(folder / "data")) == set()
    assert server.stop() == 0
    assert found_in(secrets, files_in(folder / "data")) == set()
    log = "".join(server.log)
    assert '"event":"request"' in log
    assert found_in(secrets, iter([log.encode()])) == set()
