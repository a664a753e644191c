"""Load of a server on this machine's loopback.

    ./dev bench server                                  # 30 seconds, 16 clients
    ./dev bench server --clients 50 --seconds 120

Three parts, each on a fresh `torusml serve`: what of a one-sample request of the checkerboard network passes outside the
run on ciphertexts, by the server's stage timers; the upload of evaluation keys beside a plain copy of as many bytes over
a loopback socket to a synced file; and clients that send one sample after the other to a small exact network, with every
result compared. Exit status 1 where a result is wrong or a request failed.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "python"))

from running_server import COMMAND, RunningServer  # noqa: E402
from small_networks import floats, mlp  # noqa: E402

import torusml  # noqa: E402

STAGES = ("read", "decode", "queue", "keys", "run", "encode", "write")
INFER = 'route="POST /v2/models/{m}/infer"'


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tenants", type=int, default=2, help="each with keys of its own, shared by its clients")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--requests", type=int, default=10, help="of the checkerboard, one after the other")
    parser.add_argument("--queue", type=int, default=64, help="of the server; fewer than clients shows refusals")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def command(*parts: object) -> None:
    subprocess.run([COMMAND, *map(str, parts)], check=True, stdout=subprocess.DEVNULL)


def make_models(folder: Path) -> Path:
    import onnx

    served = folder / "served"
    served.mkdir()
    checkerboard = ROOT / "tests" / "models" / "checkerboard_qat_seed0"
    data = np.load(checkerboard.with_suffix(".npz"))
    np.save(folder / "points.npy", data["calibration"].astype(np.float32))
    np.save(folder / "x.npy", floats(200, 3))
    onnx.save(mlp((3, 4, 2), seed=1), folder / "small.onnx")
    sources = {
        "checkerboard": (checkerboard.with_suffix(".onnx"), "--qat", "--calibration", folder / "points.npy"),
        "small": (folder / "small.onnx", "--bits", 3, "--precision", "exact", "--calibration", folder / "x.npy"),
    }
    for name, source in sources.items():
        command("compile", *source, "-o", folder / f"{name}.tml")
        halves = ("--client", served / f"{name}.tmc", "--server", served / f"{name}.tms")
        command("export", folder / f"{name}.tml", *halves)
    return served


def stage_seconds(server: RunningServer) -> dict[str, float]:
    return {stage: server.metric(f'torusml_stage_seconds_sum{{stage="{stage}"}}') for stage in STAGES}


def outside_of_runs(server: RunningServer, requests: int) -> dict[str, object]:
    """Of requests one after the other, the first one, which prepares keys, left out."""
    client = torusml.Client(server.url, model="checkerboard")
    x = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 2)).astype(np.float32)
    client.infer(x)

    def total() -> float:
        return server.metric(f"torusml_request_seconds_sum{{{INFER}}}")

    stages, whole, seconds = stage_seconds(server), total(), []
    for _ in range(requests):
        start = time.perf_counter()
        client.infer(x)
        seconds.append(time.perf_counter() - start)
    after = stage_seconds(server)
    spent = {stage: (after[stage] - stages[stage]) / requests for stage in STAGES}
    served = (total() - whole) / requests
    client.delete_keys()
    return {
        "request_ms": 1e3 * served,
        "client_ms": 1e3 * float(np.median(seconds)),
        "stages_ms": {stage: 1e3 * value for stage, value in spent.items()},
        "outside_share": 1 - spent["run"] / served,
        "client_outside_share": 1 - spent["run"] / float(np.mean(seconds)),
    }


def plain_copy(size: int, folder: Path) -> float:
    """MB/s of bytes through a loopback socket to a file that is synced."""
    content = os.urandom(size)

    def receive(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        buffer = bytearray(1 << 20)
        with open(folder / "copy", "wb") as file, connection:
            while count := connection.recv_into(buffer):
                file.write(memoryview(buffer)[:count])
            file.flush()
            os.fsync(file.fileno())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=receive, args=(listener,))
        thread.start()
        start = time.perf_counter()
        with socket.create_connection(listener.getsockname()) as sender:
            sender.sendall(content)
        thread.join()
        return size / 1e6 / (time.perf_counter() - start)


def upload_rate(server: RunningServer, folder: Path) -> dict[str, float]:
    """The best of some, in turn."""
    uploads, copies, size = [], [], 0
    for _ in range(4):
        client = torusml.Client(server.url, model="checkerboard")
        client.keygen()
        start = time.perf_counter()
        client.upload()
        size = client.transfer["key_bytes"]
        uploads.append(size / 1e6 / (time.perf_counter() - start))
        client.delete_keys()
        copies.append(plain_copy(size, folder))
    return {"key_mb": size / 1e6, "upload_mb_s": max(uploads), "copy_mb_s": max(copies)}


class Load:
    def __init__(self, server: RunningServer, model: Path, options: argparse.Namespace, folder: Path):
        self.server, self.options = server, options
        self.x = floats(64, 3, seed=8)
        reference = torusml.Client(model)
        results = torusml.load(model).run_clear(reference.quantize(self.x))
        self.expected = reference.dequantize(results)
        self.seconds: list[float] = []
        self.wrong = self.failed = self.repeats = 0
        self.lock = threading.Lock()
        tokens = [server.add_token(f"tenant{tenant}") for tenant in range(options.tenants)]
        self.clients = []
        for number in range(options.clients):
            tenant = number % options.tenants
            client = torusml.Client(
                server.url, model="small", token=tokens[tenant], keys=folder / f"{tenant}.key", patience=600
            )
            client.infer(self.x[:1])
            self.clients.append(client)

    def work(self, number: int, until: float) -> None:
        client, random = self.clients[number], np.random.default_rng(number)
        while time.monotonic() < until:
            i = int(random.integers(len(self.x)))
            start = time.perf_counter()
            try:
                y = client.infer(self.x[i : i + 1])
            except torusml.Error as error:
                print(error, file=sys.stderr)
                with self.lock:
                    self.failed += 1
                continue
            with self.lock:
                self.seconds.append(time.perf_counter() - start)
                self.wrong += not np.array_equal(y, self.expected[i : i + 1])

    def run(self) -> dict[str, object]:
        before, start = self.server.resident_bytes(), time.monotonic()
        memory = []
        threads = [
            threading.Thread(target=self.work, args=(number, start + self.options.seconds))
            for number in range(self.options.clients)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            memory.append(self.server.resident_bytes())
        duration = time.monotonic() - start
        refused = self.server.metric(f'torusml_requests_total{{{INFER},status="429"}}')
        half = len(memory) // 2
        return {
            "clients": self.options.clients,
            "seconds": duration,
            "requests": len(self.seconds),
            "wrong": self.wrong,
            "failed": self.failed,
            "refused_429": int(refused),
            "per_second": len(self.seconds) / duration,
            "p50_ms": 1e3 * float(np.percentile(self.seconds, 50)),
            "p99_ms": 1e3 * float(np.percentile(self.seconds, 99)),
            "resident_mb": {
                "before": before / 1e6,
                "half": max(memory[: half + 1]) / 1e6,
                "end": memory[-1] / 1e6,
                "most": max(memory) / 1e6,
            },
            "requests_per_batch": self.server.metric("torusml_batched_requests_total")
            / max(1.0, self.server.metric("torusml_batches_total")),
        }


def shown(found: dict) -> str:
    stages, load, keys = found["stages"], found["load"], found["upload"]
    parts = ", ".join(f"{stage} {value:.2f}" for stage, value in stages["stages_ms"].items())
    memory = ", ".join(f"{name} {value:.0f}" for name, value in load["resident_mb"].items())
    return "\n".join(
        (
            f"checkerboard, one sample: {stages['request_ms']:.1f} ms at the server ({parts}); outside the run "
            f"{stages['outside_share']:.1%}; {stages['client_ms']:.1f} ms for the client with encryption and decryption",
            f"upload of {keys['key_mb']:.1f} MB of keys: {keys['upload_mb_s']:.0f} MB/s, "
            f"a plain copy {keys['copy_mb_s']:.0f} MB/s",
            f"{load['clients']} clients for {load['seconds']:.0f} s: {load['requests']} requests "
            f"({load['per_second']:.1f} a second, {load['requests_per_batch']:.1f} to a batch), {load['wrong']} wrong, "
            f"{load['failed']} failed, "
            f"{load['refused_429']} refused for a moment (429); p50 {load['p50_ms']:.0f} ms, p99 {load['p99_ms']:.0f} ms",
            f"resident MB of the server: {memory}",
        )
    )


def main() -> int:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        served = make_models(folder)
        server = RunningServer(served, folder / "first")
        found: dict = {"stages": outside_of_runs(server, options.requests), "upload": upload_rate(server, folder)}
        server.stop()
        server = RunningServer(served, folder / "second", "--queue", str(options.queue), "--tenant-rate", "0")
        found["load"] = Load(server, folder / "small.tml", options, folder).run()
        server.stop()
    print(json.dumps(found, indent=2) if options.json else shown(found))
    return 1 if found["load"]["wrong"] or found["load"]["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
