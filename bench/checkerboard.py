"""Times the checkerboard network (2-100-100-2, 3 bits, QAT) on encrypted points, beside the peer in one run.

    .venv/bin/python bench/checkerboard.py                                  # ours alone
    .venv/bin/python bench/checkerboard.py --peer-python PEER/bin/python    # in turn with Concrete ML 1.9

PEER is a virtual environment of its own with `pip install concrete-ml==1.9.0`. The peer runs at the best setting found
by hand (rounding to 6 bits, APPROXIMATE, p_error 0.01). Ours runs with precision tolerant, one sample at a time and a
batch of 32, and with precision exact. Prints JSON lines: one per system, precision and round, then the ratios (of tolerant).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "tests" / "models" / "checkerboard_qat_seed0.onnx"
POINTS = ROOT / "tests" / "models" / "checkerboard_qat_seed0.npz"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


BATCH = 32


def run_ours(data: dict, samples: int, precision: str) -> dict:
    from torusml.torch.compile import compile_onnx_model

    start = time.perf_counter()
    module = compile_onnx_model(MODEL, data["calibration"], import_qat=True, precision=precision)
    compiled = time.perf_counter()
    module.fhe_circuit.keygen()
    keyed = time.perf_counter()
    times, predictions = [], []
    for sample in data["test"][:samples]:
        begin = time.perf_counter()
        predictions.append(module.forward(sample[None], fhe="execute").argmax(axis=1)[0])
        times.append(time.perf_counter() - begin)
    batch = {}
    if precision == "tolerant":
        begin = time.perf_counter()
        module.forward(data["test"][:BATCH], fhe="execute")
        batch["s_per_sample_of_a_batch"] = (time.perf_counter() - begin) / BATCH
    clear = module.forward(data["test"]).argmax(axis=1)
    statistics = module.fhe_circuit.statistics
    return {
        "system": "torusml",
        "precision": precision,
        "p_error": statistics["p_error"],
        "compile_s": compiled - start,
        "keygen_s": keyed - compiled,
        "s_per_sample_median": float(np.median(times)),
        "s_per_sample_min": min(times),
        **batch,
        "evaluation_key_bytes": statistics["size_of_bootstrap_keys"] + statistics["size_of_keyswitch_keys"],
        "accuracy_clear": float((clear == data["labels"]).mean()),
        "differ_from_clear": int((np.array(predictions) != clear[:samples]).sum()),
        "samples": samples,
    }


def run_peer(python: str, data: dict, samples: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.npz"
        np.savez(path, **{name: data[name] for name in ("calibration", "test", "labels")})
        settings = {
            "model": str(MODEL),
            "data": str(path),
            "rounding": {"n_bits": 6, "method": "APPROXIMATE"},
            "p_error": 0.01,
            "samples": samples,
        }
        script = Path(__file__).with_name("peer_concrete_ml.py")
        output = subprocess.run(
            [python, str(script), json.dumps(settings)], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    return json.loads(output.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="the Python of an environment that has concrete-ml")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5)
    args = parser.parse_args()

    archive = np.load(POINTS)
    grid = np.random.default_rng(0).permutation(archive["calibration"])[:1000]
    data = {"calibration": grid, "test": archive["points"], "labels": archive["labels"]}
    print(json.dumps({"cpu": processor(), "cores": os.cpu_count(), "security_bits": 128}), flush=True)
    ratios: dict[str, list[float]] = {"s_per_sample_median": [], "compile_s": [], "keygen_s": []}
    for _ in range(args.rounds):
        ours = run_ours(data, args.samples, "tolerant")
        print(json.dumps(ours), flush=True)
        print(json.dumps(run_ours(data, args.samples, "exact")), flush=True)
        if args.peer_python is None:
            continue
        peer = run_peer(args.peer_python, data, args.samples)
        print(json.dumps(peer), flush=True)
        for name, values in ratios.items():
            values.append(peer[name] / ours[name])
    if args.peer_python is not None:
        print(json.dumps({f"peer_over_ours_{name}": float(np.median(v)) for name, v in ratios.items()}))


if __name__ == "__main__":
    sys.exit(main())
