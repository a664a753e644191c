"""contrib/ray on a local cluster of two nodes that the tests start: ./dev test --all installs Ray and runs them."""

import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from running_server import REPOSITORY, free_port
from small_networks import floats, mlp

import torusml
from torusml import errors

ray = pytest.importorskip("ray", reason="Ray is not installed: ./dev test --all does it")
sys.path.insert(0, str(REPOSITORY / "contrib" / "ray"))

from ray._private import state  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from torusml_ray import RayServer, worker  # noqa: E402
from torusml_ray.spread import _stored as stored_of  # noqa: E402
from torusml_ray.spread import parts_of  # noqa: E402

pytestmark = pytest.mark.long

SAMPLES = 16
LARGE = 10_000  # samples that take longer than a test
MEMORY = 150 << 20  # of a node's object store
KEY_BYTES = 80 << 20  # of all keys behind Ray Serve


@ray.remote(num_cpus=0)
class Log:
    """What workers did, and what they are to do."""

    def __init__(self):
        self.calls, self.kill = [], False

    def add(self, call: dict) -> bool:
        """Whether the worker is to die now."""
        self.calls.append(call)
        kill, self.kill = self.kill, False
        return kill

    def kill_next(self):
        self.kill = True

    def all(self) -> list:
        return self.calls


def logged_run(log, pause, *arguments):
    """worker.run_samples, which tells the log about itself."""
    keys = arguments[2]
    address = keys.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        regions = [line.split(None, 5) for line in maps]
    (place,) = [r for r in regions if int(r[0].split("-")[0], 16) <= address < int(r[0].split("-")[1], 16)]
    call = {
        "node": ray.get_runtime_context().get_node_id(),
        "first": arguments[4],
        "read_only": not keys.flags.writeable and not keys.flags.owndata,
        "shared": place[1].endswith("s"),
    }
    if ray.get(log.add.remote(call)):
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(pause)
    return worker.run_samples(*arguments)


class LoggedServer(RayServer):
    """Its tasks take `pause` seconds longer, so that both workers get some."""

    def __init__(self, *arguments, pause=0.2, **options):
        super().__init__(*arguments, **options)
        own = ray.get_runtime_context().get_node_id()  # which no test takes away
        self.log = Log.options(scheduling_strategy=NodeAffinitySchedulingStrategy(own, soft=False)).remote()
        remote = ray.remote(logged_run).options(
            num_cpus=1, max_retries=options.get("max_retries", 3), scheduling_strategy="SPREAD"
        )
        log = self.log

        class Task:
            @staticmethod
            def remote(*arguments):
                return remote.remote(log, pause, *arguments)

        self._task = Task

    def calls(self):
        return ray.get(self.log.all.remote())


@pytest.fixture(scope="module")
def cluster():
    paths = [str(REPOSITORY / "contrib" / "ray"), str(REPOSITORY / "tests" / "python")]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_worker_niceness"] = "0"  # not behind everything else that runs here
    os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"  # where other work slows the start
    running = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False, "object_store_memory": MEMORY},
    )
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test raises it, whoever started this process
    running.workers = [running.add_node(num_cpus=1, object_store_memory=MEMORY) for _ in range(2)]
    running.wait_for_nodes()
    ray.init(address=running.address, log_to_driver=False)
    yield running
    ray.shutdown()
    running.shutdown()
    signal.signal(signal.SIGINT, handler)


def compiled(seed):
    network = mlp((3, 4, 2), seed=seed)
    return torusml.compile(network, floats(200, 3, 3), bits=3, precision="exact", max_key_sets=1).fhe_circuit


@pytest.fixture(scope="module")
def model():
    return compiled(1)


@pytest.fixture(scope="module")
def x():
    return floats(SAMPLES, 3, 9)


@pytest.fixture(scope="module")
def sent(client, x):
    return client.encrypt(x)


@pytest.fixture(scope="module")
def expected(model, client, sent, x):
    """The file of results of one process, which decrypts to what the model computes in the clear."""
    results = torusml.Server(model, client.evaluation_keys).run(sent)
    np.testing.assert_array_equal(client.decrypt(results, raw=True), model.run_clear(client.quantize(x)))
    return results.serialize()


def test_parts_cover_a_batch():
    assert parts_of(5, 2) == [range(0, 2), range(2, 4), range(4, 5)]
    assert parts_of(2, 7) == [range(0, 2)]
    assert parts_of(0, 4) == [range(0)]


def test_a_batch_is_spread_over_both_nodes_and_gives_the_same_bits(cluster, model, client, sent, expected):
    server = LoggedServer(model, client.evaluation_keys, samples_per_task=2)
    assert server.run(sent).serialize() == expected
    calls = server.calls()
    assert sorted(call["first"] for call in calls) == list(range(0, SAMPLES, 2))
    assert len({call["node"] for call in calls}) == 2


def test_workers_read_the_keys_in_the_object_store(cluster, model, client, sent):
    server = LoggedServer(model, client.evaluation_keys, samples_per_task=8)
    server.run(sent)
    for call in server.calls():
        assert call["read_only"] and call["shared"]


def test_workers_share_prepared_keys_in_a_folder(cluster, model, client, sent, expected, tmp_path):
    folder = tmp_path / "prepared"
    server = RayServer(model, client.evaluation_keys, prepared_keys=folder, samples_per_task=8)
    assert server.run(sent).serialize() == expected
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert files
    assert torusml.Server(model, client.evaluation_keys, prepared_keys=folder).keys_are_mapped
    assert {path: path.stat().st_mtime_ns for path in files} == files  # it found them


def test_tasks_of_a_worker_that_is_killed_are_done_by_another(cluster, model, client, sent, expected):
    server = LoggedServer(model, client.evaluation_keys, samples_per_task=2)
    ray.get(server.log.kill_next.remote())
    assert server.run(sent).serialize() == expected
    firsts = [call["first"] for call in server.calls()]
    assert len(firsts) == SAMPLES // 2 + 1 and len(set(firsts)) == SAMPLES // 2


def test_a_worker_that_is_killed_is_an_error_without_retries(cluster, model, client, sent):
    server = LoggedServer(model, client.evaluation_keys, samples_per_task=SAMPLES, max_retries=0)
    ray.get(server.log.kill_next.remote())
    with pytest.raises(errors.ServerRefused, match="a worker was lost, and its task was begun anew 0 times"):
        server.run(sent)


def test_errors_arrive_as_they_were_and_are_not_tried_again(cluster, model, client, sent):
    other = torusml.Client(model)
    other.keygen()
    server = LoggedServer(model, other.evaluation_keys, samples_per_task=SAMPLES)
    with pytest.raises(errors.WrongKey, match="is under key") as caught:
        server.run(sent)
    assert caught.value.code == "TML-E020 wrong-key"
    assert len(server.calls()) == 1
    with pytest.raises(errors.WrongModel, match="belongs to model"):
        RayServer(compiled(2), client.evaluation_keys).run(sent)
    keys = client.evaluation_keys.serialize()
    with pytest.raises(errors.FileTruncated):
        RayServer(model, keys[: len(keys) // 2]).run(sent)
    with pytest.raises(errors.MemoryLimitExceeded):
        RayServer(model, keys, memory_limit_bytes=1 << 20).run(sent)
    with pytest.raises(errors.InvalidArgument, match="threads is 0"):
        RayServer(model, keys, threads=0)
    with pytest.raises(errors.InvalidArgument, match="max_retries -1"):
        RayServer(model, keys, max_retries=-1)
    with pytest.raises(errors.WrongDtype):
        RayServer(model, 7)


def test_an_error_ends_the_other_tasks(cluster, model, client, sent):
    other = torusml.Client(model)
    other.keygen()
    server = LoggedServer(model, other.evaluation_keys, samples_per_task=1, pause=0.5)
    with pytest.raises(errors.WrongKey):
        server.run(sent)
    begun = len(server.calls())
    assert begun < SAMPLES
    time.sleep(5)
    assert len(server.calls()) <= begun + 2  # those that were on their way


def test_ctrl_c_ends_the_tasks_and_the_workers_are_free(cluster, model, client, sent, expected):
    large = client.encrypt(floats(4 * LARGE, 3))
    server = LoggedServer(model, client.evaluation_keys, samples_per_task=2 * LARGE, pause=0)

    def interrupt():
        while len(server.calls()) < 2:
            time.sleep(0.1)
        time.sleep(2)
        signal.raise_signal(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        server.run(large)
    start = time.monotonic()
    assert RayServer(model, client.evaluation_keys).run(sent).serialize() == expected
    assert time.monotonic() - start < 60  # the large ones take some minutes


def test_more_than_a_nodes_object_store_is_kept_in_a_file_with_a_warning(cluster):
    content = os.urandom(MEMORY + (10 << 20))
    with pytest.warns(RuntimeWarning, match="more than the object store of a node"):
        stored = stored_of(content, "the batch")
    assert ray.get(ray.remote(worker.id_of).remote(stored)) == hashlib.sha256(content).hexdigest()


def test_tasks_that_no_node_has_room_for_are_warned_of(cluster, model, client):
    server = RayServer(model, client.evaluation_keys, threads=64)
    with pytest.warns(RuntimeWarning, match="tasks of 64 threads wait: no node of the cluster has more than 1 CPUs"):
        server._warn_without_room()


def test_a_batch_survives_the_loss_of_a_node(cluster, model, client, sent, expected):
    server = LoggedServer(model, client.evaluation_keys, samples_per_task=1)
    own = ray.get_runtime_context().get_node_id()  # of the driver, which it needs
    lost = next(node for node in cluster.workers if node.node_id != own)
    cluster.workers.remove(lost)

    def lose_it():
        while len(server.calls()) < 4:
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)

    thread = threading.Thread(target=lose_it)
    thread.start()
    try:
        assert server.run(sent).serialize() == expected
    finally:
        thread.join()
        cluster.workers.append(cluster.add_node(num_cpus=1, object_store_memory=MEMORY))
        cluster.wait_for_nodes()
    nodes = [call["node"] for call in server.calls()]
    assert len(set(nodes)) == 2 and nodes[-1] != lost.node_id


class Http:
    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def __call__(self, method, path, body=None, **headers):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, sent, method=method)
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, answer.read()

    def infer(self, key, encrypted, samples=1, **headers):
        head, body = self._inference(key, encrypted, samples)
        return self("POST", "/v2/models/net/infer", body, Inference_Header_Content_Length=str(head), **headers)

    def send_inference(self, connection, key, encrypted, samples):
        """Without waiting for the answer."""
        head, body = self._inference(key, encrypted, samples)
        lines = [
            "POST /v2/models/net/infer HTTP/1.1",
            "Host: 127.0.0.1",
            f"Inference-Header-Content-Length: {head}",
            f"Content-Length: {len(body)}",
        ]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    def _inference(self, key, encrypted, samples):
        tensor = {"name": "encrypted_inputs", "datatype": "UINT8", "shape": [len(encrypted)]}
        tensor["parameters"] = {"binary_data_size": len(encrypted)}
        request = {"id": "7", "parameters": {"key": key, "samples": samples}, "inputs": [tensor]}
        head = json.dumps(request).encode()
        return len(head), head + encrypted


@pytest.fixture(scope="module")
def http(cluster, model):
    from ray import serve

    from torusml_ray.deployment import application

    port = free_port()
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    limits = {"queue": 4, "max_samples": LARGE, "max_body": 1 << 20}
    limits |= {"max_key": KEY_BYTES, "body_bytes": KEY_BYTES, "key_bytes": KEY_BYTES}
    serve.run(application(model, model, name="net", replicas=2, **limits), name="net", route_prefix="/")
    yield Http(port)
    serve.shutdown()


@pytest.fixture
def key(http, client):
    """Of evaluation keys that are uploaded."""
    keys = client.evaluation_keys.serialize()
    found = hashlib.sha256(keys).hexdigest()
    assert http("PUT", f"/v2/keys/{found}", keys)[0] in (200, 201)
    return found


def runners():
    """Process ids of what computes behind Ray Serve."""
    actors = state.actors().values()
    return [a["Pid"] for a in actors if a["ActorClassName"] == "ServeReplica:net:Runner" and a["State"] == "ALIVE"]


def cpu_seconds(pids):
    fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in fields) / os.sysconf("SC_CLK_TCK")


def is_computing(pids):
    """For at least a tenth of a core, over a second."""
    before = cpu_seconds(pids)
    time.sleep(1)
    return cpu_seconds(pids) - before > 0.1


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.1)


def test_a_client_of_the_server_predicts_over_ray_serve(http, model, client, x):
    remote = torusml.Client(http.url, model="net")
    expected = model.run_clear(client.quantize(x))
    results = [None] * 4

    def work(i):
        results[i] = remote.infer(x, raw=True)

    work(0)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        np.testing.assert_array_equal(result, expected)
    assert remote.delete_keys()
    np.testing.assert_array_equal(remote.infer(x, raw=True), expected)  # uploaded again


def test_ray_serve_refuses_as_the_server_does(http, model, client, sent):
    keys = client.evaluation_keys.serialize()
    key = hashlib.sha256(keys).hexdigest()

    def refused(answer, status, code):
        assert answer[0] == status, answer[2]
        body = json.loads(answer[2])
        assert body["code"].startswith(code) and body["error"].startswith(body["code"]), body
        assert body["request_id"] == answer[1]["X-Request-Id"]
        assert set(body) == {"error", "code", "message", "where", "hint", "request_id"}

    assert http("GET", "/v2/health/ready")[0] == 200
    content = sent.serialize()
    refused(http.infer(key, content, SAMPLES), 404, "TML-E034")
    refused(http("GET", "/v2/models/other/client"), 404, "TML-E034")
    refused(http("GET", "/v2/nothing"), 404, "TML-E034")
    refused(http("PUT", f"/v2/keys/{key}", keys[:1000]), 422, "TML-E039")
    refused(http("PUT", f"/v2/keys/{key}", keys[5:10], Content_Range=f"bytes 5-9/{len(keys)}"), 409, "TML-E039")
    status, headers, _ = http("PUT", f"/v2/keys/{key}", keys[:10], Content_Range=f"bytes 0-9/{len(keys)}")
    assert (status, headers["Upload-Offset"]) == (202, "10")
    assert http("HEAD", f"/v2/keys/{key}")[1]["Upload-Offset"] == "10"
    rest = f"bytes 10-{len(keys) - 1}/{len(keys)}"
    assert http("PUT", f"/v2/keys/{key}", keys[10:], Content_Range=rest)[0] == 201
    status, headers, body = http.infer(key, content, SAMPLES)
    assert status == 200 and json.loads(body[: int(headers["Inference-Header-Content-Length"])])["id"] == "7"
    refused(http.infer(key, content, SAMPLES + 1), 422, "TML-E002")
    refused(http.infer(key, content[:-1], SAMPLES), 422, "TML-E011")
    refused(http.infer(key, content, LARGE + 1), 413, "TML-E039")
    stranger = torusml.Client(compiled(2))
    stranger.keygen()
    refused(http.infer(key, stranger.encrypt(floats(1, 3)).serialize()), 422, "TML-E021")
    refused(http.infer(key, bytes(1 << 20)), 413, "TML-E039")
    refused(http.infer(key, content, SAMPLES, Prefer="respond-async"), 501, "TML-E022")
    refused(http("POST", "/v2/models/net/infer", b"{}", Inference_Header_Content_Length="2"), 400, "TML-E039")


def test_a_request_whose_client_goes_away_stops_computing(http, key, client):
    wait_until(lambda: not is_computing(runners()))
    content = client.encrypt(floats(LARGE, 3)).serialize()
    with socket.create_connection(("127.0.0.1", http.port)) as connection:
        http.send_inference(connection, key, content, LARGE)
        wait_until(lambda: is_computing(runners()))
    wait_until(lambda: not is_computing(runners()))
    assert http.infer(key, client.encrypt(floats(1, 3)).serialize())[0] == 200


def test_a_full_queue_is_told_and_the_rest_is_answered(http, key, client):
    content = client.encrypt(floats(40, 3)).serialize()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(http.infer(key, content, 40))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 429} and len(statuses) == 16 and statuses.count(200) >= 2
    for status, headers, body in answers:
        if status == 429:
            assert json.loads(body)["code"] == "TML-E036 server-busy" and headers["Retry-After"] == "2"


def test_requests_of_a_process_that_is_killed_are_computed_by_another(http, key, client, x, sent, model):
    large = floats(200, 3)
    before = runners()
    answers = []
    content = client.encrypt(large).serialize()
    thread = threading.Thread(target=lambda: answers.append(http.infer(key, content, len(large))))
    thread.start()
    wait_until(lambda: is_computing(before))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    thread.join()
    ((status, headers, body),) = answers
    assert status == 200, body
    results = torusml.EncryptedOutputs.deserialize(body[int(headers["Inference-Header-Content-Length"]) :])
    np.testing.assert_array_equal(client.decrypt(results, raw=True), model.run_clear(client.quantize(large)))
    assert not set(runners()) & set(before)


def test_an_upload_that_begins_anew_is_the_last_to_make_room():
    from torusml_ray.deployment import _KeyShelf

    shelf = _KeyShelf(most_bytes=100, most_uploads=2)
    for name in ("first", "second", "first", "third"):
        assert shelf.add_part(name, bytes(10), 0, 50) is None
        assert shelf.state(name) == (10, 50)
    assert shelf.state("first") == (10, 50) and shelf.state("second") is None


def test_keys_make_room_for_others(http, key, client):
    size = len(client.evaluation_keys.serialize())
    assert 2 * size < KEY_BYTES < 3 * size, size
    other = torusml.Client(compiled(2))
    for _ in range(2):
        other.keygen(force=True)
        keys = other.evaluation_keys.serialize()
        name = hashlib.sha256(keys).hexdigest()
        assert http("PUT", f"/v2/keys/{name}", keys)[0] == 201
    assert http("HEAD", f"/v2/keys/{key}")[0] == 404
    assert http("HEAD", f"/v2/keys/{name}")[0] == 200


def test_bodies_beyond_the_room_for_them_are_to_come_again(http, key):
    with socket.create_connection(("127.0.0.1", http.port)) as connection:
        line = f"PUT /v2/keys/{'0' * 64} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {KEY_BYTES - 10}\r\n\r\n"
        connection.sendall(line.encode() + b"beginning")
        wait_until(lambda: http("PUT", f"/v2/keys/{key}", bytes(100))[0] == 503)
        _, headers, body = http("PUT", f"/v2/keys/{key}", bytes(100))
        assert json.loads(body)["code"] == "TML-E036 server-busy" and headers["Retry-After"] == "2"
    wait_until(lambda: http("PUT", f"/v2/keys/{key}", bytes(100))[0] == 200)  # it is there


def test_halves_of_two_models_are_no_application(cluster, model):
    from torusml_ray.deployment import application

    with pytest.raises(errors.WrongModel, match="the client's half is of model"):
        application(model, compiled(2), name="net")
    with pytest.raises(errors.InvalidArgument, match="threads is 0"):
        application(model, model, name="net", threads=0)
    with pytest.raises(errors.InvalidArgument, match="max_key 5000000000"):
        application(model, model, name="net", max_key=5_000_000_000)
