"""A network of millions of lookups: how long each stage of compilation and simulation takes, and how much memory.

    ./dev bench scale [--layers 14] [--channels 128] [--bits 3] [--json]

A VGG-like network on images of 3 x 32 x 32 with random weights: `layers` convolutions of `channels` channels, an average
pooling, four of twice as many, another pooling, four more, a global average and ten classes. With the defaults 2.1 million
lookups a sample. Nothing is encrypted: the time of an encrypted run is estimated.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import torusml
from torusml.torch.compile import build_quantized_module

IMAGE = (3, 32, 32)
CLASSES = 10


class NetworkBuilder:
    def __init__(self, seed: int):
        self._generator = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._last, self._channels = "x", IMAGE[0]

    def _constant(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        values = self._generator.normal(size=shape) * np.sqrt(2 / fan_in)
        self._constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def _add(self, operator: str, *constants: str, **attributes: Any) -> None:
        name = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, [self._last, *constants], [name], name=name, **attributes))
        self._last = name

    def convolutions(self, count: int, channels: int) -> None:
        for _ in range(count):
            fan_in = self._channels * 9
            weight = self._constant(f"w{len(self._nodes)}", (channels, self._channels, 3, 3), fan_in)
            self._add("Conv", weight, pads=[1, 1, 1, 1])
            self._add("Relu")
            self._channels = channels

    def pooling(self) -> None:
        self._add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])

    def finish(self) -> onnx.ModelProto:
        self._add("GlobalAveragePool")
        self._add("Flatten")
        self._add("Gemm", self._constant("wc", (CLASSES, self._channels), self._channels), transB=1)
        graph = helper.make_graph(
            self._nodes,
            "vgg",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *IMAGE])],
            [helper.make_tensor_value_info(self._last, TensorProto.FLOAT, [1, CLASSES])],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 8
        return model


def vgg(layers: int, channels: int, seed: int = 0) -> onnx.ModelProto:
    builder = NetworkBuilder(seed)
    builder.convolutions(layers, channels)
    builder.pooling()
    builder.convolutions(4, 2 * channels)
    builder.pooling()
    builder.convolutions(4, 2 * channels)
    return builder.finish()


class Stages:
    """Seconds by stage (of the wall, and of all cores together), and the process's peak memory after each."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def run(self, name: str, work: Any) -> Any:
        start, cpu_start = time.perf_counter(), time.process_time()
        result = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
        self.rows.append({"stage": name, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak})
        print(f"{name:12} {seconds:8.1f} s   {cpu_seconds:8.1f} core-s   peak {peak / 2**30:5.2f} GiB", flush=True)
        return result


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    model = vgg(arguments.layers, arguments.channels)
    images = np.random.default_rng(1).uniform(0, 1, (arguments.samples, *IMAGE)).astype(np.float32)
    stages = Stages()
    module = stages.run("quantize", lambda: build_quantized_module(model, images, n_bits=arguments.bits))
    stages.run("compile", lambda: module.compile(images, precision=arguments.precision))
    clear = stages.run("clear", lambda: module.forward(images[:1]))
    simulated = stages.run("simulate", lambda: module.forward(images[:1], fhe="simulate"))
    estimate = stages.run("estimate", lambda: module.estimate(batch=1, changes=0))
    statistics = module.fhe_circuit.statistics
    return {
        "lookups": statistics["table_lookup_count"],
        "precision": statistics["precision"],
        "max_bits": module.fhe_circuit.graph.maximum_integer_bit_width(),
        "cores": len(os.sched_getaffinity(0)),
        "stages": stages.rows,
        "seconds": sum(row["seconds"] for row in stages.rows),
        "peak_bytes": stages.rows[-1]["peak_bytes"],
        "estimated_encrypted_s": estimate["seconds_one_sample"],
        "largest_difference": float(np.abs(simulated - clear).max() / max(np.ptp(clear), 1e-12)),
        "version": torusml.__version__ if hasattr(torusml, "__version__") else "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=14, help="convolutions on whole images")
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--bits", type=int, default=3)
    parser.add_argument("--samples", type=int, default=2, help="calibration images")
    parser.add_argument("--precision", default="tolerant")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result))
        return
    print(
        f"{result['lookups']:,} lookups a sample, accumulators of {result['max_bits']} bits ({result['precision']}): "
        f"{result['seconds']:.0f} s on {result['cores']} cores, peak {result['peak_bytes'] / 2**30:.2f} GiB; simulated "
        f"results within {result['largest_difference']:.1%} of the clear ones; an encrypted sample would take "
        f"{result['estimated_encrypted_s'] / 3600:.1f} h"
    )


if __name__ == "__main__":
    main()
