"""Client and server: the two halves of a computation on encrypted data.

client = torusml.Client("net.tml")                 # where the data is; or its client's half, net.tmc
client.keygen()
client.save("client.key")                          # the secret key, mode 0600; it stays here
client.evaluation_keys.save("eval.key")            # for the server
sent = client.encrypt(x)                           # floats; sent.save("x.ct") or sent.serialize()

server = torusml.Server("net.tml", "eval.key")     # sees ciphertexts only; or net.tms
received = server.run(sent)

y = client.decrypt(received)                       # floats
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import _core
from .arrays import one_or_tuple, to_floats, to_integers, to_numpy
from .errors import InvalidArgument, NotSupported, WrongDtype, WrongKey, WrongShape
from .progress import bar

Path = str | os.PathLike
Buffer = bytes | bytearray | memoryview | np.ndarray  # of a file's bytes
# Of a secret key: text, bytes, or what gives them when they are needed.
Passphrase = str | bytes | Callable[[], str | bytes]

_MANY_THREADS, _MUCH_MEMORY = 2**31 - 1, 2**63 - 1


def _view_of(content: Buffer) -> memoryview:
    """A file's bytes, where they lie."""
    try:
        return memoryview(content).cast("B")
    except TypeError as error:
        raise WrongDtype(f"bytes expected, got {type(content).__name__}: {error}", "content") from None


class _Stored:
    """Something of the core that goes to files and bytes."""

    _core_class: Any = None

    def __init__(self, core: Any):
        self._core = core

    def save(self, path: Path) -> None:
        self._core.save(os.fspath(path))

    @classmethod
    def load(cls, path: Path, max_bytes: int = 0) -> Any:
        """max_bytes: of the file, checked before anything of that size is allocated; 0: no limit."""
        return cls(cls._core_class.load(os.fspath(path), max_bytes))

    def serialize(self) -> bytes:
        return self._core.to_bytes()

    @classmethod
    def deserialize(cls, content: Buffer, max_bytes: int = 0) -> Any:
        """content: bytes, or whatever has the buffer protocol; it is read where it lies, and must not change meanwhile."""
        return cls(cls._core_class.from_bytes(_view_of(content), max_bytes))


class EvaluationKeys(_Stored):
    """What a server needs to compute on ciphertexts; it decrypts nothing."""

    _core_class = _core.EvaluationKeySet

    @property
    def key_id(self) -> str:
        return self._core.key_id

    @property
    def bootstrap_key_bytes(self) -> int:
        return self._core.bootstrap_key_bytes

    @property
    def keyswitch_key_bytes(self) -> int:
        return self._core.keyswitch_key_bytes


class EncryptedInputs(_Stored):
    """All inputs of a batch, encrypted. clipped: how many floats lay outside the range of their quantizer."""

    _core_class = _core.EncryptedInputs

    def __init__(self, core: Any, clipped: int = 0):
        super().__init__(core)
        self.clipped = clipped

    @property
    def samples(self) -> int:
        """Of the batch."""
        return next((shape[0] for _, shape in self._core.tensors), 0)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(shape) for name, shape in self._core.tensors}


class EncryptedOutputs(_Stored):
    """All outputs of a batch, encrypted."""

    _core_class = _core.EncryptedOutputs

    @classmethod
    def join(cls, parts: Iterable[EncryptedOutputs]) -> EncryptedOutputs:
        """The results of one batch of those of its parts, in their order (Server.run with samples)."""
        parts = list(parts)
        for part in parts:
            if not isinstance(part, cls):
                raise WrongDtype(f"encrypted results expected, got {type(part).__name__}", "join")
        return cls(_core.EncryptedOutputs.join([part._core for part in parts]))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(shape) for name, shape in self._core.tensors}


def limits_of(threads: Any, memory_limit_bytes: Any = 0) -> tuple[int, int]:
    """Both as the core takes them: whole numbers, 0 for none."""
    for name, value in (("threads", threads), ("memory_limit_bytes", memory_limit_bytes)):
        if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
            raise WrongDtype(f"a whole number expected, got {value!r}", name)
        if value < 0:
            raise InvalidArgument(f"{name} is {value}", name, "a number from 1 on, or 0 for no limit")
    return min(int(threads), _MANY_THREADS), min(int(memory_limit_bytes), _MUCH_MEMORY)


def half_of(model: Any, half: Any) -> Any:
    """_core.ClientHalf or _core.ServerHalf (`half`) of a compiled model, or of the path or the bytes of one or of such a
    half."""
    if isinstance(model, half):
        return model
    if isinstance(model, Buffer):
        return half.from_bytes(_view_of(model), 0)
    if isinstance(model, (str, os.PathLike)):
        return half.load(os.fspath(model), 0)
    if hasattr(model, "_core_and_hash"):
        return half.of(*model._core_and_hash())
    raise WrongDtype(f"a compiled model or the path of one expected, got {type(model).__name__}", "model")


def _bytes_of(passphrase: str | bytes) -> bytes:
    if isinstance(passphrase, str):
        return passphrase.encode()
    if isinstance(passphrase, bytes):
        return passphrase
    raise WrongDtype(f"text or bytes expected, got {type(passphrase).__name__}", "passphrase")


def source_of(passphrase: Passphrase | None) -> Callable[[], bytes] | None:
    if passphrase is None:
        return None
    return lambda: _bytes_of(passphrase() if callable(passphrase) else passphrase)


class ModelSide:
    """Quantizes, dequantizes and names what goes in and out, by a model's client half."""

    def __init__(self, half: _core.ClientHalf):
        self._half = half
        self._names = half.input_names
        self._client = _core.ModelClient(half)

    @property
    def clear_inputs(self) -> tuple[str, ...]:
        """Names of the inputs that are not encrypted (docs/deployment.md)."""
        return tuple(self._half.clear_inputs)

    def quantize(self, *x: Any) -> Any:
        """Integers of floats."""
        return one_or_tuple(self._quantize(x)[0])

    def dequantize(self, *q: Any) -> Any:
        """Floats of the integers that leave the network."""
        return one_or_tuple(self._client.dequantize([to_integers(value, "dequantize") for value in q]))

    def _quantize(self, x: tuple) -> tuple[list[np.ndarray], int]:
        return self._client.quantize([to_floats(value, self._name(i)) for i, value in enumerate(x)])

    def _integers(self, x: tuple, function: str) -> tuple[list[np.ndarray], int]:
        """Of floats, with how many were clipped; integers are taken as quantized."""
        kinds = [to_numpy(value, self._name(i)).dtype.kind for i, value in enumerate(x)]
        if len(x) != len(self._names):
            raise WrongShape(f"{len(x)} inputs given, the network has {len(self._names)}", function)
        if "b" in kinds:
            hint = "values.astype(numpy.float32)"
            raise WrongDtype("floats or integers expected, got bool", self._name(kinds.index("b")), hint)
        if set(kinds) == {"f"}:
            return self._quantize(x)
        return [to_integers(value, self._name(i)) for i, value in enumerate(x)], 0

    def _name(self, i: int) -> str:
        return self._names[i] if i < len(self._names) else f"input {i}"


class Client(ModelSide):
    """Holds a secret key for one model: quantizes and encrypts inputs, decrypts results.

    model: a compiled model, or the path of one or of its client's half. secret: the path of a key that save() wrote.
    Without it, keygen() makes one. passphrase: of a sealed key.

    Client("https://host:port", model="net", ...) is a RemoteClient, for a model at a server.
    """

    def __new__(cls, *args: Any, **kwargs: Any):
        if args and isinstance(args[0], str) and args[0].startswith(("http://", "https://")):
            from .remote import RemoteClient

            return RemoteClient(*args, **kwargs)
        return super().__new__(cls)

    def __init__(self, model: Any, secret: Path | None = None, *, passphrase: Passphrase | None = None):
        super().__init__(half_of(model, _core.ClientHalf))
        self._secret: _core.SecretKeySet | None = None
        self._evaluation: EvaluationKeys | None = None
        if secret is not None:
            self._secret = _core.SecretKeySet.load(os.fspath(secret), source_of(passphrase))

    # Keys.

    @property
    def has_keys(self) -> bool:
        return self._secret is not None

    def keygen(self, force: bool = False, *, threads: int = 0, also: Iterable[Any] = ()) -> None:
        """Makes a secret key and its evaluation keys, unless there are some already. force: makes new ones. threads: at
        most so many; 0: all. also: other models, or paths of them or of their clients' halves, that the keys are to
        serve, too; WrongKey says which models need different secret keys."""
        threads, _ = limits_of(threads)
        models = [self._half, *(half_of(model, _core.ClientHalf) for model in also)]
        if self._secret is None or force:
            self._secret = _core.make_secret_keys(models)
            self._evaluation = None
        for half in models:
            _core.ModelClient(half).check_keys(self._secret)
        if self._evaluation is None:
            with bar("evaluation keys") as progress:
                self._evaluation = EvaluationKeys(_core.make_evaluation_keys(self._secret, progress, threads))

    def save(self, path: Path, replace: bool = False, *, passphrase: Passphrase | None = None) -> None:
        """Writes the secret key, readable by its owner only, and sealed if there is a passphrase. An existing file is kept
        unless replace."""
        source = source_of(passphrase)
        secret = self._secret_keys()
        if source is None:
            secret.save(os.fspath(path), replace, b"")
            return
        passphrase_bytes = source()
        if not passphrase_bytes:
            raise InvalidArgument("the passphrase is empty", "passphrase")
        secret.save(os.fspath(path), replace, passphrase_bytes)

    @property
    def key_id(self) -> str:
        return self._secret_keys().key_id

    @property
    def evaluation_keys(self) -> EvaluationKeys:
        """For the server; made on first use."""
        self._secret_keys()
        self.keygen()
        return self._evaluation

    def _secret_keys(self) -> _core.SecretKeySet:
        if self._secret is None:
            raise WrongKey("there are no keys yet", hint="client.keygen(), or Client(model, secret=path)")
        return self._secret

    # Data.

    def encrypt(self, *x: Any) -> EncryptedInputs:
        """One batch per input of the network. Floats are quantized first, integers are taken as quantized."""
        integers, clipped = self._integers(x, "encrypt")
        return EncryptedInputs(self._client.encrypt(self._secret_keys(), integers), clipped)

    def decrypt(self, results: EncryptedOutputs | Path, raw: bool = False) -> Any:
        """Floats of the results; the integers themselves if raw."""
        if isinstance(results, (str, os.PathLike)):
            results = EncryptedOutputs.load(results)
        if not isinstance(results, EncryptedOutputs):
            raise WrongDtype(f"encrypted results expected, got {type(results).__name__}", "decrypt")
        integers = self._client.decrypt(self._secret_keys(), results._core)
        return one_or_tuple(integers if raw else self._client.dequantize(integers))


class Server:
    """Runs a compiled model on ciphertexts. model: a compiled model, or the path or the bytes of one or of its server's
    half.

    Every call has its own limits. threads: at most so many; 0: all. memory_limit_bytes: keys, ciphertexts, tables and
    scratch together, by the estimate of docs/memory.md; 0: no limit. A batch is worked on in smaller parts first, and
    refused with MemoryLimitExceeded, before work begins, where that is not enough.

    prepared_keys: a folder that keeps keys in the form that the kernels read. Every process that names it maps them, so
    that only the first one prepares them and all share one copy in memory; without it, or where it cannot be used (a
    RuntimeWarning says why), each process prepares its own.
    """

    def __init__(
        self,
        model: Any,
        evaluation_keys: EvaluationKeys | Path | Buffer | None = None,
        *,
        threads: int = 0,
        memory_limit_bytes: int = 0,
        prepared_keys: Path | None = None,
    ):
        self._core = _core.ServerModel(half_of(model, _core.ServerHalf))
        self._prepared_keys = "" if prepared_keys is None else os.fspath(prepared_keys)
        # Not owned: beside the prepared keys they would be another copy.
        self._loaded: Callable[[], EvaluationKeys | None] = lambda: None
        if evaluation_keys is not None:
            self.load_keys(evaluation_keys, threads=threads, memory_limit_bytes=memory_limit_bytes)

    def load_keys(
        self, evaluation_keys: EvaluationKeys | Path | Buffer, *, threads: int = 0, memory_limit_bytes: int = 0
    ) -> None:
        """Brings keys into the form that the kernels read; they replace earlier ones."""
        limits = limits_of(threads, memory_limit_bytes)
        keys = _keys_of(evaluation_keys)
        if keys is not self._loaded():
            warning = self._core.load_keys(keys._core, *limits, self._prepared_keys)
            self._loaded = weakref.ref(keys)
            if warning:
                warnings.warn(warning, RuntimeWarning, stacklevel=2)

    @property
    def keys_are_mapped(self) -> bool:
        """Whether the keys lie in a file that other processes map too."""
        return self._core.keys_are_mapped

    @property
    def key_bytes(self) -> int:
        """Memory that the keys take here."""
        return self._core.key_bytes

    def run(
        self,
        inputs: EncryptedInputs | Path,
        evaluation_keys: EvaluationKeys | Path | Buffer | None = None,
        *,
        samples: range | None = None,
        threads: int = 0,
        memory_limit_bytes: int = 0,
        checkpoint: Path | None = None,
        checkpoint_seconds: float = 60,
        progress: Callable[[int, int], None] | None = None,
    ) -> EncryptedOutputs:
        """The encrypted results of encrypted inputs, with the keys given here or before.

        samples: those of a range(first, end) alone, where several workers share a batch; EncryptedOutputs.join puts
        their results together.

        checkpoint: a file that keeps the run's state, written after a layer but not within checkpoint_seconds of the last
        time, and when Ctrl-C stops the run. A run that finds it there goes on from it and gives the same bits as one that
        was never stopped; when it has ended the file is removed (docs/memory.md).

        progress: called with (done, total) lookups some times a second, in place of the progress bar. What it raises ends
        the run.
        """
        limits = limits_of(threads, memory_limit_bytes)
        if evaluation_keys is not None:
            self.load_keys(evaluation_keys, threads=threads, memory_limit_bytes=memory_limit_bytes)
        if isinstance(inputs, (str, os.PathLike)):
            inputs = EncryptedInputs.load(inputs)
        if not isinstance(inputs, EncryptedInputs):
            raise WrongDtype(f"encrypted inputs expected, got {type(inputs).__name__}", "run")
        with bar("lookups") as shown:
            report = shown if progress is None else progress
            if samples is not None:
                first, count = _samples_of(samples, checkpoint)
                return EncryptedOutputs(self._core.run_samples(inputs._core, first, count, report, *limits))
            kept = "" if checkpoint is None else os.fspath(checkpoint)
            return EncryptedOutputs(self._core.run(inputs._core, report, *limits, kept, float(checkpoint_seconds)))


def _samples_of(samples: range, checkpoint: Path | None) -> tuple[int, int]:
    if not isinstance(samples, range):
        raise WrongDtype(f"a range of samples expected, got {type(samples).__name__}", "samples")
    if samples.step != 1 or samples.start < 0:
        raise InvalidArgument(f"samples are {samples}", "samples", "range(first, end), with first from 0 on")
    if checkpoint is not None:
        raise NotSupported("a checkpoint of some samples of a batch", "checkpoint", "all samples, or no checkpoint")
    return samples.start, len(samples)


def _keys_of(keys: EvaluationKeys | Path | Buffer) -> EvaluationKeys:
    if isinstance(keys, EvaluationKeys):
        return keys
    if isinstance(keys, Buffer):
        return EvaluationKeys.deserialize(keys)
    if isinstance(keys, (str, os.PathLike)):
        return EvaluationKeys.load(keys)
    raise WrongDtype(f"evaluation keys expected, got {type(keys).__name__}", "evaluation_keys")
