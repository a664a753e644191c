"""Pictures of the shape of CIFAR-10's, 3 x 32 x 32, made from Fashion-MNIST: coloured clothes on patterned grounds.

    pictures = make("t10k", seed=0)
    pictures.pixels, pictures.labels         # uint8 [10000, 3, 32, 32], int64 [10000]

CIFAR-10 cannot be had without a network. Fashion-MNIST is Debian's package dataset-fashion-mnist; each of its images gets
a colour, a place, a mirror image by chance and a ground of its own: a grating of two colours, under coarse noise. The same
seed gives the same pictures.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FASHION = Path("/usr/share/datasets/fashion-mnist")
SIDE = 32
PART = 1000  # pictures made at a time


@dataclass(frozen=True)
class Pictures:
    pixels: np.ndarray  # uint8 [n, 3, 32, 32]
    labels: np.ndarray  # int64 [n]

    def __len__(self) -> int:
        return len(self.labels)


def make(part: str, seed: int, folder: Path = FASHION) -> Pictures:
    """part: "train" (60,000 pictures) or "t10k" (10,000)."""
    clothes = _idx(folder / f"{part}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    labels = _idx(folder / f"{part}-labels-idx1-ubyte.gz", 8).astype(np.int64)
    generator = np.random.default_rng([seed, len(part)])
    parts = [_pictures(clothes[i : i + PART], generator) for i in range(0, len(clothes), PART)]
    return Pictures(np.concatenate(parts), labels)


def scaled(pixels: np.ndarray) -> np.ndarray:
    """As networks see them: float32, -1 to 1."""
    return pixels.astype(np.float32) / np.float32(127.5) - 1


def _idx(path: Path, header_bytes: int) -> np.ndarray:
    if not path.exists():
        raise SystemExit(f"there is no {path}: apt-get install dataset-fashion-mnist")
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=header_bytes)


def _pictures(clothes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    count = len(clothes)
    shade = np.zeros((count, SIDE, SIDE), np.float32)
    room = SIDE - 28 + 1
    for shown, image, top, left, mirrored in zip(
        shade, clothes, *generator.integers(0, room, (2, count)), generator.integers(0, 2, count), strict=True
    ):
        shown[top : top + 28, left : left + 28] = (image[:, ::-1] if mirrored else image) / np.float32(255)
    cover = np.minimum(1, 3 * shade)[:, None]
    colour = generator.uniform(0.4, 1, (count, 3, 1, 1)).astype(np.float32)
    picture = cover * shade[:, None] * colour + (1 - cover) * _grounds(count, generator)
    return np.rint(255 * picture).astype(np.uint8)


def _grounds(count: int, generator: np.random.Generator) -> np.ndarray:
    """Float32 [count, 3, 32, 32], 0 to 1."""
    place = np.arange(SIDE, dtype=np.float32) / SIDE
    across, down = generator.uniform(-5, 5, (2, count, 1, 1)).astype(np.float32)
    phase = generator.uniform(0, 1, (count, 1, 1)).astype(np.float32)
    wave = np.sin(2 * np.pi * (across * place + down * place[:, None] + phase))
    mixture = ((wave + 1) / 2)[:, None]
    first, second = generator.uniform(0, 0.8, (2, count, 3, 1, 1)).astype(np.float32)
    noise = generator.uniform(0, 0.2, (count, 3, SIDE // 4, SIDE // 4)).astype(np.float32)
    return mixture * first + (1 - mixture) * second + noise.repeat(4, 2).repeat(4, 3)
