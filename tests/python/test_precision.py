"""precision="auto", precisions of single layers, and estimates."""

import pathlib

import numpy as np
import pytest
import small_networks

import torusml
from torusml import PrecisionSearch, errors
from torusml.torch.compile import compile_onnx_model

MODELS = pathlib.Path(__file__).parent.parent / "models"
CHECKERBOARD = MODELS / "checkerboard_qat_seed0.onnx"
DATA = np.load(MODELS / "checkerboard_qat_seed0.npz")
CALIBRATION = np.random.default_rng(0).permutation(DATA["calibration"])[:1000]
POINTS = DATA["points"]


@pytest.fixture(scope="module")
def checkerboard():
    return torusml.compile(CHECKERBOARD, CALIBRATION)


def simulated(module, x, seed):
    return module.dequantize_output(module.fhe_circuit.simulate(module.quantize_input(x), seed=seed))


def test_auto_is_faster_and_agrees(checkerboard):
    circuit = checkerboard.fhe_circuit
    assert circuit.statistics["precision"] == "auto"
    report = circuit.precision_report
    assert report["criterion"] == "argmax agreement"
    assert report["loss"] <= report["most_loss"] == pytest.approx(0.005)
    assert report["samples"] == 667 and 0 < report["trials"] <= 64
    by_hand = compile_onnx_model(CHECKERBOARD, CALIBRATION, import_qat=True, precision="tolerant").fhe_circuit
    assert circuit.statistics["complexity"] < 0.9 * by_hand.statistics["complexity"]
    assert circuit.statistics["complexity"] < 0.3 * report["exact_ms_per_core"]
    clear = checkerboard.forward(POINTS).argmax(axis=1)
    differing = [(simulated(checkerboard, POINTS, seed).argmax(axis=1) != clear).sum() for seed in range(4)]
    assert np.mean(differing) <= 5  # of 500


def test_auto_on_encrypted_points(checkerboard):
    clear = checkerboard.forward(POINTS[:8]).argmax(axis=1)
    encrypted = checkerboard.forward(POINTS[:8], fhe="execute").argmax(axis=1)
    assert (clear != encrypted).sum() <= 1


def test_layers_say_what_was_decided(checkerboard):
    layers = checkerboard.fhe_circuit.layers
    assert [layer["kind"] for layer in layers] == ["lookup", "lookup", "output"]
    assert [layer["lookup_count"] for layer in layers[:2]] == [37, 32]
    for layer in layers[:2]:
        assert layer["policy"] == "tolerant" and layer["tolerance"] > 0
        assert 0 < layer["far_probability"] < layer["step_probability"] < 1
        assert layer["wrap_probability"] < 2**-39
        assert 0 < layer["flip_rate"] < 0.2
    total = sum(layer["cost_ms_per_core"] for layer in layers[:2])
    assert 0.9 * checkerboard.fhe_circuit.statistics["complexity"] < total


def test_auto_repeats_itself_and_is_stored(checkerboard, tmp_path):
    again = torusml.compile(CHECKERBOARD, CALIBRATION)
    checkerboard.fhe_circuit.save(tmp_path / "a.tml")
    again.fhe_circuit.save(tmp_path / "b.tml")
    assert (tmp_path / "a.tml").read_bytes() == (tmp_path / "b.tml").read_bytes()
    loaded = torusml.load(tmp_path / "a.tml")
    assert loaded.precision_report == checkerboard.fhe_circuit.precision_report
    assert loaded.layers == checkerboard.fhe_circuit.layers


def test_a_layer_by_hand(checkerboard):
    first = checkerboard.fhe_circuit.layers[0]["name"]
    module = torusml.compile(CHECKERBOARD, CALIBRATION, layers={first: 2**-9})
    assert module.fhe_circuit.layers[0]["tolerance"] == 2**-9
    exact = torusml.compile(CHECKERBOARD, CALIBRATION, precision="tolerant", layers={first: "exact"})
    assert [layer["policy"] for layer in exact.fhe_circuit.layers] == ["exact", "tolerant", "tolerant"]
    with pytest.raises(errors.UnknownOption, match="no layer 'relu9'.*logits"):
        torusml.compile(CHECKERBOARD, CALIBRATION, layers={"relu9": "exact"})


def test_a_metric_of_ones_own():
    labels = np.arange(len(CALIBRATION)) % 2
    seen = []

    def metric(y_true, y_pred):
        seen.append((y_true.shape, y_pred.shape))
        return -np.abs(y_pred.argmax(axis=1) - y_true).mean()

    module = torusml.compile(CHECKERBOARD, CALIBRATION, metric=metric, labels=labels, max_loss=0.02)
    assert module.fhe_circuit.precision_report["criterion"] == "metric"
    assert all(truth[0] == predicted[0] and predicted[1] == 2 for truth, predicted in seen)

    def agreement(y_true, y_pred):
        return (y_true.argmax(axis=1) == y_pred.argmax(axis=1)).mean()

    by_metric = torusml.compile(CHECKERBOARD, CALIBRATION, metric=agreement, max_loss=0.005)
    built_in = torusml.compile(CHECKERBOARD, CALIBRATION)
    assert by_metric.fhe_circuit.statistics["complexity"] == built_in.fhe_circuit.statistics["complexity"]


def test_metrics_that_fail():
    def compile_with(metric, **options):
        torusml.compile(CHECKERBOARD, CALIBRATION, metric=metric, **options)

    def raising(y_true, y_pred):
        raise ZeroDivisionError("no positives")

    with pytest.raises(ZeroDivisionError, match="no positives"):
        compile_with(raising)
    with pytest.raises(errors.InvalidArgument, match="metric is nan on exact outputs"):
        compile_with(lambda y_true, y_pred: float("nan"))
    with pytest.raises(errors.WrongDtype, match="the metric gave"):
        compile_with(lambda y_true, y_pred: "good")
    with pytest.raises(errors.WrongShape, match="3 calibration samples|1000 calibration samples"):
        compile_with(lambda y_true, y_pred: 1.0, labels=np.zeros(3))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"agreement": 0.9, "relative_error": 0.1}, errors.InvalidArgument, "exclude each other"),
        ({"agreement": 0.9, "precision": "exact"}, errors.InvalidArgument, "precision"),
        ({"agreement": 1.0}, errors.InvalidArgument, "agreement is 1.0"),
        ({"agreement": "high"}, errors.WrongDtype, "agreement"),
        ({"relative_error": 0.0}, errors.InvalidArgument, "relative_error"),
        ({"metric": 3}, errors.WrongDtype, "metric"),
        ({"labels": np.zeros(1000)}, errors.InvalidCall, "labels are for a metric"),
        ({"max_trials": 1}, errors.InvalidArgument, "max_trials is 1"),
        ({"seed": -1}, errors.InvalidArgument, "seed"),
        ({"tolerance": 0.01}, errors.InvalidArgument, "chooses tolerances itself"),
        ({"layers": ["relu1"]}, errors.WrongDtype, "dictionary"),
        ({"layers": {"/relu1": 3.0}}, errors.InvalidArgument, "tolerance is 3"),
        ({"layers": {"/relu1": "auto"}}, errors.InvalidArgument, "all layers together"),
        ({"p_error": 0.1, "global_p_error": 0.1}, errors.InvalidArgument, "exclude each other"),
        ({"precision": "tolerant", "profile": "shared_results"}, errors.ProfileForbids, "leak"),
        ({"precision": "sloppy"}, errors.UnknownOption, "sloppy"),
    ],
)
def test_contradictions(options, error, text):
    with pytest.raises(error, match=text):
        torusml.compile(CHECKERBOARD, CALIBRATION, **options)


def test_too_few_samples_to_judge():
    with pytest.raises(errors.CalibrationTooSmall, match="299 would do"):
        torusml.compile(CHECKERBOARD, CALIBRATION[:100])
    with pytest.raises(errors.CalibrationTooSmall, match="1499 would do"):
        torusml.compile(CHECKERBOARD, CALIBRATION, agreement=0.999)


def test_few_samples_will_do_where_nothing_is_looked_up():
    module = torusml.compile(small_networks.mlp((3, 4)), np.eye(3))
    assert {layer["policy"] for layer in module.fhe_circuit.layers} == {"exact"}


def test_regression_and_the_compatible_door():
    x = np.random.default_rng(1).uniform(-1, 1, (400, 6))
    net = small_networks.mlp((6, 10, 1))
    search = PrecisionSearch(relative_error=0.02)
    module = compile_onnx_model(net, x, n_bits=5, precision="auto", search=search)
    assert module.fhe_circuit.precision_report["criterion"] == "relative error"
    clear, noisy = module.forward(x), module.forward(x, fhe="simulate")
    assert np.sqrt(((noisy - clear) ** 2).mean() / (clear**2).mean()) < 0.03
    assert compile_onnx_model(net, x, n_bits=5).fhe_circuit.statistics["precision"] == "exact"
    with pytest.raises(errors.InvalidArgument, match="precision"):
        compile_onnx_model(net, x, n_bits=5, search=search)


def test_shared_results_are_exact():
    module = torusml.compile(CHECKERBOARD, CALIBRATION[:50], profile="shared_results")
    assert {layer["policy"] for layer in module.fhe_circuit.layers} == {"exact"}


def test_estimate(checkerboard):
    estimate = checkerboard.estimate(batch=4, cores=16)
    assert estimate["seconds_one_sample"] > 0 and estimate["batch"] == 4
    assert estimate["seconds_batch"] > estimate["seconds_one_sample"]
    assert estimate["seconds_one_sample_on_cores"] < estimate["seconds_one_sample"]
    assert estimate["input_bytes"] == 16
    assert estimate["output_bytes"] == checkerboard.fhe_circuit.statistics["size_of_outputs"]
    assert estimate["output_bytes_batch"] == 4 * estimate["output_bytes"]
    memory = checkerboard.fhe_circuit.memory_estimate(1)["total"]
    assert estimate["memory_bytes_one_sample"] == memory
    assert 0.95 < estimate["fidelity_simulated"] <= estimate["fidelity_clear"] + 0.01 <= 1.01
    assert [layer["values"] for layer in estimate["layers"]] == [37, 32]
    for change in estimate["changes"]:
        assert change["seconds_one_sample"] < estimate["seconds_one_sample"]
        assert 0 <= change["fidelity_simulated"] <= 1
    for wrong in ({"batch": 0}, {"cores": 0}, {"threads": -1}, {"changes": -1}):
        with pytest.raises(errors.InvalidArgument, match=next(iter(wrong))):
            checkerboard.estimate(**wrong)
