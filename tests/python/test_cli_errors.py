"""Every wrong use of the command `torusml`."""

import json

import numpy as np
import onnx
import pytest
from command_line import EXACT, FIRST, SECOND, fails, save_network, torusml


def compile_with(life, *options, calibration="calibration.npy", network_file="net.onnx"):
    precision = () if {"--precision", "--rounding"} & set(options) else EXACT
    return ("compile", network_file, "--calibration", calibration, "-o", "bad.tml", *precision, *options)


@pytest.mark.parametrize(
    "options, code",
    [
        (("--bits", 0), 7),
        (("--bits", 33), 7),
        (("--precision", "sloppy"), 8),
        (("--profile", "public"), 8),
        (("--rounding", "9"), 7),
        (("--rounding", "6:sloppy"), 8),
        (("--rounding", "auto"), 22),
        (("--rounding", "6", "--precision", "tolerant"), 1),
        (("--rounding", "6:approximate", "--precision", "exact"), 1),
        (("--rounding", "6:approximate", "--profile", "shared_results"), 27),
        (("--p-error", 2), 9),
        (("--p-error", 0), 9),
        (("--p-error", -1), 9),
        (("--global-p-error", "1"), 9),
        (("--p-error", "small"), 1),
        (("--tolerance", 0.9), 1),
        (("--security", 64), 1),
        (("--margin", -1), 1),
        (("--bits", 2, "--precision", "tolerant", "--profile", "shared_results"), 27),
    ],
)
def test_wrong_compile_options(life, options, code):
    fails(code, *compile_with(life, *options), folder=life)
    assert not (life / "bad.tml").exists()


def bad_arrays():
    nan = np.zeros((5, 2))
    nan[3, 1] = np.nan
    return {
        "nan": (nan, 4),
        "infinite": (np.array([[np.inf, 0.0]]), 4),
        "three_features": (np.zeros((5, 3)), 2),
        "no_batch_axis": (np.zeros(2), 2),
        "no_samples": (np.zeros((0, 2)), None),
        "scalar": (np.float64(3), 2),
        "complex": (np.zeros((5, 2), dtype=np.complex64), 3),
        "text": (np.full((5, 2), "a"), 3),
        "boolean": (np.zeros((5, 2), dtype=bool), 3),
        "big_endian": (np.zeros((5, 2), dtype=">f4"), 3),
        "fortran": (np.asfortranarray(np.zeros((5, 2))), 22),
    }


@pytest.mark.parametrize("name", bad_arrays())
def test_wrong_arrays(life, name):
    array, code = bad_arrays()[name]
    np.save(life / f"bad_{name}.npy", array)
    for command in (
        ("encrypt", "m.tml", "--secret", "client.key", "--input", f"bad_{name}.npy", "-o", "bad.ct"),
        ("predict", "m.tml", "--executor", "clear", "--input", f"bad_{name}.npy", "-o", "bad_out.npy"),
    ):
        fails(code or 2, *command, folder=life)
    fails(code or 5, *compile_with(life, "--bits", 3, calibration=f"bad_{name}.npy"), folder=life)
    for left in ("bad.ct", "bad_out.npy", "bad.tml"):
        assert not (life / left).exists()


def test_constant_calibration(life):
    np.save(life / "constant.npy", np.full((50, 2), 0.5))
    fails(6, *compile_with(life, "--bits", 3, calibration="constant.npy"), folder=life)


def test_dynamic_shapes(life):
    model = onnx.load(str(life / "net.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "features"
    onnx.save(model, str(life / "dynamic.onnx"))
    assert "features" in fails(16, *compile_with(life, network_file="dynamic.onnx"), folder=life)


def test_missing_and_foreign_files(life):
    (life / "foreign").write_bytes(b"PK\3\4 a zip archive, say")
    (life / "empty").write_bytes(b"")
    run = ("run", "m.tml", "--evaluation", "eval.key", "-o", "bad.ct", "--input")
    fails(10, *run, "absent.ct", folder=life)
    fails(10, *run, ".", folder=life)
    fails(12, *run, "foreign", folder=life)
    fails(11, *run, "empty", folder=life)
    fails(10, *compile_with(life, network_file="absent.onnx"), folder=life)
    fails(10, *compile_with(life, calibration="absent.npy"), folder=life)
    fails(12, *compile_with(life, calibration="foreign"), folder=life)
    fails(12, "inspect", "foreign", folder=life)
    # Each kind where another is expected.
    assert "kind 'evaluation keys'" in fails(12, *run, "eval.key", folder=life)
    fails(12, *run, "y.ct", folder=life)
    fails(12, *run, "m.tml", folder=life)
    fails(12, "run", "client.key", "--evaluation", "eval.key", "--input", "x.ct", "-o", "bad.ct", folder=life)
    decrypt = ("decrypt", "m.tml", "-o", "bad.npy")
    fails(12, *decrypt, "--secret", "eval.key", "--input", "y.ct", folder=life)
    fails(12, *decrypt, "--secret", "client.key", "--input", "x.ct", folder=life)


def test_unwritable_places(life):
    fails(28, "keygen", "m.tml", "--secret", "no/folder.key", "--evaluation", "new.key", folder=life)
    assert not (life / "new.key").exists()
    encrypt = ("encrypt", "m.tml", "--secret", "client.key", "--input", "x.npy", "-o")
    fails(28, *encrypt, "no/folder.ct", folder=life)
    fails(28, *encrypt, ".", folder=life)


@pytest.mark.parametrize("name", ["m.tml", "client.key", "eval.key", "x.ct", "y.ct"])
def test_cut_and_flipped_files(life, name):
    """At a few places here; the unit tests try every byte."""
    whole = (life / name).read_bytes()
    commands = {
        "m.tml": ("keygen", "changed", "--secret", "new.key", "--evaluation", "new_eval.key"),
        "client.key": ("decrypt", "m.tml", "--secret", "changed", "--input", "y.ct", "-o", "bad.npy"),
        "eval.key": ("run", "m.tml", "--evaluation", "changed", "--input", "x.ct", "-o", "bad.ct"),
        "x.ct": ("run", "m.tml", "--evaluation", "eval.key", "--input", "changed", "-o", "bad.ct"),
        "y.ct": ("decrypt", "m.tml", "--secret", "client.key", "--input", "changed", "-o", "bad.npy"),
    }
    (life / "changed").touch(mode=0o600)
    (life / "changed").chmod(0o600)  # as a secret key must be
    places = {0, 1, 7, 8, 12, 20, 47, 48, 100, len(whole) // 2, len(whole) - 1}
    for place in places:
        (life / "changed").write_bytes(whole[:place])
        fails(11, *commands[name], folder=life)
        fails(11, "inspect", "changed", folder=life)
        flipped = bytearray(whole)
        flipped[place] ^= 0x55
        (life / "changed").write_bytes(flipped)
        text = torusml(*commands[name], folder=life, expect=3)
        assert any(f"TML-E0{code} " in text for code in (11, 12, 13, 14)), text
    for left in ("new.key", "bad.npy", "bad.ct"):
        assert not (life / left).exists()


@pytest.fixture(scope="module")
def stranger(life):
    """Another model in the same folder, with its own keys and ciphertexts."""
    save_network(life / "other.onnx", (np.array(FIRST) * 0.9, SECOND))
    compile_other = ("compile", "other.onnx", "--calibration", "calibration.npy", *EXACT, "--bits", 2, "--p-error", "2^-30")
    torusml(*compile_other, "-o", "other.tml", folder=life)
    torusml("keygen", "other.tml", "--secret", "other.key", "--evaluation", "other_eval.key", folder=life)
    torusml("encrypt", "other.tml", "--secret", "other.key", "--input", "x.npy", "-o", "other_x.ct", folder=life)
    torusml("keygen", "m.tml", "--secret", "second.key", "--evaluation", "second_eval.key", folder=life)
    return life


def test_keys_and_ciphertexts_of_others(stranger):
    def short(name, key):
        return json.loads(torusml("inspect", name, "--json", folder=stranger))["properties"][key][:12]

    run = ("run", "m.tml", "-o", "bad.ct")
    text = fails(21, *run, "--evaluation", "eval.key", "--input", "other_x.ct", folder=stranger)
    assert short("m.tml", "model_hash") in text and short("other_x.ct", "model_hash") in text
    fails(20, *run, "--evaluation", "other_eval.key", "--input", "x.ct", folder=stranger)
    text = fails(20, *run, "--evaluation", "second_eval.key", "--input", "x.ct", folder=stranger)
    assert short("second_eval.key", "key_id") in text and short("x.ct", "key_id") in text
    text = fails(20, "encrypt", "m.tml", "--secret", "other.key", "--input", "x.npy", "-o", "bad.ct", folder=stranger)
    assert short("other.key", "key_id") in text
    decrypt = ("decrypt", "-o", "bad.npy", "--input", "y.ct", "--secret")
    fails(20, *decrypt, "second.key", "m.tml", folder=stranger)
    fails(21, *decrypt, "other.key", "other.tml", folder=stranger)
    keys = ("--secret", "client.key", "--evaluation", "second_eval.key")
    predict_encrypted = ("predict", "m.tml", "--executor", "encrypted", "--input", "x.npy", "-o", "bad.npy")
    fails(20, *predict_encrypted, *keys, folder=stranger)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("compile",),
        ("compile", "net.onnx", "-o", "m2.tml"),
        ("compile", "net.onnx", "--calibration", "c.npy", "-o", "m2.tml", "--bits", "three"),
        ("compile", "net.onnx", "--calibration", "c.npy", "-o", "m2.tml", "--p-error", "1e-5", "--global-p-error", "1e-3"),
        ("keygen", "m.tml", "--secret", "s.key"),
        ("run", "m.tml", "--no-such-option"),
        ("predict", "m.tml", "--input", "x.npy", "--executor", "encrypted", "--secret", "client.key", "-o", "y.npy"),
        ("bench",),
        ("bench", "everything"),
        ("bench", "lut", "--no-such-option"),
        ("bench", "lut", "--batch", "-1"),
        ("bench", "kernels", "--bits", "2"),
    ],
)
def test_wrong_usage_ends_with_2(life, arguments):
    assert torusml(*arguments, folder=life, expect=2)


def test_executors_are_named(life):
    predict_arguments = ("predict", "m.tml", "--input", "x.npy", "-o", "bad.npy", "--executor")
    fails(8, *predict_arguments, "psychic", folder=life)
    keys = ("--secret", "client.key", "--evaluation", "eval.key")
    fails(1, *predict_arguments, "clear", *keys, folder=life)
