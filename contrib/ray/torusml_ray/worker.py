"""What runs in a worker process: the server's half of a model with one client's keys, kept from call to call."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

import torusml
from torusml.client import limits_of
from torusml.errors import InvalidArgument


def as_array(content: bytes) -> np.ndarray:
    """Bytes that Ray's object store keeps outside the pickle, so that workers read them where they lie."""
    return np.frombuffer(content, np.uint8)


def id_of(content: bytes) -> str:
    """The SHA-256 of a file, which names evaluation keys at a server, too."""
    return hashlib.sha256(content).hexdigest()


def limits_of_a_task(threads: int, memory_limit_bytes: int) -> tuple[int, int]:
    """As torusml.Server takes them; threads are Ray's CPUs, so that 0 would not mean all."""
    threads, memory_limit_bytes = limits_of(threads, memory_limit_bytes)
    if threads < 1:
        raise InvalidArgument(f"threads is {threads}", "threads", "as many as a worker is to have, one at least")
    return threads, memory_limit_bytes


@dataclass(frozen=True)
class Setup:
    """What a worker prepares once. The ids say what the bytes are, so that they need not be looked at again."""

    model_id: str
    key_id: str
    threads: int
    memory_limit_bytes: int
    prepared_keys: str | None


_kept: tuple[Setup, torusml.Server] | None = None


def server_of(setup: Setup, model: np.ndarray, keys: np.ndarray) -> torusml.Server:
    """The server of this process. It holds one: prepared keys take some hundred megabytes."""
    global _kept
    if _kept is None or _kept[0] != setup:
        _kept = None  # its keys go before the next ones come
        limits = {"threads": setup.threads, "memory_limit_bytes": setup.memory_limit_bytes}
        _kept = setup, torusml.Server(model, keys, prepared_keys=setup.prepared_keys, **limits)
    return _kept[1]


def run_samples(setup: Setup, model: np.ndarray, keys: np.ndarray, inputs: np.ndarray, first: int, end: int) -> np.ndarray:
    """The file of encrypted results of the samples [first, end) of a file of encrypted inputs."""
    server = server_of(setup, model, keys)
    received = server.run(
        torusml.EncryptedInputs.deserialize(inputs),
        samples=range(first, end),
        threads=setup.threads,
        memory_limit_bytes=setup.memory_limit_bytes,
    )
    return as_array(received.serialize())
