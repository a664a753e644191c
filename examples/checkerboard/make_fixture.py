"""Stores a trained network and the integers that Brevitas computes, as a fixture for tests.

    python examples/checkerboard/make_fixture.py tests/models

writes checkerboard_qat_seed0.onnx and checkerboard_qat_seed0.npz; tests/models/README.md says what
they hold. The tests read them without torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from data import checkerboard
from exporting import export_qat
from integers import accumulator_ranges, layer_integers, scales
from networks import PrunedQuantNet
from training import accuracy, logits, train

SEED = 0


def compact(values: np.ndarray) -> np.ndarray:
    """The same integers in the smallest type that holds them."""
    types = (np.uint8, np.int8, np.int16, np.int32)
    fitting = (t for t in types if np.iinfo(t).min <= values.min() and values.max() <= np.iinfo(t).max)
    return values.astype(next(fitting))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder

    torch.set_num_threads(1)
    board = checkerboard(SEED)
    network = train(lambda: PrunedQuantNet(hidden=100, bits=3, max_nonzero=30), board.train, SEED)
    values = layer_integers(network, board.test.points)
    arrays = {f"int_{name}": compact(value) for name, value in values.items()}
    arrays |= {f"scale_{name}": np.float32(scale) for name, scale in scales(network).items()}
    path = folder / f"checkerboard_qat_seed{SEED}"
    export_qat(network, path.with_suffix(".onnx"))
    np.savez_compressed(
        path.with_suffix(".npz"),
        points=board.test.points,
        labels=board.test.labels.astype(np.uint8),
        logits=logits(network, board.test.points),
        calibration=board.train.points,
        **arrays,
    )
    print(f"accuracy {accuracy(network, board.test):.1%}, sums {accumulator_ranges(values)}")


if __name__ == "__main__":
    main()
