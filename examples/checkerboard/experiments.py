"""The three experiments as data, and their trained networks, kept in files.

    case = CASES["b"][0]
    network = trained(case, seed=0, board=checkerboard(0), folder=Path("out/checkerboard"))

A run that was broken off goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from data import Checkerboard
from networks import PrunedQuantNet, SimpleNet
from torch import nn
from training import train

BITS = 3
HIDDEN = 100


@dataclass(frozen=True)
class Case:
    """One network architecture; every case is trained once a seed."""

    name: str
    description: str
    make: Callable[[], nn.Module]
    quantized: bool  # trained with integers, or quantized afterwards


def _float_case(hidden: int) -> Case:
    return Case(f"a-{hidden}", f"{hidden} neurons", lambda: SimpleNet(hidden), quantized=False)


def _pruned_case(experiment: str, count: int, per_row: bool) -> Case:
    kind = "row" if per_row else "layer"
    words = f"at most {count} a neuron" if per_row else f"{count} a neuron on average"
    return Case(
        f"{experiment}-{count}-{kind}",
        words,
        lambda: PrunedQuantNet(HIDDEN, BITS, count, per_row),
        quantized=True,
    )


CASES: dict[str, list[Case]] = {
    # Float networks, quantized after training.
    "a": [_float_case(hidden) for hidden in (10, 30, 100)],
    # Quantization-aware training, pruned over the layer: the network that is run encrypted.
    "b": [_pruned_case("b", 30, per_row=False)],
    # Fewer connections, and the other way to prune; 30 over the layer is experiment b.
    "c": [
        _pruned_case("c", 10, per_row=False),
        _pruned_case("c", 10, per_row=True),
        _pruned_case("c", 30, per_row=True),
    ],
}


def trained(case: Case, seed: int, board: Checkerboard, folder: Path) -> nn.Module:
    """The case's network of this seed, from its file in `folder`, or trained and stored there."""
    path = folder / f"{case.name}-seed{seed}.pt"
    if path.exists():
        network = case.make()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network.eval()
    network = train(case.make, board.train, seed, title=f"  {case.name}, seed {seed}")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return network
