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
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch
from data import Data, add_data_arguments, load
from models import NETWORKS, activations
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from training import RECIPES, accuracy, train_floats, train_quantized

OPSET = 14  # which the peers read, too
CALIBRATION_SAMPLES = 8000  # of the training images; an accumulator of a test image must not leave their range


def folded(network: nn.Sequential) -> nn.Sequential:
    """The same function without batch normalisation: it becomes part of the weights before it."""
    modules: list[nn.Module] = []
    for module in network:
        if isinstance(module, nn.BatchNorm1d):
            modules[-1] = fuse_linear_bn_eval(modules[-1], module)
        elif isinstance(module, nn.BatchNorm2d):
            modules[-1] = fuse_conv_bn_eval(modules[-1], module)
        elif not isinstance(module, nn.Identity):
            modules.append(module)
    return nn.Sequential(*modules).eval()


def export_options() -> dict:
    return {
        "opset_version": OPSET,
        "dynamo": False,
        "input_names": ["image"],
        "output_names": ["logits"],
    }


def export_floats(network: nn.Sequential, image: torch.Tensor, path: Path) -> None:
    torch.onnx.export(folded(network), image, str(path), **export_options())


def export_quantized(network: nn.Sequential, image: torch.Tensor, path: Path) -> None:
    from brevitas.export import export_qonnx

    export_qonnx(network, args=image, export_path=str(path), keep_initializers_as_inputs=False, **export_options())


def train(name: str, data: Data, folder: Path, seed: int) -> dict:
    """Trains and writes one network; the description that NAME.json holds."""
    recipe = RECIPES[name]
    start = time.perf_counter()
    network = train_floats(name, data, recipe, seed)
    floats_done = time.perf_counter()
    quantized = train_quantized(name, network, data, recipe, seed)
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
        "torch": torch.__version__,
    }
    (folder / f"{name}.json").write_text(json.dumps(description, indent=2) + "\n")
    return description


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=[*NETWORKS, "all"], metavar="NAME", help=", ".join([*NETWORKS, "all"]))
    parser.add_argument("--output", type=Path, required=True, help="the folder for the networks")
    add_data_arguments(parser)
    args = parser.parse_args()
    for name in NETWORKS if "all" in args.names else args.names:
        data = load(name, args.mnist, args.fashion)
        print(json.dumps(train(name, data, args.output, args.seed)), flush=True)


if __name__ == "__main__":
    main()
