"""How models of other tools are stored in foreign/: NAME.onnx, and NAME.npz with `inputs` and the tool's own `outputs`."""

from pathlib import Path

import numpy as np
import onnx
from fixtures import without_traces

FOLDER = Path(__file__).parent / "foreign"


def write(name: str, model: onnx.ModelProto, inputs: np.ndarray, outputs: np.ndarray, data: str = "") -> None:
    """`data`: the name of the .npz, where several models share it."""
    FOLDER.mkdir(exist_ok=True)
    onnx.save(without_traces(model), FOLDER / f"{name}.onnx")
    np.savez_compressed(FOLDER / f"{data or name}.npz", inputs=inputs, outputs=outputs)
    operators = sorted({node.op_type for node in model.graph.node})
    print(f"{name}: opset {model.opset_import[0].version}, {', '.join(operators)}")
