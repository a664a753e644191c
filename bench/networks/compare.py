"""Measures one network encrypted with TorusML beside its peers, in turn, and writes a table to docs/performance.md.

    .venv/bin/python bench/networks/compare.py checkerboard --concrete-ml PEER/bin/python
    .venv/bin/python bench/networks/compare.py nn-20-qat --models FOLDER --mnist DIGITS.npz --concrete-ml PEER/bin/python
    .venv/bin/python bench/networks/compare.py mlp-qat --models FOLDER --mnist DIGITS.npz --orion PEER/bin/python
    .venv/bin/python bench/networks/compare.py nn-20-qat --models FOLDER --mnist DIGITS.npz     # ours alone, no table

The network is read from FOLDER, or trained into it (train.py). Concrete ML runs the same ONNX file at a setting that was
found for it by hand (where there is one), and at the best one of a search (peers.py, --tried and --search-limit). A long
search can go before, on a busy machine (--search-only); --searched then names its setting, and nothing but that. Orion
runs a network of its own, of the same shape, with squares in place of ReLU.

In each turn one sample of ours is timed, then one of every peer, on all cores; a ratio is that of medians. Both sides are
measured here and now: no option takes figures of an earlier run, and the table is made from this run's result, which
--json keeps. Then ours predicts --samples encrypted test samples under each of --keys fresh keys; predictions that are
unlike the clear ones are counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from data import add_data_arguments, fail, load
from ours import ROOT, Ours, machine
from page import check_page, write_page
from peers import SEARCH_SAMPLES, Peer, best_setting, setting

PTQ_BITS = {"op_inputs": 5, "op_weights": 4}
CHECKERBOARD = ROOT / "tests" / "models" / "checkerboard_qat_seed0"
CALIBRATION_POINTS = 1000  # of the checkerboard
PEER_CALIBRATION = 1000  # Concrete ML looks at one sample after the other
MAX_LOSS = 0.002  # of accuracy on training images, that precision "auto" may cost; test images lose several times as much
QUICK_S, QUICK_SAMPLES, SLOW_SAMPLES = 5.0, 200, 20  # samples that are checked, by the time of one


@dataclass(frozen=True)
class Case:
    """One row of what is compared."""

    network: str
    qat: bool
    by_hand: dict | None = None  # Concrete ML's setting
    bits: dict[str, int] = field(default_factory=PTQ_BITS.copy)  # of ours, for post-training quantization
    peer_bits: int = 6
    samples: int | None = None
    keys: int = 1
    max_loss: float | None = MAX_LOSS
    options: dict[str, Any] = field(default_factory=dict)  # of our compiler


DEEP = setting(6, "APPROXIMATE", 0.1)
# Accumulators of test images leave the range of 8,000 training images by up to 8 % of its width.
IMAGES = {"margin": 0.15}
CASES = {
    "checkerboard": Case(
        "checkerboard", qat=True, by_hand=setting(6, "APPROXIMATE", 0.01), samples=500, keys=3, max_loss=None
    ),
    "nn-20-qat": Case("nn-20", qat=True, by_hand=DEEP, max_loss=0.005, options=IMAGES),
    "nn-20-ptq": Case("nn-20", qat=False, by_hand=DEEP, max_loss=0.005, options=IMAGES),
    "nn-50-qat": Case("nn-50", qat=True, by_hand=DEEP, max_loss=0.005, options=IMAGES),
    "nn-50-ptq": Case("nn-50", qat=False, by_hand=DEEP, max_loss=0.005, options=IMAGES),
    "mlp-qat": Case("mlp", qat=True, max_loss=0.0075, options=IMAGES),
    "digits-cnn-qat": Case("digits-cnn", qat=True, options=IMAGES),
    "resnet-fashion-qat": Case("resnet-fashion", qat=True, max_loss=0.005, options=IMAGES),
    "resnet-fashion-ptq": Case("resnet-fashion", qat=False, by_hand=DEEP, max_loss=0.005, options=IMAGES),
    "fashion-cnn-qat": Case("fashion-cnn", qat=True, max_loss=0.01, options=IMAGES),
}


def show(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


@dataclass(frozen=True)
class Trained:
    model: Path
    arrays: dict[str, np.ndarray]  # calibration, calibration_labels (of images), test, labels
    description: dict


def trained(case: Case, args: argparse.Namespace) -> Trained:
    """The case's network from --models, or trained now."""
    if case.network == "checkerboard":
        with np.load(CHECKERBOARD.with_suffix(".npz")) as file:
            points = np.random.default_rng(0).permutation(file["calibration"])[:CALIBRATION_POINTS]
            arrays = {"calibration": points, "test": file["points"], "labels": file["labels"].astype(np.int64)}
        return Trained(CHECKERBOARD.with_suffix(".onnx"), arrays, {})
    if args.models is None:
        fail("--models names the folder of the trained networks; those that are missing are trained into it")
    description = args.models / f"{case.network}.json"
    if not description.exists():
        from train import train  # needs torch

        train(case.network, load(case.network, args.mnist, args.fashion), args.models, args.seed)
    with np.load(args.models / f"{case.network}.npz") as file:
        arrays = dict(file)
    model = args.models / f"{case.network}-{'qat' if case.qat else 'float'}.onnx"
    return Trained(model, arrays, json.loads(description.read_text()))


class Side:
    """One system at one setting: the times of its samples, and what is known of it."""

    def __init__(self, title: str, facts: dict, run: Any):
        self.title, self.facts, self._run = title, facts, run
        self.seconds: list[float] = []
        self.differ = 0

    def turn(self, index: int) -> None:
        result = self._run(first=index, count=1)
        self.seconds += result["seconds"]
        self.differ += result["differ_from_clear"]
        show(system=self.title, turn=index, **result)

    def result(self) -> dict:
        return {
            "title": self.title,
            **self.facts,
            "seconds": self.seconds,
            "s_per_sample": median(self.seconds),
            "turns_differ_from_clear": self.differ,
        }


def at_setting(peer: Peer, chosen: dict, samples: int) -> dict:
    compiled = peer.ask("compile", setting=chosen)
    simulated = peer.ask("simulate", setting=chosen, samples=samples)
    return {"setting": chosen, **compiled, **simulated}


def open_concrete(case: Case, network: Trained, args: argparse.Namespace, folder: Path) -> tuple[Peer, dict]:
    peer = Peer(args.concrete_ml, "peer_concrete_ml.py")
    data = folder / "data.npz"
    np.savez(data, **{**network.arrays, "calibration": network.arrays["calibration"][:PEER_CALIBRATION]})
    bits = 3 if case.qat else case.peer_bits  # without meaning where the network has its own quantizers
    opened = peer.ask("open", model=str(network.model), data=str(data), qat=case.qat, bits=bits)
    show(**opened)
    return peer, opened


def search(name: str, args: argparse.Namespace, folder: Path) -> dict:
    """Looks for Concrete ML's best setting and times nothing: a search minds no busy machine."""
    peer, opened = open_concrete(CASES[name], trained(CASES[name], args), args, folder)
    trials, best = best_setting(peer, args.tried, args.search_limit)
    return {**opened, "tried": trials, "best": best and best["setting"]}


def concrete_sides(case: Case, network: Trained, args: argparse.Namespace, folder: Path) -> list[Side]:
    """Concrete ML at the setting by hand, and at the best of the search where that is another one."""
    peer, opened = open_concrete(case, network, args, folder)
    chosen: dict[str, dict] = {}
    if case.by_hand is not None:
        chosen["by hand"] = at_setting(peer, case.by_hand, args.simulated)
        show(by_hand=chosen["by hand"])
    if args.tried > 0:
        trials, best = best_setting(peer, args.tried, args.search_limit)
        if best is None:
            show(search=f"none of {len(trials)} settings was good enough within the limits")
        elif best["setting"] == case.by_hand:
            chosen["by hand"].update(tried=trials, best_of_search=True)
        else:
            chosen["best of search"] = {**best, "tried": trials}
    elif args.searched is not None:
        found = json.loads(args.searched)
        if found == case.by_hand:
            chosen["by hand"].update(best_of_search=True)
        else:
            chosen["best of search"] = at_setting(peer, found, SEARCH_SAMPLES)
    sides = []
    for how, facts in chosen.items():
        keys = peer.ask("keygen", setting=facts["setting"])
        run = _runner(peer, setting=facts["setting"])
        sides.append(Side(f"Concrete ML {opened['version']}, {how}", {**opened, **facts, **keys}, run))
    return sides


def orion_sides(args: argparse.Namespace) -> list[Side]:
    peer = Peer(args.orion, "peer_orion.py")
    opened = peer.ask("open", digits=str(args.mnist), seed=args.seed)
    show(**opened)
    return [Side(f"Orion {opened['version']}", opened, _runner(peer))]


def _runner(peer: Peer, **fixed: Any) -> Any:
    return lambda **place: peer.ask("run", **fixed, **place)


def checked(ours: Ours, case: Case, args: argparse.Namespace, seconds: float) -> list[dict]:
    """Many encrypted samples under each of several keys."""
    samples = args.samples or case.samples or (QUICK_SAMPLES if seconds < QUICK_S else SLOW_SAMPLES)
    checks = []
    for _ in range(args.keys or case.keys):
        keys = ours.keygen()
        checks.append({**keys, **ours.check(samples)})
        show(check=checks[-1])
    return checks


def accuracy(labels: np.ndarray, outputs: np.ndarray) -> float:
    return float((outputs.argmax(axis=1) == labels).mean())


def options_of(case: Case, network: Trained, args: argparse.Namespace) -> dict[str, Any]:
    """Of our compiler. Precision "auto" looks for the fastest that loses little accuracy on the calibration images."""
    options = {"precision": args.precision, **case.options, **json.loads(args.compile_options)}
    max_loss = case.max_loss if args.max_loss is None else args.max_loss
    if options["precision"] == "auto" and max_loss is not None:
        from torusml import PrecisionSearch

        options["search"] = PrecisionSearch(metric=accuracy, labels=network.arrays["calibration_labels"], max_loss=max_loss)
    return options if case.qat else {"n_bits": args.bits or case.bits, **options}


def compare(name: str, args: argparse.Namespace, folder: Path) -> dict:
    case = CASES[name]
    network = trained(case, args)
    ours = Ours(network.model, network.arrays, case.qat, options_of(case, network, args))
    facts = ours.describe()
    if args.plan_only:
        return facts
    facts.update(ours.keygen())
    show(**facts)
    sides = [Side("TorusML", facts, ours.run)]
    if args.concrete_ml is not None:
        sides += concrete_sides(case, network, args, folder)
    if args.orion is not None and case.network == "mlp":
        sides += orion_sides(args)
    for index in range(args.turns):
        for side in sides:
            side.turn(index)
    sides[0].turn(args.turns)  # ours last, too
    results = [side.result() for side in sides]
    for result in results[1:]:
        result["time_over_ours"] = result["s_per_sample"] / results[0]["s_per_sample"]
        show(ratio=result["title"], time=result["time_over_ours"])
    return {
        "network": name,
        "date": date.today().isoformat(),
        **machine(),
        "training": network.description,
        "turns": args.turns,
        "ours": results[0],
        "peers": results[1:],
        "checks": checked(ours, case, args, results[0]["s_per_sample"]),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=CASES, metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--models", type=Path, help="the folder of the trained networks")
    add_data_arguments(parser)
    parser.add_argument("--precision", default="auto", help="of our compiler: auto, tolerant or exact")
    parser.add_argument("--max-loss", type=float, help="of accuracy on calibration images, by precision auto")
    parser.add_argument("--compile-options", default="{}", help="more arguments of our compiler, JSON")
    parser.add_argument("--bits", type=int, help="of ours, for post-training quantization")
    parser.add_argument("--concrete-ml", help="the Python of an environment that has concrete-ml")
    parser.add_argument("--orion", help="the Python of an environment that has orion-fhe")
    parser.add_argument("--simulated", type=int, default=500, help="samples that the peer simulates at the setting by hand")
    parser.add_argument("--tried", type=int, default=0, help="settings that the search for Concrete ML's best may try")
    parser.add_argument("--search-limit", type=float, default=1200, help="seconds of that search")
    parser.add_argument("--search-only", action="store_true", help="only that search, which a busy machine does not change")
    parser.add_argument("--searched", help="the setting that --search-only found, as it printed it, in place of a search")
    parser.add_argument("--turns", type=int, default=2, help="timed samples of each side; ours has one more")
    parser.add_argument("--samples", type=int, help="encrypted samples of ours that are checked")
    parser.add_argument("--plan-only", action="store_true", help="ours compiled and simulated; nothing encrypted, no peer")
    parser.add_argument("--keys", type=int, help="fresh keys under which they are checked")
    parser.add_argument("--json", type=Path, help="a file for the result")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="where the table goes")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    args = parser.parse_args()
    if args.turns < 1:
        fail("--turns must be positive")
    if args.search_only and (args.concrete_ml is None or args.tried < 1):
        fail("--search-only needs --concrete-ml and --tried")
    if args.searched is not None and args.tried > 0:
        fail("--searched names the setting that --tried would look for: take one of them")
    return args


def main() -> None:
    args = parse_arguments()
    if args.search_only:
        with tempfile.TemporaryDirectory() as folder:
            show(**search(args.name, args, Path(folder)))
        return
    writes_page = (args.concrete_ml or args.orion) is not None and not (args.no_page or args.plan_only)
    if writes_page:
        check_page(args.page, args.name)
    with tempfile.TemporaryDirectory() as folder:
        result = compare(args.name, args, Path(folder))
    if args.json is not None:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    show(result=result)
    if writes_page:
        write_page(args.page, args.name, result)


if __name__ == "__main__":
    sys.exit(main())
