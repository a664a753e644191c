"""Encrypted runs that are stopped and go on: killed, interrupted, with foreign and broken checkpoints, without disk."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import COMMAND, fails, torusml
from small_networks import mlp

import torusml as package
from torusml.torch.compile import compile_onnx_model

SIZES = (4, 24, 24, 24, 24, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of four layers of lookups, keys, inputs, and the result of a run that nothing stopped."""
    path = tmp_path_factory.mktemp("checkpoints")
    onnx.save(mlp(SIZES), path / "net.onnx")
    random = np.random.default_rng(1)
    np.save(path / "calibration.npy", random.uniform(-1, 1, (50, 4)))
    np.save(path / "x.npy", random.uniform(-1, 1, (2, 4)))
    compile_it = ("compile", "net.onnx", "--calibration", "calibration.npy", "--bits", 3, "--precision", "tolerant")
    torusml(*compile_it, "-o", "m.tml", folder=path)
    torusml("keygen", "m.tml", "--secret", "k.key", "--evaluation", "k.eval", folder=path)
    for name in ("x.ct", "other.ct"):
        torusml("encrypt", "m.tml", "--secret", "k.key", "--input", "x.npy", "-o", name, folder=path)
    torusml(*run_arguments("whole.ct"), folder=path)
    return path


def run_arguments(output, *more, inputs="x.ct"):
    return ("run", "m.tml", "--evaluation", "k.eval", "--input", inputs, "-o", output, "--threads", 1, *more)


def start(folder, *arguments):
    """At the lowest priority: on a busy machine, too, this process sees that it runs before it has ended."""
    command = ["nice", "-n", "19", COMMAND, *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    while process.poll() is None and not condition():
        time.sleep(0.002)
    assert process.poll() is None, "the run ended before it could be stopped"


def stop(process, number):
    process.send_signal(number)
    text = process.communicate(timeout=300)[1]
    return process.returncode, text


def kept(name):
    return ("--checkpoint", name, "--checkpoint-seconds", 0)


def test_a_killed_run_goes_on(folder):
    arguments = run_arguments("killed.ct", *kept("killed.ckpt"))
    process = start(folder, *arguments)
    wait_for((folder / "killed.ckpt").exists, process)
    assert stop(process, signal.SIGKILL)[0] == -signal.SIGKILL
    assert not (folder / "killed.ct").exists()
    text = torusml("inspect", "killed.ckpt", folder=folder)
    assert "checkpoint" in text
    torusml(*arguments, folder=folder)
    assert (folder / "killed.ct").read_bytes() == (folder / "whole.ct").read_bytes()
    assert not (folder / "killed.ckpt").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_writes_its_checkpoint_and_no_result(folder, number):
    checkpoint = folder / f"interrupted{number}.ckpt"
    arguments = run_arguments("interrupted.ct", *kept(checkpoint))
    process = start(folder, *arguments)
    wait_for(checkpoint.exists, process)
    status, text = stop(process, number)
    assert status == 130 and text.startswith("torusml: TML-E038 cancelled: the run was stopped by SIG"), text
    assert "goes on from" in text
    assert not (folder / "interrupted.ct").exists() and checkpoint.exists()
    torusml(*arguments, folder=folder)
    assert (folder / "interrupted.ct").read_bytes() == (folder / "whole.ct").read_bytes()
    (folder / "interrupted.ct").unlink()


def test_without_a_checkpoint_nothing_is_left(folder):
    before = sorted(os.listdir(folder))
    process = start(folder, *run_arguments("nothing.ct"))
    # The handler is there once the keys are loaded.
    wait_for(lambda: "SigCgt" in status_of(process) and caught(process) & (1 << (signal.SIGINT - 1)), process)
    status, text = stop(process, signal.SIGINT)
    assert status == 130 and "--checkpoint FILE" in text
    assert sorted(os.listdir(folder)) == before


def status_of(process):
    return Path(f"/proc/{process.pid}/status").read_text()


def caught(process):
    return int(next(line for line in status_of(process).splitlines() if line.startswith("SigCgt")).split()[1], 16)


def test_foreign_and_broken_checkpoints(folder):
    arguments = run_arguments("y.ct", *kept("kept.ckpt"))
    process = start(folder, *arguments)
    wait_for((folder / "kept.ckpt").exists, process)
    stop(process, signal.SIGKILL)
    content = (folder / "kept.ckpt").read_bytes()
    text = fails(1, *run_arguments("y.ct", *kept("kept.ckpt"), inputs="other.ct"), folder=folder)
    assert "on other inputs" in text
    (folder / "kept.ckpt").write_bytes(content[: len(content) // 2])
    fails(11, *arguments, folder=folder)
    (folder / "kept.ckpt").write_bytes(content[:-20] + b"?" + content[-19:])
    fails(14, *arguments, folder=folder)
    fails(12, *run_arguments("y.ct", *kept("x.ct")), folder=folder)
    fails(12, *run_arguments("y.ct", inputs="kept.ckpt"), folder=folder)
    assert not (folder / "y.ct").exists()


def test_a_disk_that_is_full(folder):
    limit = ["bash", "-c", 'ulimit -f 8; trap "" XFSZ; exec "$0" "$@"', COMMAND]
    arguments = [*limit, *map(str, run_arguments("full.ct", *kept("full.ckpt")))]
    result = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1 and result.stderr.startswith("torusml: TML-E028 file-unwritable"), result.stderr
    assert not [name for name in os.listdir(folder) if name.startswith("full")]


def test_python_stops_and_goes_on(tmp_path):
    calibration = np.random.default_rng(1).uniform(-1, 1, (50, 4))
    module = compile_onnx_model(mlp(SIZES), calibration, n_bits=3, precision="tolerant")
    client = package.Client(module.fhe_circuit)
    client.keygen()
    server = package.Server(module.fhe_circuit, client.evaluation_keys)
    inputs = client.encrypt(calibration[:1])
    whole = server.run(inputs).serialize()
    checkpoint = tmp_path / "x.ckpt"

    def stop_late(done, total):
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.run(inputs, threads=1, checkpoint=checkpoint, checkpoint_seconds=0, progress=stop_late)
    assert checkpoint.exists()
    assert server.run(inputs, checkpoint=checkpoint).serialize() == whole
    assert not checkpoint.exists()
