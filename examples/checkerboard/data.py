"""The checkerboard: noisy points of the plane, in two classes like the squares of a board.

    board = checkerboard(seed=0)
    board.train.points.shape, board.test.points.shape     # (9500, 2), (500, 2)

A grid of 100 x 100 points covers the unit square, three squares a side; each point takes the colour
of its square and is then moved by Gaussian noise. Points that the noise carries over a border keep
their colour, so not even a perfect network reaches 100 %: `oracle_accuracy` gives what can be
expected at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDE = 100  # grid points a side
CLUSTERS = 3  # squares a side
NOISE = 0.01  # standard deviation, about one step of the grid
TEST_COUNT = 500


@dataclass(frozen=True)
class Samples:
    """Points of the plane, float32 [n, 2], and their class, int64 [n]."""

    points: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Checkerboard:
    train: Samples
    test: Samples


# Squares are 33, 34 and 33 grid points wide; their borders lie midway between two grid points.
BORDERS = np.rint(np.arange(1, CLUSTERS) * SIDE / CLUSTERS) / SIDE - 0.5


def colour(points: np.ndarray) -> np.ndarray:
    """The class of the square in which each point of the plane lies."""
    return np.digitize(points, BORDERS).sum(axis=1) % 2


def checkerboard(seed: int, test_count: int = TEST_COUNT) -> Checkerboard:
    """All 10,000 points of one seed; noise and split follow from it."""
    generator = np.random.default_rng(seed)
    axis = (np.arange(SIDE) + 0.5) / SIDE - 0.5  # the square is centred on the origin
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    labels = colour(grid)
    points = (grid + generator.normal(scale=NOISE, size=grid.shape)).astype(np.float32)
    order = generator.permutation(len(points))
    test, train = order[:test_count], order[test_count:]
    return Checkerboard(
        train=Samples(points[train], labels[train]),
        test=Samples(points[test], labels[test]),
    )


def oracle_accuracy(samples: Samples) -> float:
    """Accuracy of one who knows the board, and misses only points that noise moved elsewhere."""
    return float((colour(samples.points) == samples.labels).mean())
