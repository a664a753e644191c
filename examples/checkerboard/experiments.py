"""The three experiments as data, and their trained networks, kept in files.

    case = CASES["b"][0]
    network = trained(case, seed=0, board=checkerboard(0), folder=Path("out/checkerboard"))

A run that was broken off goes on where it stopped. Quantized networks are SimpleNet's twins, made by
torusml.torch.to_qat.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from data import Checkerboard, Samples
from networks import SimpleNet
from torch import nn
from training import accuracy, train

from torusml.torch import finish_pruning, prune_to_accumulator, to_qat

BITS = 3
HIDDEN = 100


@dataclass(frozen=True)
class Bound:
    """Sums are pruned to `bits` after every epoch from the share `start` of the training on."""

    bits: int | dict[str, int]
    start: float

    def __call__(self, network: nn.Module, done: float) -> None:
        if done >= self.start:
            prune_to_accumulator(network, self.bits, weights="current")


@dataclass(frozen=True)
class Case:
    """One network architecture; every case is trained once a seed."""

    name: str
    description: str
    make: Callable[[Samples], nn.Module]  # of the samples that it will be trained on
    quantized: bool  # trained with integers, or quantized afterwards
    after_epoch: Bound | None = None
    tries: int = 1  # trained so often at the most, from other weights, until it learns its training points


def cell_accuracy(samples: Samples, input_range: float, bits: int) -> float:
    """The most that any network can reach on these samples that reads its inputs through such a quantizer."""
    half = 2 ** (bits - 1)
    integers = np.clip(np.rint(samples.points / (input_range / half)), -half, half - 1).astype(int) + half
    cells = integers @ (2 * half, 1)
    of_class_1, of_both = np.bincount(cells, samples.labels), np.bincount(cells)
    return float(np.maximum(of_class_1, of_both - of_class_1).sum() / len(samples))


def separating_range(samples: Samples, bits: int) -> float:
    """The range of an input quantizer whose cells tell the classes apart best, among those that hold most of the points."""
    ranges = np.linspace(0.3, 0.56, 261).tolist()
    return max(ranges, key=lambda input_range: cell_accuracy(samples, input_range, bits))


def _float_case(hidden: int) -> Case:
    return Case(f"a-{hidden}", f"{hidden} neurons", lambda samples: SimpleNet(hidden), quantized=False)


def _pruned_case(name: str, description: str, non_zero: int, bound: Bound | None = None) -> Case:
    def make(samples: Samples) -> nn.Module:
        return to_qat(SimpleNet(HIDDEN), BITS, non_zero, return_quant_tensor=True)

    return Case(name, description, make, quantized=True, after_epoch=bound)


def _make_bounded(samples: Samples) -> nn.Module:
    input_range = separating_range(samples, BITS)
    return to_qat(SimpleNet(HIDDEN), BITS, 30, input_range=input_range, return_quant_tensor=True)


CASES: dict[str, list[Case]] = {
    # Float networks, quantized after training.
    "a": [_float_case(hidden) for hidden in (10, 30, 100)],
    # Quantization-aware training, pruned: the network that is run encrypted. No sum can exceed 7 bits.
    # 3 bits leave each input 8 steps, whose edges have to lie on those of the squares: training alone
    # does not find that. One network in six does not learn the board within its bounds.
    "b": [
        Case(
            "b-30-7",
            "at most 30 weights a neuron, sums of at most 7 bits",
            _make_bounded,
            quantized=True,
            after_epoch=Bound(7, start=0.4),
            tries=4,
        )
    ],
    # Fewer connections, with and without a bound on the sums.
    "c": [
        _pruned_case("c-10", "10", 10),
        _pruned_case("c-10-7", "10, sums of at most 7 bits", 10, Bound(7, start=0.1)),
        _pruned_case("c-30", "30", 30),
        _pruned_case("c-30-7", "30, sums of at most 7 bits", 30, Bound(7, start=0.1)),
    ],
}


def trained(case: Case, seed: int, board: Checkerboard, folder: Path) -> nn.Module:
    """The case's network of this seed, from its file in `folder`, or trained and stored there."""
    path = folder / f"{case.name}-seed{seed}.pt"
    if path.exists():
        network = finish_pruning(case.make(board.train))
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    network = _best_of_tries(case, seed, board.train)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network


def _best_of_tries(case: Case, seed: int, samples: Samples) -> nn.Module:
    """Judged by training points alone."""
    networks: list[tuple[float, nn.Module]] = []
    enough = cell_accuracy(samples, separating_range(samples, BITS), BITS) - 0.01
    for number in range(case.tries):
        title = f"  {case.name}, seed {seed}" + (f", try {number + 1}" if number else "")
        start = seed + 1000 * number
        network = train(lambda: case.make(samples), samples, start, title=title, after_epoch=case.after_epoch)
        networks.append((accuracy(network, samples), network))
        if networks[-1][0] >= enough:
            break
    return max(networks, key=lambda pair: pair[0])[1]
