"""A batch of encrypted samples, spread over the workers of a Ray cluster.

ray.init("auto")
server = torusml_ray.RayServer("net.tms", "eval.key")    # both go to the object store, once
results = server.run(torusml.EncryptedInputs.load("x.ct"))
results.save("y.ct")                                     # as torusml.Server would give them, bit for bit
"""

from __future__ import annotations

import os
from typing import Any

import ray

from torusml import EncryptedInputs, EncryptedOutputs, Error, EvaluationKeys, _core
from torusml.client import half_of, limits_of
from torusml.errors import InvalidArgument, WrongDtype

from . import worker

# A worker that is slow or lost holds up its last part alone; each part should still fill a layer's blocks of ciphertexts.
_PARTS_PER_WORKER = 4


class RayServer:
    """torusml.Server.run, by many processes on many machines.

    model: a compiled model, or the path of one or of its server's half. evaluation_keys: as for torusml.Server.
    threads: of a worker, which Ray counts as so many CPUs. samples_per_task: 0 divides a batch into four tasks for each
    worker that the cluster has room for. memory_limit_bytes: of a worker, as for torusml.Server; 0: no limit.
    prepared_keys: a folder on a local disk of every node, which the workers of a node share; None: each prepares its own.
    max_retries: how often a task is begun anew when its process or its node is lost.
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
    ):
        threads, memory_limit_bytes = limits_of(threads, memory_limit_bytes)
        if threads < 1 or samples_per_task < 0 or max_retries < 0:
            raise InvalidArgument(
                f"threads {threads}, samples_per_task {samples_per_task}, max_retries {max_retries}",
                "RayServer",
                "one thread at least, and no negative number",
            )
        half = half_of(model, _core.ServerHalf).to_bytes()
        keys = _key_bytes(evaluation_keys)
        folder = None if prepared_keys is None else os.fspath(prepared_keys)
        self._setup = worker.Setup(worker.id_of(half), worker.id_of(keys), threads, memory_limit_bytes, folder)
        self._samples_per_task = samples_per_task
        self._model, self._keys = ray.put(worker.as_array(half)), ray.put(worker.as_array(keys))
        self._task = ray.remote(worker.run_samples).options(
            num_cpus=threads, max_retries=max_retries, scheduling_strategy="SPREAD"
        )

    def run(self, inputs: EncryptedInputs | str | os.PathLike) -> EncryptedOutputs:
        """The encrypted results, in the order of the samples. An error of a worker is raised as what it was."""
        if isinstance(inputs, (str, os.PathLike)):
            inputs = EncryptedInputs.load(inputs)
        if not isinstance(inputs, EncryptedInputs):
            raise WrongDtype(f"encrypted inputs expected, got {type(inputs).__name__}", "run")
        content = ray.put(worker.as_array(inputs.serialize()))  # once to a node, whole: it is small beside the results
        tasks = [
            self._task.remote(self._setup, self._model, self._keys, content, part.start, part.stop)
            for part in parts_of(inputs.samples, self._samples_per_task or self._default_size(inputs.samples))
        ]
        return EncryptedOutputs.join([EncryptedOutputs.deserialize(part) for part in _results_of(tasks)])

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


def _results_of(tasks: list[ray.ObjectRef]) -> list[Any]:
    """Of all tasks. The first error ends the others."""
    waiting = list(tasks)
    try:
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
        return ray.get(tasks)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Error):
            raise error.cause from None
        raise
    finally:
        for task in waiting:
            ray.cancel(task, recursive=False)
