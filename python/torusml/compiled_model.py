"""A compiled model: its circuit and plan, and the three ways to run it.

model = quantized_module.fhe_circuit               # or torusml.load("net.tml")
model.keygen()
q_y = model.encrypt_run_decrypt(q_x)               # integers, with quantized_module's quantizers around
y = model.predict(x, executor="simulated")         # floats

print(model)                                       # the circuit
model.save("net.tml")
"""

from __future__ import annotations

import os
import secrets
from typing import Any

from . import _core
from .arrays import one_or_tuple, to_floats, to_integers
from .client import Client, EncryptedInputs, EncryptedOutputs, EvaluationKeys, Path, Server, limits_of
from .errors import InvalidArgument, NotSupported, UnknownOption, WrongShape
from .progress import bar

EXECUTORS = ("clear", "simulated", "encrypted")


class Graph:
    """What the circuit looks like."""

    def __init__(self, core: _core.CompiledModel):
        self._core = core

    def maximum_integer_bit_width(self) -> int:
        """Largest width of any value of the circuit; -1 for an empty circuit."""
        return self._core.maximum_bit_width

    def integer_range(self) -> tuple[int, int]:
        """Least and largest integer that any value of the circuit can take."""
        return self._core.integer_range

    def format(self) -> str:
        return self._core.circuit_text(False)

    __str__ = format


class Keys:
    """The keys of a circuit."""

    def __init__(self, client: Client):
        self._client = client

    @property
    def are_generated(self) -> bool:
        return self._client.has_keys

    def generate(self, force: bool = False) -> None:
        self._client.keygen(force)

    def save(self, path: Path, replace: bool = False) -> None:
        """The secret key, to a file that only its owner can read."""
        self._client.save(path, replace)

    @property
    def evaluation(self) -> EvaluationKeys:
        return self._client.evaluation_keys


class CompiledModel:
    """The circuit of a quantized module. Integers in and out, except for predict. Batches everywhere."""

    def __init__(self, core: _core.CompiledModel, model_hash: _core.ModelHash | None = None):
        self._core = core
        self._hash = model_hash
        self._client: Client | None = None
        self._server: Server | None = None

    def _core_and_hash(self) -> tuple[_core.CompiledModel, _core.ModelHash]:
        if self._hash is None:
            self._hash = _core.hash_of(self._core)
        return self._core, self._hash

    # What it is.

    @property
    def name(self) -> str:
        return self._core.name

    @property
    def graph(self) -> Graph:
        return Graph(self._core)

    def __str__(self) -> str:
        return self._core.circuit_text(False)

    def memory_estimate(self, batch: int = 1, threads: int = 0) -> dict[str, Any]:
        """Bytes that an encrypted run of a batch takes at most: total, and what it is made of at the layer where it is
        most (docs/memory.md)."""
        if limits_of(batch)[0] == 0:
            raise InvalidArgument("a batch has at least one sample", "batch")
        return self._core.memory_estimate(limits_of(batch)[0], limits_of(threads)[0])

    def plan_text(self) -> str:
        """Encodings, noise, tables and probabilities of failure."""
        return self._core.plan_text()

    @property
    def relative_noise(self) -> dict[str, float]:
        """By lookup: the standard deviation of the noise where its table is read, as a fraction of the interval. Lookups
        of one name are told apart by ".2", ".3"."""
        noise: dict[str, float] = {}
        for name, is_lookup, sigma in self._core.reader_noise:
            if is_lookup:
                noise[_free_name(name, noise)] = sigma
        return noise

    @property
    def ranges(self) -> list[dict]:
        """By layer: calibrated, guaranteed and declared interval."""
        return self._core.ranges

    @property
    def layers(self) -> list[dict]:
        """By lookup and output: its range and bits, policy, tolerance, noise (sigma, in units of one integer), effective
        bits (docs/glossary.md), probabilities that a result differs (flip), that the table is read off by one entry and more
        (step), by more than one (far) or beyond its guard band (wrap); of lookups also milliseconds of one core, and after
        precision="auto" the measured flip_rate."""
        return self._core.layers

    @property
    def precision_report(self) -> dict | None:
        """Of precision="auto": by what criterion it was chosen, the most it may lose, and what it lost on the `samples`
        that were held out; exact_ms_per_core is what exact lookups would take; looser: what less strict targets would buy,
        by their loss on the samples that the search looked at, with ms_per_core. None otherwise."""
        return self._core.precision_report

    @property
    def statistics(self) -> dict[str, Any]:
        """Sizes in bytes, counts for one sample, and probabilities of failure.

        complexity: the cost model's milliseconds on one core. table_lookup_count: tables that are read;
        programmable_bootstrap_count: the blind rotations that this takes, fewer where tables of one value share one,
        more for wide lookups. lookups: by layer, how many tables it reads and the probabilities that noise moves a read by
        one entry or more (step), by more than one (far), that the result differs (flip), and that an end of the interval
        leaves its guard band (wrap). key_sets: by set, what it is and what it serves; where there are two, one_key_set
        is what they were preferred to. size_of_secret_keys and the sizes of the keys are those of the material in its
        wire form, without the few hundred bytes that a file adds.
        """
        plan = self._core.plan
        key_sets = [key_set["parameters"] for key_set in plan["key_sets"]]
        big = key_sets[0]["glwe_dimension"] * key_sets[0]["polynomial_size"]
        keyswitch = sum((big - p["small_dimension"]) * p["keyswitch_level_count"] * 4 for p in key_sets)
        return {
            "size_of_secret_keys": big * 8,
            "size_of_bootstrap_keys": int(plan["key_wire_bytes"]) - keyswitch,
            "size_of_keyswitch_keys": keyswitch,
            "size_of_inputs": self._core.input_bytes + 16,
            "size_of_outputs": self._core.output_bytes,
            "p_error": plan["p_error"],
            "global_p_error": plan["sample_p_error"],
            "complexity": plan["cost_ms_per_core"],
            "table_lookup_count": plan["lookup_count"],
            "programmable_bootstrap_count": plan["rotation_count"],
            "key_switch_count": plan["keyswitch_count"],
            "packing_key_switch_count": 0,
            "clear_multiplication_count": self._core.linear_multiplications,
            **{
                name: plan[name]
                for name in (
                    "precision",
                    "profile",
                    "security_level",
                    "tolerance",
                    "key_set",
                    "key_sets",
                    "one_key_set",
                    "lookups",
                )
            },
        }

    # Keys, and the two halves.

    @property
    def client(self) -> Client:
        """Encrypts and decrypts, with the keys of this object."""
        if self._client is None:
            self._client = Client(self)
        return self._client

    @property
    def server(self) -> Server:
        if self._server is None:
            self._server = Server(self)
        return self._server

    @property
    def keys(self) -> Keys:
        return Keys(self.client)

    def keygen(
        self, force: bool = False, seed: int | None = None, encryption_seed: int | None = None, *, threads: int = 0
    ) -> None:
        """Makes keys, unless there are some. Seeds are refused: keys that can be made again are not secret."""
        if seed is not None or encryption_seed is not None:
            raise NotSupported("keys from a seed", "seed", "keys come from the operating system's random numbers")
        self.client.keygen(force, threads=threads)

    def encrypt(self, *q: Any) -> EncryptedInputs:
        """One array of integers per input of the network, batch axis first. Makes keys if there are none."""
        return self._encrypt(q, 0)

    def _encrypt(self, q: tuple, threads: int) -> EncryptedInputs:
        integers = self._integers(q)
        self.client.keygen(threads=threads)
        return self.client.encrypt(*integers)

    def run(
        self,
        inputs: EncryptedInputs,
        evaluation_keys: EvaluationKeys | None = None,
        *,
        threads: int = 0,
        memory_limit_bytes: int = 0,
    ) -> EncryptedOutputs:
        """The server's part; with this object's own evaluation keys unless others are given. Limits as for Server."""
        keys = evaluation_keys or self.client.evaluation_keys
        return self.server.run(inputs, keys, threads=threads, memory_limit_bytes=memory_limit_bytes)

    def decrypt(self, results: EncryptedOutputs) -> Any:
        """Integers, as they leave the network."""
        return self.client.decrypt(results, raw=True)

    # Running it whole.

    def encrypt_run_decrypt(self, *q: Any, threads: int = 0, memory_limit_bytes: int = 0) -> Any:
        """Integers to integers; the limits are those of Server, and the threads also make the keys."""
        limits_of(threads, memory_limit_bytes)
        sent = self._encrypt(q, threads)
        return self.decrypt(self.run(sent, threads=threads, memory_limit_bytes=memory_limit_bytes))

    def simulate(self, *q: Any, seed: int | None = None) -> Any:
        """In the clear, with the noise that the plan predicts; the same seed gives the same noise."""
        seed = secrets.randbits(63) if seed is None else seed
        with bar("simulated lookups") as progress:
            return one_or_tuple(self._core.run_simulated(self._integers(q), seed, progress))

    def flip_counts(self, *q: Any, seed: int | None = None) -> dict[str, dict[str, int]]:
        """What goes wrong at the lookups of a simulated run: by layer, events (tables read), flips (results that differ
        from the table at the value that was there), far (those that no neighbouring value explains) and wraps (those
        that are what lies beyond the table). Errors of earlier layers do not count again."""
        seed = secrets.randbits(63) if seed is None else seed
        with bar("simulated lookups") as progress:
            return self._core.flip_counts(self._integers(q), seed, progress)

    def run_clear(self, *q: Any) -> Any:
        """Exact integers."""
        return one_or_tuple(self._core.run_clear(self._integers(q)))

    def predict(self, *x: Any, executor: str = "clear", threads: int = 0, memory_limit_bytes: int = 0) -> Any:
        """Floats to floats. executor: "clear", "simulated" or "encrypted", which alone takes limits (see Server)."""
        if executor not in EXECUTORS:
            raise UnknownOption(f"executor {executor!r}; known are {', '.join(EXECUTORS)}", "executor")
        limits = limits_if(executor == "encrypted", 'executor="encrypted"', threads, memory_limit_bytes)
        self._check_count(x)
        names = self._input_names()
        q = self._core.quantize_inputs([to_floats(value, names[i]) for i, value in enumerate(x)])
        run = {"clear": self.run_clear, "simulated": self.simulate, "encrypted": self.encrypt_run_decrypt}[executor]
        q_y = run(*q, **limits)
        return one_or_tuple(self._core.dequantize_outputs(list(q_y) if isinstance(q_y, tuple) else [q_y]))

    def _input_names(self) -> list[str]:
        return [spec["name"] for spec in self._core.inputs]

    def _check_count(self, values: tuple) -> None:
        names = self._input_names()
        if len(values) != len(names):
            raise WrongShape(f"{len(values)} inputs given, the network has {len(names)}: {', '.join(names)}", "inputs")

    def _integers(self, q: tuple) -> list:
        self._check_count(q)
        names = self._input_names()
        return [to_integers(value, names[i]) for i, value in enumerate(q)]

    # Files.

    def report_html(self, path: Path) -> None:
        """A page for people: the network as a graph, times, keys, and of every layer its ranges, tables and noise. It
        loads nothing and needs no script; `torusml inspect net.tml --html net.html` writes the same."""
        self._core.write_html_report(os.fspath(path))

    def save(self, path: Path) -> None:
        """The model without any key: the file that the command line and load() read."""
        _core.save_model(self._core, os.fspath(path))

    def save_client_half(self, path: Path) -> None:
        """What clients need, and no weights: shapes, quantizers, encodings, parameters of keys (docs/deployment.md)."""
        _core.ClientHalf.of(*self._core_and_hash()).save(os.fspath(path))

    def save_server_half(self, path: Path) -> None:
        """What a server needs: circuit and plan, no quantizers and no ranges of calibration data."""
        _core.ServerHalf.of(*self._core_and_hash()).save(os.fspath(path))


def limits_if(encrypted: bool, needed: str, threads: int, memory_limit_bytes: int) -> dict[str, int]:
    """The limits of an encrypted run, by name; anything else has none."""
    limits_of(threads, memory_limit_bytes)
    given = {"threads": threads, "memory_limit_bytes": memory_limit_bytes}
    for name, value in given.items():
        if value != 0 and not encrypted:
            raise InvalidArgument(f"{name}={value} needs {needed}", name)
    return given if encrypted else {}


def _free_name(name: str, taken: dict) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}.{number}", number + 1
    return free


def load(path: Path) -> CompiledModel:
    """A compiled model from its file."""
    return CompiledModel(*_core.load_model(os.fspath(path)))
