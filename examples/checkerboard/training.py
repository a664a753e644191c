"""One way to train every network of this example, float or quantized, the same for the same seed.

    board = checkerboard(seed=0)
    network = train(lambda: PrunedQuantNet(hidden=100, bits=3, max_nonzero=30), board.train, seed=0)
    accuracy(network, board.test)

Quantization-aware training is ordinary training: Brevitas rounds weights and activations on the way
forward, and gradients pass the rounding as if it were not there. A learning rate that rises and
then falls to nothing matters more than usual: in the end the weights must rest on their grid of
integers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from data import Samples
from networks import PrunedQuantNet
from torch import nn

from torusml.torch import finish_pruning


@dataclass(frozen=True)
class TrainingSettings:
    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-2  # the peak of the schedule
    weight_decay: float = 1e-2


def train(
    make_network: Callable[[], nn.Module],
    samples: Samples,
    seed: int,
    settings: TrainingSettings = TrainingSettings(),
    title: str = "training",
    around: Callable[[nn.Module], AbstractContextManager] = nullcontext,
    after_epoch: Callable[[nn.Module, float], None] | None = None,
) -> nn.Module:
    """Makes a network and trains it; weights at the start and order of points follow from `seed`.

    A network with a `prune` method is pruned before the first step; zeros of masks are final when it
    returns. `around` gives a context to train in; `after_epoch` is called with the network and the
    share of the training that is done. The global random state of torch is left as it was.
    """
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        network = make_network()
        if isinstance(network, PrunedQuantNet):
            network.prune()
        with around(network):
            _fit(network, samples, settings, title, after_epoch)
        finish_pruning(network)
    return network.eval()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Networks this small train several times faster on one core than on several that must agree."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fit(
    network: nn.Module,
    samples: Samples,
    settings: TrainingSettings,
    title: str,
    after_epoch: Callable[[nn.Module, float], None] | None,
) -> None:
    points, labels = torch.from_numpy(samples.points), torch.from_numpy(samples.labels)
    steps = -(-len(samples) // settings.batch_size)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps * settings.epochs, pct_start=0.15
    )
    network.train()
    start = time.perf_counter()
    for epoch in range(settings.epochs):
        total = 0.0
        for batch in torch.randperm(len(samples)).split(settings.batch_size):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(points[batch]), labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        if after_epoch is not None:
            after_epoch(network, (epoch + 1) / settings.epochs)
        _show_progress(title, epoch + 1, settings.epochs, total / steps, time.perf_counter() - start)


def _show_progress(title: str, epoch: int, epochs: int, loss: float, seconds: float) -> None:
    if not sys.stderr.isatty():
        return
    end = "\n" if epoch == epochs else ""
    line = f"{title}: epoch {epoch}/{epochs}, loss {loss:.3f}, {seconds:.0f} s"
    print(f"\r\x1b[2K{line}", end=end, file=sys.stderr, flush=True)


def logits(network: nn.Module, points: np.ndarray) -> np.ndarray:
    """The network's outputs, float32 [n, classes]."""
    with torch.no_grad():
        return network(torch.from_numpy(points)).numpy()


def accuracy(network: nn.Module, samples: Samples) -> float:
    return float((logits(network, samples.points).argmax(axis=1) == samples.labels).mean())
