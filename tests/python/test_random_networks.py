"""Random chains of operators on rows of 4 to 16 numbers, quantized after training by each method: near the float network in
the clear, and the same integers simulated."""

import numpy as np
import pytest
import torch
from torch import nn

import torusml
from torusml import errors

METHODS = (None, "minmax", "best")
WIDEST = 16

# Operators that keep the width of a row.
SAME_WIDTH = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "gelu": nn.functional.gelu,
    "abs": torch.abs,
    "square": lambda x: x * x,
    "affine": lambda x: 1 - 2.5 * x,
    "clip": lambda x: x.clamp(-0.5, 0.7),
    "silu": lambda x: x * x.sigmoid(),
    "divide": lambda x: x / (1 + x.abs()),
    "where": lambda x: torch.where(x > 0.1, x, -x / 2),
    "maximum": lambda x: torch.maximum(x, 0.5 - x),
    "minimum of neighbours": lambda x: torch.minimum(x, torch.cat([x[:, 1:], x[:, :1]], 1)),
    "below the largest": lambda x: x - x.amax(1, keepdim=True),
    "above the smallest": lambda x: x - x.amin(1, keepdim=True),
    "without the mean": lambda x: x - x.mean(1, keepdim=True),
    "with the sum": lambda x: x + x.sum(1, keepdim=True) / 5,
    "below logsumexp": lambda x: x - x.logsumexp(1, keepdim=True),
    "softmax": lambda x: x.softmax(1),
    "log softmax": lambda x: x.log_softmax(1),
    "sort": lambda x: x.sort(1)[0],
}


class Step(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return x + self.linear(x).relu()


def random_network(seed):
    """The network, its width, and the names of its steps."""
    choose = np.random.default_rng(seed)
    torch.manual_seed(seed)
    first = width = int(choose.integers(4, 9))
    steps, names = [], []
    for _ in range(choose.integers(2, 6)):
        name = str(choose.choice(["linear", "residual", "normalize", "top", "part", "twice", *SAME_WIDTH]))
        names.append(name)
        if name == "linear" or (name == "twice" and 2 * width > WIDEST):
            after = int(choose.integers(4, 9))
            steps.append(nn.Linear(width, after))
            width = after
        elif name == "residual":
            steps.append(Residual(width))
        elif name == "normalize":
            steps.append(nn.LayerNorm(width))
        elif name in ("top", "part"):
            after = int(choose.integers(4, width + 1))
            if name == "top":
                steps.append(Step(lambda x, after=after: x.topk(after, 1)[0]))
            else:
                steps.append(Step(lambda x, after=after: x[:, :after]))
            width = after
        elif name == "twice":
            steps.append(Step(lambda x: torch.cat([x, x.relu()], 1)))
            width *= 2
        else:
            steps.append(Step(SAME_WIDTH[name]))
    return nn.Sequential(*steps).eval(), first, names


def check(seed):
    network, width, names = random_network(seed)
    method = METHODS[seed % len(METHODS)]
    generator = np.random.default_rng(seed)
    calibration = generator.normal(size=(300, width)).astype(np.float32)
    x = generator.normal(size=(40, width)).astype(np.float32)
    expected = network(torch.from_numpy(x)).detach().numpy()
    options = {} if method is None else {"method": method}
    try:
        module = torusml.compile(network, calibration, bits=6, precision="exact", p_error=2**-20, margin=0.5, **options)
    except (errors.NoParameters, errors.AccumulatorTooWide):
        return False
    clear = module.forward(x)
    assert np.array_equal(module.forward(x, fhe="simulate"), clear), names
    assert clear.shape == expected.shape
    assert np.abs(clear - expected).mean() <= 0.15 * np.abs(expected).max(), (names, method)
    return True


@pytest.mark.parametrize("first", range(0, 60, 15))
def test_random_networks(first):
    assert sum(check(seed) for seed in range(first, first + 15)) >= 13


@pytest.mark.long
@pytest.mark.parametrize("first", range(60, 660, 50))
def test_more_random_networks(first):
    assert sum(check(seed) for seed in range(first, first + 50)) >= 43
