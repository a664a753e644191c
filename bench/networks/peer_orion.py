"""Orion's half of compare.py: its own MLP of 784-128-128-10 with squares as activations, in CKKS.

Runs in an environment that has orion-fhe, and serves commands (child.py). It trains on the same digits as ours, since
a network with ReLU does not run there, with the parameters that its authors chose for this network.
"""

from __future__ import annotations

import tempfile
from importlib.metadata import version

import numpy as np
import orion
import torch
from child import serve, timed
from orion.models.mlp import MLP

# N = 2^13 over the conjugate-invariant ring, six levels, no bootstrap.
SCHEME = """
ckks_params:
  {LogN: 13, LogQ: [29, 26, 26, 26, 26, 26], LogP: [29, 29], LogScale: 26, H: 8192, RingType: ConjugateInvariant}
orion:
  {margin: 2, embedding_method: hybrid, backend: lattigo, fuse_modules: true, debug: false, diags_path: "",
   keys_path: "", io_mode: none}
"""
EPOCHS, BATCH_SIZE, LEARNING_RATE = 15, 64, 1e-3
MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's pixels


def images_of(pixels: np.ndarray) -> torch.Tensor:
    return torch.tensor((pixels.astype(np.float32) / 255 - MEAN) / DEVIATION)[:, None]


def train(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster for layers this small
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    network.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)  # squares of squares explode otherwise
            optimizer.step()
    network.eval()
    torch.set_num_threads(threads)


class Peer:
    def open(self, digits: str, seed: int) -> dict:
        torch.manual_seed(seed)
        with np.load(digits) as file:
            train_images, self._test = images_of(file["x_train"]), images_of(file["x_test"])
            train_labels, test_labels = (file[name].astype(np.int64) for name in ("y_train", "y_test"))
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(SCHEME)
            file.flush()
            orion.init_scheme(file.name)
        self._network = MLP()
        _, train_s = timed(train, self._network, train_images, torch.tensor(train_labels))
        with torch.no_grad():
            found = self._network(self._test).argmax(dim=1).numpy()
        orion.fit(self._network, train_images[:1])
        self._level, compile_s = timed(orion.compile, self._network)
        return {
            "system": "orion",
            "version": version("orion-fhe"),
            "accuracy_clear": float((found == test_labels).mean()),
            "train_s": train_s,
            "compile_s": compile_s,
        }

    def run(self, first: int, count: int) -> dict:
        """Encrypted predictions, one sample at a time, encryption and decryption included: seconds, and differences."""
        seconds, differ = [], 0
        for sample in self._test[first : first + count].split(1):
            self._network.eval()
            clear = int(self._network(sample).argmax())
            self._network.he()
            found, time = timed(self._predict, sample)
            seconds.append(time)
            differ += int(found != clear)
        return {"seconds": seconds, "differ_from_clear": differ}

    def _predict(self, sample: torch.Tensor) -> int:
        result = self._network(orion.encrypt(orion.encode(sample, self._level)))
        return int(result.decrypt().decode().flatten()[:10].argmax())


if __name__ == "__main__":
    peer = Peer()
    serve({"open": peer.open, "run": peer.run})
