"""Numbers in words, and what a compiled network says about itself."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from torusml.quantization import QuantizedModule


def human_bytes(count: float) -> str:
    """`human_bytes(54_000_000)` is "54.0 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def human_probability(value: float) -> str:
    """Powers of two as such: "2^-40"."""
    exponent = value.hex().partition("p")
    return f"2^{exponent[2]}" if exponent[0].rstrip("0") in ("0x1.", "0x1") else f"{value:.3g}"


def circuit_facts(module: QuantizedModule) -> dict[str, float]:
    """Widths, lookups and what protects them."""
    statistics = module.fhe_circuit.statistics
    return {
        "accumulator_bits": module.fhe_circuit.graph.maximum_integer_bit_width(),
        "lookups": statistics["table_lookup_count"],
        "p_error": statistics["p_error"],
        "security_bits": statistics["security_level"],
    }


def sizes(module: QuantizedModule, point: np.ndarray) -> dict[str, int]:
    """Bytes of all that is stored or sent, measured on one point [1, 2]; makes keys if there are none."""
    circuit = module.fhe_circuit
    sent = circuit.encrypt(module.quantize_input(point))
    received = circuit.run(sent)
    return {
        "secret_key_bytes": circuit.statistics["size_of_secret_keys"],
        "evaluation_key_bytes": len(circuit.client.evaluation_keys.serialize()),
        "input_bytes": len(sent.serialize()),
        "output_bytes": len(received.serialize()),
    }


def machine() -> str:
    """The processor's name and how many of its cores this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if key.strip() == "model name"), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {cores} cores"
