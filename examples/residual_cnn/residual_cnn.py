"""A residual network with batch normalization on encrypted images of clothes (Fashion-MNIST).

python examples/residual_cnn/residual_cnn.py --models FOLDER                  # accuracies; trains into FOLDER if need be
python examples/residual_cnn/residual_cnn.py --models FOLDER --encrypted 20   # and 20 test images on ciphertexts

The network is `resnet-fashion` of bench/networks/models.py, whose training this script uses: first in floats, then with
quantizers, from the floats and with them as a teacher.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench" / "networks"))
from data import FASHION, load  # noqa: E402
from ours import Ours  # noqa: E402

from torusml import PrecisionSearch  # noqa: E402

NAME = "resnet-fashion"
MARGIN = 0.15  # intervals are that much wider than calibration on each side
MAX_LOSS = 0.005  # of accuracy on calibration images, for the noise of faster keys


def accuracy(labels: np.ndarray, scores: np.ndarray) -> float:
    return float((scores.argmax(axis=1) == labels).mean())


def trained(folder: Path, fashion: Path, seed: int, device: str) -> tuple[dict, dict[str, np.ndarray]]:
    """What is known of the network, and its images."""
    if not (folder / f"{NAME}.json").exists():
        from train import train  # needs torch and Brevitas

        train(NAME, load(NAME, None, fashion), folder, seed, device)
    with np.load(folder / f"{NAME}.npz") as file:
        return json.loads((folder / f"{NAME}.json").read_text()), dict(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True, help="the folder of the trained network")
    parser.add_argument("--fashion", type=Path, default=FASHION, help="the folder of Fashion-MNIST's idx files")
    parser.add_argument("--seed", type=int, default=0, help="of training")
    parser.add_argument("--device", default="cpu", help="where torch trains: cpu, cuda")
    parser.add_argument("--encrypted", type=int, default=0, metavar="N", help="run N test images on ciphertexts")
    args = parser.parse_args()
    description, arrays = trained(args.models, args.fashion, args.seed, args.device)
    print(f"floats: {description['float_accuracy']:.2%}, quantized (Brevitas): {description['qat_accuracy']:.2%}")
    search = PrecisionSearch(metric=accuracy, labels=arrays["calibration_labels"], max_loss=MAX_LOSS)
    options = {"precision": "auto", "search": search, "margin": MARGIN}
    ours = Ours(args.models / f"{NAME}-qat.onnx", arrays, qat=True, options=options)
    facts = ours.describe()
    print(f"in the clear: {facts['accuracy_clear']:.2%}, simulated: {facts['accuracy_simulated']:.2%}", end=" ")
    print(f"({facts['test_samples']} images; {facts['simulated_differ_from_clear']} unlike clear)")
    print(
        f"{facts['lookups']} tables read by {facts['rotations']} rotations, {facts['estimated_s']:.1f} s an image expected"
    )
    if args.encrypted:
        keys, check = ours.keygen(), ours.check(args.encrypted)
        print(f"keys: {keys['keygen_s']:.1f} s, {keys['evaluation_key_bytes'] / 1e6:.0f} MB of evaluation keys")
        print(f"encrypted: {check['accuracy_encrypted']:.1%} of {check['samples']} images", end=" ")
        print(f"({check['differ_from_clear']} unlike clear), {check['s_per_sample']:.1f} s an image in batches")


if __name__ == "__main__":
    main()
