"""Times one table lookup of ours beside installed peers, in turn, and writes the ratios to docs/performance.md.

    .venv/bin/python bench/lookups.py --concrete-python PEER/bin/python --tfhe-rs PATH/peer-tfhe-rs

Against Concrete: 2 to 8 bits (with --wide also 12 and 16), p_error 2^-40, 128 bits of security, norm2 1, batches of
64 (16 from 7 bits on), all threads. Against TFHE-rs: 4 bits, norm2 5, p_error 2^-128, 132 bits, batches of 64, one thread
and two; the peer's figure is that of its fastest parameter set. bench/README.md says how to install the peers.

Both sides of a ratio are measured here and now: in each turn ours, then the peer's. There is no option that takes
figures of an earlier run. Every result is decrypted and compared; a wrong one ends the run. Prints JSON lines, one for
each measurement and one for each ratio of medians.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
BITS = "2,3,4,5,6,7,8"
WIDE = "12,16"
FIRST_WIDE_BITS = 9  # these have a table of their own
CONCRETE = {"p_error": "2^-40", "security": 128, "norm2": 1}
TFHE_RS = {"p_error": "2^-128", "security": 132, "norm2": 5}
TFHE_RS_BITS = 4
BATCH, SMALL_BATCH, FIRST_SMALL_BATCH_BITS = 64, 16, 7
OURS_ROUNDS = 2  # of a turn, after a warm-up
# A peer's worker threads may spin for a while after its work.
SETTLE_S = 0.5


def show(fields: dict) -> None:
    print(json.dumps(fields), flush=True)


def fail(message: str) -> None:
    sys.exit(f"bench/lookups.py: {message}")


def batch_of(bits: int) -> int:
    return BATCH if bits < FIRST_SMALL_BATCH_BITS else SMALL_BATCH


def check_results(measured: dict, expected: int, system: str) -> None:
    if measured["correct"] != expected:
        fail(f"{expected - measured['correct']} of {expected} results of {system} are wrong")


class Cores:
    """Keeps a child process on the first cores of this one; none named: on all."""

    def __init__(self, count: int | None = None):
        self.cores = sorted(os.sched_getaffinity(0))[:count]

    def __call__(self) -> None:
        os.sched_setaffinity(0, self.cores)


def run_json_lines(command: list[str], cores: Cores) -> list[dict]:
    time.sleep(SETTLE_S)
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, preexec_fn=cores)
    if result.returncode != 0:
        fail(f"exit status {result.returncode} of: {' '.join(command)}")
    return [json.loads(line) for line in result.stdout.splitlines()]


class Ours:
    def __init__(self, program: str):
        self.program = program

    def measure(self, bits: int, setting: dict, batch: int, threads: int | None = None, rounds: int = OURS_ROUNDS) -> dict:
        command = [self.program, "bench", "lut", "--json", "--bits", str(bits), "--batch", str(batch)]
        command += ["--p-error", setting["p_error"], "--norm2", str(setting["norm2"])]
        command += ["--security", str(setting["security"]), "--rounds", str(rounds)]
        if threads is not None:
            command += ["--threads", str(threads)]
        (measured,) = run_json_lines(command, Cores(threads))
        check_results(measured, rounds * batch, "TorusML")
        return measured


class ConcretePeer:
    """bench/peer_concrete.py as a process that waits between runs, so that its keys are made once."""

    def __init__(self, python: str, bits: int):
        self.batch = batch_of(bits)
        settings = {"bits": bits, "p_error": 2.0**-40, "batch": self.batch}
        script = str(Path(__file__).with_name("peer_concrete.py"))
        self.process = subprocess.Popen(
            [python, "-W", "ignore", script, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.description = self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            fail(f"the Concrete peer ended with exit status {self.process.wait()}")
        return json.loads(line)

    def measure(self) -> dict:
        time.sleep(SETTLE_S)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        measured = self.read()
        check_results(measured, self.batch, "Concrete")
        return measured

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def memory_bytes(measured: dict) -> int:
    return measured["bootstrap_key_bytes"] + measured["keyswitch_key_bytes"]


def median_of(measurements: list[dict], field: str = "ms_per_lookup") -> float:
    return median(measured[field] for measured in measurements)


def compare_with_concrete(ours: Ours, python: str, bits: int, turns: int) -> dict:
    peer = ConcretePeer(python, bits)
    our_runs, peer_runs = [], []
    for _ in range(turns):
        our_runs.append(ours.measure(bits, CONCRETE, batch_of(bits)))
        show(our_runs[-1])
        peer_runs.append({**peer.description, "bits": bits, "batch": peer.batch, **peer.measure()})
        show(peer_runs[-1])
    peer.close()
    ratio = {
        "ratio": "concrete_over_torusml",
        "bits": bits,
        "batch": peer.batch,
        "turns": turns,
        "torusml_ms": median_of(our_runs),
        "concrete_ms": median_of(peer_runs),
        "time": median_of(peer_runs) / median_of(our_runs),
    }
    show(ratio)
    return {**ratio, "ours": {**our_runs[-1], "keygen_s": median_of(our_runs, "keygen_s")}, "peer": peer.description}


def compare_with_tfhe_rs(ours: Ours, program: str, threads: int, turns: int) -> dict:
    our_runs, peer_runs = [], {}
    command = [program, "--threads", str(threads), "--batch", str(BATCH), "--rounds", "1"]
    for _ in range(turns):
        our_runs.append(ours.measure(TFHE_RS_BITS, TFHE_RS, BATCH, threads))
        show(our_runs[-1])
        for measured in run_json_lines(command, Cores(threads)):
            check_results(measured, BATCH, "TFHE-rs")
            peer_runs.setdefault(measured["set"], []).append(measured)
            show(measured)
    fastest = min(peer_runs, key=lambda name: median_of(peer_runs[name]))
    ratio = {
        "ratio": "tfhe_rs_over_torusml",
        "threads": threads,
        "turns": turns,
        "set": fastest,
        "torusml_ms": median_of(our_runs),
        "tfhe_rs_ms": median_of(peer_runs[fastest]),
        "time": median_of(peer_runs[fastest]) / median_of(our_runs),
    }
    show(ratio)
    return {**ratio, "ours": our_runs[-1], "peer": peer_runs[fastest][-1]}


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def megabytes(count: float) -> str:
    return f"{count * 1e-6:,.0f} MB"


def heading(rows: list[dict], peer: str, setting: dict, threads: str) -> str:
    ours = rows[-1]["ours"]  # the row with the most cores
    today = datetime.date.today().isoformat()
    build = f"TorusML {ours['version']}" + (f" ({ours['commit']})" if "commit" in ours else "")
    return (
        f"{ours['cpu']}, {ours['cores']} cores, {ours['instruction_set']}; {today}. {build}, {peer}. {threads},\n"
        f"p_error {setting['p_error']}, {setting['security']} bits of security, norm2 {setting['norm2']}. "
        f"Medians, turns: {rows[0]['turns']}; every result checked."
    )


def concrete_text(rows: list[dict]) -> str:
    lines = []
    for row in rows:
        ours, peer = row["ours"], row["peer"]
        lines.append(
            [
                f"{row['bits']}",
                f"{row['batch']}",
                f"{row['torusml_ms']:.2f} ms",
                f"{row['concrete_ms']:.2f} ms",
                f"**{row['time']:.1f}**",
                f"{ours['keygen_s']:.2f} / {peer['keygen_s']:.1f} s",
                f"{megabytes(ours['evaluation_key_bytes'])} / {megabytes(peer['evaluation_key_bytes'])}",
                f"{megabytes(memory_bytes(ours))} / {megabytes(memory_bytes(peer))}",
            ]
        )
    header = ["bits", "batch", "TorusML", "Concrete", "ratio", "key generation", "keys as bytes", "keys in memory"]
    threads = f"{rows[0]['ours']['threads']} threads"
    peer = f"Concrete {rows[0]['peer']['version']}"
    return f"{heading(rows, peer, CONCRETE, threads)}\n\n{table(header, lines)}"


def tfhe_rs_text(rows: list[dict]) -> str:
    lines = [
        [
            f"{row['threads']}",
            f"{row['torusml_ms']:.2f} ms",
            f"{row['tfhe_rs_ms']:.2f} ms",
            row["set"],
            f"**{row['time']:.1f}**",
        ]
        for row in rows
    ]
    peer = f"TFHE-rs {rows[0]['peer']['version']}"
    header = ["threads", "TorusML", "TFHE-rs", "its fastest set", "ratio"]
    what = f"Keyswitch and bootstrap of {TFHE_RS_BITS} bits, batches of {BATCH}"
    return f"{heading(rows, peer, TFHE_RS, what)}\n\n{table(header, lines)}"


def marks(block: str) -> tuple[str, str]:
    return f"<!-- lookups.py {block}: begin -->", f"<!-- lookups.py {block}: end -->"


def check_page(page: Path, block: str) -> None:
    begin, end = marks(block)
    if not re.search(re.escape(begin) + ".*" + re.escape(end), page.read_text(), re.DOTALL):
        fail(f"{page} lacks the lines '{begin}' and '{end}'")


def write_page(page: Path, block: str, text: str) -> None:
    begin, end = marks(block)
    before, rest = page.read_text().split(begin, 1)
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")


def parse_bits(text: str) -> list[int]:
    try:
        bits = [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"--bits takes a list such as 2,4,8, not '{text}'")
    if not all(1 <= width <= 16 for width in bits):
        fail("--bits takes widths from 1 to 16")
    return bits


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torusml", default=str(ROOT / "build" / "release" / "torusml"), help="our program")
    parser.add_argument("--concrete-python", help="the Python of an environment that has concrete-python")
    parser.add_argument("--tfhe-rs", help="the program of bench/peer_tfhe_rs")
    parser.add_argument("--bits", default=BITS, help="widths for Concrete")
    parser.add_argument("--wide", action="store_true", help=f"add widths {WIDE}: minutes to hours, and memory")
    parser.add_argument("--turns", type=int, default=3, help="measurements of each side")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "performance.md", help="where the tables go")
    parser.add_argument("--no-page", action="store_true", help="write no page")
    args = parser.parse_args()
    if args.concrete_python is None and args.tfhe_rs is None:
        fail("name at least one peer: --concrete-python or --tfhe-rs")
    if args.turns < 1:
        fail("--turns must be positive")
    return args


def run_concrete(args: argparse.Namespace, ours: Ours) -> None:
    bits = parse_bits(f"{args.bits},{WIDE}" if args.wide else args.bits)
    blocks = {
        "concrete": [width for width in bits if width < FIRST_WIDE_BITS],
        "concrete, wide": [width for width in bits if width >= FIRST_WIDE_BITS],
    }
    if not args.no_page:
        for block, widths in blocks.items():
            if widths:
                check_page(args.page, block)
    for width in bits:  # before the long part: that ours can do them all
        ours.measure(width, CONCRETE, 1, rounds=1)
    for block, widths in blocks.items():
        rows = [compare_with_concrete(ours, args.concrete_python, width, args.turns) for width in widths]
        if rows and not args.no_page:
            write_page(args.page, block, concrete_text(rows))


def run_tfhe_rs(args: argparse.Namespace, ours: Ours) -> None:
    if not args.no_page:
        check_page(args.page, "tfhe-rs")
    counts = [threads for threads in (1, 2) if threads <= len(os.sched_getaffinity(0))]
    rows = [compare_with_tfhe_rs(ours, args.tfhe_rs, threads, args.turns) for threads in counts]
    if not args.no_page:
        write_page(args.page, "tfhe-rs", tfhe_rs_text(rows))


def main() -> None:
    args = parse_arguments()
    ours = Ours(args.torusml)
    if args.tfhe_rs is not None:
        run_tfhe_rs(args, ours)
    if args.concrete_python is not None:
        run_concrete(args, ours)


if __name__ == "__main__":
    main()
