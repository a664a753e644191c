"""bench/lookups.py with programs that stand in for ours and the peers: turns, tables, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "lookups.py"

OURS = """
import json, sys
options = dict(zip(sys.argv[4::2], sys.argv[5::2]))
batch, rounds = int(options["--batch"]), int(options["--rounds"])
print(json.dumps({"system": "torusml", "version": "0.1.0", "cpu": "CPU", "cores": 2, "instruction_set": "AVX2",
    "threads": int(options.get("--threads", 2)), "bits": int(options["--bits"]), "ms_per_lookup": 2.0, "keygen_s": 0.5,
    "evaluation_key_bytes": 10_000_000, "bootstrap_key_bytes": 20_000_000, "keyswitch_key_bytes": 5_000_000,
    "norm2": options["--norm2"], "security": options["--security"], "correct": batch * rounds}))
"""

CONCRETE = """
import json, sys
batch = json.loads(sys.argv[-1])["batch"]
print(json.dumps({"system": "concrete", "version": "2.10.0", "keygen_s": 3.0, "evaluation_key_bytes": 70_000_000,
    "bootstrap_key_bytes": 100_000_000, "keyswitch_key_bytes": 30_000_000}), flush=True)
for _ in sys.stdin:
    print(json.dumps({"ms_per_lookup": 9.0, "correct": batch - WRONG}), flush=True)
"""

TFHE_RS = """
import json
for name, ms in (("slow", 30.0), ("fast", 7.0)):
    print(json.dumps({"system": "tfhe-rs", "version": "1.8.2", "set": name, "ms_per_lookup": ms, "correct": 64}))
"""

PAGE = """# Page
before
<!-- lookups.py concrete: begin -->
an older table
<!-- lookups.py concrete: end -->
between
<!-- lookups.py tfhe-rs: begin -->
<!-- lookups.py tfhe-rs: end -->
after
"""


def program(path, text):
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def bench(tmp_path):
    """Runs the script on stand-ins; gives its result and the page."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    def run(*options, wrong=0):
        ours = program(tmp_path / "torusml", OURS)
        peers = {
            "--concrete-python": program(tmp_path / "concrete", CONCRETE.replace("WRONG", str(wrong))),
            "--tfhe-rs": program(tmp_path / "tfhe", TFHE_RS),
        }
        arguments = [part for option in options for part in ((option, peers[option]) if option in peers else (option,))]
        command = [sys.executable, str(SCRIPT), "--torusml", ours, "--page", str(page), "--turns", "1", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120), page.read_text()

    return run


def test_concrete_in_turn(bench):
    result, page = bench("--concrete-python", "--bits", "2,7")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("system", line.get("ratio")) for line in lines] == ["torusml", "concrete", "concrete_over_torusml"] * 2
    ratios = [line for line in lines if "ratio" in line]
    assert [(line["bits"], line["batch"], line["time"]) for line in ratios] == [(2, 64, 4.5), (7, 16, 4.5)]
    assert "| 2 | 64 | 2.00 ms | 9.00 ms | **4.5** | 0.50 / 3.0 s | 10 MB / 70 MB | 25 MB / 130 MB |" in page
    assert "an older table" not in page
    for part in ("CPU, 2 cores, AVX2", "p_error 2^-40", "128 bits of security", "norm2 1", "Concrete 2.10.0", "2 threads"):
        assert part in page
    for kept in ("before", "between", "after", "<!-- lookups.py tfhe-rs: begin -->\n<!-- lookups.py tfhe-rs: end -->"):
        assert kept in page


def test_tfhe_rs_counts_its_fastest_set(bench):
    result, page = bench("--tfhe-rs")
    assert result.returncode == 0, result.stderr
    assert "| 1 | 2.00 ms | 7.00 ms | fast | **3.5** |" in page
    assert "p_error 2^-128, 132 bits of security, norm2 5" in page
    assert "an older table" in page


def test_no_page(bench):
    result, page = bench("--tfhe-rs", "--no-page")
    assert result.returncode == 0 and page == PAGE


def test_wrong_results_of_a_peer_end_the_run(bench):
    result, page = bench("--concrete-python", "--bits", "2", wrong=3)
    assert result.returncode == 1 and "3 of 64 results of Concrete are wrong" in result.stderr
    assert page == PAGE


def test_wrong_usage(bench, tmp_path):
    assert "at least one peer" in bench()[0].stderr
    assert "1 to 16" in bench("--concrete-python", "--bits", "2,17")[0].stderr
    assert "such as 2,4,8" in bench("--concrete-python", "--bits", "few")[0].stderr
    (tmp_path / "page.md").write_text("no markers")
    result, page = bench("--tfhe-rs")
    assert result.returncode == 1 and "lacks the lines" in result.stderr and page == "no markers"
