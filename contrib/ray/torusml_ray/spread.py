"""A batch of encrypted samples, spread over the workers of a Ray cluster.

ray.init("auto")
server = torusml_ray.RayServer("net.tms", "eval.key")    # both go to the object store, once
results = server.run(torusml.EncryptedInputs.load("x.ct"))
results.save("y.ct")                                     # as torusml.Server would give them, bit for bit
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import ray

from torusml import EncryptedInputs, EncryptedOutputs, Error, EvaluationKeys, _core
from torusml.client import half_of
from torusml.errors import InvalidArgument, MemoryLimitExceeded, ServerRefused, WrongDtype

from . import worker

# A worker that is slow or lost holds up its last part alone; each part should still fill a layer's blocks of ciphertexts.
_PARTS_PER_WORKER = 4
_FULL = (ray.exceptions.OutOfMemoryError, ray.exceptions.ObjectStoreFullError, ray.exceptions.OutOfDiskError)
_LOST = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.ObjectLostError)


class RayServer:
    """torusml.Server.run, by many processes on many machines.

    model: a compiled model, or the path of one or of its server's half. evaluation_keys: as for torusml.Server.
    threads: of a worker, which Ray counts as so many CPUs. samples_per_task: 0 divides a batch into four tasks for each
    worker that the cluster has room for. memory_limit_bytes: of a worker, as for torusml.Server; 0: no limit.
    prepared_keys: a folder on a local disk of every node, which the workers of a node share; None: each prepares its own.
    max_retries: how often a task is begun anew when its process or its node is lost. task_options: more of ray.remote's
    (resources, runtime_env, scheduling_strategy).
    """

    def __init__(
        self,
        model: Any,
        evaluation_keys: EvaluationKeys | str | os.PathLike | bytes,
        *,
        threads: int = 1,
        samples_per_task: int = 0,
        memory_limit_bytes: int = 0,
        prepared_keys: str | os.PathLike | None = None,
        max_retries: int = 3,
        task_options: dict[str, Any] | None = None,
    ):
        threads, memory_limit_bytes = worker.limits_of_a_task(threads, memory_limit_bytes)
        if samples_per_task < 0 or max_retries < 0:
            raise InvalidArgument(
                f"samples_per_task is {samples_per_task}, max_retries {max_retries}", "RayServer", "no negative number"
            )
        if not ray.is_initialized():
            ray.init()
        half = half_of(model, _core.ServerHalf).to_bytes()
        keys = _key_bytes(evaluation_keys)
        folder = None if prepared_keys is None else os.fspath(prepared_keys)
        self._setup = worker.Setup(worker.id_of(half), worker.id_of(keys), threads, memory_limit_bytes, folder)
        self._samples_per_task = samples_per_task
        self._max_retries = max_retries
        self._model, self._keys = _stored(half, "the model"), _stored(keys, "the evaluation keys")
        options = {"scheduling_strategy": "SPREAD", **(task_options or {})}
        self._task = ray.remote(worker.run_samples).options(num_cpus=threads, max_retries=max_retries, **options)

    def run(self, inputs: EncryptedInputs | str | os.PathLike) -> EncryptedOutputs:
        """The encrypted results, in the order of the samples.

        An error of a worker is raised as what it was. Also: ServerRefused when a task's workers were lost more than
        max_retries times, MemoryLimitExceeded when a node's memory, or its object store with the disk behind it, is full.
        Ctrl-C cancels the tasks.
        """
        if isinstance(inputs, (str, os.PathLike)):
            inputs = EncryptedInputs.load(inputs)
        if not isinstance(inputs, EncryptedInputs):
            raise WrongDtype(f"encrypted inputs expected, got {type(inputs).__name__}", "run")
        self._warn_without_room()
        content = _stored(inputs.serialize(), "the batch")  # once to a node, whole: it is small beside the results
        parts = parts_of(inputs.samples, self._samples_per_task or self._default_size(inputs.samples))
        tasks = {
            self._task.remote(self._setup, self._model, self._keys, content, part.start, part.stop): i
            for i, part in enumerate(parts)
        }
        try:
            return EncryptedOutputs.join(_results_of(tasks))
        except ray.exceptions.RayError as error:
            raise _as_torusml(error, self._max_retries) from None

    def _warn_without_room(self) -> None:
        cpus = max((node["CPU"] for node in _nodes()), default=0)
        if cpus < self._setup.threads:
            warnings.warn(
                f"tasks of {self._setup.threads} threads wait: no node of the cluster has more than {cpus:.0f} CPUs now",
                RuntimeWarning,
                stacklevel=3,
            )

    def _default_size(self, samples: int) -> int:
        workers = max(1, int(ray.cluster_resources().get("CPU", 1)) // self._setup.threads)
        return max(1, -(-samples // (_PARTS_PER_WORKER * workers)))


def parts_of(samples: int, size: int) -> list[range]:
    """One part at least: that a batch is empty is for the server to say."""
    return [range(first, min(first + size, samples)) for first in range(0, samples, size)] or [range(0)]


def _key_bytes(keys: EvaluationKeys | str | os.PathLike | bytes) -> bytes:
    if isinstance(keys, EvaluationKeys):
        return keys.serialize()
    if isinstance(keys, (str, os.PathLike)):
        return EvaluationKeys.load(keys).serialize()
    if isinstance(keys, bytes):
        return keys
    raise WrongDtype(f"evaluation keys expected, got {type(keys).__name__}", "evaluation_keys")


def _nodes() -> list[dict]:
    """Resources of the nodes that have CPUs now."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]


def _stored(content: bytes, what: str) -> ray.ObjectRef:
    """In the object store, whose nodes that work on it fetch all of it."""
    room = min((node.get("object_store_memory", 0) for node in _nodes()), default=len(content))
    if len(content) > room:
        warnings.warn(
            f"{what}, {len(content)} bytes, is more than the object store of a node, which has {room:.0f}: Ray keeps it in"
            " a file of its temporary folder, which is slower (ray start --object-store-memory)",
            RuntimeWarning,
            stacklevel=3,
        )
    return ray.put(worker.as_array(content))


def _results_of(tasks: dict[ray.ObjectRef, int]) -> list[EncryptedOutputs]:
    """By the tasks' numbers. A task that is done leaves the dict, and its file the object store; the first error ends the
    others."""
    results: list[Any] = [None] * len(tasks)
    try:
        while tasks:
            (done,), _ = ray.wait(list(tasks))
            results[tasks.pop(done)] = EncryptedOutputs.deserialize(ray.get(done))
        return results
    finally:
        for task in tasks:
            ray.cancel(task, recursive=False)


def _as_torusml(error: ray.exceptions.RayError, max_retries: int) -> Exception:
    """What a worker raised, or what became of it."""
    if isinstance(error, ray.exceptions.RayTaskError) and isinstance(error.cause, Error):
        return error.cause
    text = str(error).split("\n")[0][:300]
    if isinstance(error, _FULL):
        return MemoryLimitExceeded(text, "Ray", "fewer workers on a node, fewer samples_per_task, prepared_keys")
    if isinstance(error, _LOST):
        return ServerRefused(
            f"a worker was lost, and its task was begun anew {max_retries} times: {text}", "Ray", "the logs of its node"
        )
    return error
