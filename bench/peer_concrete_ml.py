"""The peer's side of bench/checkerboard.py: runs in an environment that has concrete-ml, prints one JSON line.

Compiles a QONNX network (opset 14) at the given rounding and p_error, makes keys and times encrypted predictions.
"""

import json
import sys
import time

import numpy as np
import onnx
from concrete.ml.torch.compile import compile_onnx_model


def load(path: str) -> onnx.ModelProto:
    """The peer knows Brevitas' quantizers by their older domain only."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Quant":
            node.domain = "onnx.brevitas"
    for opset in model.opset_import:
        if opset.domain == "qonnx.custom_op.general":
            opset.domain, opset.version = "onnx.brevitas", 1
    return model


def main() -> None:
    settings = json.loads(sys.argv[1])
    data = np.load(settings["data"])
    calibration, test, labels = (data[name] for name in ("calibration", "test", "labels"))
    start = time.perf_counter()
    module = compile_onnx_model(
        load(settings["model"]),
        calibration,
        import_qat=True,
        rounding_threshold_bits=settings["rounding"],
        p_error=settings["p_error"],
    )
    compiled = time.perf_counter()
    module.fhe_circuit.keygen()
    keyed = time.perf_counter()
    samples = test[: settings["samples"]]
    times = []
    predictions = []
    for sample in samples:
        begin = time.perf_counter()
        predictions.append(module.forward(sample[None], fhe="execute").argmax(axis=1)[0])
        times.append(time.perf_counter() - begin)
    clear = module.forward(test).argmax(axis=1)
    print(
        json.dumps(
            {
                "system": "concrete-ml",
                "rounding": settings["rounding"],
                "p_error": settings["p_error"],
                "compile_s": compiled - start,
                "keygen_s": keyed - compiled,
                "s_per_sample_median": float(np.median(times)),
                "s_per_sample_min": min(times),
                "evaluation_key_bytes": len(module.fhe_circuit.client.evaluation_keys.serialize()),
                "accuracy_clear": float((clear == labels).mean()),
                "differ_from_clear": int((np.array(predictions) != clear[: len(samples)]).sum()),
                "samples": len(samples),
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
