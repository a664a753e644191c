"""A client of a TorusML server: keys are made here, only ciphertexts and evaluation keys leave.

client = torusml.Client("https://fhe.example.org:8443", model="net", token=token, keys="client.key")
y = client.predict(x)                  # floats; the evaluation keys are uploaded the first time
job = client.submit(x)                 # returns at once
job.progress                           # (1200, 5200): lookups done, and all
z = job.result()
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from . import _core
from .arrays import one_or_tuple
from .client import ModelSide, Passphrase, Path, limits_of, source_of
from .errors import InvalidArgument, WrongDtype
from .progress import bar


class RemoteJob:
    """A batch that the server works on. It outlives the connection and the server's restarts."""

    def __init__(self, client: RemoteClient, ids: Iterable[str]):
        self._client = client
        self.ids = list(ids)

    @property
    def progress(self) -> tuple[int, int]:
        """Lookups done, and all of them."""
        done, total, _ = self._client._remote.progress(self.ids)
        return done, total

    @property
    def done(self) -> bool:
        """Whether result() does not wait; also of a job that failed or was cancelled."""
        return self._client._remote.progress(self.ids)[2]

    def result(self, raw: bool = False) -> Any:
        """Floats of the results, integers if raw. Waits for them; afterwards the server forgets the job."""
        with bar("lookups") as progress:
            integers = self._client._remote.result(self.ids, progress)
        return self._client._floats(integers, raw)

    def cancel(self) -> None:
        """The server stops and forgets it; nothing happens if it is not there any more."""
        self._client._remote.cancel(self.ids)


class RemoteClient(ModelSide):
    """One model of a server, and the keys of one client.

    url: https://host:port, or http. model: its name at the server; version: the server's choice without it. token: text,
    or a function that gives it; it goes over http to another machine only with allow_plain_http. ca_file: certificates
    (PEM) that https trusts, in place of the system's. model_hash: of the model that is expected; WrongModel for another.
    clear_inputs: names of inputs that may travel in the clear; a model of the server that takes others so is refused.

    keys: the path of a secret key, made at first use where there is none, with the evaluation keys beside it
    (`evaluation`, or the same name with .eval); sealed if there is a passphrase. Without it keys live in memory.

    deadline: seconds of one call; None: as long as it takes. patience: seconds for which failures that may pass are
    answered by trying again. threads: for making keys. Ctrl-C stops any call. Calls from several threads run side by side.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str,
        version: str | None = None,
        token: str | Callable[[], str] | None = None,
        keys: Path | None = None,
        evaluation: Path | None = None,
        passphrase: Passphrase | None = None,
        ca_file: Path | None = None,
        allow_plain_http: bool = False,
        model_hash: str | None = None,
        clear_inputs: Iterable[str] = (),
        deadline: float | None = None,
        patience: float = 60.0,
        connect_timeout: float = 10.0,
        idle_timeout: float = 30.0,
        max_request_bytes: int = 8 << 20,
        max_request_samples: int = 1024,
        upload_part_bytes: int = 32 << 20,
        threads: int = 0,
    ):
        self._threads, _ = limits_of(threads)
        self._keys = None if keys is None else os.fspath(keys)
        self._evaluation = "" if evaluation is None else os.fspath(evaluation)
        self._passphrase = passphrase
        if self._keys is None and (evaluation is not None or passphrase is not None):
            raise InvalidArgument("evaluation keys and a passphrase belong to a secret key", "keys", "keys=PATH")
        settings = _core.RemoteSettings()
        settings.model = _text(model, "model")
        settings.version = "" if version is None else _text(version, "version")
        settings.token = "" if token is None else _text(token() if callable(token) else token, "token")
        settings.ca_file = "" if ca_file is None else os.fspath(ca_file)
        settings.allow_plain_http = bool(allow_plain_http)
        settings.model_hash = "" if model_hash is None else _text(model_hash, "model_hash")
        settings.clear_inputs = _names(clear_inputs)
        settings.connect_timeout_s = float(connect_timeout)
        settings.idle_timeout_s = float(idle_timeout)
        settings.deadline_s = 0.0 if deadline is None else float(deadline)
        settings.patience_s = float(patience)
        settings.max_request_bytes = int(max_request_bytes)
        settings.max_request_samples = int(max_request_samples)
        settings.upload_part_bytes = int(upload_part_bytes)
        self._lock = threading.Lock()  # of making keys
        self._remote = _core.open_remote_model(_text(url, "url"), settings)
        super().__init__(self._remote.half)

    # Keys.

    def keygen(self) -> None:
        """Makes or loads the keys, which predict() does, too."""
        with self._lock, bar("evaluation keys") as progress:
            if self._remote.has_keys:
                return
            if self._keys is None:
                self._remote.generate_keys(progress, self._threads)
            else:
                passphrase = source_of(self._passphrase)
                self._remote.open_keys(self._keys, passphrase, self._evaluation, progress, self._threads)

    def upload(self) -> None:
        """Sends the evaluation keys unless the server has them, and continues where an upload stopped."""
        self.keygen()
        with bar("upload of evaluation keys") as progress:
            self._remote.upload_keys(progress)

    def delete_keys(self) -> bool:
        """The server's copy of the evaluation keys; False if it has none."""
        self.keygen()
        return self._remote.delete_keys()

    @property
    def key_id(self) -> str:
        """Of the evaluation keys at the server: the SHA-256 of their file."""
        self.keygen()
        return self._remote.key_id

    @property
    def model_hash(self) -> str:
        return self._half.model_hash

    @property
    def metadata(self) -> dict[str, Any]:
        """The model, as the server describes it."""
        return json.loads(self._remote.metadata())

    @property
    def transfer(self) -> dict[str, int]:
        """Bytes sent and received so far, those of evaluation keys among them; requests, and repeated ones."""
        return self._remote.transfer()

    # Data.

    def predict(self, *x: Any, raw: bool = False) -> Any:
        """Floats of the results (integers if raw) of one batch per input. Runs as jobs at the server: with progress,
        repeated after lost connections, for as long as it takes. Large batches travel in parts."""
        integers, _ = self._integers(x, "predict")
        self.upload()
        with bar("lookups") as progress:
            return self._floats(self._remote.predict(integers, progress), raw)

    def infer(self, *x: Any, raw: bool = False) -> Any:
        """The same by one exchange for each part, which takes the least time for small batches; without progress within
        it, and not repeated once it may have begun."""
        integers, _ = self._integers(x, "infer")
        self.upload()
        with bar("samples") as progress:
            return self._floats(self._remote.infer(integers, progress), raw)

    def submit(self, *x: Any) -> RemoteJob:
        """Hands a batch to the server and returns."""
        integers, _ = self._integers(x, "submit")
        self.upload()
        with bar("parts of the batch") as progress:
            return RemoteJob(self, self._remote.submit(integers, progress))

    def job(self, ids: str | Iterable[str]) -> RemoteJob:
        """One that was submitted before, by its ids."""
        return RemoteJob(self, [ids] if isinstance(ids, str) else ids)

    def _floats(self, integers: list, raw: bool) -> Any:
        return one_or_tuple(integers if raw else self._client.dequantize(integers))


def _names(values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise WrongDtype("a list of names expected, got text", "clear_inputs", f"clear_inputs=[{values!r}]")
    return [_text(value, "clear_inputs") for value in values]


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise WrongDtype(f"text expected, got {type(value).__name__}", name)
    return value
