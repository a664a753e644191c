"""Another reader of TorusML's files, which follows docs/formats.md and has nothing of TorusML: it shows that the page is
enough. FlatBuffers are read by hand; zstd and AES are those of the system's libraries."""

import ctypes
import ctypes.util
import hashlib
import json
import math
import struct
from pathlib import Path

MAGIC = bytes.fromhex("89544D4C0D0A1A0A")
VERSIONS = (5, 6)
KINDS = {1: "model", 2: "secret key", 3: "evaluation keys", 4: "ciphertext", 5: "client's half", 6: "server's half"}
CODECS = {0: "none", 1: "zstd"}
WORD = 1 << 64


def require(holds, what):
    if not holds:
        raise ValueError(what)


class Table:
    """A FlatBuffers table: fields are found through its vtable, by their number in the schema."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]
        self.vtable_size = struct.unpack_from("<H", data, self.vtable)[0]

    def place(self, field):
        entry = 4 + 2 * field
        offset = struct.unpack_from("<H", self.data, self.vtable + entry)[0] if entry < self.vtable_size else 0
        return self.at + offset if offset else None

    def number(self, field, code):
        at = self.place(field)
        return 0 if at is None else struct.unpack_from("<" + code, self.data, at)[0]

    def target(self, field):
        at = self.place(field)
        require(at is not None, f"field {field} is required")
        return at + struct.unpack_from("<I", self.data, at)[0]

    def bytes(self, field):
        at = self.target(field)
        size = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4 : at + 4 + size]

    def text(self, field):
        return self.bytes(field).decode()

    def tables(self, field):
        at = self.target(field)
        count = struct.unpack_from("<I", self.data, at)[0]
        places = range(at + 4, at + 4 + 4 * count, 4)
        return [Table(self.data, place + struct.unpack_from("<I", self.data, place)[0]) for place in places]


def decompress(stored, raw_size):
    zstd = ctypes.CDLL(ctypes.util.find_library("zstd"))
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    raw = ctypes.create_string_buffer(raw_size)
    require(zstd.ZSTD_decompress(raw, raw_size, stored, len(stored)) == raw_size, "zstd")
    return raw.raw


class File:
    """A container: kind, producer, properties, and the sections' bytes as they were before compression, by name."""

    def __init__(self, path):
        data = Path(path).read_bytes()
        require(data[:8] == MAGIC, "magic")
        version, header_size = struct.unpack_from("<II", data, 8)
        require(version in VERSIONS, f"version {version}")
        header = data[48 : 48 + header_size]
        require(len(header) == header_size <= 1 << 20, "header's size")
        require(hashlib.sha256(data[:16] + header).digest() == data[16:48], "header's SHA-256")
        require(header[4:8] == b"TML1", "FlatBuffers identifier")
        root = Table(header, struct.unpack_from("<I", header, 0)[0])
        self.kind = KINDS[root.number(0, "B")]
        self.producer = root.text(1)
        pairs = [(entry.text(0), entry.text(1)) for entry in root.tables(2)]
        require(pairs == sorted(pairs), "properties are sorted")
        self.properties = dict(pairs)
        self.sections = {}
        end = 48 + header_size
        start = self._aligned(end)
        for section in root.tables(3):
            name = section.text(0)
            offset, stored_size, raw_size = (section.number(field, "Q") for field in (1, 2, 3))
            begin = self._aligned(end)
            require(start + offset == begin and not any(data[end:begin]), f"place of {name}")
            stored = data[begin : begin + stored_size]
            require(len(stored) == stored_size, f"size of {name}")
            require(hashlib.sha256(stored).digest() == section.bytes(5), f"SHA-256 of {name}")
            codec = CODECS[section.number(4, "B")]
            self.sections[name] = stored if codec == "none" else decompress(stored, raw_size)
            require(len(self.sections[name]) == raw_size, f"raw size of {name}")
            end = begin + stored_size
        require(end == len(data), "the file ends with its last section")

    @staticmethod
    def _aligned(at):
        return -(-at // 64) * 64

    def json(self, name):
        return json.loads(self.sections[name])


def model_hash(model):
    digest = hashlib.sha256()
    for name, raw in model.sections.items():
        digest.update(f"{name} {len(raw)}\n".encode() + raw)
    return digest.hexdigest()


def mask_stream(seed_hex, count):
    """The first bytes that a seed is expanded to: AES-128 in counter mode, the counter from zero."""
    return _aes(b"EVP_aes_128_ctr", bytes.fromhex(seed_hex), bytes(16), bytes(count))


def _aes(cipher, key, nonce, data, aad=None):
    crypto = ctypes.CDLL(ctypes.util.find_library("crypto"))
    for name in ("EVP_CIPHER_CTX_new", cipher.decode()):
        getattr(crypto, name).restype = ctypes.c_void_p
    context = ctypes.c_void_p(crypto.EVP_CIPHER_CTX_new())
    size = ctypes.c_int()
    out = ctypes.create_string_buffer(len(data))
    which = ctypes.c_void_p(getattr(crypto, cipher.decode())())
    require(crypto.EVP_CipherInit_ex(context, which, None, key, nonce, 0 if aad else 1) == 1, "key")
    if aad:
        require(crypto.EVP_CipherUpdate(context, None, ctypes.byref(size), aad, len(aad)) == 1, "additional data")
        body, tag = data[:-16], data[-16:]
        require(crypto.EVP_CIPHER_CTX_ctrl(context, 0x11, 16, tag) == 1, "tag")
    else:
        body = data
    require(crypto.EVP_CipherUpdate(context, out, ctypes.byref(size), body, len(body)) == 1, "cipher")
    if aad:
        rest = ctypes.create_string_buffer(16)
        require(crypto.EVP_CipherFinal_ex(context, rest, ctypes.byref(size)) == 1, "the passphrase is wrong")
    crypto.EVP_CIPHER_CTX_free(context)
    return out.raw[: len(body)]


def big_key(secret, passphrase=None):
    """The big key, one bit an element."""
    key_set = secret.json("key_sets")["key_sets"][0]
    count = key_set["glwe_dimension"] * key_set["polynomial_size"]
    if passphrase is None:
        packed = secret.sections["big"]
    else:
        p = secret.properties
        require(p["sealing"] == "scrypt-aes256gcm", "sealing")
        n, r, parallel = 1 << int(p["scrypt_n_log2"]), int(p["scrypt_r"]), int(p["scrypt_p"])
        salt = bytes.fromhex(p["salt"])
        key = hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=parallel, maxmem=1 << 30, dklen=32)
        sets = secret.sections["key_sets"].decode()[len('{"key_sets":') : -1]
        aad = "\n".join(["torusml secret key", p["key_id"], p["model_hash"], sets]).encode()
        packed = _aes(b"EVP_aes_256_gcm", key, bytes.fromhex(p["nonce"]), secret.sections["sealed_big"], aad)
    require(len(packed) == -(-count // 8), "size of the big key")
    return [packed[i // 8] >> (i % 8) & 1 for i in range(count)]


def input_ciphertexts(file, index):
    """(masks and body) of each element of an encrypted input."""
    tensor = file.json("tensors")["tensors"][index]
    raw = file.sections[f"tensor.{index}"]
    bodies = struct.unpack(f"<{len(raw) // 8}Q", raw)
    dimension = tensor["dimension"]
    stream = mask_stream(tensor["mask_seed"], 8 * dimension * len(bodies))
    masks = struct.unpack(f"<{dimension * len(bodies)}Q", stream)
    return [(masks[i * dimension : (i + 1) * dimension], body) for i, body in enumerate(bodies)]


def output_ciphertexts(file, index):
    """(masks and body) of each element of an encrypted output, of packed ones as if they were single."""
    tensor = file.json("tensors")["tensors"][index]
    bits, size, count = tensor["wire_bits"], tensor["dimension"], math.prod(tensor["shape"])
    raw = file.sections[f"tensor.{index}"]
    groups = [size] * (count // size) + [count % size] * (count % size > 0)
    total = sum(size + group for group in groups) if tensor.get("packed") else count * (size + 1)
    require(len(raw) == -(-total * bits // 8), "size of a body")
    stream = int.from_bytes(raw, "little")
    words = [(stream >> (i * bits) & ((1 << bits) - 1)) << (64 - bits) for i in range(total)]
    require(stream >> (bits * total) == 0, "unused bits")
    if not tensor.get("packed"):
        rows = [words[i * (size + 1) : (i + 1) * (size + 1)] for i in range(count)]
        return [(row[:-1], row[-1]) for row in rows]
    require(size & (size - 1) == 0, "dimension of packed results")
    ciphertexts, first = [], 0
    for group in groups:
        mask, bodies = words[first : first + size], words[first + size : first + size + group]
        stride = size >> (group - 1).bit_length()
        ciphertexts += [(_extracted(mask, i * stride), body) for i, body in enumerate(bodies)]
        first += size + group
    return ciphertexts


def _extracted(mask, j):
    """Words by which bits of the key count in coefficient j of mask times key modulo X^N + 1."""
    return mask[j::-1] + [-word % WORD for word in mask[:j:-1]]


def decrypt(ciphertext, key):
    mask, body = ciphertext
    return (body - sum(a for a, bit in zip(mask, key, strict=True) if bit)) % WORD


def centred(word, modulus=WORD):
    return word - modulus if word >= modulus // 2 else word


def decode(phase, spec):
    lower, upper = spec["interval"]
    return max(lower, min(upper, round(centred(phase) / WORD / spec["torus_scale"] + spec["center"])))


def circuit_header(text):
    """Name of a circuit and its nodes' first words."""
    lines = text.splitlines()
    return lines[0].split('"')[1], [
        line.partition(" = ")[2].partition(" ")[0] for line in lines[1 : lines.index("constants")]
    ]
