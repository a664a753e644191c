"""Samples a second of a local Ray cluster, by workers of one thread, beside one process without Ray (docs/scaling.md).

python contrib/ray/measure.py [--samples 32] [--rounds 5]

The network is the checkerboard's (69 lookups a sample); every result is compared with the model in the clear. All four
sides run in turn, round by round, and ratios are of the same round. On one machine the workers share its cores and its
memory, so this shows what Ray costs, not how a cluster grows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_worker_niceness"] = "0"  # as the process beside it

import torusml  # noqa: E402
from torusml_ray import RayServer  # noqa: E402

TASKS = 8  # of a batch, however many workers there are


def memory() -> dict[str, float]:
    """Of a worker, in MB."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {fields[0]: int(fields[1]) / 1e3 for fields in lines if fields and fields[0] in ("RssAnon:", "RssShmem:")}


def milliseconds_of_an_empty_task(keys: ray.ObjectRef, tasks: int = 256) -> float:
    """With the keys as an argument and as many bytes as a sample's results to return, over both workers."""
    empty = ray.remote(lambda content, size: content[:size]).options(num_cpus=1, scheduling_strategy="SPREAD")
    start = time.perf_counter()
    waiting = [empty.remote(keys, 40_000) for _ in range(tasks)]
    while waiting:
        (done,), waiting = ray.wait(waiting)
        ray.get(done)
    return 1e3 * (time.perf_counter() - start) / tasks


def spread(values: list[float], form: str) -> str:
    return f"{np.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def checked_seconds(run: Callable, client: torusml.Client, expected: np.ndarray) -> float:
    start = time.perf_counter()
    results = run()
    seconds = time.perf_counter() - start
    # The network is compiled "tolerant": some results may fall the other way.
    assert (client.decrypt(results).argmax(1) == expected).mean() >= 0.9, "wrong results"
    return seconds


def measure(sides: dict[str, Callable], client: torusml.Client, expected: np.ndarray, samples: int, rounds: int) -> None:
    for name, run in sides.items():
        print(f"{name}: first run {checked_seconds(run, client, expected):.2f} s", flush=True)
    seconds = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            seconds[name].append(checked_seconds(run, client, expected))
    for name, taken in seconds.items():
        print(f"{name}: {spread([samples / s for s in taken], '.2f')} samples/s")
    one, two, ray_one, ray_two = (np.array(taken) for taken in seconds.values())
    print(f"Ray, rate of 2 workers to that of 1: {spread(list(ray_one / ray_two), '.2f')}")
    print(f"one process, rate of 2 threads to that of 1: {spread(list(one / two), '.2f')}")
    print(f"rate of 1 worker of Ray to that of one process of 1 thread: {spread(list(one / ray_one), '.2f')}")
    print(f"rate of 2 workers of Ray to that of one process of 2 threads: {spread(list(two / ray_two), '.2f')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    models = HERE.parents[1] / "tests" / "models"
    data = np.load(models / "checkerboard_qat_seed0.npz")
    module = torusml.compile(onnx.load(models / "checkerboard_qat_seed0.onnx"), data["calibration"].astype(np.float32))
    model = module.fhe_circuit
    x = data["points"][: options.samples].astype(np.float32)
    expected = module.forward(x).argmax(1)
    client = torusml.Client(model)
    client.keygen()
    sent, keys = client.encrypt(x), client.evaluation_keys
    server = torusml.Server(model, keys)

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        at_one = NodeAffinitySchedulingStrategy(nodes[0].node_id, soft=False)
        size = -(-sent.samples // TASKS)
        with_one = RayServer(model, keys, samples_per_task=size, task_options={"scheduling_strategy": at_one})
        with_two = RayServer(model, keys, samples_per_task=size)
        sides = {
            "one process, 1 thread": lambda: server.run(sent, threads=1),
            "one process, 2 threads": lambda: server.run(sent, threads=2),
            "Ray, 1 worker of 1 thread": lambda: with_one.run(sent),
            "Ray, 2 workers of 1 thread": lambda: with_two.run(sent),
        }
        measure(sides, client, expected, sent.samples, options.rounds)
        received = server.run(sent, samples=range(1))
        print(
            f"evaluation keys {len(keys.serialize()) / 1e6:.1f} MB, prepared {server.key_bytes / 1e6:.0f} MB;"
            f" a sample: {len(sent.serialize()) / sent.samples:.0f} bytes in, {len(received.serialize())} bytes out"
        )
        stored = ray.put(np.frombuffer(keys.serialize(), np.uint8))
        empty = [milliseconds_of_an_empty_task(stored) for _ in range(options.rounds)]
        print(f"an empty task: {spread(empty, '.2f')} ms (256 at once, 2 workers)")
        of_worker = ray.get(ray.remote(memory).options(num_cpus=1).remote())
        print(f"a worker: {of_worker['RssAnon:']:.0f} MB of its own, {of_worker['RssShmem:']:.0f} MB in the object store")
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
