"""A second reader of golden files, written from docs/formats.md alone: bytes, hashes, FlatBuffers and JSON by hand, and
the golden results decrypted without TorusML."""

import ctypes
import ctypes.util
import hashlib
import json
import math
import struct
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "golden" / "v5"
KINDS = {1: "model", 2: "secret key", 3: "evaluation keys", 4: "ciphertext", 5: "client's half", 6: "server's half"}
FILES = {
    "model.tml": 1,
    "secret.key": 2,
    "sealed.key": 2,
    "evaluation.key": 3,
    "evaluation_wide.key": 3,
    "inputs.ct": 4,
    "outputs.ct": 4,
    "client.tmc": 5,
    "server.tms": 6,
}


def decompress(stored: bytes, size: int) -> bytes:
    zstd = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    target = ctypes.create_string_buffer(max(size, 1))
    written = zstd.ZSTD_decompress(target, ctypes.c_size_t(size), stored, ctypes.c_size_t(len(stored)))
    assert written == size
    return target.raw[:size]


def open_aes_gcm(key: bytes, nonce: bytes, sealed: bytes, about: bytes) -> bytes:
    """AES-256-GCM by OpenSSL; the tag is the last 16 bytes."""
    crypto = ctypes.CDLL(ctypes.util.find_library("crypto") or "libcrypto.so.3")
    for name in ("EVP_CIPHER_CTX_new", "EVP_aes_256_gcm"):
        getattr(crypto, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    size, content, tag = ctypes.c_int(), sealed[:-16], sealed[-16:]
    opened = ctypes.create_string_buffer(len(content) + 16)
    assert crypto.EVP_DecryptInit_ex(context, ctypes.c_void_p(crypto.EVP_aes_256_gcm()), None, key, nonce) == 1
    assert crypto.EVP_DecryptUpdate(context, None, ctypes.byref(size), about, len(about)) == 1
    assert crypto.EVP_DecryptUpdate(context, opened, ctypes.byref(size), content, len(content)) == 1
    set_tag = 0x11
    assert crypto.EVP_CIPHER_CTX_ctrl(context, set_tag, 16, tag) == 1
    assert crypto.EVP_DecryptFinal_ex(context, opened, ctypes.byref(size)) == 1, "the tag does not fit"
    crypto.EVP_CIPHER_CTX_free(context)
    return opened.raw[: len(content)]


class Table:
    """A table of a FlatBuffer: fields by their place in the schema."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position
        self.fields = position - struct.unpack_from("<i", data, position)[0]

    def _offset(self, field: int) -> int:
        size = struct.unpack_from("<H", self.data, self.fields)[0]
        place = 4 + 2 * field
        return struct.unpack_from("<H", self.data, self.fields + place)[0] if place < size else 0

    def number(self, field: int, form: str) -> int:
        offset = self._offset(field)
        return struct.unpack_from("<" + form, self.data, self.position + offset)[0] if offset else 0

    def _target(self, field: int) -> int:
        offset = self._offset(field)
        assert offset, f"field {field} is required"
        place = self.position + offset
        return place + struct.unpack_from("<I", self.data, place)[0]

    def bytes(self, field: int) -> bytes:
        start = self._target(field)
        size = struct.unpack_from("<I", self.data, start)[0]
        return self.data[start + 4 : start + 4 + size]

    def tables(self, field: int) -> list["Table"]:
        start = self._target(field)
        places = [start + 4 + 4 * i for i in range(struct.unpack_from("<I", self.data, start)[0])]
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]


class Container:
    def __init__(self, path: Path):
        data = path.read_bytes()
        assert data[:8] == bytes.fromhex("89 54 4D 4C 0D 0A 1A 0A")
        self.version, header_size = struct.unpack_from("<II", data, 8)
        header = data[48 : 48 + header_size]
        assert data[16:48] == hashlib.sha256(data[:16] + header).digest()
        assert header[4:8] == b"TML1"
        root = Table(header, struct.unpack_from("<I", header, 0)[0])
        self.kind = root.number(0, "B")
        self.properties = {p.bytes(0).decode(): p.bytes(1).decode() for p in root.tables(2)}
        self.sections: dict[str, bytes] = {}
        start = end = -(-(48 + header_size) // 64) * 64
        for section in root.tables(3):
            offset, stored_size, raw_size = (section.number(field, "Q") for field in (1, 2, 3))
            assert start + offset == -(-end // 64) * 64
            assert not any(data[end : start + offset])
            end = start + offset + stored_size
            stored = data[start + offset : end]
            assert section.bytes(5) == hashlib.sha256(stored).digest()
            compressed = section.number(4, "B") == 1
            self.sections[section.bytes(0).decode()] = decompress(stored, raw_size) if compressed else stored
        assert end == len(data)

    def json(self, section: str) -> dict:
        return json.loads(self.sections[section])


@pytest.fixture(scope="module")
def expected() -> dict:
    return json.loads((FOLDER / "expected.json").read_text())


@pytest.mark.parametrize("name", FILES)
def test_every_file_reads(name, expected):
    file = Container(FOLDER / name)
    assert file.version == 5
    assert file.kind == FILES[name]
    if name != "evaluation_wide.key":
        assert file.properties["model_hash"] == expected["model_hash"]
    if file.kind in (2, 3, 4) and name != "evaluation_wide.key":
        assert file.properties["key_id"] == expected["key_id"]


def test_the_model_hash(expected):
    digest = hashlib.sha256()
    for name, content in Container(FOLDER / "model.tml").sections.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    assert digest.hexdigest() == expected["model_hash"]


@pytest.mark.parametrize("name", ["evaluation.key", "evaluation_wide.key"])
def test_sizes_of_evaluation_keys(name):
    file = Container(FOLDER / name)
    for i, p in enumerate(file.json("key_sets")["key_sets"]):
        k, size, n = p["glwe_dimension"], p["polynomial_size"], p["small_dimension"]
        sigma_log2 = 0.5 * math.log2(p["glwe_variance"])
        word = int(-(-(5 - sigma_log2) // 8))
        steps, messages = n // p["grouping_factor"], 2 ** p["grouping_factor"] - 1
        rows = steps * messages * p["bootstrap"]["level_count"] * (k + 1)
        assert len(file.sections[f"bootstrap_bodies.{i}"]) == rows * size * word
        level_count = p["keyswitch"]["level_count"]
        assert len(file.sections[f"keyswitch_bodies.{i}"]) == 4 * (k * size - n) * level_count
        traces = (size.bit_length() - 1 + 1) * p["trace"]["level_count"]
        assert len(file.sections[f"trace_bodies.{i}"]) == traces * size * word
        assert len(bytes.fromhex(file.properties[f"mask_seed.{i}"])) == 16


def decrypted(secret: bytes, results: Container, client: dict) -> list[int]:
    """integer = phase / torus_scale + center, rounded; phase = body - <mask, key>, on the torus."""
    values = []
    for index, tensor in enumerate(results.json("tensors")["tensors"]):
        bits, dimension = tensor["wire_bits"], tensor["dimension"]
        spec = client["outputs"][index]
        packed = int.from_bytes(results.sections[f"tensor.{index}"], "little")
        count = tensor["shape"][0] * tensor["shape"][1]
        words = [packed >> (bits * i) & (2**bits - 1) for i in range(count * (dimension + 1))]
        for value in range(count):
            ciphertext = words[value * (dimension + 1) : (value + 1) * (dimension + 1)]
            mask = sum(a for i, a in enumerate(ciphertext[:-1]) if secret[i // 8] >> (i % 8) & 1)
            phase = (ciphertext[-1] - mask) % 2**bits / 2**bits
            phase -= round(phase)  # of [-1/2, 1/2]
            values.append(round(phase / spec["torus_scale"] + spec["center"]))
    return values


def test_results_decrypt_without_torusml(expected):
    client = Container(FOLDER / "client.tmc").json("client")
    secret = Container(FOLDER / "secret.key").sections["big"]
    results = Container(FOLDER / "outputs.ct")
    integers = decrypted(secret, results, client)
    assert integers == expected["outputs"]
    scale, zero = client["outputs"][0]["scale"], client["outputs"][0]["zero_point"]
    floats = [scale[i % 3] * (v - zero[i % 3]) for i, v in enumerate(integers)]
    assert floats == pytest.approx(expected["floats"])


def test_a_sealed_key_opens_by_the_page(expected):
    sealed, plain = Container(FOLDER / "sealed.key"), Container(FOLDER / "secret.key")
    p = sealed.properties
    assert p["sealing"] == "scrypt-aes256gcm"
    key = hashlib.scrypt(
        expected["passphrase"].encode(), salt=bytes.fromhex(p["salt"]), n=2 ** int(p["scrypt_n_log2"]),
        r=int(p["scrypt_r"]), p=int(p["scrypt_p"]), dklen=32, maxmem=2**28,
    )  # fmt: skip
    about = f"torusml secret key\n{p['key_id']}\n{p['model_hash']}\n".encode()
    key_sets = sealed.sections["key_sets"].removeprefix(b'{"key_sets":').removesuffix(b"}")
    opened = open_aes_gcm(key, bytes.fromhex(p["nonce"]), sealed.sections["sealed_big"], about + key_sets)
    assert opened == plain.sections["big"]
