"""The table of one network in docs/performance.md, from the result of one run of compare.py.

    write_page(Path("docs/performance.md"), "nn-20-qat", result)

It goes between the lines "<!-- networks NAME: begin -->" and "<!-- networks NAME: end -->".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from data import fail

Cell = Callable[[dict], str]


def marks(name: str) -> tuple[str, str]:
    return f"<!-- networks {name}: begin -->", f"<!-- networks {name}: end -->"


def check_page(page: Path, name: str) -> None:
    begin, end = marks(name)
    if not re.search(re.escape(begin) + ".*" + re.escape(end), page.read_text(), re.DOTALL):
        fail(f"{page} lacks the lines '{begin}' and '{end}'")


def write_page(page: Path, name: str, result: dict) -> None:
    begin, end = marks(name)
    before, rest = page.read_text().split(begin, 1)
    page.write_text(f"{before}{begin}\n\n{text(result)}\n\n{end}{rest.split(end, 1)[1]}")


def text(result: dict) -> str:
    sides = [result["ours"], *result["peers"]]
    rows = [[title, *(cell(side) for side in sides)] for title, cell in ROWS]
    header = ["", *(side["title"] for side in sides)]
    return f"{heading(result)}\n\n{table(header, rows)}\n\n{agreement(result)}"


def heading(result: dict) -> str:
    ours, training = result["ours"], result["training"]
    network = f"{result['network']}, {ours['lookups']:,} lookups a sample"
    if training:
        network += f"; accuracy in floats {percent(training['float_accuracy'])}"
    return (
        f"{network}. {result['cpu']}, {result['cores']} cores, {result['vectors']}; {result['date']}. "
        f"TorusML {ours['version']}.\nOne sample at a time on all cores, ours and the peers one after the other, "
        f"turns: {result['turns']}; medians."
    )


def agreement(result: dict) -> str:
    checks = result["checks"]
    unlike = ", ".join(str(check["differ_from_clear"]) for check in checks)
    keys = "one key" if len(checks) == 1 else f"each of {len(checks)} keys"
    return (
        f"TorusML on {checks[0]['samples']} encrypted samples under {keys}: predictions unlike clear {unlike}; "
        f"{checks[0]['s_per_sample']:.2f} s a sample in batches of {checks[0]['batch']}."
    )


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def probability(value: float | None) -> str:
    """Powers of two as such: 2^-40."""
    if value is None:
        return "-"
    mantissa, _, exponent = value.hex().partition("p")
    is_power = mantissa.rstrip("0") in ("0x1.", "0x1")
    return f"2^{exponent}" if is_power and value < 1e-6 else f"{value:.3g}"


def how(side: dict) -> str:
    if "precision" in side:
        return f"precision {side['precision']}"
    if "setting" not in side:
        return "its own network"
    rounding = side["setting"]["rounding"]
    words = f"rounding {rounding['n_bits']}, {rounding['method']}" if rounding else "no rounding"
    return words + (" (best of search, too)" if side.get("best_of_search") else "")


def seconds(name: str) -> Cell:
    return lambda side: f"{side[name]:.2f} s" if name in side else "-"


def share(name: str) -> Cell:
    return lambda side: percent(side[name]) if name in side else "-"


def ratio(side: dict) -> str:
    return f"**{side['time_over_ours']:.1f}**" if "time_over_ours" in side else "1"


def key_bytes(side: dict) -> str:
    return f"{side['evaluation_key_bytes'] * 1e-6:,.0f} MB" if "evaluation_key_bytes" in side else "-"


ROWS: list[tuple[str, Cell]] = [
    ("setting", how),
    ("p_error", lambda side: probability(side["p_error"] if "p_error" in side else side.get("setting", {}).get("p_error"))),
    ("time a sample", seconds("s_per_sample")),
    ("time / TorusML's", ratio),
    ("estimated beforehand", seconds("estimated_s")),
    ("accuracy, clear", share("accuracy_clear")),
    ("accuracy, simulated", share("accuracy_simulated")),
    ("compile", seconds("compile_s")),
    ("key generation", seconds("keygen_s")),
    ("evaluation keys as bytes", key_bytes),
]


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
