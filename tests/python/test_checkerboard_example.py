"""What the example's own pieces promise; integers are compared on the fixture, elsewhere."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "checkerboard"))

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")

from data import BORDERS, NOISE, checkerboard, colour, oracle_accuracy  # noqa: E402
from experiments import CASES, Bound, separating_range, trained  # noqa: E402
from integers import accumulator_bits, layer_integers, scales, signed_bits  # noqa: E402
from networks import PrunedQuantNet, QuantSimpleNet, SimpleNet  # noqa: E402
from training import TrainingSettings, accuracy, logits, train  # noqa: E402

BRIEF = TrainingSettings(epochs=2, batch_size=1000)


def test_board_has_all_points_once_and_follows_its_seed():
    board = checkerboard(seed=3)
    assert (len(board.train), len(board.test)) == (9500, 500)
    grid = np.concatenate([board.train.points, board.test.points])
    assert np.abs(grid).max() < 0.5 + 6 * NOISE
    assert 0.43 < np.concatenate([board.train.labels, board.test.labels]).mean() < 0.46  # 4 of 9 squares
    assert np.array_equal(checkerboard(seed=3).test.points, board.test.points)
    assert not np.array_equal(checkerboard(seed=4).test.points, board.test.points)


def test_colours_alternate_and_noise_limits_the_oracle():
    centres = np.array([(-1, -1), (0, -1), (1, -1), (-1, 0), (0, 0), (1, 1)]) / 3
    assert colour(centres).tolist() == [0, 1, 0, 1, 0, 0]
    assert 0.95 < oracle_accuracy(checkerboard(seed=0).train) < 0.98


@pytest.mark.parametrize("per_row", [False, True])
def test_pruning_keeps_what_it_says_and_nothing_comes_back(per_row):
    samples = checkerboard(seed=0).train
    network = train(lambda: PrunedQuantNet(40, bits=3, max_nonzero=12, per_row=per_row), samples, 0, BRIEF)
    for layer in (network.fc2, network.fc3):
        kept = (layer.weight != 0).sum(dim=1)
        assert kept.sum() == 12 * layer.out_features
        if per_row:
            assert (kept == 12).all()
    assert (network.fc1.weight != 0).all()  # two inputs are fewer than twelve
    assert not any("orig" in name for name in network.state_dict())


def test_training_is_repeatable_and_leaves_the_random_state_alone():
    board = checkerboard(seed=0)
    torch.manual_seed(17)
    expected = torch.rand(3)
    torch.manual_seed(17)
    networks = [train(lambda: SimpleNet(20), board.train, seed, BRIEF) for seed in (0, 0, 1)]
    assert torch.equal(torch.rand(3), expected)
    first, second, other = (logits(network, board.test.points) for network in networks)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert accuracy(networks[0], board.test) > 0.5


def test_integers_times_scales_plus_bias_are_the_network():
    board = checkerboard(seed=0)
    network = train(lambda: QuantSimpleNet(20, bits=3), board.train, 0, BRIEF)
    values = layer_integers(network, board.test.points)
    assert list(values) == ["input", "fc1", "relu1", "fc2", "relu2", "fc3"]
    assert -4 <= values["input"].min() and values["input"].max() <= 3
    assert 0 <= values["relu2"].min() and values["relu2"].max() <= 7
    rebuilt = values["fc3"] * scales(network)["fc3"] + network.fc3.bias.detach().numpy()
    assert np.allclose(rebuilt, logits(network, board.test.points), atol=1e-5)
    assert accumulator_bits(values)["fc1"] <= 6  # two products of at most 4 * 3


def test_bounded_experiments_keep_their_bound(tmp_path):
    board = checkerboard(seed=0)
    (case,) = CASES["b"]
    network = train(lambda: case.make(board.train), board.train, 0, BRIEF, after_epoch=case.after_epoch)
    assert max(accumulator_bits(layer_integers(network, board.train.points)).values()) <= case.after_epoch.bits
    torch.save(network.state_dict(), tmp_path / f"{case.name}-seed0.pt")
    again = trained(case, 0, board, tmp_path)
    assert np.array_equal(logits(again, board.test.points), logits(network, board.test.points))
    tight = train(lambda: case.make(board.train), board.train, 0, BRIEF, after_epoch=Bound({"fc1": 6, "fc2": 6}, 0.5))
    bits = accumulator_bits(layer_integers(tight, board.train.points))
    assert max(bits["fc1"], bits["fc2"]) <= 6


@pytest.mark.parametrize("seed", range(3))
def test_steps_of_the_input_end_where_the_squares_do(seed):
    step = separating_range(checkerboard(seed).train, bits=3) / 4
    edges = (np.arange(-4, 3) + 0.5) * step
    assert np.abs(edges[:, None] - BORDERS).min(axis=0).max() < 0.005


@pytest.mark.parametrize(
    ("low", "high", "bits"),
    [(0, 0, 1), (0, 7, 3), (0, 8, 4), (-1, 0, 1), (-4, 3, 3), (-4, 4, 4), (-128, 127, 8)],
)
def test_signed_bits(low, high, bits):
    assert signed_bits(low, high) == bits
