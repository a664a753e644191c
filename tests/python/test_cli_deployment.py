"""The command's two halves of a model: export, keys for several models, sealed keys, exit statuses."""

import json
import os
import shutil

import numpy as np
import pytest
from command_line import COMPILE_EXACT, EXACT, FIRST, SECOND, fails, save_network, torusml
from format_reader import File, big_key, decode, decrypt, output_ciphertexts


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """Two models, divided."""
    folder = tmp_path_factory.mktemp("halves")
    random = np.random.default_rng(2)
    np.save(folder / "calibration.npy", random.uniform(-1, 1, (200, 2)).astype(np.float32))
    np.save(folder / "x.npy", random.uniform(-0.9, 0.9, (3, 2)))
    save_network(folder / "net.onnx", (FIRST, SECOND))
    save_network(folder / "other.onnx", (np.array(FIRST) * 0.8, SECOND))
    torusml(*COMPILE_EXACT, "--bits", 3, "-o", "a.tml", folder=folder)
    compile_other = ("compile", "other.onnx", "--calibration", "calibration.npy", *EXACT)
    torusml(*compile_other, "--bits", 3, "-o", "b.tml", folder=folder)
    for name in "ab":
        torusml("export", f"{name}.tml", "--client", f"{name}.tmc", "--server", f"{name}.tms", folder=folder)
    return folder


def described(folder, name):
    return json.loads(torusml("inspect", name, "--json", folder=folder))


def test_each_side_works_with_its_half_alone(halves, tmp_path):
    client, server = tmp_path / "client", tmp_path / "server"
    for folder, names in ((client, ("a.tmc", "x.npy")), (server, ("a.tms",))):
        folder.mkdir()
        for name in names:
            shutil.copy(halves / name, folder)
    torusml("keygen", "a.tmc", "--secret", "client.key", "--evaluation", "eval.key", folder=client)
    text = torusml("encrypt", "a.tmc", "--secret", "client.key", "--input", "x.npy", "-o", "x.ct", folder=client)
    assert " each); " in text
    for name in ("eval.key", "x.ct"):
        shutil.copy(client / name, server)
    text = torusml("run", "a.tms", "--evaluation", "eval.key", "--input", "x.ct", "-o", "y.ct", folder=server)
    assert text.count(" each)") == 2  # time, and bytes
    shutil.copy(server / "y.ct", client)
    torusml("decrypt", "a.tmc", "--secret", "client.key", "--input", "y.ct", "-o", "y.npy", folder=client)
    torusml("predict", "a.tml", "--input", "x.npy", "-o", "clear.npy", folder=halves)
    assert np.array_equal(np.load(client / "y.npy"), np.load(halves / "clear.npy"))

    results = described(server, "y.ct")["tensors"][0]
    assert 8 < results["wire_bits"] < 32
    whole = 3 * 2 * (results["dimension"] + 1) * 8
    assert (server / "y.ct").stat().st_size < 0.5 * whole
    assert "wire_bits" not in described(client, "x.ct")["tensors"][0]


def test_results_travel_packed(halves):
    torusml(*COMPILE_EXACT, "--bits", 3, "--pack-outputs", "on", "-o", "p.tml", folder=halves)
    assert " packed guard" in torusml("inspect", "p.tml", folder=halves)
    torusml("keygen", "p.tml", "--secret", "p.key", "--evaluation", "p.eval", folder=halves)
    torusml("encrypt", "p.tml", "--secret", "p.key", "--input", "x.npy", "-o", "p.x", folder=halves)
    torusml("run", "p.tml", "--evaluation", "p.eval", "--input", "p.x", "-o", "p.y", folder=halves)
    torusml("decrypt", "p.tml", "--secret", "p.key", "--input", "p.y", "-o", "p.npy", folder=halves)
    torusml("predict", "p.tml", "--input", "x.npy", "-o", "clear.npy", folder=halves)
    assert np.array_equal(np.load(halves / "p.npy"), np.load(halves / "clear.npy"))
    results = described(halves, "p.y")["tensors"][0]
    assert results["packed"]
    words = results["dimension"] + 6  # a mask for six results
    assert (halves / "p.y").stat().st_size < words * results["wire_bits"] / 8 + 1500
    assert "shape (3, 2), packed in 1 ciphertext of dimension" in torusml("inspect", "p.y", folder=halves)

    file, key = File(halves / "p.y"), big_key(File(halves / "p.key"))
    spec = File(halves / "p.tml").json("client")["outputs"][0]
    values = np.reshape([decode(decrypt(c, key), spec) for c in output_ciphertexts(file, 0)], (3, 2))
    assert np.allclose(np.array(spec["scale"]) * (values - spec["zero_point"]), np.load(halves / "p.npy"))
    fails(8, *COMPILE_EXACT, "--pack-outputs", "maybe", "-o", "w.tml", folder=halves)


def test_halves_name_their_model(halves):
    model = described(halves, "a.tml")
    for name, kind, sections in (
        ("a.tmc", "client's half", ["client"]),
        ("a.tms", "server's half", ["circuit", "plan", "server"]),
    ):
        half = described(halves, name)
        assert half["kind"] == kind and [section["name"] for section in half["sections"]] == sections
        assert half["properties"] == model["properties"]
    assert described(halves, "a.tmc")["key_sets"]


def test_one_half_is_not_the_other(halves):
    keys = ("--secret", "k.key", "--evaluation", "k.eval")
    fails(12, "keygen", "a.tms", *keys, folder=halves)
    fails(12, "run", "a.tmc", "--evaluation", "k.eval", "--input", "x.ct", "-o", "y.ct", folder=halves)
    fails(12, "export", "a.tmc", "--client", "c.tmc", folder=halves)
    fails(12, "predict", "a.tmc", "--input", "x.npy", "-o", "y.npy", folder=halves)
    assert "--client FILE" in fails(1, "export", "a.tml", folder=halves)


def test_one_key_serves_several_models(halves):
    torusml("keygen", "a.tmc", "b.tml", "--secret", "both.key", "--evaluation", "both.eval", folder=halves)
    for name in "ab":
        encrypt = ("encrypt", f"{name}.tmc", "--secret", "both.key", "--input", "x.npy", "-o", f"{name}x.ct")
        torusml(*encrypt, folder=halves)
        run = ("run", f"{name}.tms", "--evaluation", "both.eval", "--input", f"{name}x.ct", "-o", f"{name}y.ct")
        torusml(*run, folder=halves)
        decrypt = ("decrypt", f"{name}.tmc", "--secret", "both.key", "--input", f"{name}y.ct", "-o", f"{name}y.npy")
        torusml(*decrypt, folder=halves)
        torusml("predict", f"{name}.tml", "--input", "x.npy", "-o", "clear.npy", folder=halves)
        assert np.array_equal(np.load(halves / f"{name}y.npy"), np.load(halves / "clear.npy"))


def test_models_of_different_keys_are_named(halves):
    compile_strict = ("compile", "net.onnx", "--calibration", "calibration.npy", *EXACT, "--security", 132)
    torusml(*compile_strict, "--bits", 3, "-o", "strict.tml", folder=halves)
    keys = ("--secret", "no.key", "--evaluation", "no.eval")
    text = fails(20, "keygen", "a.tmc", "strict.tml", "b.tmc", *keys, folder=halves)
    hashes = [described(halves, name)["properties"]["model_hash"][:12] for name in ("a.tmc", "b.tmc", "strict.tml")]
    assert all(found in text for found in hashes), text
    assert text.index(hashes[0]) < text.index(hashes[1]) < text.index(hashes[2])  # by groups
    assert not (halves / "no.key").exists()


def test_sealed_keys(halves, monkeypatch):
    monkeypatch.setenv("KEY_PASSPHRASE", "open sesame")
    keys = ("--secret", "sealed.key", "--evaluation", "sealed.eval")
    text = torusml("keygen", "a.tmc", *keys, "--passphrase", "env:KEY_PASSPHRASE", folder=halves)
    assert "sealed" in text and "sesame" not in text
    assert described(halves, "sealed.key")["properties"]["sealing"] == "scrypt-aes256gcm"
    encrypt = ("encrypt", "a.tmc", "--secret", "sealed.key", "--input", "x.npy", "-o", "sx.ct", "--passphrase")
    torusml(*encrypt, "env:KEY_PASSPHRASE", folder=halves)

    passphrase = halves / "passphrase.txt"
    passphrase.write_text("open sesame\nnot this\n")
    passphrase.chmod(0o644)
    fails(41, *encrypt, "file:passphrase.txt", folder=halves)
    passphrase.chmod(0o600)
    torusml(*encrypt, "file:passphrase.txt", folder=halves)
    passphrase.write_text("sesame")
    fails(40, *encrypt, "file:passphrase.txt", folder=halves)
    fails(40, *encrypt, "env:NO_SUCH_VARIABLE", folder=halves)
    fails(10, *encrypt, "file:none.txt", folder=halves)
    monkeypatch.setenv("EMPTY", "")
    fails(1, "keygen", "a.tmc", "--secret", "e.key", "--evaluation", "e.eval", "--passphrase", "env:EMPTY", folder=halves)
    text = fails(8, *encrypt, "open sesame", folder=halves)
    assert "sesame" not in text
    assert "sesame" not in fails(8, *encrypt, "pass:open sesame", folder=halves)


def test_keys_that_others_may_read(halves):
    torusml("keygen", "a.tmc", "--secret", "shown.key", "--evaluation", "shown.eval", folder=halves)
    os.chmod(halves / "shown.key", 0o640)
    text = fails(41, "encrypt", "a.tmc", "--secret", "shown.key", "--input", "x.npy", "-o", "no.ct", folder=halves)
    assert "0640" in text and "chmod 600" in text
    assert not (halves / "no.ct").exists()
