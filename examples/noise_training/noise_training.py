"""What training with noise buys: accuracy under small, fast keys of networks that were trained with their noise and without.

python examples/noise_training/noise_training.py               # prints the tables of README.md
python examples/noise_training/noise_training.py --seeds 2 --tasks digits
python examples/noise_training/noise_training.py --trained FOLDER --train-only --jobs 16    # and later without --train-only
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerTensorFloat, Uint8ActPerTensorFloat
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkerboard"))
import data as board_data  # noqa: E402
import networks as board_networks  # noqa: E402
from training import TrainingSettings, train  # noqa: E402

from torusml.torch import finish_pruning, noise, to_qat  # noqa: E402

# Standard deviations of the noise over the interval: 5.7 / N for N = 1024, 512 and half of that, about.
SIGMAS = {"2^-7.5": 2**-7.5, "2^-6.5": 2**-6.5, "2^-5.5": 2**-5.5}
TRAINED_WITH = ("none", "2^-7.5", "2^-6.5")
MARGIN = 0.2  # intervals are that much wider than the calibration data on each side, and so is the noise


@dataclass(frozen=True)
class Task:
    make: Callable[[], nn.Module]
    samples: Callable[[int], board_data.Checkerboard]  # training and test points of a seed
    settings: TrainingSettings


class DigitNet(nn.Module):
    """64 - 48 - 48 - 10 over images of 8 x 8, every value an integer of so many bits."""

    def __init__(self, bits: int = 3, hidden: int = 48):
        super().__init__()

        def linear(inputs: int, outputs: int) -> nn.Module:
            return qnn.QuantLinear(
                inputs, outputs, bias=True, weight_bit_width=bits, weight_quant=Int8WeightPerTensorFloat,
                weight_narrow_range=True,
            )  # fmt: skip

        def relu() -> nn.Module:
            return qnn.QuantReLU(bit_width=bits, act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)

        self.input_quant = qnn.QuantIdentity(bit_width=bits, act_quant=Int8ActPerTensorFloat, return_quant_tensor=True)
        self.fc1, self.relu1 = linear(64, hidden), relu()
        self.fc2, self.relu2 = linear(hidden, hidden), relu()
        self.fc3 = linear(hidden, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.fc1(self.input_quant(x)))
        x = self.relu2(self.fc2(x))
        return self.fc3(x)


def digits_cnn() -> nn.Module:
    """digits-cnn of bench/networks, at 3 bits: convolutions to 16 channels of 6x6 and 32 of 4x4, 64 neurons, 10 classes."""
    return to_qat(
        nn.Sequential(
            nn.Conv2d(1, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10),
        ),
        bits=3,
    )  # fmt: skip


def digit_images(seed: int) -> board_data.Checkerboard:
    board = digits(seed)

    def images(samples: board_data.Samples) -> board_data.Samples:
        return board_data.Samples(samples.points.reshape(-1, 1, 8, 8), samples.labels)

    return board_data.Checkerboard(train=images(board.train), test=images(board.test))


def digits(seed: int) -> board_data.Checkerboard:
    """scikit-learn's 1,797 digits, a third of them for tests."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    points = (images / 8 - 1).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(points))
    test, rest = order[:599], order[599:]
    return board_data.Checkerboard(
        train=board_data.Samples(points[rest], labels[rest].astype(np.int64)),
        test=board_data.Samples(points[test], labels[test].astype(np.int64)),
    )


TASKS = {
    "checkerboard": Task(
        make=lambda: board_networks.PrunedQuantNet(hidden=100, bits=3, max_nonzero=30),
        samples=lambda seed: board_data.checkerboard(seed, test_count=2500),
        settings=TrainingSettings(epochs=100),
    ),
    "digits": Task(make=DigitNet, samples=digits, settings=TrainingSettings(epochs=40, batch_size=64)),
    "digits-cnn": Task(
        make=digits_cnn, samples=digit_images, settings=TrainingSettings(epochs=60, batch_size=64, learning_rate=5e-3)
    ),
}


def accuracy(module, samples: board_data.Samples, seed: int | None = None) -> float:
    """Of the integer circuit in the clear, or simulated with the noise of a seed."""
    q = module.quantize_input(samples.points)
    y = module.fhe_circuit.run_clear(q) if seed is None else module.fhe_circuit.simulate(q, seed=seed)
    return float((module.dequantize_output(y).argmax(1) == samples.labels).mean())


def around(trained_with: str) -> Callable[[nn.Module], AbstractContextManager]:
    """The context that a network is trained in."""
    if trained_with == "none":
        return nullcontext
    return lambda net: noise.inject(net, SIGMAS[trained_with] * (1 + 2 * MARGIN))


def trained(name: str, trained_with: str, seed: int, folder: Path | None) -> nn.Module:
    """The network from its file in `folder`, or trained and stored there."""
    torch.set_num_threads(1)
    task = TASKS[name]
    path = folder / f"{name}-{trained_with}-seed{seed}.pt" if folder else None
    if path is not None and path.exists():
        network = finish_pruning(task.make())
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    title = f"{name}, seed {seed}, {trained_with}"
    network = train(task.make, task.samples(seed).train, seed, task.settings, title, around(trained_with))
    if path is not None:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), path)
    return network


def measure(name: str, trained_with: str, seed: int, folder: Path | None) -> tuple[dict[str, float], dict[str, str]]:
    """Accuracies by the noise of the keys, "clear" among them, and what the keys are."""
    from torusml.torch.compile import compile_brevitas_qat_model

    network = trained(name, trained_with, seed, folder)
    samples = TASKS[name].samples(seed)
    found, keys = {}, {}
    for sigma in SIGMAS:
        module = compile_brevitas_qat_model(
            network, samples.train.points, precision="tolerant", tolerance=SIGMAS[sigma], margin=MARGIN
        )
        found.setdefault("clear", accuracy(module, samples.test))
        found[sigma] = accuracy(module, samples.test, seed)
        plan = module.fhe_circuit.statistics
        degree = plan["key_sets"][0]["parameters"]["polynomial_size"]
        reached = ", ".join(f"2^{np.log2(value):.1f}" for value in noise.sigma_of(module).values())
        keys[sigma] = f"N = {degree}, {plan['complexity'] / plan['table_lookup_count']:.1f} ms a lookup, noise {reached}"
    print(f"{name}, {trained_with}, seed {seed}: {found}", file=sys.stderr, flush=True)
    return found, keys


def table(name: str, results: list[tuple[dict[str, float], dict[str, str]]]) -> str:
    """Mean and standard deviation over the seeds, in per cent; of what noise costs, too, seed by seed."""
    columns = ["clear", *SIGMAS]
    header = ["clear", *(f"keys of {sigma}" for sigma in SIGMAS), *(f"lost at {sigma}" for sigma in SIGMAS)]
    lines = [f"| {name}, trained with | " + " | ".join(header) + " |", "| --- |" + " --- |" * len(header)]
    for i, trained_with in enumerate(TRAINED_WITH):
        runs = [found for found, _ in results[i :: len(TRAINED_WITH)]]
        values = [np.array([run[column] for run in runs]) for column in columns]
        values += [np.array([run["clear"] - run[sigma] for run in runs]) for sigma in SIGMAS]
        lines.append(f"| {trained_with} | " + " | ".join(map(spread, values)) + " |")
    keys = results[0][1]
    lines += ["", *(f"- keys of {sigma}, seed 0: {text}" for sigma, text in keys.items())]
    return "\n".join(lines)


def spread(values: np.ndarray) -> str:
    return f"{100 * values.mean():.2f} ± {100 * values.std(ddof=1) if len(values) > 1 else 0:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time, each on one thread")
    parser.add_argument("--trained", type=Path, help="a folder that keeps the trained networks")
    parser.add_argument("--train-only", action="store_true", help="train into that folder, and measure nothing")
    arguments = parser.parse_args()
    if arguments.train_only and arguments.trained is None:
        parser.error("--train-only needs --trained FOLDER")
    start = time.perf_counter()
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name in arguments.tasks:
            cases = [(name, w, seed, arguments.trained) for seed in range(arguments.seeds) for w in TRAINED_WITH]
            if arguments.train_only:
                list(pool.map(_train, cases))
            else:
                print(table(name, list(pool.map(measure, *zip(*cases, strict=True)))), "\n", flush=True)
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


def _train(case: tuple[str, str, int, Path]) -> None:
    trained(*case)


if __name__ == "__main__":
    main()
