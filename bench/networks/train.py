"""Trains the benchmarks' networks and writes them as ONNX, which TorusML and its peers read.

    .venv/bin/python bench/networks/train.py nn-20 --output FOLDER --mnist DIGITS.npz
    .venv/bin/python bench/networks/train.py all --output FOLDER --mnist DIGITS.npz

For each network FOLDER gets NAME-float.onnx (batch normalisation folded into the weights), NAME-qat.onnx (Brevitas'
quantizers as Quant nodes), NAME.npz (images and labels of calibration and test) and NAME.json (how it was trained, and
accuracies).
The same seed, machine and versions give the same networks. Minutes for each.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib
import json
import time
from pathlib import Path

import numpy as np
import torch
from data import Data, add_data_arguments, fail, load
from models import NETWORKS, activations
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from training import RECIPES, accuracy, train_floats, train_quantized

OPSET = 14  # which the peers read, too
CALIBRATION_SAMPLES = 8000  # of the training images; an accumulator of a test image must not leave their range


def check_exporters() -> None:
    """The export comes after minutes of training; what Brevitas needs for it, it would miss only then."""
    for name in ("brevitas", "onnx", "onnxoptimizer"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            fail(f"the export after training needs {name} ({error}): pip install {name}")


def folded(network: nn.Module) -> nn.Module:
    """A copy that computes the same without batch normalisation: it becomes part of the weights before it."""
    return _fold(copy.deepcopy(network)).eval()


def _fold(module: nn.Module) -> nn.Module:
    if not isinstance(module, nn.Sequential):
        for name, child in module.named_children():
            setattr(module, name, _fold(child))
        return module
    modules: list[nn.Module] = []
    for child in module:
        if isinstance(child, nn.BatchNorm1d):
            modules[-1] = fuse_linear_bn_eval(modules[-1], child)
        elif isinstance(child, nn.BatchNorm2d):
            modules[-1] = fuse_conv_bn_eval(modules[-1], child)
        elif not isinstance(child, nn.Identity):
            modules.append(_fold(child))
    return nn.Sequential(*modules)


def export_options() -> dict:
    return {
        "opset_version": OPSET,
        "dynamo": False,
        "input_names": ["image"],
        "output_names": ["logits"],
    }


def export_floats(network: nn.Module, image: torch.Tensor, path: Path) -> None:
    torch.onnx.export(folded(network), image, str(path), **export_options())


def export_quantized(network: nn.Module, image: torch.Tensor, path: Path) -> None:
    from brevitas.export import export_qonnx

    export_qonnx(network, args=image, export_path=str(path), keep_initializers_as_inputs=False, **export_options())


def train(name: str, data: Data, folder: Path, seed: int, device: str = "cpu") -> dict:
    """Trains and writes one network; the description that NAME.json holds."""
    check_exporters()
    recipe = RECIPES[name]
    start = time.perf_counter()
    network = train_floats(name, data, recipe, seed, device)
    floats_done = time.perf_counter()
    quantized = train_quantized(name, network, data, recipe, seed, device)
    quantized_done = time.perf_counter()

    folder.mkdir(parents=True, exist_ok=True)
    image = torch.from_numpy(data.test.images[:1])
    export_floats(network, image, folder / f"{name}-float.onnx")
    export_quantized(quantized, image, folder / f"{name}-qat.onnx")
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:CALIBRATION_SAMPLES]
    np.savez_compressed(
        folder / f"{name}.npz",
        calibration=data.train.images[chosen],
        calibration_labels=data.train.labels[chosen],
        test=data.test.images,
        labels=data.test.labels,
    )
    description = {
        "network": name,
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
        "activations": activations(name, data.test.images.shape[1:]),
        "float_accuracy": accuracy(network, data.test),
        "qat_accuracy": accuracy(quantized, data.test),
        "float_train_s": floats_done - start,
        "qat_train_s": quantized_done - floats_done,
        "device": device,
        "torch": torch.__version__,
    }
    (folder / f"{name}.json").write_text(json.dumps(description, indent=2) + "\n")
    return description


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*NETWORKS, "all"], metavar="NAME", help=", ".join([*NETWORKS, "all"]))
    parser.add_argument("--output", type=Path, required=True, help="the folder for the networks")
    parser.add_argument("--device", default="cpu", help="where torch trains: cpu, cuda")
    add_data_arguments(parser)
    args = parser.parse_args()
    for name in NETWORKS if "all" in args.names else args.names:
        data = load(name, args.mnist, args.fashion)
        print(json.dumps(train(name, data, args.output, args.seed, args.device)), flush=True)


if __name__ == "__main__":
    main()
