"""`torusml bench`."""

import json

import pytest
from command_line import fails, torusml


def test_bench_maps_keys(tmp_path):
    options = ("--bits", 2, "--batch", 4, "--rounds", 1, "--threads", 1, "--json")
    (tmp_path / "keys").mkdir()
    line = json.loads(torusml("bench", "lut", *options, "--prepared-keys", "keys", folder=tmp_path))
    assert line["key_store_s"] > 0 and line["key_map_s"] > 0 and line["checked"] == line["correct"] == 4
    assert list((tmp_path / "keys").iterdir()) == []
    fails(28, "bench", "lut", *options, "--prepared-keys", "none", folder=tmp_path)


def test_bench_measures_lookups(tmp_path):
    options = ("--bits", "2..3", "--batch", 4, "--rounds", 2, "--threads", 1)
    lines = torusml("bench", "lut", *options, "--json", folder=tmp_path).splitlines()
    measured = [json.loads(line) for line in lines]
    assert [line["bits"] for line in measured] == [2, 3]
    for line in measured:
        assert line["system"] == "torusml" and line["version"] and line["cpu"] and line["instruction_set"]
        assert line["threads"] == 1 and line["batch"] == 4 and line["rounds"] == 2 and line["norm2"] == 1
        assert line["p_error"] == 2.0**-40 and line["security_bits"] == 128
        assert line["checked"] == line["correct"] == 8
        assert 0 < line["ms_per_lookup_min"] <= line["ms_per_lookup"] <= line["ms_per_lookup_max"]
        assert line["predicted_ms"] > 0 and line["keygen_s"] > 0 and line["prepare_s"] > 0
        for size in ("evaluation_key_bytes", "bootstrap_key_bytes", "keyswitch_key_bytes", "input_bytes_per_value"):
            assert line[size] > 0
        for name in ("n", "k", "N", "bootstrap_levels", "bootstrap_base_log2", "keyswitch_levels", "keyswitch_base_log2"):
            assert line["parameters"][name] > 0
        assert {"grouping_factor", "accumulator_bits", "extension_log2"} < line["parameters"].keys()
        assert "key_map_s" not in line
    text = torusml("bench", "lut", "--bits", 2, "--batch", 4, "--rounds", 1, folder=tmp_path)
    assert "128 bits of security" in text and "2^-40" in text
    options = ("--bits", 2, "--tables", "1,3", "--batch", 2, "--rounds", 1, "--json")
    alone, shared = (json.loads(line) for line in torusml("bench", "lut", *options, folder=tmp_path).splitlines())
    assert (alone["tables"], shared["tables"]) == (1, 3) and shared["correct"] == 6
    assert alone["parameters"]["tables_log2"] == 0 and shared["parameters"]["tables_log2"] > 0


def test_bench_measures_kernels(tmp_path):
    lines = [json.loads(line) for line in torusml("bench", "kernels", "--json", folder=tmp_path).splitlines()]
    measures = {line["measure"] for line in lines}
    assert {"fma_peak", "transform", "keyswitch", "key_preparation"} <= measures
    sizes = [line["polynomial_size"] for line in lines if line["measure"] == "transform"]
    assert sizes == [2**e for e in range(9, 17)]
    for line in lines:
        if line["measure"] == "transform":
            assert line["forward_ns"] > 0 and line["inverse_ns"] > 0 and line["share_of_peak"] > 0


@pytest.mark.parametrize(
    "code, options",
    [
        (7, ("--bits", "0")),
        (7, ("--bits", "2,17")),
        (1, ("--bits", "few")),
        (1, ("--bits", "8..2")),
        (9, ("--p-error", "0")),
        (9, ("--p-error", "2")),
        (9, ("--p-error", "2^-2000")),
        (1, ("--p-error", "small")),
        (1, ("--batch", "0")),
        (1, ("--threads", "0")),
        (1, ("--threads", "100000")),
        (1, ("--rounds", "0")),
        (1, ("--security", "100")),
        (1, ("--norm2", "nan")),
        (18, ("--bits", "2", "--norm2", "1e9")),
    ],
)
def test_wrong_bench_options(tmp_path, code, options):
    fails(code, "bench", "lut", *options, folder=tmp_path)
