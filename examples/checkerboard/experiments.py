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
from training import train

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


def separating_range(samples: Samples, bits: int) -> float:
    """The range of an input quantizer whose cells tell the classes apart best: most samples are of their cell's class."""
    half = 2 ** (bits - 1)
    right = {}
    for input_range in np.linspace(0.1, 0.8, 701):
        integers = np.clip(np.rint(samples.points / (input_range / half)), -half, half - 1).astype(int) + half
        cells = integers @ (2 * half, 1)
        of_class_1 = np.bincount(cells, samples.labels)
        of_both = np.bincount(cells)
        right[float(input_range)] = np.maximum(of_class_1, of_both - of_class_1).sum()
    return max(right, key=right.get)


def _float_case(hidden: int) -> Case:
    return Case(f"a-{hidden}", f"{hidden} neurons", lambda samples: SimpleNet(hidden), quantized=False)


def _pruned_case(name: str, description: str, non_zero: int, bound: Bound | None = None, fixed_range: bool = False) -> Case:
    def make(samples: Samples) -> nn.Module:
        input_range = separating_range(samples, BITS) if fixed_range else None
        return to_qat(SimpleNet(HIDDEN), BITS, non_zero, input_range=input_range, return_quant_tensor=True)

    return Case(name, description, make, quantized=True, after_epoch=bound)


CASES: dict[str, list[Case]] = {
    # Float networks, quantized after training.
    "a": [_float_case(hidden) for hidden in (10, 30, 100)],
    # Quantization-aware training, pruned: the network that is run encrypted. No sum can exceed 7 bits in
    # layers 1 and 3, and 8 in layer 2, where the sums that occur take less. 3 bits leave the input 8 steps
    # a side, whose edges have to lie on those of the squares: training alone does not find that.
    "b": [
        _pruned_case(
            "b-30-bounded",
            "at most 30 weights a neuron, sums of at most 7, 8 and 7 bits",
            30,
            Bound({"fc1": 7, "fc2": 8, "fc3": 7}, start=0.2),
            fixed_range=True,
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
    title = f"  {case.name}, seed {seed}"
    network = train(lambda: case.make(board.train), board.train, seed, title=title, after_epoch=case.after_epoch)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network
