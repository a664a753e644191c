"""A network with a public and a private input: the same one with both encrypted, and with the public one in the clear.

    python examples/clear_inputs.py --samples 4

The public input is a day's 16 readings of the weather, say, and goes through two layers of 32 neurons before it meets the
private one, of 8 numbers. Prints what either takes: lookups, predicted and measured seconds of a sample, bytes of keys. The
two are run in turns, so that other work on the machine slows both.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn

import torusml
from torusml.torch.compile import compile_torch_model


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.public = nn.Sequential(
            nn.Linear(16, 32), nn.Sigmoid(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 8), nn.Tanh()
        )
        self.private = nn.Linear(8, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, private, public):
        return self.last(torch.relu(self.private(private) + self.public(public)))


class Deployed:
    """A compiled network with its keys."""

    def __init__(self, network, inputs, status):
        self.module = compile_torch_model(
            network, inputs, n_bits=4, precision="exact", inputs_encryption_status=("encrypted", status)
        )
        self.client, self.server = torusml.Client(self.module.fhe_circuit), torusml.Server(self.module.fhe_circuit)
        self.client.keygen()
        self.server.load_keys(self.client.evaluation_keys)
        self.seconds: list[float] = []

    def run(self, *inputs):
        """Results of one sample; the server's time is kept."""
        sent = self.client.encrypt(*inputs)
        start = time.perf_counter()
        results = self.server.run(sent)
        self.seconds.append(time.perf_counter() - start)
        return self.client.decrypt(results)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4, help="run on ciphertexts, behind one that warms up")
    return parser.parse_args()


def main() -> None:
    samples = parse_arguments().samples
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    inputs = tuple(random.uniform(-1, 1, (400, width)).astype(np.float32) for width in (8, 16))
    network = Network()
    deployed = {status: Deployed(network, inputs, status) for status in ("encrypted", "clear")}
    for i in range(samples + 1):
        for one in deployed.values():
            sample = tuple(x[i : i + 1] for x in inputs)
            if not np.array_equal(one.run(*sample), one.module.forward(*sample)):
                raise SystemExit("a result on ciphertexts is not that in the clear")
    print(f"{'public input':12} {'lookups':>8} {'predicted s':>12} {'measured s':>11} {'keys, MB':>9}")
    for status, one in deployed.items():
        facts = one.module.fhe_circuit.statistics
        keys = facts["size_of_bootstrap_keys"] + facts["size_of_keyswitch_keys"]
        print(
            f"{status:12} {facts['table_lookup_count']:8} {facts['complexity'] / 1000:12.3f} "
            f"{np.median(one.seconds[1:]):11.3f} {keys / 1e6:9.1f}"
        )


if __name__ == "__main__":
    main()
