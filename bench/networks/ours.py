"""Our half of compare.py: one network compiled, its accuracies, and encrypted runs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PART = 20  # samples of an encrypted batch


class Ours:
    def __init__(self, model: Path, arrays: dict[str, np.ndarray], qat: bool, options: dict[str, Any]):
        from torusml.torch.compile import compile_onnx_model

        self._test, self._labels = arrays["test"], arrays["labels"]
        start = time.perf_counter()
        self._module = compile_onnx_model(model, arrays["calibration"], import_qat=qat, **options)
        self._compile_s = time.perf_counter() - start
        self._clear = self._classes(self._test, "disable")

    def _classes(self, images: np.ndarray, fhe: str) -> np.ndarray:
        return self._module.forward(images, fhe=fhe).argmax(axis=1)

    def describe(self) -> dict:
        """What the plan says, and accuracy in the clear and simulated, on all test samples."""
        statistics = self._module.fhe_circuit.statistics
        start = time.perf_counter()
        simulated = self._classes(self._test, "simulate")
        return {
            "system": "torusml",
            "version": version(),
            **{name: statistics[name] for name in ("precision", "p_error", "security_level", "tolerance")},
            "lookups": statistics["table_lookup_count"],
            "rotations": statistics["programmable_bootstrap_count"],
            "predicted_ms_one_core": statistics["complexity"],
            "estimated_s": self._module.estimate(batch=1, changes=0)["seconds_one_sample"],  # before there are keys
            "key_sets": [key_set["parameters"] for key_set in statistics["key_sets"]],
            "max_bits": self._module.fhe_circuit.graph.maximum_integer_bit_width(),
            "compile_s": self._compile_s,
            "simulate_s": time.perf_counter() - start,
            "test_samples": len(self._test),
            "accuracy_clear": float((self._clear == self._labels).mean()),
            "accuracy_simulated": float((simulated == self._labels).mean()),
            "simulated_differ_from_clear": int((simulated != self._clear).sum()),
        }

    def keygen(self) -> dict:
        start = time.perf_counter()
        self._module.fhe_circuit.keygen(force=True)
        keygen_s = time.perf_counter() - start
        return {
            "keygen_s": keygen_s,
            "evaluation_key_bytes": len(self._module.fhe_circuit.client.evaluation_keys.serialize()),
        }

    def run(self, first: int, count: int) -> dict:
        """Encrypted predictions, one sample at a time, encryption and decryption included."""
        seconds, differ = [], 0
        for index in range(first, first + count):
            start = time.perf_counter()
            found = self._classes(self._test[index : index + 1], "execute")
            seconds.append(time.perf_counter() - start)
            differ += int(found[0] != self._clear[index])
        return {"seconds": seconds, "differ_from_clear": differ}

    def check(self, samples: int) -> dict:
        """Encrypted predictions in batches, under the keys of now: accuracy, and how many differ from the clear."""
        count = min(samples, len(self._test))
        start = time.perf_counter()
        parts = [self._classes(self._test[i : min(i + PART, count)], "execute") for i in range(0, count, PART)]
        seconds = time.perf_counter() - start
        found = np.concatenate(parts)
        return {
            "samples": count,
            "batch": PART,
            "s_per_sample": seconds / count,
            "differ_from_clear": int((found != self._clear[:count]).sum()),
            "accuracy_encrypted": float((found == self._labels[:count]).mean()),
            "accuracy_clear": float((self._clear[:count] == self._labels[:count]).mean()),
        }


def version() -> str:
    import torusml

    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return torusml.__version__ + (f" ({commit})" if commit else "")


def machine() -> dict:
    """Processor, cores of this process, and the widest vectors that it has."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    vectors = next((title for flag, title in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if f" {flag}" in info), "")
    return {
        "cpu": name or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "vectors": vectors or platform.machine(),
    }
