"""Samples a second of a local Ray cluster, by workers of one thread, beside one process without Ray (docs/scaling.md).

python contrib/ray/measure.py [--samples 32] [--workers 1 2]

The network is the checkerboard's (200 lookups a sample); every result is compared with the model in the clear. On one
machine the workers share its cores and its memory, so this shows what Ray costs, not how a cluster grows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import ray
from ray.cluster_utils import Cluster

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])

import torusml  # noqa: E402
from torusml_ray import RayServer  # noqa: E402


def measured(run, client, expected) -> tuple[float, int]:
    """Seconds and the bytes of the results, which are checked."""
    start = time.perf_counter()
    results = run()
    seconds = time.perf_counter() - start
    found = client.decrypt(results).argmax(1)
    # The network is compiled "tolerant": some results may fall the other way.
    assert (found == expected).mean() >= 0.9, "wrong results"
    return seconds, len(results.serialize())


def with_ray(workers: int, model, client, sent, expected, repeats: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(workers):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        server = RayServer(model, client.evaluation_keys)
        first, _ = measured(lambda: server.run(sent), client, expected)
        times = [measured(lambda: server.run(sent), client, expected)[0] for _ in range(repeats)]
        rates = sorted(sent.samples / seconds for seconds in times)
        print(
            f"Ray, {workers} workers of 1 thread: first run {first:.2f} s (processes start, keys are prepared); then"
            f" {np.median(rates):.2f} samples/s ({rates[0]:.2f} to {rates[-1]:.2f})"
        )
    finally:
        ray.shutdown()
        cluster.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=32)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    models = HERE.parents[1] / "tests" / "models"
    data = np.load(models / "checkerboard_qat_seed0.npz")
    network = onnx.load(models / "checkerboard_qat_seed0.onnx")
    module = torusml.compile(network, data["calibration"].astype(np.float32))
    model = module.fhe_circuit
    x = data["points"][: options.samples].astype(np.float32)
    client = torusml.Client(model)
    client.keygen()
    sent = client.encrypt(x)
    expected = module.forward(x).argmax(1)

    server = torusml.Server(model, client.evaluation_keys)
    for threads in (1, 2):
        run = [measured(lambda: server.run(sent, threads=threads), client, expected) for _ in range(options.repeats)]  # noqa: B023
        rates = sorted(sent.samples / seconds for seconds, _ in run)
        print(f"one process, {threads} threads: {np.median(rates):.2f} samples/s ({rates[0]:.2f} to {rates[-1]:.2f})")
    print(
        f"evaluation keys {len(client.evaluation_keys.serialize()) / 1e6:.1f} MB, prepared {server.key_bytes / 1e6:.0f} MB;"
        f" a sample: {len(sent.serialize()) / sent.samples:.0f} bytes in, {run[0][1] / sent.samples:.0f} bytes out"
    )
    for workers in options.workers:
        with_ray(workers, model, client, sent, expected, options.repeats)


if __name__ == "__main__":
    main()
