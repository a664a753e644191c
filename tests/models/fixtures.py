"""How the model fixtures are stored: one NAME.onnx each, and one expected.txt for a folder.

expected.txt has, for each model, a line `case NAME`, a line `input` for each input and a line
`output` for each output, in the model's order:

    case relu
    input 2 3 : -1 0 1 2 -3 0.5
    output 2 3 : 0 0 1 2 0 0.5
"""

from pathlib import Path

import numpy as np
import onnx


def numbers(array) -> str:
    array = np.asarray(array)
    shape = " ".join(str(size) for size in array.shape)
    values = " ".join(f"{float(value):.9g}" for value in array.reshape(-1))
    return f"{shape} : {values}"


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drops what exporters say about the machine and the source: documentation and stack traces."""
    del model.metadata_props[:]
    model.doc_string = ""
    for item in [
        model.graph,
        *model.graph.node,
        *model.graph.initializer,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ]:
        item.doc_string = ""
        if hasattr(item, "metadata_props"):
            del item.metadata_props[:]
    return model


class Fixtures:
    def __init__(self, folder: str):
        self.folder = Path(__file__).parent / folder
        self.folder.mkdir(exist_ok=True)
        for old in self.folder.iterdir():
            old.unlink()
        self.lines = []

    def add(self, name: str, inputs, outputs, model: onnx.ModelProto | None = None):
        """`model` is saved here, unless the caller has done so."""
        if model is not None:
            onnx.save(without_traces(model), self.folder / f"{name}.onnx")
        self.lines.append(f"case {name}")
        self.lines += [f"input {numbers(array)}" for array in inputs]
        self.lines += [f"output {numbers(array)}" for array in outputs]

    def save(self):
        (self.folder / "expected.txt").write_text("\n".join(self.lines) + "\n")
        size = sum(file.stat().st_size for file in self.folder.iterdir())
        print(f"{self.folder.name}: {size / 1000:.0f} kB")
