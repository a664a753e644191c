"""All experiments of the checkerboard, ten seeds each, and their table.

    python examples/checkerboard/full.py            # everything, hours; goes on where it stopped
    python examples/checkerboard/full.py --experiments b --seeds 0 1
    python examples/checkerboard/full.py --table    # writes docs/checkerboard.md

Every finished step leaves a JSON file in out/checkerboard; delete a file to have its step done
again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from data import Checkerboard, checkerboard, oracle_accuracy
from encrypted import PRECISION, classes, compile_network, make_keys, run_encrypted
from experiments import BITS, CASES, Case, trained
from integers import accumulator_bits, accumulator_ranges, layer_integers, nonzero_weights
from report import circuit_facts, machine, sizes
from table import DEMO_POINTS, DEMO_SEED, FOLDER, KEY_SETS, SEEDS, write_table
from training import accuracy

from torusml.quantization import QuantizedModule
from torusml.torch.compile import compile_torch_model

FEW_POINTS = 20  # encrypted for the seeds other than the demo's


def step(path: Path, work: Callable[[], dict]) -> None:
    """Does one step and stores its result, unless the file is already there."""
    if path.exists():
        return
    print(f"{path.stem} ...", file=sys.stderr, flush=True)
    result = work() | {
        "machine": machine(),
        "finished": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result, indent=1) + "\n")
    partial.rename(path)


class Experiment:
    """One case and seed; the network is trained and compiled once, when a step first needs it."""

    def __init__(self, case: Case, seed: int):
        self.case, self.seed = case, seed
        self.board: Checkerboard = checkerboard(seed)
        self._network: torch.nn.Module | None = None
        self._module: QuantizedModule | None = None
        self._compile_seconds = 0.0

    @property
    def network(self) -> torch.nn.Module:
        if self._network is None:
            self._network = trained(self.case, self.seed, self.board, FOLDER)
        return self._network

    @property
    def module(self) -> QuantizedModule:
        if self._module is None:
            network, train = self.network, self.board.train
            start = time.perf_counter()
            if self.case.quantized:
                self._module = compile_network(network, train)
            else:
                self._module = compile_torch_model(network, train.points, n_bits=BITS, precision=PRECISION)
            self._compile_seconds = time.perf_counter() - start
        return self._module

    def in_the_clear(self) -> dict:
        """Accuracy in torch, clear and simulated on all test points, and how wide the sums get."""
        test = self.board.test
        clear = classes(self.module, test.points, "disable")
        simulated = classes(self.module, test.points, "simulate")
        result = {
            "oracle_accuracy": oracle_accuracy(test),
            "torch_accuracy": accuracy(self.network, test),
            "clear_accuracy": float((clear == test.labels).mean()),
            "simulated_accuracy": float((simulated == test.labels).mean()),
            "simulated_differences": int((simulated != clear).sum()),
            "compile_s": self._compile_seconds,
            "accumulator_bits": self.module.fhe_circuit.graph.maximum_integer_bit_width(),
        }
        widths = [row["bitwidth"] for row in self.module.bitwidth_and_range_report().values()]
        result["table_bits"] = max(widths[:-1])  # the last layer's sums are the result
        if self.case.quantized:
            values = layer_integers(self.network, self.board.train.points)
            result |= {
                "brevitas_bits": accumulator_bits(values),
                "brevitas_ranges": accumulator_ranges(values),
                "nonzero_weights": nonzero_weights(self.network),
            }
        return result

    def encrypted(self, count: int) -> dict:
        """Fresh keys, and the first `count` test points on encrypted data."""
        test = self.board.test
        keygen_seconds = make_keys(self.module)
        run = run_encrypted(self.module, test.points[:count], f"  seed {self.seed}")
        clear = classes(self.module, test.points[:count], "disable")
        facts = circuit_facts(self.module) | sizes(self.module, test.points[:1])
        return facts | {
            "points": count,
            "keygen_s": keygen_seconds,
            "median_s": float(np.median(run.seconds)),
            "worst_s": float(run.seconds.max()),
            "encrypted_accuracy": float((run.classes == test.labels[:count]).mean()),
            "clear_accuracy": float((clear == test.labels[:count]).mean()),
            "differences": int((run.classes != clear).sum()),
        }


def run(case: Case, seed: int) -> None:
    """All steps of one case and seed."""
    experiment = Experiment(case, seed)
    stem = f"{case.name}-seed{seed}"
    step(FOLDER / f"{stem}.json", experiment.in_the_clear)
    if case not in CASES["b"]:
        return
    key_sets = KEY_SETS if seed == DEMO_SEED else 1
    count = DEMO_POINTS if seed == DEMO_SEED else FEW_POINTS
    for number in range(key_sets):
        step(FOLDER / f"{stem}-keys{number}.json", lambda: experiment.encrypted(count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", nargs="+", choices=sorted(CASES), default=sorted(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--table",
        action="store_true",
        help="only write docs/checkerboard.md from the stored results",
    )
    arguments = parser.parse_args()
    if arguments.table:
        print(write_table())
        return
    runs = [(case, seed) for name in arguments.experiments for case in CASES[name] for seed in arguments.seeds]
    # The demo's seed, encrypted on all points, takes longer than all the rest and comes last.
    for case, seed in sorted(runs, key=lambda pair: pair[0] in CASES["b"] and pair[1] == DEMO_SEED):
        run(case, seed)


if __name__ == "__main__":
    main()
