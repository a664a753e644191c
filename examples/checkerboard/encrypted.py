"""Runs a compiled checkerboard network in every way there is and measures it.

module = compile_network(network, board.train)
classes(module, board.test.points, "simulate")            # all points at once
make_keys(module)                                         # seconds
run = run_encrypted(module, board.test.points[:20])       # one point after the other, timed
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from data import Samples
from networks import QuantSimpleNet

from torusml import progress
from torusml.quantization import QuantizedModule
from torusml.torch.compile import compile_brevitas_qat_model

PRECISION = "auto"


def compile_network(network: QuantSimpleNet, calibration: Samples) -> QuantizedModule:
    """Compiles a trained network; the training points show the compiler which values occur."""
    return compile_brevitas_qat_model(network, calibration.points, precision=PRECISION)


def classes(module: QuantizedModule, points: np.ndarray, fhe: str) -> np.ndarray:
    """Predicted classes; `fhe` is disable (clear), simulate or execute (encrypted)."""
    return module.forward(points, fhe=fhe).argmax(axis=1)


def make_keys(module: QuantizedModule) -> float:
    """Makes fresh keys and returns the seconds it took."""
    start = time.perf_counter()
    module.fhe_circuit.keygen(force=True)
    return time.perf_counter() - start


@dataclass(frozen=True)
class EncryptedRun:
    classes: np.ndarray
    seconds: np.ndarray  # of each point: encryption, network and decryption


def run_encrypted(module: QuantizedModule, points: np.ndarray, title: str = "encrypted") -> EncryptedRun:
    """Predicts one encrypted point after the other, as for clients with a single question each."""
    found, seconds = [], []
    with _one_bar():
        for index, point in enumerate(points):
            start = time.perf_counter()
            found.append(classes(module, point[None], "execute")[0])
            seconds.append(time.perf_counter() - start)
            _show_progress(title, index + 1, len(points), float(np.mean(seconds)))
    return EncryptedRun(np.array(found, dtype=np.int64), np.array(seconds))


@contextmanager
def _one_bar() -> Iterator[None]:
    """Hides the library's own bar for the lookups of each point behind the count of points."""
    before = progress.enabled
    progress.enabled = False
    try:
        yield
    finally:
        progress.enabled = before


def _show_progress(title: str, done: int, total: int, seconds: float) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        line = f"{title}: point {done} of {total}, {seconds:.2f} s a point"
        print(f"\r\x1b[2K{line}", end=end, file=sys.stderr, flush=True)


def distinct_inputs(module: QuantizedModule, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups points that are the same to the network, once its input is an integer.

    Returns one representative of each such group [groups, 2], and the group of each point [n].
    """
    _, first, group = np.unique(module.quantize_input(points), axis=0, return_index=True, return_inverse=True)
    return points[first], group.reshape(-1)
