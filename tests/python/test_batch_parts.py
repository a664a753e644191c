"""One batch divided between workers, and files read from any buffer: what contrib/ray is built on."""

import gc
import weakref

import numpy as np
import pytest
from small_networks import floats, two_inputs_two_outputs

import torusml
from torusml import errors

SAMPLES = 7


@pytest.fixture(scope="module")
def model():
    calibration = (floats(50, 2, 3), floats(50, 2, 4))
    return torusml.compile(two_inputs_two_outputs(), calibration, bits=3, precision="exact").fhe_circuit


@pytest.fixture(scope="module")
def x():
    return floats(SAMPLES, 2, 5), floats(SAMPLES, 2, 6)


@pytest.fixture(scope="module")
def sent(client, x):
    return client.encrypt(*x)


@pytest.fixture(scope="module")
def server(model, client):
    return torusml.Server(model, client.evaluation_keys)


def test_parts_joined_are_the_batch_bit_for_bit(model, client, x, sent, server):
    assert sent.samples == SAMPLES
    parts = [server.run(sent, samples=part) for part in (range(0, 3), range(3, 4), range(4, 7))]
    assert [part.shapes["y"] for part in parts] == [(3, 3), (1, 3), (3, 3)]
    joined = torusml.EncryptedOutputs.join(parts)
    assert joined.serialize() == server.run(sent).serialize()
    clear = model.run_clear(*client.quantize(*x))
    for found, expected in zip(client.decrypt(joined, raw=True), clear, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_samples_that_are_not_there_are_refused(sent, server):
    with pytest.raises(errors.WrongShape, match="3 samples from sample 5 on are asked for, the encrypted input has 7"):
        server.run(sent, samples=range(5, 8))
    for none in (range(0), range(3, 3), range(4, 2)):
        with pytest.raises(errors.WrongShape, match="0 samples"):
            server.run(sent, samples=none)
    for wrong in (range(0, 4, 2), range(-1, 2)):
        with pytest.raises(errors.InvalidArgument, match="samples are"):
            server.run(sent, samples=wrong)
    with pytest.raises(errors.WrongDtype, match="a range of samples expected"):
        server.run(sent, samples=3)
    with pytest.raises(errors.NotSupported, match="a checkpoint of some samples"):
        server.run(sent, samples=range(2), checkpoint="x.ckpt")


def test_results_that_do_not_belong_together_are_not_joined(model, client, sent, server):
    part = server.run(sent, samples=range(2))
    other = torusml.Client(model)
    other.keygen()
    strange = torusml.Server(model, other.evaluation_keys).run(other.encrypt(floats(1, 2), floats(1, 2)))
    with pytest.raises(errors.WrongKey):
        torusml.EncryptedOutputs.join([part, strange])
    with pytest.raises(errors.InvalidArgument, match="no results to join"):
        torusml.EncryptedOutputs.join([])
    with pytest.raises(errors.WrongDtype, match="encrypted results expected"):
        torusml.EncryptedOutputs.join([part, sent])


def test_what_progress_raises_ends_a_run(client, server):
    large = client.encrypt(floats(200, 2), floats(200, 2))
    calls = []

    def stop(done, total):
        calls.append((done, total))
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        server.run(large, progress=stop)
    assert len(calls) == 1 and calls[0][0] < calls[0][1]


@pytest.mark.parametrize("buffer", [bytes, bytearray, memoryview, lambda content: np.frombuffer(content, np.uint8)])
def test_files_are_read_from_any_buffer(buffer, model, client, sent, server):
    inputs = torusml.EncryptedInputs.deserialize(buffer(sent.serialize()))
    half = torusml.client.half_of(model, torusml._core.ServerHalf)
    other = torusml.Server(buffer(half.to_bytes()), buffer(client.evaluation_keys.serialize()))
    assert other.run(inputs).serialize() == server.run(sent).serialize()


def test_what_is_no_buffer_of_bytes_is_refused(sent):
    content = np.frombuffer(sent.serialize(), np.uint8)
    for wrong in (7, "text", None, content[::2]):
        with pytest.raises(errors.WrongDtype, match="bytes expected"):
            torusml.EncryptedInputs.deserialize(wrong)
    with pytest.raises(errors.FileTruncated):
        torusml.EncryptedInputs.deserialize(content[:-1])
    with pytest.raises(errors.FileTruncated):
        torusml.EncryptedInputs.deserialize(b"")


def test_a_server_does_not_keep_the_file_of_its_keys(model, client, sent):
    keys = torusml.EvaluationKeys.deserialize(client.evaluation_keys.serialize())
    server = torusml.Server(model, keys)
    watched = weakref.ref(keys)
    server.run(sent, keys)  # the same keys are not prepared again
    del keys
    gc.collect()
    assert watched() is None
    assert server.run(sent, samples=range(1)).shapes["y"] == (1, 3)
