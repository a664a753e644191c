"""PyTorch networks to ONNX, with their quantizers, and without the exporters' chatter."""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
import torch

from ..errors import InvalidModel, NotSupported


def brevitas_layers(model: torch.nn.Module) -> list[str]:
    """Names of the outermost layers that come from Brevitas; their parts come from there, too."""
    names: list[str] = []
    for name, layer in model.named_modules():
        if type(layer).__module__.split(".")[0] != "brevitas" and not _derives_from_brevitas(layer):
            continue
        if not any(name.startswith(f"{outer}.") for outer in names):
            names.append(name or type(layer).__name__)
    return names


def _derives_from_brevitas(layer: torch.nn.Module) -> bool:
    return any(cls.__module__.split(".")[0] == "brevitas" for cls in type(layer).__mro__)


def export_onnx(model: torch.nn.Module, inputs: list[np.ndarray]) -> bytes:
    """The network as one ONNX file, traced with the first sample as float32.

    PyTorch's exporter of TorchScript names nodes by the layers that they come from, so it is tried first; networks that it
    cannot trace, and versions of PyTorch without it, go through torch.export. Brevitas networks go through the exporter of
    Brevitas, which keeps each quantizer as one node. A network that takes indices refuses float32: then inputs that are
    whole numbers are traced as integers.
    """
    if not isinstance(model, torch.nn.Module):
        raise InvalidModel(f"a torch.nn.Module or an ONNX model expected, got {type(model).__name__}", "model")
    indices = [bool(np.all(value == np.rint(value))) for value in inputs]
    was_training = model.training
    model.eval()
    try:
        failures = []
        for dynamo, with_indices in itertools.product((False, True), (False, True) if any(indices) else (False,)):
            try:
                with _quiet():
                    return _export(model, _samples(inputs, indices if with_indices else [False] * len(inputs)), dynamo)
            except NotSupported:
                raise
            except Exception as error:  # exporters raise whatever they met
                if with_indices:
                    continue
                failures.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
    finally:
        model.train(was_training)
    raise InvalidModel(f"the network cannot be exported to ONNX: {'; '.join(failures)}", type(model).__name__)


def _samples(inputs: list[np.ndarray], indices: list[bool]) -> tuple:
    types = [np.int64 if is_index else np.float32 for is_index in indices]
    return tuple(
        torch.from_numpy(np.ascontiguousarray(value[:1], dtype)) for value, dtype in zip(inputs, types, strict=True)
    )


def _export(model: torch.nn.Module, samples: tuple, dynamo: bool) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        if brevitas_layers(model):
            from brevitas.export import export_qonnx

            export_qonnx(model, args=samples, export_path=path, dynamo=dynamo, **_names(model, samples))
        else:
            torch.onnx.export(model, samples, path, dynamo=dynamo, **_names(model, samples))
        return _in_one_file(path)


def _names(model: torch.nn.Module, samples: tuple) -> dict[str, list[str]]:
    """Names of inputs and outputs that messages can be read with."""
    inputs = list(inspect.signature(model.forward).parameters)[: len(samples)]
    with torch.no_grad():
        result = model(*samples)
    if hasattr(result, "bit_width") and hasattr(result, "value"):
        raise NotSupported(
            "the network returns a QuantTensor", type(model).__name__, "return_quant_tensor=False in its last layer"
        )
    outputs = [f"output_{i}" for i in range(len(result))] if type(result) in (tuple, list) else ["output"]
    return {"input_names": inputs, "output_names": outputs} if len(inputs) == len(samples) else {}


def _in_one_file(path: str) -> bytes:
    """With the weights that the exporter may have put into a second file."""
    import onnx

    return onnx.load(path).SerializeToString()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
