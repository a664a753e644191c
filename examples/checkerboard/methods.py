"""Experiment (a) by method of post-training quantization: accuracy, and bits of the widest integer.

    python examples/checkerboard/methods.py                          # 10, 30 and 100 neurons, ten seeds
    python examples/checkerboard/methods.py --hidden 10 --seeds 0 1 --methods mse best

Networks are those of experiment (a), trained where out/checkerboard lacks them. Bits are the experiment's, "best" fits on
training points and is asked for accumulators of 8 bits. Accuracy is that of the integer circuit in the clear, on all 500
test points. The search of "best" was developed on seeds 0 to 9; seeds 10 to 19 are fresh. Results are kept in
out/checkerboard/methods.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from statistics import mean

from data import Checkerboard, checkerboard
from experiments import BITS, CASES, Case, trained
from table import FOLDER, SEEDS, rows
from training import accuracy

import torusml

METHODS = ("compatible", "minmax", "percentile", "mse", "entropy", "best")
ACCUMULATOR_BITS = 8
RESULTS = FOLDER / "methods.json"


def measure(case: Case, seed: int, board: Checkerboard, method: str) -> dict:
    """One network by one method."""
    network = trained(case, seed, board, FOLDER)
    start = time.perf_counter()
    module = torusml.quantize(
        network, board.train.points, bits=BITS, method=method,
        accumulator_bits=ACCUMULATOR_BITS if method == "best" else None,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    module.compile(board.train.points)
    found = module.forward(board.test.points).argmax(axis=1)
    return {
        "float": accuracy(network, board.test),
        "accuracy": float((found == board.test.labels).mean()),
        "bits": module.fhe_circuit.graph.maximum_integer_bit_width(),
        "seconds": seconds,
    }


def table(results: dict[str, dict], methods: list[str]) -> str:
    body = []
    for case in CASES["a"]:
        for method in methods:
            found = [result for key, result in results.items() if key.startswith(f"{case.name}/{method}/")]
            if not found:
                continue
            lost = [100 * (result["float"] - result["accuracy"]) for result in found]
            body.append(
                [
                    case.description,
                    method,
                    f"{100 * mean(result['float'] for result in found):.2f}%",
                    f"{100 * mean(result['accuracy'] for result in found):.2f}%",
                    f"{mean(lost):.2f} ({min(lost):.1f} to {max(lost):.1f})",
                    f"{mean(result['bits'] for result in found):.1f}",
                    f"{len(found)}",
                ]
            )
    return rows(["network", "method", "float", f"{BITS} bits", "points lost (least to most)", "bits", "seeds"], body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", nargs="+", type=int, choices=(10, 30, 100), default=[10, 30, 100])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for case in CASES["a"]:
        if int(case.name.split("-")[1]) not in arguments.hidden:
            continue
        for seed in arguments.seeds:
            board = checkerboard(seed)
            for method in arguments.methods:
                key = f"{case.name}/{method}/{seed}"
                if key in results:
                    continue
                results[key] = measure(case, seed, board, method)
                print(key, json.dumps(results[key]), file=sys.stderr, flush=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results, arguments.methods))


if __name__ == "__main__":
    main()
