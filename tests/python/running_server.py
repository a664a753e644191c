"""A `torusml serve` in a process of its own, for tests and benchmarks."""

from __future__ import annotations

import atexit
import http.client
import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = os.environ.get("TORUSML_COMMAND", str(REPOSITORY / "build" / "release" / "torusml"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RunningServer:
    """models, data: folders. options: of the command. port 0: any, the same again after a restart."""

    def __init__(self, models: Path, data: Path, *options: str, port: int = 0):
        self.models, self.data, self.options = models, data, options
        self.port = port or free_port()
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        command = [COMMAND, "serve", "--model", self.models, "--data", self.data]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        atexit.register(self.process.kill)  # of a test that failed before it stopped it
        threading.Thread(target=self._read_log, args=(self.process.stderr,), daemon=True).start()
        line = self.process.stdout.readline()
        found = re.search(r"listening on (\S+?),?\s", line + "\n")
        if not found:
            self.process.wait(10)
            raise AssertionError(f"the server does not start: {line} {self.log}")
        self.url = found.group(1)

    def _read_log(self, stream) -> None:
        self.log.extend(stream)

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """At once, as by a power failure of the process."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def add_token(self, tenant: str, *options: str) -> str:
        command = [COMMAND, "token", "add", "--data", str(self.data), "--tenant", tenant, *options]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def request(self, method: str, path: str, body: bytes | None = None, token: str | None = None, **headers: str):
        """(status, headers, body); header_names with '_' in place of '-'."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """Of its text format, with labels: 'torusml_requests_total{...}'; 0 for one that is not there."""
        text = self.request("GET", "/metrics")[2].decode()
        found = re.search("^" + re.escape(name) + r" (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")
