"""torusml.deployment: the two halves of a model, each with no more than its side may have."""

import os
import stat
import zipfile
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from small_networks import floats, mlp, two_inputs_two_outputs

import torusml
from torusml import errors
from torusml.deployment import DeploymentMode, FHEModelClient, FHEModelDev, FHEModelServer
from torusml.deployment.archives import read_archive, write_archive
from torusml.torch.compile import compile_onnx_model


def compiled(network=None, columns=3, **options):
    return compile_onnx_model(network or mlp((3, 4, 2)), floats(300, columns), n_bits=3, precision="tolerant", **options)


@pytest.fixture(scope="module")
def module():
    return compiled()


@pytest.fixture(scope="module")
def deployed(module, tmp_path_factory):
    folder = tmp_path_factory.mktemp("deployed") / "model"
    FHEModelDev(folder, module).save()
    return folder


def only(folder: Path, name: str, target: Path) -> Path:
    """A folder with this archive and nothing else: what one side gets."""
    target.mkdir()
    (target / name).write_bytes((folder / name).read_bytes())
    return target


def test_concrete_ml_order_of_calls(module, deployed, tmp_path):
    x = floats(4, 3, seed=5)
    client = FHEModelClient(only(deployed, "client.zip", tmp_path / "client"), key_dir=tmp_path / "keys")
    client.generate_private_and_evaluation_keys()
    keys = client.get_serialized_evaluation_keys()
    server = FHEModelServer(only(deployed, "server.zip", tmp_path / "server"))
    sent = client.quantize_encrypt_serialize(x)
    received = server.run(sent, keys)
    assert isinstance(keys, bytes) and isinstance(sent, bytes) and isinstance(received, bytes)

    integers = client.deserialize_decrypt(received)
    expected = module.fhe_circuit.run_clear(module.quantize_input(x))
    assert integers.shape == (4, 2) and np.issubdtype(integers.dtype, np.integer)
    assert np.abs(integers - expected).max() <= 12  # tolerant
    y = client.deserialize_decrypt_dequantize(received)
    np.testing.assert_allclose(y, module.dequantize_output(integers))
    np.testing.assert_array_equal(client.deserialize_decrypt(server.run((sent,), keys)), integers)


def test_exact_results_are_the_clear_ones(tmp_path):
    module = compile_onnx_model(mlp((3, 4, 2)), floats(50, 3), n_bits=2)
    FHEModelDev(tmp_path / "m", module).save(mode="inference", via_mlir=False)
    client, server = FHEModelClient(tmp_path / "m"), FHEModelServer(tmp_path / "m")
    x = floats(6, 3, seed=9)
    keys = client.get_serialized_evaluation_keys()
    y = client.deserialize_decrypt_dequantize(server.run(client.quantize_encrypt_serialize(x), keys))
    np.testing.assert_array_equal(y, module.forward(x))


def test_several_inputs_and_outputs_travel_together(tmp_path):
    module = compile_onnx_model(two_inputs_two_outputs(), (floats(50, 2), floats(50, 2, seed=1)), n_bits=3)
    FHEModelDev(tmp_path / "m", module).save()
    client, server = FHEModelClient(tmp_path / "m"), FHEModelServer(tmp_path / "m")
    a, b = floats(3, 2, seed=2), floats(3, 2, seed=3)
    keys = client.get_serialized_evaluation_keys()
    y, z = client.deserialize_decrypt_dequantize(server.run(client.quantize_encrypt_serialize(a, b), keys))
    for found, expected in zip((y, z), module.forward(a, b), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_an_input_of_booleans_is_named_whatever_the_others_are(tmp_path):
    module = compile_onnx_model(two_inputs_two_outputs(), (floats(50, 2), floats(50, 2, seed=1)), n_bits=3)
    client = torusml.Client(module.fhe_circuit)
    a = floats(3, 2)
    for other in (a, module.quantize_input(a, a)[0]):
        for x, name in (((other, a > 0), "b"), ((a > 0, other), "a"), ((a > 0, a > 0), "a")):
            with pytest.raises(errors.WrongDtype, match="floats or integers expected, got bool") as caught:
                client.encrypt(*x)
            assert caught.value.where == name
    with pytest.raises(errors.WrongDtype, match="integers expected, got float32") as caught:
        client.encrypt(module.quantize_input(a, a)[0], a)
    assert caught.value.where == "b"


def test_keys_are_kept_and_shared(deployed, tmp_path):
    first = FHEModelClient(deployed, key_dir=tmp_path / "keys")
    first.generate_private_and_evaluation_keys()
    keys = first.get_serialized_evaluation_keys()
    files = sorted((tmp_path / "keys").iterdir())
    assert [file.suffix for file in files] == [".eval", ".key"]
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert stat.S_IMODE(files[1].stat().st_mode) == 0o600

    again = FHEModelClient(deployed, key_dir=tmp_path / "keys")
    again.generate_private_and_evaluation_keys()
    assert again.get_serialized_evaluation_keys() == keys
    again.generate_private_and_evaluation_keys(force=True)
    assert again.get_serialized_evaluation_keys() != keys

    # Evaluation keys can be made again from the secret key, and are not taken from another.
    files[0].unlink()
    third = FHEModelClient(deployed, key_dir=tmp_path / "keys")
    third.generate_private_and_evaluation_keys()
    assert files[0].exists()
    (files[0]).write_bytes(keys)
    with pytest.raises(errors.WrongKey):
        FHEModelClient(deployed, key_dir=tmp_path / "keys").generate_private_and_evaluation_keys()


def test_keys_under_a_passphrase(deployed, tmp_path):
    folder = tmp_path / "keys"
    FHEModelClient(deployed, key_dir=folder, passphrase="open sesame").generate_private_and_evaluation_keys()
    FHEModelClient(deployed, key_dir=folder, passphrase=lambda: b"open sesame").generate_private_and_evaluation_keys()
    for wrong in ("sesame", None):
        with pytest.raises(errors.WrongPassphrase):
            FHEModelClient(deployed, key_dir=folder, passphrase=wrong).generate_private_and_evaluation_keys()


def test_what_is_not_there(module, deployed, tmp_path):
    with pytest.raises(errors.FileUnwritable, match="not empty"):
        FHEModelDev(deployed, module).save()
    with pytest.raises(errors.NotSupported):
        FHEModelDev(tmp_path / "t", module).save(mode=DeploymentMode.TRAINING)
    with pytest.raises(errors.UnknownOption):
        FHEModelDev(tmp_path / "t", module).save(mode="fun")
    with pytest.raises(errors.WrongDtype):
        FHEModelDev(tmp_path / "t", object()).save()
    with pytest.raises(errors.NotSupported):
        FHEModelClient(deployed).get_serialized_evaluation_keys(include_tfhers_key=True)
    with pytest.raises(errors.WrongKey, match="no keys yet"):
        FHEModelClient(deployed).quantize_encrypt_serialize(floats(1, 3))
    with pytest.raises(errors.FileUnreadable):
        FHEModelClient(tmp_path)
    with pytest.raises(errors.WrongShape):
        FHEModelServer(deployed).run((b"", b""), b"")
    with pytest.raises(errors.WrongDtype):
        FHEModelServer(deployed).run("text", b"")


def test_limits_of_what_is_sent(deployed):
    client, server = FHEModelClient(deployed), FHEModelServer(deployed)
    keys = client.get_serialized_evaluation_keys()
    sent = client.quantize_encrypt_serialize(floats(1, 3))
    with pytest.raises(errors.FileTooLarge):
        server.run(sent, keys, max_input_bytes=len(sent) - 1)
    with pytest.raises(errors.FileTooLarge):
        server.run(sent, keys, max_key_bytes=len(keys) - 1)
    server.run(sent, keys, max_input_bytes=len(sent), max_key_bytes=len(keys))
    with pytest.raises(errors.FileForeign):
        server.run(keys, keys)
    with pytest.raises(errors.FileForeign):
        server.run(sent, sent)


def test_strangers_are_refused(deployed, tmp_path):
    other = compiled(mlp((3, 5, 2), seed=4))
    FHEModelDev(tmp_path / "other", other).save()
    client, stranger = FHEModelClient(deployed), FHEModelClient(tmp_path / "other")
    server = FHEModelServer(deployed)
    keys, foreign = client.get_serialized_evaluation_keys(), stranger.get_serialized_evaluation_keys()
    with pytest.raises(errors.WrongModel):
        server.run(stranger.quantize_encrypt_serialize(floats(1, 3)), foreign)
    sent = client.quantize_encrypt_serialize(floats(1, 3))
    with pytest.raises(errors.WrongKey):
        server.run(sent, foreign)
    with pytest.raises(errors.WrongKey):
        again = FHEModelClient(deployed)
        again.generate_private_and_evaluation_keys()
        again.deserialize_decrypt(server.run(sent, keys))


def test_one_key_for_several_models(tmp_path, module):
    other = compiled(mlp((3, 4, 2), seed=8))
    module.fhe_circuit.save_client_half(tmp_path / "a.tmc")
    other.fhe_circuit.save_client_half(tmp_path / "b.tmc")
    client = torusml.Client(tmp_path / "a.tmc")
    client.keygen(also=[tmp_path / "b.tmc"])
    client.save(tmp_path / "client.key", passphrase="x")
    second = torusml.Client(tmp_path / "b.tmc", tmp_path / "client.key", passphrase="x")
    assert second.key_id == client.key_id
    for model, holder in ((module, client), (other, second)):
        model.fhe_circuit.save_server_half(tmp_path / "s.tms")
        x = floats(2, 3, seed=3)
        y = holder.decrypt(torusml.Server(tmp_path / "s.tms", client.evaluation_keys).run(holder.encrypt(x)))
        np.testing.assert_allclose(y, model.forward(x), atol=0.3)


def test_secret_keys_that_others_may_read_are_refused(tmp_path, module):
    client = torusml.Client(module.fhe_circuit)
    client.keygen()
    client.save(tmp_path / "client.key")
    os.chmod(tmp_path / "client.key", 0o644)
    with pytest.raises(errors.KeyExposed, match="chmod 600"):
        torusml.Client(module.fhe_circuit, tmp_path / "client.key")
    with pytest.raises(errors.InvalidArgument):
        client.save(tmp_path / "empty.key", passphrase="")


class TestArchives:
    def test_comes_back(self, tmp_path):
        write_archive(tmp_path / "a.zip", "m", b"content")
        assert read_archive(tmp_path / "a.zip", "m") == b"content"
        before = (tmp_path / "a.zip").read_bytes()
        with pytest.raises(errors.FileUnwritable):
            write_archive(tmp_path / "a.zip", "m", b"other")
        write_archive(tmp_path / "b.zip", "m", b"content")
        assert (tmp_path / "b.zip").read_bytes() == before

    @pytest.mark.parametrize("members", [[], ["n"], ["m", "n"], ["m", "m"], ["../m"], ["m/"]])
    def test_other_members(self, tmp_path, members):
        with pytest.warns(UserWarning) if members == ["m", "m"] else nullcontext():
            with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
                for name in members:
                    archive.writestr(name, b"x")
        with pytest.raises(errors.FileCorrupt):
            read_archive(tmp_path / "a.zip", "m")

    def test_sizes(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("m", bytes(1 << 20))
        assert (tmp_path / "bomb.zip").stat().st_size < 4000
        with pytest.raises(errors.FileTooLarge):
            read_archive(tmp_path / "bomb.zip", "m", (1 << 20) - 1)
        write_archive(tmp_path / "large.zip", "m", bytes(20000))
        with pytest.raises(errors.FileTooLarge):
            read_archive(tmp_path / "large.zip", "m", 100)

    def test_damage(self, tmp_path):
        write_archive(tmp_path / "a.zip", "m", b"content")
        whole = (tmp_path / "a.zip").read_bytes()
        (tmp_path / "b.zip").write_bytes(whole.replace(b"content", b"contend"))
        with pytest.raises(errors.FileCorrupt):
            read_archive(tmp_path / "b.zip", "m")
        (tmp_path / "b.zip").write_bytes(whole[:-10])
        with pytest.raises(errors.FileForeign):
            read_archive(tmp_path / "b.zip", "m")
        with pytest.raises(errors.FileUnreadable):
            read_archive(tmp_path / "none.zip", "m")
        with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("m", b"content")
        with pytest.raises(errors.FileCorrupt):
            read_archive(tmp_path / "c.zip", "m")

    def test_announced_sizes(self, tmp_path):
        write_archive(tmp_path / "a.zip", "m", b"content")
        whole = (tmp_path / "a.zip").read_bytes()
        directory = whole.index(b"PK\x01\x02")
        for size, error in ((0xFFFFFFF0, errors.FileTooLarge), (8, errors.FileCorrupt), (6, errors.FileCorrupt)):
            # Of the central directory, packed and unpacked: what a reader would believe.
            announced = size.to_bytes(4, "little")
            (tmp_path / "b.zip").write_bytes(whole[: directory + 20] + announced + announced + whole[directory + 28 :])
            with pytest.raises(error):
                read_archive(tmp_path / "b.zip", "m")

    def test_what_zipfile_refuses(self, tmp_path):
        write_archive(tmp_path / "a.zip", "m", b"content")
        whole = bytearray((tmp_path / "a.zip").read_bytes())
        directory = whole.index(b"PK\x01\x02")
        version, flags, name = directory + 6, directory + 8, directory + 46
        for changes in ({version: 0xFF}, {flags + 1: 0x08, name: 0xFF}):
            changed = bytearray(whole)
            for at, value in changes.items():
                changed[at] = value
            (tmp_path / "b.zip").write_bytes(changed)
            with pytest.raises(errors.FileForeign):
                read_archive(tmp_path / "b.zip", "m")

    @pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_every_byte(self, tmp_path, compression):
        """Another value at any place: the same content, or an error that names the file."""
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", compression) as archive:
            archive.writestr("m", b"content of the one member" * 4)
        whole = path.read_bytes()
        outcomes = set()
        for at in range(len(whole)):
            for value in (0x00, 0x01, 0x08, 0x7F, 0x80, 0xFF):
                path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
                try:
                    assert read_archive(path, "m", 4096) == b"content of the one member" * 4
                except (errors.FileForeign, errors.FileCorrupt, errors.FileTooLarge) as error:
                    assert str(path) in str(error)
                    outcomes.add(type(error))
        assert outcomes == {errors.FileForeign, errors.FileCorrupt, errors.FileTooLarge}
        for end in range(len(whole)):
            path.write_bytes(whole[:end])
            with pytest.raises(errors.FileForeign):
                read_archive(path, "m")
