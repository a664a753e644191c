"""FHEModelDev, FHEModelClient, FHEModelServer: Concrete ML's door to the two halves of a model."""

from __future__ import annotations

import hashlib
import os
from enum import Enum
from pathlib import Path
from typing import Any

from .. import _core
from ..client import Client, EncryptedInputs, EncryptedOutputs, EvaluationKeys, Passphrase, Server, limits_of
from ..errors import FileUnwritable, NotSupported, UnknownOption, WrongDtype, WrongKey, WrongShape
from .archives import read_archive, write_archive

CLIENT_ARCHIVE, SERVER_ARCHIVE = "client.zip", "server.zip"
_CLIENT_MEMBER, _SERVER_MEMBER = "client.tmc", "server.tms"


class DeploymentMode(Enum):
    INFERENCE = "inference"
    TRAINING = "training"


class FHEModelDev:
    """Writes both halves of a model. model: a compiled QuantizedModule, or its fhe_circuit."""

    def __init__(self, path_dir: str | os.PathLike, model: Any = None):
        self.path_dir = Path(path_dir)
        self.model = model

    def save(self, mode: DeploymentMode | str = DeploymentMode.INFERENCE, via_mlir: bool = True) -> None:
        """client.zip and server.zip, in a folder that is empty or new. via_mlir has no effect: both files are the same on
        every machine. Errors: FileUnwritable, NotSupported (mode "training")."""
        _check_mode(mode)
        halves = _core_and_hash_of(self.model)
        folder = _empty_folder(self.path_dir)
        write_archive(folder / CLIENT_ARCHIVE, _CLIENT_MEMBER, _core.ClientHalf.of(*halves).to_bytes())
        write_archive(folder / SERVER_ARCHIVE, _SERVER_MEMBER, _core.ServerHalf.of(*halves).to_bytes())


class FHEModelClient:
    """Keys, encryption and decryption; needs client.zip alone.

    key_dir: a folder, made with mode 0700, that keeps the secret key (sealed, if there is a passphrase) and the evaluation
    keys. All models of the same key sets find the same keys there. Without it they live as long as this object.
    """

    def __init__(
        self,
        path_dir: str | os.PathLike,
        key_dir: str | os.PathLike | None = None,
        *,
        passphrase: Passphrase | None = None,
    ):
        self.path_dir = Path(path_dir)
        self.key_dir = None if key_dir is None else Path(key_dir)
        self._passphrase = passphrase
        self.load()

    def load(self) -> None:
        """Reads client.zip; called by the constructor. Keys that were made before are forgotten."""
        content = read_archive(self.path_dir / CLIENT_ARCHIVE, _CLIENT_MEMBER)
        self._half = _core.ClientHalf.from_bytes(content, 0)
        self._client = Client(self._half)

    def generate_private_and_evaluation_keys(self, force: bool = False) -> None:
        """Keys of key_dir, if there are some; otherwise, or by force, new ones, which are kept there."""
        if self.key_dir is None:
            self._client.keygen(force)
            return
        self.key_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret, evaluation = (self.key_dir / f"{self._half.key_sets_id[:16]}{end}" for end in (".key", ".eval"))
        if force or not secret.exists():
            self._client = Client(self._half)
            self._client.keygen()
            self._client.save(secret, replace=force, passphrase=self._passphrase)
        else:
            self._client = Client(self._half, secret, passphrase=self._passphrase)
            if evaluation.exists():
                self._use(evaluation)
                return
        self._client.evaluation_keys.save(evaluation)

    def _use(self, evaluation: Path) -> None:
        keys = EvaluationKeys.load(evaluation)
        if keys.key_id != self._client.key_id:
            raise WrongKey(
                "the evaluation keys beside the secret key are under another one",
                f"file '{evaluation}'",
                "delete them: they are made anew",
            )
        self._client._evaluation = keys

    def get_serialized_evaluation_keys(self, include_tfhers_key: bool = False) -> bytes:
        """For the server; it decrypts nothing. Makes keys if there are none."""
        if include_tfhers_key:
            raise NotSupported("keys in the form of TFHE-rs", "include_tfhers_key")
        if not self._client.has_keys:
            self.generate_private_and_evaluation_keys()
        return self._client.evaluation_keys.serialize()

    def quantize_encrypt_serialize(self, *x: Any) -> bytes:
        """Floats, one batch per input of the network; all of them in one ciphertext."""
        return self._client.encrypt(*x).serialize()

    def deserialize_decrypt(self, *serialized_encrypted_quantized_result: bytes) -> Any:
        """Integers, as they leave the network; a tuple if it has several outputs."""
        return self._decrypt(serialized_encrypted_quantized_result, raw=True)

    def deserialize_decrypt_dequantize(self, *serialized_encrypted_quantized_result: bytes) -> Any:
        """Floats; a tuple if the network has several outputs."""
        return self._decrypt(serialized_encrypted_quantized_result, raw=False)

    def _decrypt(self, results: tuple, raw: bool) -> Any:
        content = _only(results, "results", "deserialize_decrypt")
        return self._client.decrypt(EncryptedOutputs.deserialize(content), raw=raw)


class FHEModelServer:
    """Runs the model on ciphertexts; needs server.zip alone. One object may serve several threads."""

    def __init__(self, path_dir: str | os.PathLike):
        self.path_dir = Path(path_dir)
        self.load()

    def load(self) -> None:
        """Reads server.zip; called by the constructor."""
        content = read_archive(self.path_dir / SERVER_ARCHIVE, _SERVER_MEMBER)
        self._half = _core.ServerHalf.from_bytes(content, 0)
        self._last: tuple[bytes, Server] | None = None

    def run(
        self,
        serialized_encrypted_quantized_data: bytes | tuple[bytes, ...],
        serialized_evaluation_keys: bytes,
        *,
        threads: int = 0,
        memory_limit_bytes: int = 0,
        max_input_bytes: int = 0,
        max_key_bytes: int = 0,
    ) -> bytes:
        """The encrypted results. Limits as for torusml.Server; max_*_bytes: of what is sent, 0 for no limit. Keys that were
        used last are kept prepared."""
        limits = dict(zip(("threads", "memory_limit_bytes"), limits_of(threads, memory_limit_bytes), strict=True))
        content = _only(serialized_encrypted_quantized_data, "ciphertext", "run")
        inputs = EncryptedInputs.deserialize(content, max_input_bytes)
        server = self._server_of(serialized_evaluation_keys, max_key_bytes, limits)
        return server.run(inputs, **limits).serialize()

    def _server_of(self, keys: bytes, max_bytes: int, limits: dict[str, int]) -> Server:
        digest = hashlib.sha256(keys).digest()
        last = self._last
        if last is not None and last[0] == digest:
            return last[1]
        server = Server(self._half)
        server.load_keys(EvaluationKeys.deserialize(keys, max_bytes), **limits)
        self._last = (digest, server)
        return server


def _check_mode(mode: DeploymentMode | str) -> None:
    names = [known.value for known in DeploymentMode]
    name = mode.value if isinstance(mode, DeploymentMode) else mode
    if name not in names:
        raise UnknownOption(f"mode {mode!r}; known are {', '.join(names)}", "mode")
    if name != DeploymentMode.INFERENCE.value:
        raise NotSupported("deployment of encrypted training", "mode", 'mode="inference"')


def _core_and_hash_of(model: Any) -> tuple[Any, Any]:
    circuit = model.fhe_circuit if hasattr(type(model), "fhe_circuit") else model  # the error NotCompiled
    if not hasattr(circuit, "_core_and_hash"):
        raise WrongDtype(f"a compiled module expected, got {type(model).__name__}", "model")
    return circuit._core_and_hash()


def _empty_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileUnwritable("the folder is not empty", f"folder '{folder}'", "a new or an empty folder")
    except OSError as error:
        if isinstance(error, FileUnwritable):
            raise
        raise FileUnwritable(error.strerror or str(error), f"folder '{folder}'") from error
    return folder


def _only(serialized: Any, what: str, where: str) -> bytes:
    """Of bytes, or of a tuple of one: all tensors of a batch travel together."""
    if isinstance(serialized, (tuple, list)):
        if len(serialized) != 1:
            raise WrongShape(f"{len(serialized)} {what} given; all tensors of a batch are in one", where)
        serialized = serialized[0]
    if not isinstance(serialized, (bytes, bytearray)):
        raise WrongDtype(f"bytes expected, got {type(serialized).__name__}", where)
    return bytes(serialized)
