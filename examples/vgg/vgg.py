"""A network like VGG on pictures of CIFAR-10's shape, 2-bit weights and activations: trained, compiled, run.

python examples/vgg/vgg.py --networks FOLDER --device cuda --train    # trains into FOLDER, floats and 2 bits
python examples/vgg/vgg.py --networks FOLDER                          # accuracies, estimate and plan
python examples/vgg/vgg.py --networks FOLDER --encrypted 1            # and a picture on ciphertexts
python examples/vgg/vgg.py --networks FOLDER --layer                  # one convolution on ciphertexts, and nothing else

Six convolutions of 3 x 3 in three pairs, each pair with twice the channels of the one before and a max pooling behind it,
and a linear layer. The pictures are made from Fashion-MNIST (images.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import images
import numpy as np
import torch
from torch import nn

BITS = {"op_weights": 2, "op_inputs": 2, "model_inputs": 5}
CALIBRATION = 500  # pictures of the training set
MARGIN = 0.15  # intervals are that much wider than calibration on each side
TEMPERATURE = 4.0  # of the teacher's probabilities


def vgg(width: int) -> nn.Sequential:
    """[n, 3, 32, 32] to 10 scores; `width` channels in the first pair of convolutions."""
    layers: list[nn.Module] = []
    inputs = 3
    for channels in (width, 2 * width, 4 * width):
        for _ in range(2):
            convolution = nn.Conv2d(inputs, channels, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
            inputs = channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * inputs, 10))


def twin(network: nn.Module) -> nn.Module:
    """Of 2 bits, by Brevitas."""
    from torusml.torch import to_qat

    return to_qat(network, bits=BITS, per_channel=True)


def fit(
    network: nn.Module, pictures: images.Pictures, epochs: int, rate: float, device: str, teacher: nn.Module | None = None
) -> nn.Module:
    """Trains in place; with a teacher, on its scores, too. Pictures are moved by up to two pixels."""
    network.to(device).train()
    pixels, labels = torch.from_numpy(pictures.pixels).to(device), torch.from_numpy(pictures.labels).to(device)
    size = 256
    steps = len(pictures) // size
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps * epochs, pct_start=0.2)
    start = time.perf_counter()
    for epoch in range(epochs):
        total = torch.zeros((), device=device)
        for batch in torch.randperm(len(pictures)).to(device).split(size)[:steps]:
            x = moved(pixels[batch].float() / 127.5 - 1)
            optimizer.zero_grad()
            scores = network(x)
            loss = nn.functional.cross_entropy(scores, labels[batch])
            if teacher is not None:
                loss = loss + distance(scores, teacher, x)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach()
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1} of {epochs}, loss {total.item() / steps:.3f}, {seconds:.0f} s", file=sys.stderr, flush=True
        )
    return network.cpu().eval()


def moved(x: torch.Tensor) -> torch.Tensor:
    """The whole batch by the same one of 25 shifts, and mirrored or not."""
    down, right, mirror = (int(torch.randint(n, ())) for n in (5, 5, 2))
    x = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")[:, :, down : down + 32, right : right + 32]
    return x.flip(3) if mirror else x


def distance(scores: torch.Tensor, teacher: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        wanted = nn.functional.softmax(teacher(x) / TEMPERATURE, dim=1)
    given = nn.functional.log_softmax(scores / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * nn.functional.kl_div(given, wanted, reduction="batchmean")


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    pictures = images.make("train", args.seed, args.fashion)
    floats = fit(vgg(args.width), pictures, args.epochs, 3e-3, args.device)
    quantized = fit(twin(floats), pictures, args.quantized_epochs, 2e-3, args.device, floats.to(args.device))
    args.networks.mkdir(parents=True, exist_ok=True)
    torch.save(floats.cpu().state_dict(), args.networks / f"vgg-{args.width}-float.pt")
    torch.save(quantized.state_dict(), args.networks / f"vgg-{args.width}-2bits.pt")
    facts = {
        "width": args.width,
        "seed": args.seed,
        "epochs": args.epochs,
        "quantized_epochs": args.quantized_epochs,
        "device": args.device,
        "torch": torch.__version__,
    }
    (args.networks / f"vgg-{args.width}.json").write_text(json.dumps(facts) + "\n")


def trained(args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    floats = vgg(args.width)
    floats.load_state_dict(torch.load(args.networks / f"vgg-{args.width}-float.pt", weights_only=True))
    quantized = twin(floats)
    quantized.load_state_dict(torch.load(args.networks / f"vgg-{args.width}-2bits.pt", weights_only=True))
    return floats.eval(), quantized.eval()


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    return 100 * float((np.asarray(scores).argmax(1) == labels).mean())


def torch_scores(network: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate([network(part).numpy() for part in torch.from_numpy(x).split(200)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, required=True, help="the folder of the trained networks")
    parser.add_argument("--width", type=int, default=32, help="channels of the first convolutions")
    parser.add_argument("--train", action="store_true", help="train, and do nothing else")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--quantized-epochs", type=int, default=20)
    parser.add_argument("--device", default="cpu", help="where torch trains: cpu, cuda")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and training")
    parser.add_argument("--fashion", type=Path, default=images.FASHION, help="the folder of Fashion-MNIST's idx files")
    parser.add_argument("--samples", type=int, default=500, help="test pictures that are run simulated and by torch")
    parser.add_argument("--encrypted", type=int, default=0, metavar="N", help="run N pictures on ciphertexts")
    parser.add_argument("--layer", action="store_true", help="run the fifth convolution of one picture on ciphertexts")
    parser.add_argument("--tolerance", type=float, help="noise of tolerant lookups; else the default of TorusML")
    args = parser.parse_args()
    if args.train:
        train(args)
    elif args.layer:
        measure_layer(args)
    else:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    from torusml.torch.compile import compile_brevitas_qat_model

    floats, quantized = trained(args)
    test = images.make("t10k", args.seed, args.fashion)
    seen = images.make("train", args.seed, args.fashion)
    chosen = np.random.default_rng(args.seed).permutation(len(seen))[:CALIBRATION]
    calibration = images.scaled(seen.pixels[chosen])
    x, labels = images.scaled(test.pixels[: args.samples]), test.labels[: args.samples]
    print(f"{len(labels)} test pictures, seed {args.seed}, one training run")
    print(f"float: {accuracy(torch_scores(floats, x), labels):.2f} %")
    print(f"2 bits, Brevitas: {accuracy(torch_scores(quantized, x), labels):.2f} %", flush=True)
    start = time.perf_counter()
    module = compile_brevitas_qat_model(
        quantized, calibration, precision="tolerant", tolerance=args.tolerance, margin=MARGIN
    )
    statistics = module.fhe_circuit.statistics
    print(
        f"compiled in {time.perf_counter() - start:.0f} s: {statistics['table_lookup_count']} lookups a picture", flush=True
    )
    print(json.dumps(module.estimate(batch=1, changes=0), default=str), flush=True)
    print(f"2 bits, in the clear: {accuracy(module.forward(x), labels):.2f} %", flush=True)
    start = time.perf_counter()
    simulated = module.forward(x, fhe="simulate")
    print(f"2 bits, simulated: {accuracy(simulated, labels):.2f} %, in {time.perf_counter() - start:.0f} s", flush=True)
    if args.encrypted:
        module.fhe_circuit.keygen()
        start = time.perf_counter()
        encrypted = module.forward(x[: args.encrypted], fhe="execute")
        seconds = (time.perf_counter() - start) / args.encrypted
        same = int((encrypted.argmax(1) == module.forward(x[: args.encrypted]).argmax(1)).sum())
        print(f"encrypted: {seconds:.0f} s a picture, {same} of {args.encrypted} classes as in the clear")


def fifth_convolution(quantized: nn.Sequential) -> tuple[nn.Module, nn.Module]:
    """What comes before it, and itself: of integers of 2 bits to integers of 2 bits."""
    from brevitas.nn import QuantConv2d, QuantIdentity
    from brevitas.quant import Uint8ActPerTensorFloat

    modules = list(quantized)
    at = [i for i, module in enumerate(modules) if isinstance(module, QuantConv2d)][4]
    entry = QuantIdentity(bit_width=2, act_quant=Uint8ActPerTensorFloat)
    entry.load_state_dict(modules[at - 2].state_dict())  # the grid of the activation before the pooling
    return nn.Sequential(*modules[:at]).eval(), nn.Sequential(entry, *modules[at : at + 3]).eval()


def measure_layer(args: argparse.Namespace) -> None:
    from torusml.torch.compile import compile_brevitas_qat_model

    before, layer = fifth_convolution(trained(args)[1])
    seen = images.scaled(images.make("train", args.seed, args.fashion).pixels[:CALIBRATION])
    module = compile_brevitas_qat_model(
        layer, torch_scores(before, seen), precision="tolerant", tolerance=args.tolerance, margin=MARGIN
    )
    x = torch_scores(before, images.scaled(images.make("t10k", args.seed, args.fashion).pixels[:1]))
    clear, simulated = module.forward(x), module.forward(x, fhe="simulate")
    module.fhe_circuit.keygen()
    start = time.perf_counter()
    encrypted = module.forward(x, fhe="execute")
    seconds = time.perf_counter() - start
    step = np.unique(clear)[1]
    lookups = module.fhe_circuit.statistics["table_lookup_count"]
    print(f"fifth convolution: {lookups} lookups in {seconds:.0f} s", flush=True)
    for name, found in (("torch", torch_scores(layer, x)), ("simulated", simulated), ("encrypted", encrypted)):
        steps = np.rint((found - clear) / step).astype(int)
        print(
            f"{name}: {np.count_nonzero(steps)} of {steps.size} values unlike the clear ones, by {abs(steps).max()} at most"
        )


if __name__ == "__main__":
    main()
