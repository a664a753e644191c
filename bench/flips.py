"""Wrong reads of a network, simulated and on ciphertexts, layer by layer.

    ./dev bench flips                                           # the checkerboard fixture
    ./dev bench flips --model net.onnx --data net.npz --bits 4  # another

The data holds `calibration` and `points` or `test` (samples, ...), and `labels` for accuracies. The model is compiled with
precision tolerant and a coarse tolerance, at which flips are frequent. The pooled rates must agree within 10 %, and
the accuracies within their binomial intervals; layers are shown without verdict. Exit status 1 where they do not.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests" / "models"
AGREEMENT = 0.10
ENOUGH = {"encrypted": 2500, "simulated": 25000}
MOST_RESULT_NOISE = 0.125  # of one integer: beyond it results on ciphertexts differ without a wrong read


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=MODELS / "checkerboard_qat_seed0.onnx")
    parser.add_argument("--data", type=Path, default=MODELS / "checkerboard_qat_seed0.npz")
    parser.add_argument("--bits", type=int, help="of post-training quantization; without it the network's own quantizers")
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--margin", type=float, default=0.05, help="of intervals beyond what calibration reaches")
    parser.add_argument("--encrypted", type=int, default=200, help="samples")
    parser.add_argument("--simulated", type=int, default=5000, help="samples")
    parser.add_argument("--program", type=Path, default=ROOT / "build" / "release" / "bench" / "flips")
    return parser.parse_args()


def measure(options: argparse.Namespace, data: dict) -> tuple[list, dict]:
    from torusml.torch.compile import compile_onnx_model

    quantization = {"n_bits": options.bits} if options.bits else {"import_qat": True}
    module = compile_onnx_model(
        options.model,
        data["calibration"],
        precision="tolerant",
        tolerance=options.tolerance,
        margin=options.margin,
        **quantization,
    )
    with tempfile.TemporaryDirectory() as folder:
        model, inputs, results = (str(Path(folder) / name) for name in ("model.tml", "inputs", "results"))
        module.fhe_circuit.save(model)
        np.asarray(module.quantize_input(data["points"]), dtype="<i8").tofile(inputs)
        counts = (str(options.encrypted), str(options.simulated))
        run = subprocess.run(
            [options.program, model, inputs, *counts, results], check=True, stdout=subprocess.PIPE, text=True
        )
        q_y = np.fromfile(results, dtype="<i8").reshape(options.encrypted + options.simulated, -1)
    shape = np.shape(module.quantized_forward(module.quantize_input(data["points"][:1])))[1:]
    y = module.dequantize_output(q_y.reshape(-1, *shape)).reshape(len(q_y), -1)
    clear = module.forward(data["points"]).reshape(len(data["points"]), -1)
    classes = {"clear": clear, "encrypted": y[: options.encrypted], "simulated": y[options.encrypted :]}
    return [json.loads(line) for line in run.stdout.splitlines()], classes


def show(line: dict) -> None:
    cells = []
    for kind in ("encrypted", "simulated"):
        counts = line[kind]
        cells.append(
            f"{kind} {counts['flips']}/{counts['events']} = {counts['flip_rate']:.4f}"
            f" far {counts['far']} wraps {counts['wraps']}"
        )
    print(f"{line['layer'] or 'all layers':<16} " + "  ".join(cells))


def counts_agree(lines: list) -> bool:
    pooled = lines[-1]
    ratio = pooled["encrypted"]["flip_rate"] / max(pooled["simulated"]["flip_rate"], 1e-300)
    enough = all(pooled[kind]["flips"] >= least for kind, least in ENOUGH.items())
    if not enough:
        print(f"too few flips for a verdict ({ENOUGH}): more samples, or a coarser tolerance")
    quiet = all(line["result_noise"] <= MOST_RESULT_NOISE for line in lines[:-1])
    if not quiet:
        print(f"results are noisier than {MOST_RESULT_NOISE} of an integer: no verdict; a finer tolerance")
    print(f"encrypted over simulated: {ratio:.3f}")
    return enough and quiet and abs(ratio - 1) <= AGREEMENT


def accuracies_agree(classes: dict, labels: np.ndarray) -> bool:
    """On the samples that ran encrypted; those of the simulator repeat them among others."""
    right, samples = {}, {}
    used = {i % len(labels) for i in range(len(classes["encrypted"]))}
    for kind, y in classes.items():
        index = np.arange(len(y)) % len(labels)
        chosen = np.isin(index, list(used))
        right[kind] = (y.argmax(1)[chosen] == labels[index[chosen]]).mean()
        samples[kind] = int(chosen.sum())
        print(f"accuracy {kind}: {right[kind]:.4f} of {samples[kind]}")
    p = right["simulated"]
    sigma = math.sqrt(max(p * (1 - p), 1e-4) * (1 / samples["encrypted"] + 1 / samples["simulated"]))
    return abs(right["encrypted"] - p) <= 1.96 * sigma + 1 / samples["encrypted"]


def main() -> int:
    options = arguments()
    with np.load(options.data) as file:
        data = dict(file)
    if "points" not in data and "test" not in data:
        sys.exit(f"{options.data} holds neither 'points' nor 'test', but {', '.join(data)}")
    data.setdefault("points", data.get("test"))
    lines, classes = measure(options, data)
    for line in lines:
        show(line)
    agree = counts_agree(lines)
    if "labels" in data:
        agree &= accuracies_agree(classes, data["labels"])
    print(json.dumps({"agree": bool(agree), "tolerance": options.tolerance, **lines[-1]}))
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
