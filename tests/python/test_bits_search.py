"""bits="auto": layer by layer as few bits as a target between the float and the quantized network allows."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

import torusml
from torusml import errors

COMMAND = os.environ.get("TORUSML_COMMAND", str(Path(__file__).parents[2] / "build" / "release" / "torusml"))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 10), torch.nn.ReLU(), torch.nn.Linear(10, 10), torch.nn.ReLU(), torch.nn.Linear(10, 3)
    )
    return net.eval(), np.random.default_rng(5).uniform(-1, 1, (600, 6)).astype(np.float32)


def test_fewer_bits_where_that_saves_time(network):
    net, x = network
    module = torusml.compile(net, x, bits="auto", precision="exact", method="mse", agreement=0.95)
    report = module.bits_report
    assert report["criterion"] == "argmax agreement" and report["loss"] <= 0.05 and report["samples"] == 400
    assert len(report["layers"]) == 3
    assert all(2 <= bits <= 8 for layer in report["layers"].values() for bits in layer)
    with torch.no_grad():
        expected = net(torch.tensor(x)).numpy().argmax(axis=1)
    assert (module.forward(x, fhe="disable").argmax(axis=1) == expected).mean() >= 0.93
    assert (module.forward(x[:50], fhe="simulate") == module.forward(x[:50], fhe="disable")).all()
    finer = torusml.compile(net, x, bits=7, precision="exact", method="mse")
    assert finer.bits_report is None
    assert module.fhe_circuit.statistics["complexity"] < finer.fhe_circuit.statistics["complexity"]


def test_a_metric_and_precision_auto(network):
    net, x = network
    with torch.no_grad():
        labels = net(torch.tensor(x)).numpy().argmax(axis=1)
    module = torusml.compile(
        net, x, bits="auto", metric=lambda y, p: (p.argmax(axis=1) == y).mean(), labels=labels, max_loss=0.05, max_trials=20
    )
    assert module.bits_report["criterion"] == "metric"
    assert module.bits_report["trials"] <= 20
    assert module.fhe_circuit.precision_report is not None


def test_what_contradicts_itself(network):
    net, x = network
    with pytest.raises(errors.InvalidArgument, match="brings its own quantizers"):
        torusml.compile(net, x, bits="auto", import_qat=True)
    with pytest.raises(errors.WrongDtype, match="a number of bits expected"):
        torusml.compile(net, x, bits="automatic")
    with pytest.raises(errors.CalibrationTooSmall, match="would do"):
        torusml.compile(net, x[:50], bits="auto", agreement=0.999)
    with pytest.raises(errors.TargetNotMet, match="against the float network"):
        torusml.compile(net, x, bits="auto", precision="tolerant", relative_error=1e-7)
    with pytest.raises(errors.InvalidArgument, match='"auto"'):
        torusml.compile(net, x, bits=6, precision="exact", agreement=0.9)


def test_the_command(network, tmp_path):
    net, x = network
    torch.onnx.export(net, torch.tensor(x[:1]), str(tmp_path / "net.onnx"), dynamo=False)
    np.save(tmp_path / "x.npy", x)
    arguments = [COMMAND, "compile", "net.onnx", "--calibration", "x.npy", "-o", "net.tml", "--bits", "auto"]
    arguments += ["--agreement", "0.95", "--method", "mse", "--precision", "exact", "--max-trials", "30"]
    run = subprocess.run([*arguments, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)["bits_search"]
    assert len(report["layers"]) == 3 and report["loss"] <= 0.05
    run = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "bits auto: " in run.stdout and "bits of inputs" in run.stdout
    run = subprocess.run([*arguments[:-9], "3.5"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 2 and "--bits" in run.stderr
