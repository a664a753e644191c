"""Trains a network in floats, then its quantized twin with the first as its start and its teacher.

    net = train_floats("nn-20", data, recipe, seed=0)
    quantized = train_quantized("nn-20", net, data, recipe, seed=0)

Images are moved by a pixel at random, so that few of them teach more. The quantized twin learns the teacher's
outputs, which deep networks need: labels alone say too little about fifty layers. Where the recipe says so, it is pruned
before it is trained, and trained with noise in front of its activations. `device="cuda"` trains on a GPU; networks come
back to the CPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from data import Data, Samples
from models import FloatLayers, QuantLayers, build
from torch import nn
from torch.nn.utils import prune

from torusml.torch import finish_pruning, noise
from torusml.torch.pruning import keep_largest

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
    kept_weights: float = 1.0  # share of each neuron's weights that pruning leaves to the quantized twin
    relative_noise: float = 0.0  # that it is trained with: standard deviation as a fraction of the accumulator's interval


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
    "mlp": Recipe(
        epochs=40, quantized_epochs=75, quantized_learning_rate=2e-3, weight_bits=2, kept_weights=0.25, relative_noise=2**-5
    ),
    "digits-cnn": Recipe(epochs=60, quantized_epochs=40, batch_size=32, quantized_batch_size=32),
    "fashion-cnn": Recipe(epochs=12, quantized_epochs=6, quantized_batch_size=256, max_shift=0),
    "resnet-fashion": Recipe(epochs=30, quantized_epochs=15, quantized_batch_size=256, max_shift=1),
}


def train_floats(name: str, data: Data, recipe: Recipe, seed: int, device: str = "cpu") -> nn.Module:
    with _reproducible(seed, device):
        network = build(name, FloatLayers())
        phase = Phase(f"{name}, floats", recipe.epochs, recipe.learning_rate, recipe.batch_size)
        _fit(network.to(device), data.train, recipe, phase)
    return network.cpu().eval()


def train_quantized(
    name: str,
    teacher: nn.Module,
    data: Data,
    recipe: Recipe,
    seed: int,
    device: str = "cpu",
    around: Callable[[nn.Module], AbstractContextManager] = nullcontext,
) -> nn.Module:
    """`around` gives a context to train in."""
    with _reproducible(seed, device):
        network = quantized_twin(name, recipe)
        network.load_state_dict(teacher.state_dict(), strict=False)
        _prune(network, recipe.kept_weights)
        epochs, rate, batch = recipe.quantized_epochs, recipe.quantized_learning_rate, recipe.quantized_batch_size
        phase = Phase(f"{name}, quantized", epochs, rate, batch)
        with ExitStack() as contexts:
            contexts.enter_context(around(network.to(device)))
            if recipe.relative_noise:
                contexts.enter_context(noise.inject(network, recipe.relative_noise))
            _fit(network, data.train, recipe, phase, teacher.to(device))
    teacher.cpu()
    return finish_pruning(network).cpu().eval()


def quantized_twin(name: str, recipe: Recipe) -> nn.Module:
    """Not trained yet."""
    return build(name, QuantLayers(recipe.weight_bits, recipe.activation_bits, recipe.input_bits))


def _prune(network: nn.Module, kept: float) -> None:
    """Each neuron or channel keeps that share of its weights, those of the largest magnitudes."""
    if kept == 1:
        return
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            count = round(kept * module.weight[0].numel())
            prune.custom_from_mask(module, "weight", keep_largest(module.weight, count))


@contextmanager
def _reproducible(seed: int, device: str) -> Iterator[None]:
    """The same weights for the same seed; torch's global state is left as it was."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
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
    device = next(network.parameters()).device
    images, labels = torch.from_numpy(samples.images).to(device), torch.from_numpy(samples.labels).to(device)
    steps = len(samples) // phase.batch_size  # the rest of an epoch is left out
    total_steps = steps * phase.epochs
    optimizer = torch.optim.AdamW(network.parameters(), phase.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, phase.learning_rate, total_steps, pct_start=0.2)
    network.train()
    start = time.perf_counter()
    for epoch in range(phase.epochs):
        total = torch.zeros((), device=device)
        for batch in torch.randperm(len(samples)).to(device).split(phase.batch_size)[:steps]:
            moved = shifted(images[batch], recipe.max_shift)
            optimizer.zero_grad()
            loss = _loss(network(moved), labels[batch], teacher, moved)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach()
        seconds = time.perf_counter() - start
        _show(f"{phase.title}: epoch {epoch + 1} of {phase.epochs}, loss {total.item() / steps:.3f}, {seconds:.0f} s")


def shifted(images: torch.Tensor, most: int) -> torch.Tensor:
    """Each image [n, c, h, w] moved by up to `most` pixels in both directions; black comes in."""
    if most == 0:
        return images
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (most, most, most, most)).movedim(1, -1)
    rows = torch.randint(0, 2 * most + 1, (count, 1)) + torch.arange(height)
    columns = torch.randint(0, 2 * most + 1, (count, 1)) + torch.arange(width)
    every = torch.arange(count, device=images.device)[:, None, None]
    moved = padded[every, rows.to(images.device)[:, :, None], columns.to(images.device)[:, None, :]]
    return moved.movedim(-1, 1).contiguous()


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
