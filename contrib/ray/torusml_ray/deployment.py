"""A model behind HTTP by Ray Serve: the part of `torusml serve`'s interface that one model and waiting clients need.

serve.run(torusml_ray.deployment.application("net.tms", "net.tmc", name="net", replicas=8))
y = torusml.Client("http://127.0.0.1:8000", model="net", keys="client.key").infer(x)

There are no tokens, tenants, versions, jobs or metrics of its own: docs/scaling.md says what to put before it.
"""

# No "from __future__ import annotations": Ray Serve reads the endpoints' annotations where their names are not known.

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
from fastapi import FastAPI, Request, Response
from ray import serve
from ray.serve.exceptions import BackPressureError

from torusml import EncryptedInputs, EvaluationKeys, Server, _core, errors
from torusml.client import half_of

from . import worker

_log = logging.getLogger("ray.serve")

_BINARY = "application/octet-stream"
_MOST_JSON = 64 << 10
_KEYS_OF_A_REPLICA = 4  # clients whose prepared keys it holds; their requests go to it first
_TRIES = 3  # of a request whose process is lost
_AGAIN_S = 2
# By class of error, as the server answers; 500 for others.
_STATUS = {
    errors.NotFound: 404,
    errors.FileTooLarge: 413,
    errors.MemoryLimitExceeded: 413,
    errors.WrongShape: 422,
    errors.WrongKey: 422,
    errors.WrongModel: 422,
    errors.FileTruncated: 422,
    errors.FileForeign: 422,
    errors.FileVersion: 422,
    errors.FileCorrupt: 422,
    errors.ServerBusy: 429,
    errors.NotSupported: 501,
    errors.RequestInvalid: 400,
    errors.InvalidArgument: 400,
}


class _Refusal(Exception):
    """An error that brings its status and headers along."""

    def __init__(self, status: int, error: errors.Error, **headers: Any):
        super().__init__(str(error))
        self.status, self.error = status, error
        self.headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}


def _busy(status: int, message: str) -> _Refusal:
    return _Refusal(status, errors.ServerBusy(message, "", f"again in {_AGAIN_S} s"), Retry_After=_AGAIN_S)


def _invalid(status: int, message: str, where: str = "", **headers: Any) -> _Refusal:
    return _Refusal(status, errors.RequestInvalid(message, where, "docs/server.md shows a request"), **headers)


def _error_response(failure: Exception, request_id: str) -> Response:
    """The body and status of docs/errors.md. What went wrong inside is for the log alone."""
    headers = failure.headers if isinstance(failure, _Refusal) else {}
    error = failure.error if isinstance(failure, _Refusal) else failure
    status = failure.status if isinstance(failure, _Refusal) else _STATUS.get(type(error), 500)
    if status == 500:
        error = errors.Internal("the server failed", "", "its log, under the request's id, says why")
    body = {
        "error": str(error),
        "code": error.code,
        "message": error.message,
        "where": error.where,
        "hint": error.hint,
        "request_id": request_id,
    }
    return Response(json.dumps(body), status, headers, "application/json")


@serve.deployment(max_ongoing_requests=1)
class Runner:
    """Computes: one request at a time, each with the keys of its client."""

    def __init__(self, model: bytes, threads: int, memory_limit_bytes: int, prepared_keys: str | None):
        self._half = _core.ServerHalf.from_bytes(model, 0)
        self._prepared_keys = prepared_keys
        self._limits = {"threads": threads, "memory_limit_bytes": memory_limit_bytes}
        self._stored: dict[str, ray.ObjectRef] = {}
        self._one = asyncio.Lock()  # Serve counts a cancelled request as gone while its threads still end

    @serve.multiplexed(max_num_models_per_replica=_KEYS_OF_A_REPLICA)
    async def server_of(self, key: str) -> Server:
        content = await self._stored[key]  # a view of the object store of this node
        return await asyncio.to_thread(Server, self._half, content, prepared_keys=self._prepared_keys, **self._limits)

    async def run(self, stored: list[ray.ObjectRef], inputs: np.ndarray, samples: int) -> np.ndarray:
        key = serve.get_multiplexed_model_id()
        async with self._one:
            self._stored[key] = stored[0]
            try:
                server = await self.server_of(key)
            finally:
                del self._stored[key]
            return await self._until_cancelled(server, inputs, samples)

    async def _until_cancelled(self, server: Server, inputs: np.ndarray, samples: int) -> np.ndarray:
        cancelled = threading.Event()
        work = asyncio.ensure_future(asyncio.to_thread(self._run, server, inputs, samples, cancelled))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()
            raise

    def _run(self, server: Server, inputs: np.ndarray, samples: int, cancelled: threading.Event) -> np.ndarray:
        def stop_if_cancelled(done: int, total: int) -> None:
            if cancelled.is_set():
                raise errors.Cancelled(f"the client went away after {done} of {total} lookups")

        encrypted = EncryptedInputs.deserialize(inputs)
        if encrypted.samples != samples:
            raise errors.WrongShape(f"{encrypted.samples} samples came, {samples} were announced", "encrypted_inputs")
        results = server.run(encrypted, progress=stop_if_cancelled, **self._limits)
        return worker.as_array(results.serialize())


class _KeyShelf:
    """Evaluation keys in the object store, by the SHA-256 of their file, and uploads that are not complete."""

    def __init__(self, most_bytes: int, most_uploads: int = 16):
        self._most_bytes, self._most_uploads = most_bytes, most_uploads
        self._keys: OrderedDict[str, tuple[ray.ObjectRef, int]] = OrderedDict()  # the last used last
        self._uploads: OrderedDict[str, tuple[bytearray, int]] = OrderedDict()

    def state(self, key: str) -> tuple[int, int] | None:
        """Bytes that are there, and all of them."""
        if key in self._keys:
            size = self._keys[key][1]
            return size, size
        if key in self._uploads:
            content, total = self._uploads[key]
            return len(content), total
        return None

    def get(self, key: str) -> ray.ObjectRef:
        if key not in self._keys:
            raise errors.NotFound(f"there is no key {key}", "", "upload it")
        self._keys.move_to_end(key)
        return self._keys[key][0]

    def forget(self, key: str) -> bool:
        return any([self._keys.pop(key, None) is not None, self._uploads.pop(key, None) is not None])

    def add_part(self, key: str, content: bytes, first: int, total: int) -> bytes | None:
        """All bytes when this part was the last one."""
        kept, expected = self._uploads.pop(key, (bytearray(), total))
        if first == 0:  # it begins anew
            kept, expected = bytearray(), total
        if first != len(kept) or total != expected or first + len(content) > total:
            if kept:
                self._uploads[key] = kept, expected
            raise _invalid(409, f"a part begins at {first} of {total}", key, Upload_Offset=len(kept))
        kept += content
        if len(kept) == total:
            return bytes(kept)
        self._uploads[key] = kept, total
        while len(self._uploads) > self._most_uploads or self._uploaded_bytes() > self._most_bytes:
            self._uploads.popitem(last=False)
        return None

    def put(self, key: str, content: bytes) -> None:
        """The least recently used keys make room; a request that runs keeps its own."""
        while self._keys and len(content) + sum(size for _, size in self._keys.values()) > self._most_bytes:
            self._keys.popitem(last=False)
        try:
            self._keys[key] = ray.put(worker.as_array(content)), len(content)
        except (ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError):
            raise _busy(507, "Ray's object store has no room for the key") from None

    def _uploaded_bytes(self) -> int:
        return sum(len(content) for content, _ in self._uploads.values())


def _check_keys(key: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != key:
        raise _invalid(422, "the bytes have another SHA-256 than the key's id says", key)
    EvaluationKeys.deserialize(content)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


async def _read(request: Request, length: int) -> bytes:
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > length:
            raise _invalid(413, f"more than the {length} bytes of Content-Length came")
    return bytes(content)


def _range_of(header: str | None, length: int) -> tuple[int, int]:
    """(first, total) of a part."""
    if header is None:
        return 0, length
    found = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", header)
    if not found:
        raise _invalid(416, f"Content-Range is '{header[:80]}'")
    first, last, total = (int(number) for number in found.groups())
    if last - first + 1 != length or last >= total:
        raise _invalid(416, f"Content-Range is '{header[:80]}', the body has {length} bytes")
    return first, total


def _inference_of(head: bytes, size: int) -> tuple[str, str, int]:
    """(id, key, samples) of the JSON before `size` bytes of ciphertexts."""
    try:
        request = json.loads(head)
        (tensor,) = request["inputs"]
        described = (tensor["name"], tensor["datatype"], tensor["shape"], tensor["parameters"]["binary_data_size"])
        identity, key = request.get("id", ""), request["parameters"]["key"]
        samples = request["parameters"]["samples"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(400, f"no such request: {type(error).__name__} {error}"[:200], "the request's JSON") from None
    if described[:2] != ("encrypted_inputs", "UINT8"):
        raise _invalid(400, "the tensor is not 'encrypted_inputs' of datatype UINT8", "the request's JSON")
    if described[2:] != ([size], size):
        raise _invalid(422, f"{size} bytes follow the JSON; its 'shape' or 'binary_data_size' says otherwise")
    if not isinstance(key, str) or not re.fullmatch("[0-9a-f]{64}", key):
        raise _invalid(400, "'key' is not 64 hexadecimal digits", "the request's JSON")
    if not isinstance(identity, str) or len(identity) > 64 or type(samples) is not int or samples < 1:
        raise _invalid(400, "'id' is not text of 64 bytes at most, or 'samples' no number from 1 on")
    return identity, key, samples


def _upload_headers(state: tuple[int, int]) -> dict[str, str]:
    return {"Upload-Offset": str(state[0]), "Upload-Length": str(state[1])}


# What its endpoints use stands above them: Ray Serve copies them, with the names that are known here.
app = FastAPI(openapi_url=None)


@app.middleware("http")
async def _answer_errors(request: Request, call_next: Any) -> Response:
    sent = request.headers.get("x-request-id", "")
    request_id = sent if re.fullmatch("[A-Za-z0-9-]{1,64}", sent) else uuid.uuid4().hex
    try:
        response = await call_next(request)
    except Exception as failure:
        response = _error_response(failure, request_id)
        if response.status_code == 500:
            _log.exception("request %s failed", request_id)
    response.headers["X-Request-Id"] = request_id
    return response


@app.exception_handler(404)
@app.exception_handler(405)
async def _answer_unknown_path(request: Request, failure: Any) -> Response:
    raise _Refusal(failure.status_code, errors.NotFound(f"there is no {request.method} {request.url.path[:200]}"))


@serve.deployment
@serve.ingress(app)
class Endpoint:
    """HTTP. One replica, as uploaded keys belong to it: when it is lost, clients are told 404 and upload them again."""

    def __init__(self, runner: Any, name: str, client_half: bytes, limits: dict[str, int]):
        self._runner = runner
        self._name, self._client_half = name, client_half
        self._limits = limits
        self._shelf = _KeyShelf(limits["key_bytes"])
        self._body_bytes = 0

    @app.get("/v2/health/live")
    @app.get("/v2/health/ready")
    async def health(self) -> Response:
        return Response()

    @app.get("/v2/models/{model}/client")
    async def client(self, model: str) -> Response:
        self._check_model(model)
        return Response(self._client_half, media_type=_BINARY)

    @app.head("/v2/keys/{key}")
    async def key_state(self, key: str) -> Response:
        state = self._shelf.state(key)
        if state is None:
            return Response(status_code=404)
        return Response(headers=_upload_headers(state))

    @app.put("/v2/keys/{key}")
    async def put_key(self, key: str, request: Request) -> Response:
        if not re.fullmatch("[0-9a-f]{64}", key):
            raise _invalid(400, "a key's id is the SHA-256 of its file in hexadecimal")
        with self._body_of(request, "max_key") as length:
            content = await _read(request, length)
            first, total = _range_of(request.headers.get("content-range"), len(content))
            if total > self._limits["max_key"]:
                raise _invalid(413, f"the key has {total} bytes, at most {self._limits['max_key']} are taken")
            state = self._shelf.state(key)
            if state is not None and state[0] == state[1]:
                return Response(status_code=200, headers=_upload_headers(state))
            whole = self._shelf.add_part(key, content, first, total)
            if whole is not None:
                await asyncio.to_thread(_check_keys, key, whole)
                self._shelf.put(key, whole)
            state = self._shelf.state(key)
            return Response(status_code=201 if whole is not None else 202, headers=_upload_headers(state))

    @app.delete("/v2/keys/{key}")
    async def delete_key(self, key: str) -> Response:
        if not self._shelf.forget(key):
            raise errors.NotFound(f"there is no key {key[:64]}")
        return Response(status_code=204)

    @app.post("/v2/models/{model}/infer")
    async def infer(self, model: str, request: Request) -> Response:
        self._check_model(model)
        if "respond-async" in request.headers.get("prefer", ""):
            raise errors.NotSupported("this deployment has no jobs", "Prefer", "client.infer, or torusml serve")
        head_bytes = _number(request.headers.get("inference-header-content-length", ""))
        if head_bytes is None or head_bytes > _MOST_JSON:
            raise _invalid(400, "Inference-Header-Content-Length is missing or too large")
        with self._body_of(request, "max_body") as length:
            content = await _read(request, length)
            head, inputs = content[:head_bytes], content[head_bytes:]
            identity, key, samples = _inference_of(head, len(inputs))
            if samples > self._limits["max_samples"]:
                raise _invalid(413, f"{samples} samples, at most {self._limits['max_samples']} are taken")
            stored = self._shelf.get(key)
            outputs = await self._computed(key, stored, worker.as_array(inputs), samples)
        return self._answer(identity, outputs)

    async def _computed(self, key: str, stored: ray.ObjectRef, inputs: np.ndarray, samples: int) -> bytes:
        handle = self._runner.options(multiplexed_model_id=key)
        for _ in range(_TRIES):
            try:
                return (await handle.run.remote([stored], inputs, samples)).tobytes()
            except BackPressureError:
                raise _busy(429, "the queue is full") from None
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, errors.Error):
                    raise error.cause from None
                raise
            except ray.exceptions.RayActorError:
                _log.warning("a process was lost while it computed")
        raise _busy(503, f"{_TRIES} processes were lost, one after the other, while they computed this request")

    @contextlib.contextmanager
    def _body_of(self, request: Request, limit: str) -> Iterator[int]:
        """Its length, for which there is room while it is worked on."""
        length = _number(request.headers.get("content-length", ""))
        if length is None:
            raise _invalid(411, "there is no Content-Length")
        if length > self._limits[limit]:
            raise _invalid(413, f"the body has {length} bytes, at most {self._limits[limit]} are taken")
        if self._body_bytes + length > self._limits["body_bytes"]:
            raise _busy(503, f"bodies of {self._body_bytes} bytes are worked on, of {self._limits['body_bytes']}")
        self._body_bytes += length
        try:
            yield length
        finally:
            self._body_bytes -= length

    def _answer(self, identity: str, outputs: bytes) -> Response:
        tensor = {"name": "encrypted_outputs", "datatype": "UINT8", "shape": [len(outputs)]}
        tensor["parameters"] = {"binary_data_size": len(outputs)}
        answer = {"model_name": self._name, "model_version": "1", "outputs": [tensor]}
        if identity:
            answer["id"] = identity
        head = json.dumps(answer).encode()
        headers = {"Inference-Header-Content-Length": str(len(head))}
        return Response(head + outputs, headers=headers, media_type=_BINARY)

    def _check_model(self, model: str) -> None:
        if model != self._name:
            raise errors.NotFound(f"there is no model '{model[:64]}'")


def application(
    model: Any,
    client: Any,
    *,
    name: str,
    replicas: int = 1,
    threads: int = 1,
    memory_limit_bytes: int = 0,
    prepared_keys: str | os.PathLike | None = None,
    queue: int = 64,
    max_samples: int = 4096,
    max_body: int = 64 << 20,
    body_bytes: int = 1 << 30,
    max_key: int = 512 << 20,
    key_bytes: int = 4 << 30,
) -> serve.Application:
    """For serve.run. model, client: the server's and the client's half, as torusml.Server and torusml.Client take them.

    name: in the paths. replicas: processes that compute, each with so many threads, which Ray counts as CPUs, and with
    memory_limit_bytes and prepared_keys as torusml.Server. queue: requests that wait for one of them. max_samples,
    max_body, max_key: of a request; body_bytes: of all bodies that are worked on; key_bytes: of all evaluation keys, the
    least recently used of which make room, and as much again for uploads that are not complete.
    """
    threads, memory_limit_bytes = worker.limits_of_a_task(threads, memory_limit_bytes)
    if max_body > body_bytes or max_key > min(key_bytes, body_bytes):
        raise errors.InvalidArgument(
            f"max_body {max_body}, max_key {max_key}, body_bytes {body_bytes}, key_bytes {key_bytes}",
            "application",
            "one body, or one key, that all of them together have room for",
        )
    half, client_half = half_of(model, _core.ServerHalf), half_of(client, _core.ClientHalf)
    if half.model_hash != client_half.model_hash:
        raise errors.WrongModel(
            f"the client's half is of model {client_half.model_hash[:16]}, the server's of {half.model_hash[:16]}",
            "client",
            "two halves of one model",
        )
    runner = Runner.options(num_replicas=replicas, max_queued_requests=queue, ray_actor_options={"num_cpus": threads})
    endpoint = Endpoint.options(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={"num_cpus": 0})
    limits = {
        "max_samples": max_samples,
        "max_body": max_body,
        "body_bytes": body_bytes,
        "max_key": max_key,
        "key_bytes": key_bytes,
    }
    folder = None if prepared_keys is None else os.fspath(prepared_keys)
    computing = runner.bind(half.to_bytes(), threads, memory_limit_bytes, folder)
    return endpoint.bind(computing, name, client_half.to_bytes(), limits)
