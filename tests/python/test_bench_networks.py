"""bench/networks/compare.py with programs that stand in for the peers: turns, the search, the table, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "bench" / "networks"

# Complexity grows as in Concrete; rounding to 5 bits loses too much, and so does a p_error of 0.1.
CONCRETE_ML = """
import json, sys
P_ERRORS = [0.1, 0.05, 0.01, 0.001, 2.0**-40]
def complexity(setting):
    rounding = setting["rounding"] or {"n_bits": 9, "method": "APPROXIMATE"}
    exact = 1000 if rounding["method"] == "EXACT" else 0
    return 100 * rounding["n_bits"] + 30 * P_ERRORS.index(setting["p_error"]) + exact
def accuracy(setting):
    bits = (setting["rounding"] or {"n_bits": 9})["n_bits"]
    return 0.966 if bits >= 6 and setting["p_error"] < 0.1 else 0.9
def answer(do, setting=None, samples=None, first=None, count=None, **_):
    return {
        "open": lambda: {"system": "concrete-ml", "version": "1.9.0", "accuracy_clear": 0.966},
        "clear": lambda: {"accuracy_clear": 0.966},
        "compile": lambda: {"compile_s": 3.0, "complexity": complexity(setting), "lookups": 200, "max_bits": 8},
        "simulate": lambda: {"accuracy_simulated": accuracy(setting), "samples": samples, "simulate_s": 1.0},
        "keygen": lambda: {"keygen_s": 2.0, "evaluation_key_bytes": 54_000_000},
        "run": lambda: {"seconds": [1000.0] * count, "differ_from_clear": 0},
        "forget": lambda: {},
    }[do]()
for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
"""

PAGE = """before
<!-- networks checkerboard: begin -->
an older table
<!-- networks checkerboard: end -->
after
"""


@pytest.fixture
def bench(tmp_path):
    """Runs the comparison of the checkerboard network; gives its result, its lines, and the page."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    peer = tmp_path / "python"
    peer.write_text(f"#!{sys.executable}\n{CONCRETE_ML}")
    peer.chmod(0o755)

    def run(*options, peer=peer):
        command = [
            sys.executable,
            str(FOLDER / "compare.py"),
            "checkerboard",
            "--precision",
            "tolerant",
            "--page",
            str(page),
        ]
        command += ["--turns", "1", "--samples", "2", "--keys", "1", "--concrete-ml", str(peer), *options]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        return result, lines, page.read_text()

    return run


def test_search_in_ascending_order_and_table(bench, tmp_path):
    result, lines, page = bench("--tried", "10", "--json", str(tmp_path / "result.json"))
    assert result.returncode == 0, result.stderr

    tried = [line["tried"] for line in lines if "tried" in line]
    assert [trial["complexity"] for trial in tried] == [500, 530, 560, 590, 600, 620, 630]
    assert [trial["accepted"] for trial in tried] == [False] * 6 + [True]
    assert tried[-1]["setting"] == {"rounding": {"n_bits": 6, "method": "APPROXIMATE"}, "p_error": 0.05}

    turns = [line["system"] for line in lines if "turn" in line]
    peers = ["Concrete ML 1.9.0, by hand", "Concrete ML 1.9.0, best of search"]
    assert turns == ["TorusML", *peers, "TorusML"]

    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["ours"]["lookups"] == 69 and stored["checks"][0]["samples"] == 2
    for side in stored["peers"]:
        assert side["time_over_ours"] == pytest.approx(1000 / stored["ours"]["s_per_sample"])

    assert "an older table" not in page and page.startswith("before\n") and page.endswith("after\n")
    assert "| | TorusML | Concrete ML 1.9.0, by hand | Concrete ML 1.9.0, best of search |" in page.replace("|  |", "| |")
    for part in ("precision tolerant", "rounding 6, APPROXIMATE", "2^-40", "1000.00 s", "54 MB", "69 lookups a sample"):
        assert part in page


def test_search_ends_at_its_limit(bench):
    result, lines, page = bench("--tried", "3", "--no-page")
    assert result.returncode == 0, result.stderr
    assert [line["search"] for line in lines if "search" in line] == ["none of 3 settings was good enough within the limits"]
    assert page == PAGE


def test_plan_only_asks_no_peer(bench):
    result, lines, page = bench("--plan-only", peer="/no/such/python")
    assert result.returncode == 0, result.stderr
    assert lines[-1]["result"]["accuracy_clear"] > 0.95 and "predicted_ms_one_core" in lines[-1]["result"]
    assert page == PAGE


def test_wrong_usage(bench, tmp_path):
    (tmp_path / "page.md").write_text("no markers")
    assert "lacks the lines" in bench()[0].stderr
    assert "must be positive" in bench("--turns", "0")[0].stderr
    command = [sys.executable, str(FOLDER / "compare.py"), "nn-20-qat"]
    assert "--models" in subprocess.run(command, capture_output=True, text=True).stderr
    command += ["--models", str(tmp_path)]
    assert "--mnist" in subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.long
def test_networks_are_what_they_are_called():
    pytest.importorskip("brevitas")
    program = """
import torch
from models import NETWORKS, FloatLayers, QuantLayers, activations, build
from train import folded
shapes = {name: (1, 8, 8) if name == "digits-cnn" else (1, 28, 28) for name in NETWORKS}
for name, shape in shapes.items():
    network = build(name, FloatLayers()).eval()
    images = torch.rand(3, *shape)
    assert torch.allclose(folded(network)(images), network(images), atol=1e-4), name
    missing, unexpected = build(name, QuantLayers(4, 4, 4)).load_state_dict(network.state_dict(), strict=False)
    assert not unexpected and not [key for key in missing if key.endswith(".weight")], name
    print(name, activations(name, shape))
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, cwd=FOLDER, env={"PYTHONPATH": str(FOLDER)})
    assert result.returncode == 0, result.stderr
    counts = "nn-20 2440 nn-50 5200 mlp 256 digits-cnn 1152 fashion-cnn 2280 resnet-fashion 3888"
    assert result.stdout.split() == counts.split()


def test_the_quantized_twin_is_pruned_and_trained_with_noise():
    pytest.importorskip("brevitas")
    program = f"""
import dataclasses, sys
sys.path.insert(0, {str(FOLDER)!r})
import numpy as np
import torch
from data import Data, Samples
from models import FloatLayers, build
from training import RECIPES, train_quantized

def weights_with(noise):
    recipe = dataclasses.replace(RECIPES["mlp"], quantized_epochs=1, relative_noise=noise)
    network = train_quantized("mlp", teacher, Data(samples, samples), recipe, 0)
    return [layer.weight for layer in network.modules() if isinstance(layer, torch.nn.Linear)]

random = np.random.default_rng(0)
samples = Samples(random.random((256, 1, 28, 28), np.float32), random.integers(0, 10, 256))
torch.manual_seed(0)
teacher = build("mlp", FloatLayers()).eval()
quiet, noisy = weights_with(0.0), weights_with(RECIPES["mlp"].relative_noise)
for layer in noisy:
    assert set((layer != 0).sum(1).tolist()) == {{layer.shape[1] // 4}}
    assert isinstance(layer, torch.nn.Parameter)  # no mask is left
assert not torch.equal(quiet[1], noisy[1])
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("missing", ["onnx", "onnxoptimizer"])
def test_training_asks_for_the_exporter_first(missing):
    pytest.importorskip("brevitas")
    program = f"""
import sys
sys.path.insert(0, {str(FOLDER)!r})
import numpy as np
from data import Data, Samples
from train import train
sys.modules[{missing!r}] = None
nothing = Samples(np.zeros((0, 1, 28, 28), np.float32), np.zeros(0, np.int64))
train("mlp", Data(nothing, nothing), None, 0)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert result.stderr.startswith(f"bench/networks: the export after training needs {missing} ("), result.stderr
