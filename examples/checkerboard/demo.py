"""The main job in minutes: train a quantized network, compile it, and predict on encrypted points.

    python examples/checkerboard/demo.py                       # seed 0, 20 encrypted points
    python examples/checkerboard/demo.py --seed 3 --points 50 --json

Prints accuracy in every way the network can run, time, sizes, and draws out/checkerboard.png.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import Checkerboard, Samples, checkerboard, oracle_accuracy
from encrypted import (
    EncryptedRun,
    classes,
    compile_network,
    distinct_inputs,
    make_keys,
    run_encrypted,
)
from integers import accumulator_ranges, layer_integers
from networks import PrunedQuantNet, QuantSimpleNet, SimpleNet
from plots import Panel, draw, plane
from report import circuit_facts, human_bytes, human_probability, machine, sizes
from torch import nn
from training import accuracy, logits, train

from torusml.quantization import QuantizedModule

HIDDEN, BITS, MAX_NONZERO = 100, 3, 30
PICTURE = Path("out/checkerboard.png")


@dataclass
class Demo:
    """What the steps of the demo hand on to each other."""

    board: Checkerboard
    float_network: nn.Module
    network: QuantSimpleNet
    module: QuantizedModule
    facts: dict[str, object]


def say(text: str) -> None:
    """Progress and explanations; stdout is kept for the result."""
    print(text, file=sys.stderr, flush=True)


def prepare(seed: int) -> Demo:
    """Trains both networks, compiles the quantized one and makes keys."""
    board = checkerboard(seed)
    say(f"Checkerboard, seed {seed}: {len(board.train)} training and {len(board.test)} test points.")

    say(f"1/5 Training a float network, 2 - {HIDDEN} - {HIDDEN} - 2 ...")
    float_network = train(lambda: SimpleNet(HIDDEN), board.train, seed, title="  float")

    say(f"2/5 Training it with {BITS}-bit integers, {MAX_NONZERO} weights a neuron (a minute) ...")
    start = time.perf_counter()
    network = train(lambda: PrunedQuantNet(HIDDEN, BITS, MAX_NONZERO), board.train, seed, title="  integers")
    train_seconds = time.perf_counter() - start
    for name, (low, high) in accumulator_ranges(layer_integers(network, board.train.points)).items():
        say(f"  sums of {name}: {low} to {high}")

    say("3/5 Compiling ...")
    start = time.perf_counter()
    module = compile_network(network, board.train)
    compile_seconds = time.perf_counter() - start

    say("4/5 Making keys ...")
    keygen_seconds = make_keys(module)
    seconds = {"train_s": train_seconds, "compile_s": compile_seconds, "keygen_s": keygen_seconds}
    facts = seconds | circuit_facts(module) | sizes(module, board.test.points[:1])
    return Demo(board, float_network, network, module, facts)


def predict(demo: Demo, count: int) -> tuple[dict[str, object], EncryptedRun]:
    """Accuracy of every executor, and the encrypted run over the first `count` test points."""
    test = demo.board.test
    clear = classes(demo.module, test.points, "disable")
    simulated = classes(demo.module, test.points, "simulate")
    say(f"5/5 Predicting {count} encrypted points ...")
    run = run_encrypted(demo.module, test.points[:count], "  encrypted")
    results = {
        "oracle_accuracy": oracle_accuracy(test),
        "float_accuracy": accuracy(demo.float_network, test),
        "qat_accuracy": accuracy(demo.network, test),
        "clear_accuracy": float((clear == test.labels).mean()),
        "simulated_accuracy": float((simulated == test.labels).mean()),
        "simulated_differences": int((simulated != clear).sum()),
        "test_points": len(test),
        "encrypted_accuracy": float((run.classes == test.labels[:count]).mean()),
        "encrypted_differences": int((run.classes != clear[:count]).sum()),
        "encrypted_points": count,
        "seconds_per_point": float(np.median(run.seconds)),
    }
    return results, run


def picture(demo: Demo, run: EncryptedRun, with_boundary: bool) -> None:
    """Three panels; the last one's background is computed on encrypted data too, if wanted."""
    test, grid = demo.board.test, plane()
    shown = Samples(test.points[: len(run.classes)], test.labels[: len(run.classes)])
    encrypted_plane = None
    if with_boundary:
        representatives, group = distinct_inputs(demo.module, grid)
        say(f"Encrypting {len(representatives)} inputs, all that {BITS} bits tell apart ...")
        encrypted_plane = run_encrypted(demo.module, representatives, "  picture").classes[group]

    def panel(title: str, plane_classes: np.ndarray | None, samples: Samples, found: np.ndarray) -> Panel:
        wrong = found != samples.labels
        note = f"{1 - wrong.mean():.1%} of {len(samples)} test points"
        return Panel(title, plane_classes, samples, wrong, note)

    float_plane, float_test = (logits(demo.float_network, points).argmax(axis=1) for points in (grid, test.points))
    clear_plane, clear_test = (classes(demo.module, points, "disable") for points in (grid, test.points))
    draw(
        [
            panel("Floats", float_plane, test, float_test),
            panel(f"{BITS}-bit integers, in the clear", clear_plane, test, clear_test),
            panel(f"{BITS}-bit integers, encrypted", encrypted_plane, shown, run.classes),
        ],
        PICTURE,
    )


def summary(facts: dict[str, object], seed: int) -> str:
    """The result as a table for people."""
    rows = [
        (
            "network",
            f"2-{HIDDEN}-{HIDDEN}-2, {BITS} bits, {MAX_NONZERO} weights a neuron, seed {seed}",
        ),
        ("float, torch", f"{facts['float_accuracy']:.1%} of {facts['test_points']} points"),
        ("integers, torch", f"{facts['qat_accuracy']:.1%} of {facts['test_points']} points"),
        ("integers, clear", f"{facts['clear_accuracy']:.1%} of {facts['test_points']} points"),
        (
            "integers, simulated",
            f"{facts['simulated_accuracy']:.1%} of {facts['test_points']} points,"
            f" {facts['simulated_differences']} unlike clear",
        ),
        (
            "integers, encrypted",
            f"{facts['encrypted_accuracy']:.1%} of {facts['encrypted_points']} points,"
            f" {facts['encrypted_differences']} unlike clear",
        ),
        (
            "best possible",
            f"{facts['oracle_accuracy']:.1%}: the noise moves some points over a border",
        ),
        ("widest accumulator", f"{facts['accumulator_bits']} bits"),
        ("lookups", f"{facts['lookups']} a point"),
        (
            "security",
            f"{facts['security_bits']} bits, p_error {human_probability(facts['p_error'])}",
        ),
        ("compiled in", f"{facts['compile_s']:.2f} s"),
        ("keys made in", f"{facts['keygen_s']:.2f} s"),
        ("secret key", human_bytes(facts["secret_key_bytes"])),
        ("evaluation keys", human_bytes(facts["evaluation_key_bytes"])),
        ("encrypted input", f"{human_bytes(facts['input_bytes'])} a point"),
        ("encrypted output", f"{human_bytes(facts['output_bytes'])} a point"),
        ("time", f"{facts['seconds_per_point']:.2f} s a point on {facts['machine']}"),
        ("picture", facts["picture"]),
    ]
    return "\n".join(f"{name:<20} {text}" for name, text in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the data and of the training")
    parser.add_argument("--points", type=int, default=20, help="test points to predict encrypted")
    parser.add_argument(
        "--no-boundary",
        action="store_true",
        help="leave out the encrypted background of the picture",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    arguments = parser.parse_args()

    demo = prepare(arguments.seed)
    if not 1 <= arguments.points <= len(demo.board.test):
        parser.error(f"--points must be 1 to {len(demo.board.test)}, got {arguments.points}")
    results, run = predict(demo, arguments.points)
    picture(demo, run, with_boundary=not arguments.no_boundary)
    facts = demo.facts | results | {"machine": machine(), "picture": str(PICTURE)}
    print(json.dumps({"seed": arguments.seed} | facts) if arguments.json else summary(facts, arguments.seed))


if __name__ == "__main__":
    main()
