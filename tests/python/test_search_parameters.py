"""BinarySearch: the largest p_error that keeps a metric."""

import json
import pathlib

import numpy as np
import pytest

from torusml import errors
from torusml.search_parameters import BinarySearch
from torusml.torch.compile import build_quantized_module

MODELS = pathlib.Path(__file__).parent.parent / "models"
CHECKERBOARD = MODELS / "checkerboard_qat_seed0.onnx"
DATA = np.load(MODELS / "checkerboard_qat_seed0.npz")
X = DATA["points"]


@pytest.fixture(scope="module")
def quantized():
    return build_quantized_module(CHECKERBOARD, DATA["calibration"][:1000], import_qat=True)


@pytest.fixture(scope="module")
def labels(quantized):
    return quantized.forward(X).argmax(1)


def accuracy(truth, predicted):
    return float((truth == predicted).mean())


def argmax(outputs):
    return outputs.argmax(1)


def test_finds_the_largest_p_error(quantized, labels, tmp_path, capsys):
    search = BinarySearch(
        quantized, argmax, accuracy, max_iter=8, n_simulation=2, max_metric_loss=0.02, save=True, directory=tmp_path,
        verbose=True,
    )  # fmt: skip
    found = search.run(X, labels)
    accepted = [trial["p_error"] for trial in search.history if trial["accepted"]]
    refused = [trial["p_error"] for trial in search.history if not trial["accepted"]]
    assert found == max(accepted) < min(refused)
    assert 1e-4 < found < 0.9
    assert search.module is quantized
    assert quantized.fhe_circuit.statistics["p_error"] == pytest.approx(found)
    assert quantized.fhe_circuit.statistics["complexity"] < 0.9 * search.history[0]["complexity"]
    assert json.loads((tmp_path / "p_error_search.json").read_text())["trials"] == search.history
    assert capsys.readouterr().out.count("accepted") == len(accepted)
    for seed in range(2):
        q_y = quantized.fhe_circuit.simulate(quantized.quantize_input(X), seed=seed)
        assert accuracy(labels, argmax(quantized.dequantize_output(q_y))) >= 0.98


def test_repeats_itself_and_stops_at_the_ends(quantized, labels):
    options = dict(predict=argmax, metric=accuracy, n_simulation=1, max_iter=4)
    first = BinarySearch(quantized, **options)
    second = BinarySearch(quantized, **options)
    assert first.run(X, labels) == second.run(X, labels)
    assert first.history == second.history and len(first.history) == 4
    easy = BinarySearch(quantized, **options, upper=1e-6)
    assert easy.run(X, labels) == 1e-6 and len(easy.history) == 2
    assert BinarySearch(quantized, **{**options, "max_iter": 1}).run(X, labels) == 2**-40


def test_quantizes_a_network(labels):
    search = BinarySearch(CHECKERBOARD, argmax, accuracy, is_qat=True, max_iter=2, n_simulation=1, upper=1e-3)
    search.run(X, labels)
    assert search.module.is_compiled


def test_strategy_decides(quantized, labels):
    search = BinarySearch(quantized, argmax, accuracy, max_iter=2, n_simulation=3, strategy=lambda verdicts: True)
    assert search.run(X, labels) == 0.9


def test_target_not_met(quantized, labels):
    wrong = np.random.default_rng(0).permutation(labels)

    scores = iter([1.0, 0.5])  # the exact circuit is scored first

    with pytest.raises(errors.TargetNotMet, match="at p_error"):
        BinarySearch(quantized, argmax, lambda y, p: next(scores), n_simulation=1).run(X, wrong)


@pytest.mark.parametrize(
    "arguments, error, text",
    [
        ({"metric": None}, errors.InvalidArgument, "no metric"),
        ({"metric": 3}, errors.WrongDtype, "metric"),
        ({"predict": "predict"}, errors.NotSupported, "predict"),
        ({"lower": 0.5, "upper": 0.4}, errors.InvalidArgument, "lower is 0.5"),
        ({"upper": 1.0}, errors.InvalidArgument, "upper 1.0"),
        ({"upper": 1e-13}, errors.InvalidArgument, "2\\^-40"),
        ({"lower": "a"}, errors.WrongDtype, "lower"),
        ({"max_iter": 0}, errors.InvalidArgument, "max_iter is 0"),
        ({"n_simulation": 1.5}, errors.WrongDtype, "n_simulation"),
        ({"max_metric_loss": -1}, errors.InvalidArgument, "max_metric_loss is -1"),
        ({"max_metric_loss": float("nan")}, errors.InvalidArgument, "max_metric_loss is nan"),
        ({"p_error": 0.1}, errors.InvalidArgument, "p_error excludes"),
        ({"precision": "auto"}, errors.InvalidArgument, "does not trade"),
    ],
)
def test_bad_arguments(quantized, arguments, error, text):
    with pytest.raises(error, match=text):
        BinarySearch(quantized, **{"predict": argmax, "metric": accuracy, **arguments})


def test_bad_data(quantized, labels):
    with pytest.raises(errors.WrongShape, match="ground_truth of shape"):
        BinarySearch(quantized, argmax, accuracy).run(X, labels[:-1])
    with pytest.raises(errors.InvalidArgument, match="metric is nan"):
        BinarySearch(quantized, argmax, lambda y, p: float("nan")).run(X, labels)
