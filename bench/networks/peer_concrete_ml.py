"""Concrete ML's half of compare.py: runs in an environment that has concrete-ml and serves commands (child.py).

A setting is {"rounding": null or {"n_bits": 6, "method": "APPROXIMATE"}, "p_error": 0.01}.
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
import onnx
from child import serve, timed
from concrete.ml.torch.compile import build_quantized_module, compile_onnx_model


def load_onnx(path: str) -> onnx.ModelProto:
    """The peer knows Brevitas' quantizers by their older domain only."""
    model = onnx.load(path)
    for node in model.graph.node:
        if node.op_type == "Quant":
            node.domain = "onnx.brevitas"
    for opset in model.opset_import:
        if opset.domain == "qonnx.custom_op.general":
            opset.domain, opset.version = "onnx.brevitas", 1
    return model


class Peer:
    def __init__(self) -> None:
        self._modules: dict[str, object] = {}

    def open(self, model: str, data: str, qat: bool, bits: int) -> dict:
        """Reads the network and its data; accuracy of the network as quantized, without rounding."""
        self._options = {"import_qat": qat, "n_bits": bits}
        self._onnx = load_onnx(model)
        with np.load(data) as arrays:
            self._calibration, self._test, self._labels = (arrays[name] for name in ("calibration", "test", "labels"))
        module = build_quantized_module(self._onnx, self._calibration, **self._options)
        return {
            "system": "concrete-ml",
            "version": version("concrete-ml"),
            "accuracy_clear": self._accuracy(module, len(self._test), "disable"),
        }

    def compile(self, setting: dict) -> dict:
        module, seconds = timed(self._compiled, setting)
        self._modules[json.dumps(setting)] = module
        statistics = module.fhe_circuit.statistics
        return {
            "compile_s": seconds,
            "complexity": statistics["complexity"],
            "lookups": statistics["programmable_bootstrap_count"],
            "max_bits": module.fhe_circuit.graph.maximum_integer_bit_width(),
        }

    def _compiled(self, setting: dict) -> object:
        return compile_onnx_model(
            self._onnx,
            self._calibration,
            rounding_threshold_bits=setting["rounding"],
            p_error=setting["p_error"],
            **self._options,
        )

    def simulate(self, setting: dict, samples: int) -> dict:
        """Accuracy on the first samples with the noise of encryption, and of the network without it or rounding."""
        module = self._modules[json.dumps(setting)]
        accuracy, seconds = timed(self._accuracy, module, samples, "simulate")
        return {"accuracy_simulated": accuracy, "samples": min(samples, len(self._test)), "simulate_s": seconds}

    def clear(self, samples: int) -> dict:
        module = build_quantized_module(self._onnx, self._calibration, **self._options)
        return {"accuracy_clear": self._accuracy(module, samples, "disable")}

    def _accuracy(self, module: object, samples: int, fhe: str) -> float:
        found = module.forward(self._test[:samples], fhe=fhe).argmax(axis=1)
        return float((found == self._labels[:samples]).mean())

    def keygen(self, setting: dict) -> dict:
        circuit = self._modules[json.dumps(setting)].fhe_circuit
        _, seconds = timed(circuit.keygen)
        return {"keygen_s": seconds, "evaluation_key_bytes": len(circuit.client.evaluation_keys.serialize())}

    def run(self, setting: dict, first: int, count: int) -> dict:
        """Encrypted predictions, one sample at a time: seconds of each, and how many differ from the clear."""
        module = self._modules[json.dumps(setting)]
        seconds, differ = [], 0
        for sample in self._test[first : first + count]:
            outputs, time = timed(lambda x=sample: module.forward(x[None], fhe="execute"))
            seconds.append(time)
            differ += int(outputs.argmax() != module.forward(sample[None]).argmax())
        return {"seconds": seconds, "differ_from_clear": differ}

    def forget(self, setting: dict) -> dict:
        """Frees a setting that was tried and is not needed."""
        self._modules.pop(json.dumps(setting), None)
        return {}


if __name__ == "__main__":
    peer = Peer()
    names = ("open", "compile", "simulate", "clear", "keygen", "run", "forget")
    serve({name: getattr(peer, name) for name in names})
