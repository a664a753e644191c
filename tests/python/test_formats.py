"""docs/formats.md is enough to write another reader: format_reader.py, which follows it, reads the golden files."""

import math
import re
import struct
from pathlib import Path

import pytest
from format_reader import (
    VERSIONS,
    WORD,
    File,
    big_key,
    centred,
    circuit_header,
    decode,
    decrypt,
    input_ciphertexts,
    mask_stream,
    model_hash,
    output_ciphertexts,
)

FOLDER = Path(__file__).parents[1] / "golden"
INPUTS = [-3, 4, 0, 0, 4, 4, -1, 2]
CLEAR_INPUTS = (1, -1, 0, 1)
MANY_INPUTS = [value for i in range(67) for value in (i % 8 - 3, i // 8 % 8 - 3)]  # of the model that packs
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def golden(version):
    return lambda name: File(FOLDER / f"version_{version}" / name)


def gadget(base_log2, level_count):
    return {"base_log2": base_log2, "level_count": level_count}


KEY_SETS = [
    {
        "small_dimension": 10,
        "glwe_dimension": 1,
        "polynomial_size": 128,
        "bootstrap": gadget(10, 4),
        "keyswitch": gadget(4, 7),
        "circuit_bootstrap": gadget(6, 3),
        "trace": gadget(8, 5),
        "grouping_factor": 2,
        "accumulator_bits": 64,
        "small_variance": 2.0**-60,
        "glwe_variance": 2.0**-100,
    },
    {
        "small_dimension": 12,
        "glwe_dimension": 2,
        "polynomial_size": 64,
        "bootstrap": gadget(13, 3),
        "keyswitch": gadget(5, 5),
        "circuit_bootstrap": gadget(0, 0),
        "trace": gadget(0, 0),
        "grouping_factor": 1,
        "accumulator_bits": 64,
        "small_variance": 2.0**-56,
        "glwe_variance": 2.0**-100,
    },
]


def expected_outputs(inputs=INPUTS, clear=None):
    """The golden network in plain integers. clear: the second input of the one that has it."""
    weights, bias = [[1, 2], [-1, 1], [2, -1]], [0, 1, -1]
    outputs = []
    for *sample, z in zip(inputs[::2], inputs[1::2], clear or [0] * (len(inputs) // 2), strict=True):
        sums = [sum(w * x for w, x in zip(row, sample, strict=True)) + b for row, b in zip(weights, bias, strict=True)]
        sums = [s + u * z for s, u in zip(sums, (0, 2, 1), strict=True)]
        a, b, c = (abs(v) // 2 if i == 1 else max(v, 0) // 2 for i, v in enumerate(sums))
        outputs += [(3 * a + 4 * b + 4 * c + 25) % 5 - 2, (4 * a - 4 * b + 5 * c + 25) % 5 - 2]
    return outputs


def test_model_and_halves(golden, version):
    model, client, server = golden("model.tml"), golden("client.tmc"), golden("server.tms")
    assert [file.kind for file in (model, client, server)] == ["model", "client's half", "server's half"]
    assert re.fullmatch(r"torusml \d+\.\d+\.\d+", model.producer)
    assert list(model.sections) == ["circuit", "plan", "client", "ranges"]
    assert list(client.sections) == ["client"]
    assert list(server.sections) == ["circuit", "plan", "server"]
    assert model.properties["model_hash"] == model_hash(model)
    assert model.properties == client.properties == server.properties
    assert model.properties["name"] == "golden"
    assert float(model.properties["p_error"]) == 2.0**-40
    assert model.properties["profile"] == "private_results"
    for name in ("circuit", "plan"):
        assert server.sections[name] == model.sections[name]
    assert client.sections["client"] == model.sections["client"]
    name, nodes = circuit_header(model.sections["circuit"].decode())
    assert (name, nodes[1:4]) == ("golden", ["linear", "lut", "linear"])
    spec = client.json("client")
    assert spec["key_sets"] == KEY_SETS
    assert spec["inputs"][0]["quantizer"]["scale"] == [0.125]
    assert spec["outputs"][0]["scale"] == [0.1, 1 / 3]
    assert spec["outputs"][0]["zero_point"] == [0 if version == 5 else 0.25, -1]
    assert spec["options"]["p_error"] == 2.0**-40
    tensors = {"inputs": [{"name": "x", "shape": [2]}], "outputs": [{"name": "y", "shape": [2]}]}
    assert server.json("server") == {"model_name": "golden", **tensors}
    assert [r["declared"] for r in model.json("ranges")["ranges"]] == [[-12, 12], [-24, 66]]


def test_secret_keys(golden):
    plain, sealed = golden("secret.key"), golden("sealed.key")
    assert plain.json("key_sets")["key_sets"] == KEY_SETS
    assert plain.properties["key_id"] == "00112233445566778899aabbccddeeff"
    assert set(sealed.properties) - set(plain.properties) == {
        "sealing",
        "scrypt_n_log2",
        "scrypt_r",
        "scrypt_p",
        "salt",
        "nonce",
    }
    assert big_key(sealed, PASSPHRASE) == big_key(plain)
    with pytest.raises(ValueError, match="passphrase"):
        big_key(sealed, b"another")


def test_ciphertexts_decrypt(golden):
    key = big_key(golden("secret.key"))
    spec = golden("client.tmc").json("client")
    inputs, outputs = golden("inputs.ct"), golden("outputs.ct")
    assert inputs.properties["content"] == "encrypted inputs"
    assert outputs.properties["content"] == "encrypted outputs"
    for file in (inputs, outputs):
        assert file.json("tensors")["tensors"][0]["shape"] == [4, 2]
        assert file.properties["model_hash"] == golden("model.tml").properties["model_hash"]
    found = [decode(decrypt(c, key), spec["inputs"][0]) for c in input_ciphertexts(inputs, 0)]
    assert found == INPUTS
    found = [decode(decrypt(c, key), spec["outputs"][0]) for c in output_ciphertexts(outputs, 0)]
    assert found == expected_outputs()


def test_clear_inputs_are_plain_integers():
    folder = FOLDER / "version_6"
    model, inputs, outputs = (File(folder / name) for name in ("clear.tml", "clear_inputs.ct", "clear_outputs.ct"))
    spec, tensors = model.json("client"), inputs.json("tensors")["tensors"]
    for described in (spec["inputs"], tensors):
        assert [tensor.get("clear", False) for tensor in described] == [False, True]
    assert "mask_seed" not in tensors[1]
    assert struct.unpack("<4q", inputs.sections["tensor.1"]) == CLEAR_INPUTS
    key = big_key(File(folder / "secret.key"))
    found = [decode(decrypt(c, key), spec["inputs"][0]) for c in input_ciphertexts(inputs, 0)]
    assert found == INPUTS
    found = [decode(decrypt(c, key), spec["outputs"][0]) for c in output_ciphertexts(outputs, 0)]
    assert found == expected_outputs(clear=CLEAR_INPUTS) != expected_outputs()


def test_packed_results_decrypt():
    folder = FOLDER / "version_6"
    model, inputs, outputs = (File(folder / f"packed{name}") for name in (".tml", "_inputs.ct", "_outputs.ct"))
    assert " packed guard" in model.sections["plan"].decode()
    (tensor,) = outputs.json("tensors")["tensors"]
    assert (tensor["packed"], tensor["shape"], tensor["dimension"]) == (True, [67, 2], 64)
    assert len(outputs.sections["tensor.0"]) == -(-(3 * 64 + 134) * tensor["wire_bits"] // 8)
    spec, key = model.json("client"), big_key(File(folder / "packed_secret.key"))
    found = [decode(decrypt(c, key), spec["inputs"][0]) for c in input_ciphertexts(inputs, 0)]
    assert found == MANY_INPUTS
    found = [decode(decrypt(c, key), spec["outputs"][0]) for c in output_ciphertexts(outputs, 0)]
    assert found == expected_outputs(MANY_INPUTS)
    assert len(set(found)) == 5


class Stream:
    """Public masks of a key set, in the order of docs/formats.md."""

    def __init__(self, seed, sizes):
        self.bytes, self.at = mask_stream(seed, sizes), 0

    def words(self, count, code):
        size = struct.calcsize("<" + code)
        words = struct.unpack_from(f"<{count}{code}", self.bytes, self.at)
        self.at += count * size
        return words


def product(a, binary):
    """Of a polynomial and one with coefficients -1, 0, 1, modulo X^N + 1 and 2^64."""
    size = len(a)
    result = [0] * size
    for j, bit in enumerate(binary):
        if bit:
            for i in range(size - j):
                result[i + j] += bit * a[i]
            for i in range(size - j, size):
                result[i + j - size] -= bit * a[i]
    return [value % WORD for value in result]


def body_words(raw, size):
    words = [int.from_bytes(raw[i : i + size], "little") << (64 - 8 * size) for i in range(0, len(raw), size)]
    return words


def expect_near(found, expected, sigma, modulus=WORD):
    for a, b in zip(found, expected, strict=True):
        assert abs(centred((a - b) % modulus, modulus)) < 8 * sigma


class KeySet:
    """One key set of a file of evaluation keys, with its secret."""

    def __init__(self, file, index, big):
        p = file.json("key_sets")["key_sets"][index]
        self.p, self.big = p, big
        self.size, self.k, self.n = p["polynomial_size"], p["glwe_dimension"], p["small_dimension"]
        self.polynomials = [big[r * self.size : (r + 1) * self.size] for r in range(self.k)]
        self.body_bytes = math.ceil((5 - math.log2(p["glwe_variance"]) / 2) / 8)
        self.sigma = WORD * math.sqrt(p["glwe_variance"]) + (1 << (64 - 8 * self.body_bytes))
        names = ("bootstrap_bodies", "keyswitch_bodies", "trace_bodies")
        self.bootstrap, self.keyswitch, self.trace = (file.sections[f"{name}.{index}"] for name in names)
        row = self.size * self.body_bytes
        masks = len(self.bootstrap) // row * self.k * self.size * 8 + len(self.trace) // row * self.size * 8
        masks += len(self.keyswitch) // 4 * self.n * 4
        self.stream = Stream(file.properties[f"mask_seed.{index}"], masks)

    def messages(self, step):
        if self.p["grouping_factor"] == 1:
            return [self.big[step]]
        s, t = self.big[2 * step : 2 * step + 2]
        return [s * (1 - t), (1 - s) * t, s * t]

    def phase(self, body):
        sums = [0] * self.size
        for secret in self.polynomials:
            mask = self.stream.words(self.size, "Q")
            sums = [a + b for a, b in zip(sums, product(mask, secret), strict=True)]
        return [(b - a) % WORD for a, b in zip(sums, body_words(body, self.body_bytes), strict=True)]

    def check_rows(self, raw, messages):
        row = self.size * self.body_bytes
        rows = [raw[i : i + row] for i in range(0, len(raw), row)]
        for body, message in zip(rows, messages, strict=True):
            expect_near(self.phase(body), message, self.sigma)

    def bootstrap_messages(self):
        gadget = self.p["bootstrap"]
        for step in range(self.n // self.p["grouping_factor"]):
            for m in self.messages(step):
                for level in range(1, gadget["level_count"] + 1):
                    factor = m << (64 - gadget["base_log2"] * level)
                    for secret in self.polynomials:
                        yield [-factor * bit for bit in secret]
                    yield [factor] + [0] * (self.size - 1)

    def check_keyswitch(self):
        gadget = self.p["keyswitch"]
        bodies = iter(struct.unpack(f"<{len(self.keyswitch) // 4}I", self.keyswitch))
        small = self.big[: self.n]
        for bit in self.big[self.n :]:
            for level in range(1, gadget["level_count"] + 1):
                mask = self.stream.words(self.n, "I")
                phase = next(bodies) - sum(a for a, s in zip(mask, small, strict=True) if s)
                message = bit << (32 - gadget["base_log2"] * level)
                sigma = 2**32 * math.sqrt(self.p["small_variance"]) + 1
                expect_near([phase % 2**32], [message], sigma, 2**32)
        assert next(bodies, None) is None

    def trace_messages(self):
        gadget, size, (secret,) = self.p["trace"], self.size, self.polynomials
        images = []
        for i in range(size.bit_length() - 1):
            power = size // 2**i + 1
            image = [0] * size
            for j, bit in enumerate(secret):
                to = j * power % (2 * size)
                image[to % size] = -bit if to < size else bit
            images.append(image)
        if self.p["circuit_bootstrap"]["level_count"]:
            images.append(product(secret, secret))
        for image in images:
            for level in range(1, gadget["level_count"] + 1):
                yield [value << (64 - gadget["base_log2"] * level) for value in image]

    def check(self):
        """Every section, and that all masks were used."""
        self.check_rows(self.bootstrap, self.bootstrap_messages())
        self.check_keyswitch()
        assert (self.trace == b"") == (self.p["trace"]["level_count"] == 0)
        if self.trace:
            self.check_rows(self.trace, self.trace_messages())
        assert self.stream.at == len(self.stream.bytes)


@pytest.mark.parametrize("index", [0, 1])
def test_evaluation_keys_encrypt_the_secret(golden, index):
    file = golden("evaluation.key")
    assert file.json("key_sets")["key_sets"] == KEY_SETS
    names = [f"{name}_bodies.{i}" for i in (0, 1) for name in ("bootstrap", "keyswitch", "trace")]
    assert list(file.sections) == ["key_sets", *names]
    KeySet(file, index, big_key(golden("secret.key"))).check()


def test_evaluation_keys_with_a_trace_alone_encrypt_the_secret():
    file = File(FOLDER / "version_6" / "packed_evaluation.key")
    (p,) = file.json("key_sets")["key_sets"]
    assert (p["circuit_bootstrap"], p["trace"]) == (gadget(0, 0), gadget(8, 5))
    KeySet(file, 0, big_key(File(FOLDER / "version_6" / "packed_secret.key"))).check()
