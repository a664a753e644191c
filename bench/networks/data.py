"""Images and labels of the benchmarks' networks, floats in [0, 1], shaped [n, 1, height, width].

    data = load("nn-20", mnist_path=Path("digits.npz"), fashion_folder=FASHION)
    data.train.images, data.train.labels, data.test.images, data.test.labels

MNIST digits come from a file that the caller names: arrays x_train, y_train, x_test, y_test, uint8 [n, 28, 28].
Fashion-MNIST is Debian's package dataset-fashion-mnist; the digits of 8x8 pixels come with scikit-learn. The
checkerboard's points lie beside its trained network in tests/models/.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
IDX_HEADER_BYTES = {"images": 16, "labels": 8}


@dataclass(frozen=True)
class Samples:
    images: np.ndarray  # float32 [n, ...]
    labels: np.ndarray  # int64 [n]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Data:
    train: Samples
    test: Samples


def fail(message: str) -> None:
    sys.exit(f"bench/networks: {message}")


def _images(pixels: np.ndarray, labels: np.ndarray, brightest: int = 255) -> Samples:
    return Samples((pixels / np.float32(brightest)).astype(np.float32)[:, None], labels.astype(np.int64))


def mnist(path: Path | None) -> Data:
    if path is None:
        fail("this network needs MNIST digits: --mnist FILE.npz with x_train, y_train, x_test, y_test (uint8 [n, 28, 28])")
    if not path.exists():
        fail(f"--mnist {path}: there is no such file")
    with np.load(path) as file:
        return Data(_images(file["x_train"], file["y_train"]), _images(file["x_test"], file["y_test"]))


def _idx(folder: Path, part: str, kind: str, dimensions: int) -> np.ndarray:
    path = folder / f"{part}-{kind}-idx{dimensions}-ubyte.gz"
    if not path.exists():
        fail(f"there is no {path}: apt-get install dataset-fashion-mnist, or --fashion FOLDER")
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=IDX_HEADER_BYTES[kind])


def fashion(folder: Path) -> Data:
    def samples(part: str) -> Samples:
        return _images(_idx(folder, part, "images", 3).reshape(-1, 28, 28), _idx(folder, part, "labels", 1))

    return Data(samples("train"), samples("t10k"))


def small_digits() -> Data:
    """1,797 digits of 8x8 pixels with 17 shades; every fifth is a test image."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        fail("the digits of 8x8 pixels come with scikit-learn: .venv/bin/pip install scikit-learn")
    digits = load_digits()
    everything = _images(digits.images, digits.target, brightest=16)
    is_test = np.arange(len(everything)) % 5 == 0
    return Data(
        Samples(everything.images[~is_test], everything.labels[~is_test]),
        Samples(everything.images[is_test], everything.labels[is_test]),
    )


def load(network: str, mnist_path: Path | None, fashion_folder: Path) -> Data:
    """The images that a network of models.py is for."""
    if network == "digits-cnn":
        return small_digits()
    return fashion(fashion_folder) if "fashion" in network else mnist(mnist_path)


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--mnist", type=Path, help="MNIST digits, .npz: x_train, y_train, x_test, y_test")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="the folder of Fashion-MNIST's idx files")
    parser.add_argument("--seed", type=int, default=0, help="of training")
