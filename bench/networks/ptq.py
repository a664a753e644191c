"""Accuracy of post-training quantization, by method and bits, of the networks that train.py made.

    .venv/bin/python bench/networks/ptq.py --models MODELS                           # all networks, 5, 4 and 3 bits
    .venv/bin/python bench/networks/ptq.py --models MODELS mlp --methods mse best --bits 3

Calibration is on training images only; accuracy is that of the integer circuit in the clear on the test images. Prints a
table, and with --json FILE keeps the numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from data import fail

import torusml

NETWORKS = ("digits-cnn", "mlp", "fashion-cnn", "nn-20", "nn-50")
METHODS = ("compatible", "minmax", "percentile", "mse", "entropy", "best")
MARGIN = 0.15  # accumulators of test images leave the range of 8,000 training images by up to 8 % of its width


def measure(folder: Path, name: str, method: str, bits: int) -> dict:
    with np.load(folder / f"{name}.npz") as file:
        arrays = dict(file)
    start = time.perf_counter()
    module = torusml.quantize(folder / f"{name}-float.onnx", arrays["calibration"], bits=bits, method=method, margin=MARGIN)
    seconds = time.perf_counter() - start
    found = module.forward(arrays["test"]).argmax(axis=1)
    description = json.loads((folder / f"{name}.json").read_text())
    return {
        "network": name,
        "method": method,
        "bits": bits,
        "float": description["float_accuracy"],
        "accuracy": float((found == arrays["labels"]).mean()),
        "test_images": len(arrays["labels"]),
        "calibration_images": len(arrays["calibration"]),
        "seconds": seconds,
    }


def table(results: list[dict]) -> str:
    lines = ["| network | bits | method | float | quantized | points lost | s |", "|---|---|---|---|---|---|---|"]
    for r in results:
        lines.append(
            f"| {r['network']} | {r['bits']} | {r['method']} | {100 * r['float']:.2f}% | {100 * r['accuracy']:.2f}% | "
            f"{100 * (r['float'] - r['accuracy']):.2f} | {r['seconds']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--models", type=Path, required=True, help="the folder of the trained networks")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--bits", nargs="+", type=int, default=[5, 4, 3])
    parser.add_argument("--json", type=Path, help="a file for the result")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(NETWORKS))
    if unknown:
        fail(f"there is no network {unknown[0]}; {', '.join(NETWORKS)}")
    names = args.names or [name for name in NETWORKS if (args.models / f"{name}.json").exists()]
    results = []
    for name in names:
        for bits in args.bits:
            for method in args.methods:
                results.append(measure(args.models, name, method, bits))
                print(json.dumps(results[-1]), file=sys.stderr, flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
