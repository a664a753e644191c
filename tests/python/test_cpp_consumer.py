"""Installs libtorusml from the build tree and builds the C++ example against it with find_package."""

import os
import subprocess
from pathlib import Path

import onnx
from small_networks import mlp

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TORUSML_BUILD", ROOT / "build" / "release"))


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_example_builds_and_predicts_on_encrypted_data(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    onnx.save(mlp((2, 4, 1)), model)
    run("cmake", "--install", BUILD, "--prefix", tmp_path / "prefix", "--component", "torusml")
    run("cmake", "-S", ROOT / "examples" / "cpp", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}")
    run("cmake", "--build", tmp_path / "build")
    example = tmp_path / "build" / "encrypted_prediction"
    assert "encrypted" in run(example, model)

    missing = subprocess.run([example, tmp_path / "missing.onnx"], capture_output=True, text=True)
    assert missing.returncode == 1
    assert "TML-E010" in missing.stderr
