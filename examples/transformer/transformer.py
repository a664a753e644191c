"""A classifier of one transformer block on encrypted sequences: which letter comes first?

python examples/transformer/transformer.py                 # float, quantized and simulated accuracy; some minutes
python examples/transformer/transformer.py --encrypted 2   # and two sequences on ciphertexts

Sequences of six places hold the letters a and b and empty places. The class is the letter that stands first. The client
looks its tokens up in the embedding table, adds the places' vectors and encrypts the result; attention, normalizations and
GELU run on ciphertexts.
"""

from __future__ import annotations

import argparse
import itertools
import time

import numpy as np
import torch
from torch import nn

from torusml.torch.compile import build_quantized_module, compile_torch_model

LENGTH, WIDTH, HIDDEN, TOKENS = 6, 4, 8, 3
WEIGHT_BITS = 4


def n_bits(activations: int) -> dict[str, int]:
    """Weights need fewer bits than what normalizations and attention compute."""
    roles = ("op_inputs", "model_inputs", "model_outputs")
    return {"op_weights": WEIGHT_BITS, **dict.fromkeys(roles, activations)}


class Embedding(nn.Module):
    """The client's part: tokens (batch, LENGTH) to vectors."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(TOKENS, WIDTH)
        self.places = nn.Parameter(torch.randn(LENGTH, WIDTH))

    def forward(self, tokens):
        return self.table(tokens) + self.places


class Block(nn.Module):
    """The server's part: self-attention and a small perceptron, each with a residual connection and LayerNorm."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(WIDTH, 3 * WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.hidden, self.back = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, 2)

    def forward(self, x):
        q, k, v = self.project(x).chunk(3, dim=-1)
        x = self.norm1(x + nn.functional.scaled_dot_product_attention(q, k, v))
        x = self.norm2(x + self.back(nn.functional.gelu(self.hidden(x))))
        return self.head(x.mean(1))


def sequences() -> tuple[np.ndarray, np.ndarray]:
    """All 728 sequences with a letter, shuffled, and their classes."""
    tokens = np.array([s for s in itertools.product(range(TOKENS), repeat=LENGTH) if any(s)])
    np.random.default_rng(0).shuffle(tokens)
    return tokens, tokens[np.arange(len(tokens)), (tokens > 0).argmax(1)] - 1


def train(tokens: np.ndarray, classes: np.ndarray, epochs: int) -> tuple[Embedding, Block]:
    torch.manual_seed(0)
    embedding, block = Embedding(), Block()
    optimizer = torch.optim.AdamW([*embedding.parameters(), *block.parameters()], lr=0.01, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=epochs * 6)
    x, y = torch.from_numpy(tokens), torch.from_numpy(classes)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).chunk(6):
            optimizer.zero_grad()
            nn.functional.cross_entropy(block(embedding(x[batch])), y[batch]).backward()
            optimizer.step()
            schedule.step()
    return embedding.eval(), block.eval()


def accuracy(scores, classes) -> float:
    return 100 * float(np.mean(np.asarray(scores).argmax(1) == classes))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--bits", type=int, nargs="+", default=[5, 6, 7, 8], help="of activations")
    parser.add_argument("--simulate", type=int, default=7, help="bits of activations of the compiled block")
    parser.add_argument("--tolerance", type=float, help="noise of tolerant lookups; else the default of TorusML")
    parser.add_argument("--encrypted", type=int, default=0, metavar="N", help="run N sequences on ciphertexts")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokens, classes = sequences()
    seen, unseen = slice(0, 500), slice(500, None)
    embedding, block = train(tokens[seen], classes[seen], args.epochs)
    with torch.no_grad():
        vectors = embedding(torch.from_numpy(tokens)).numpy()  # what clients encrypt
        scores = block(torch.from_numpy(vectors)).numpy()
    print(f"float: {accuracy(scores[seen], classes[seen]):.1f} % of 500 training sequences,", end=" ")
    print(f"{accuracy(scores[unseen], classes[unseen]):.1f} % of {len(tokens) - 500} others")
    for bits in args.bits:
        clear = build_quantized_module(block, vectors[seen], n_bits=n_bits(bits), margin=0.2).forward(vectors[unseen])
        print(f"{bits} bits: {accuracy(clear, classes[unseen]):.1f} % in the clear", flush=True)
    bits = args.simulate
    module = compile_torch_model(
        block, vectors[seen], n_bits=n_bits(bits), margin=0.2, precision="tolerant", tolerance=args.tolerance
    )
    simulated = module.forward(vectors[unseen], fhe="simulate")
    statistics = module.fhe_circuit.statistics
    lookups = statistics["table_lookup_count"]
    print(f"{bits} bits, simulated: {accuracy(simulated, classes[unseen]):.1f} %, {lookups} lookups a sequence", flush=True)
    if args.encrypted:
        x = vectors[unseen][: args.encrypted]
        start = time.perf_counter()
        encrypted = module.forward(x, fhe="execute")
        seconds = (time.perf_counter() - start) / len(x)
        same = np.array_equal(np.argmax(encrypted, 1), np.argmax(simulated[: len(x)], 1))
        print(f"encrypted: {seconds:.0f} s a sequence, classes {encrypted.argmax(1)}", end=" ")
        print(f"of {classes[unseen][: len(x)]}, {'as' if same else 'not as'} simulated")


if __name__ == "__main__":
    main()
