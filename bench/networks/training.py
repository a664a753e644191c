"""Trains a network in floats, then its quantized twin with the first as its start and its teacher.

    net = train_floats("nn-20", data, recipe, seed=0)
    quantized = train_quantized("nn-20", net, data, recipe, seed=0)

Images are moved by a pixel at random, so that few of them teach more. The quantized twin learns the teacher's
outputs, which deep networks need: labels alone say too little about fifty layers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from data import Data, Samples
from models import FloatLayers, QuantLayers, build
from torch import nn

TEMPERATURE = 4.0  # of the teacher's probabilities


@dataclass(frozen=True)
class Recipe:
    """How one network is trained, and the bits of its quantized twin."""

    epochs: int
    quantized_epochs: int
    learning_rate: float = 3e-3  # the peak of the schedule
    quantized_learning_rate: float = 1e-3
    batch_size: int = 128
    quantized_batch_size: int = 128
    weight_decay: float = 1e-2
    max_shift: int = 1  # pixels
    weight_bits: int = 4
    activation_bits: int = 4
    input_bits: int = 4


@dataclass(frozen=True)
class Phase:
    """One training run: of the floats, or of the quantized twin."""

    title: str
    epochs: int
    learning_rate: float  # the peak of the schedule
    batch_size: int


RECIPES = {
    "nn-20": Recipe(epochs=30, quantized_epochs=20),
    "nn-50": Recipe(epochs=25, quantized_epochs=12, quantized_batch_size=256),
    "mlp": Recipe(epochs=40, quantized_epochs=25),
    "digits-cnn": Recipe(epochs=60, quantized_epochs=40, batch_size=32, quantized_batch_size=32),
    "fashion-cnn": Recipe(epochs=12, quantized_epochs=6, quantized_batch_size=256, max_shift=0),
}


def train_floats(name: str, data: Data, recipe: Recipe, seed: int) -> nn.Module:
    with _reproducible(seed):
        network = build(name, FloatLayers())
        phase = Phase(f"{name}, floats", recipe.epochs, recipe.learning_rate, recipe.batch_size)
        _fit(network, data.train, recipe, phase)
    return network.eval()


def train_quantized(name: str, teacher: nn.Module, data: Data, recipe: Recipe, seed: int) -> nn.Module:
    with _reproducible(seed):
        network = build(name, QuantLayers(recipe.weight_bits, recipe.activation_bits, recipe.input_bits))
        network.load_state_dict(teacher.state_dict(), strict=False)
        epochs, rate, batch = recipe.quantized_epochs, recipe.quantized_learning_rate, recipe.quantized_batch_size
        _fit(network, data.train, recipe, Phase(f"{name}, quantized", epochs, rate, batch), teacher)
    return network.eval()


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """The same weights for the same seed; torch's global state is left as it was."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _fit(
    network: nn.Module,
    samples: Samples,
    recipe: Recipe,
    phase: Phase,
    teacher: nn.Module | None = None,
) -> None:
    images, labels = torch.from_numpy(samples.images), torch.from_numpy(samples.labels)
    steps = len(samples) // phase.batch_size  # the rest of an epoch is left out
    total_steps = steps * phase.epochs
    optimizer = torch.optim.AdamW(network.parameters(), phase.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, phase.learning_rate, total_steps, pct_start=0.2)
    network.train()
    start = time.perf_counter()
    for epoch in range(phase.epochs):
        total = 0.0
        for batch in torch.randperm(len(samples)).split(phase.batch_size)[:steps]:
            moved = shifted(images[batch], recipe.max_shift)
            optimizer.zero_grad()
            loss = _loss(network(moved), labels[batch], teacher, moved)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.perf_counter() - start
        _show(f"{phase.title}: epoch {epoch + 1} of {phase.epochs}, loss {total / steps:.3f}, {seconds:.0f} s")


def shifted(images: torch.Tensor, most: int) -> torch.Tensor:
    """Each image [n, 1, h, w] moved by up to `most` pixels in both directions; black comes in."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most, most, most, most))[:, 0]
    rows = torch.randint(0, 2 * most + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(0, 2 * most + 1, (count, 1)) + torch.arange(width)
    return padded[torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]][:, None]


def _loss(outputs: torch.Tensor, labels: torch.Tensor, teacher: nn.Module | None, images: torch.Tensor) -> torch.Tensor:
    loss = nn.functional.cross_entropy(outputs, labels)
    if teacher is None:
        return loss
    with torch.no_grad():
        wanted = nn.functional.softmax(teacher(images) / TEMPERATURE, dim=1)
    given = nn.functional.log_softmax(outputs / TEMPERATURE, dim=1)
    return loss + TEMPERATURE**2 * nn.functional.kl_div(given, wanted, reduction="batchmean")


def outputs_of(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """The network's outputs, float32 [n, classes]."""
    with torch.no_grad():
        return np.concatenate([network(part).numpy() for part in torch.from_numpy(images).split(500)])


def accuracy(network: nn.Module, samples: Samples) -> float:
    return float((outputs_of(network, samples.images).argmax(axis=1) == samples.labels).mean())


def _show(line: str) -> None:
    end = "\r" if sys.stderr.isatty() else "\n"
    print(line, end=end, file=sys.stderr, flush=True)
