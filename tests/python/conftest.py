"""Fixtures that several modules share."""

import numpy as np
import pytest
from command_line import COMPILE_EXACT, FIRST, SECOND, save_network
from command_line import torusml as command

import torusml


@pytest.fixture(scope="module")
def client(model):
    """With keys of its own, for the module's fixture `model`."""
    made = torusml.Client(model)
    made.keygen()
    return made


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A compiled model with keys, an encrypted batch and its results."""
    folder = tmp_path_factory.mktemp("life")
    random = np.random.default_rng(1)
    save_network(folder / "net.onnx", (FIRST, SECOND))
    np.save(folder / "calibration.npy", random.uniform(-1, 1, (200, 2)).astype(np.float32))
    np.save(folder / "x.npy", random.uniform(-0.9, 0.9, (3, 2)))
    command(*COMPILE_EXACT, "--bits", 3, "-o", "m.tml", folder=folder)
    command("keygen", "m.tml", "--secret", "client.key", "--evaluation", "eval.key", folder=folder)
    command("encrypt", "m.tml", "--secret", "client.key", "--input", "x.npy", "-o", "x.ct", folder=folder)
    command("run", "m.tml", "--evaluation", "eval.key", "--input", "x.ct", "-o", "y.ct", folder=folder)
    command("decrypt", "m.tml", "--secret", "client.key", "--input", "y.ct", "-o", "y.npy", folder=folder)
    return folder
