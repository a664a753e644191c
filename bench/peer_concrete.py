"""The Concrete side of bench/lookups.py: runs in an environment that has concrete-python, and answers on stdout.

    PEER/bin/python bench/peer_concrete.py '{"bits": 4, "p_error": 9.1e-13, "batch": 64}'

Compiles one table lookup over a batch of encrypted values, makes keys, warms up and prints a JSON line about them.
Then every line on stdin asks for one timed run, which prints {"ms_per_lookup": .., "correct": ..}; the end of stdin
ends the program. Between runs it waits and uses no processor, so that the caller can measure something else in turn.
"""

import json
import os
import sys
import time
from importlib.metadata import version

import numpy as np
from concrete import fhe
from concrete.fhe.compilation.configuration import SecurityLevel


def answer(fields: dict) -> None:
    print(json.dumps(fields), flush=True)


class Lookup:
    """One table of 2^bits values, compiled and with keys; every value occurs where the batch is large enough."""

    def __init__(self, bits: int, p_error: float, batch: int):
        values = 2**bits
        self.expected = (5 * np.arange(values) + 3) % values
        self.inputs = np.arange(batch) % values if batch >= values else np.arange(batch) * values // batch
        table = fhe.LookupTable([int(value) for value in self.expected])
        compiler = fhe.Compiler(lambda x: table[x], {"x": "encrypted"})
        ends = [np.full(batch, 0), np.full(batch, values - 1), self.inputs]
        begin = time.perf_counter()
        self.circuit = compiler.compile(ends, p_error=p_error, security_level=SecurityLevel.SECURITY_128_BITS)
        compiled = time.perf_counter()
        self.circuit.keygen()
        self.compile_s, self.keygen_s = compiled - begin, time.perf_counter() - compiled
        self.encrypted = self.circuit.encrypt(self.inputs)
        self.run()

    def run(self) -> dict:
        begin = time.perf_counter()
        result = self.circuit.run(self.encrypted)
        seconds = time.perf_counter() - begin
        correct = np.count_nonzero(self.circuit.decrypt(result) == self.expected[self.inputs])
        return {"ms_per_lookup": seconds * 1e3 / len(self.inputs), "correct": int(correct)}

    def description(self) -> dict:
        circuit = self.circuit
        return {
            "system": "concrete",
            "version": version("concrete-python"),
            "compile_s": self.compile_s,
            "keygen_s": self.keygen_s,
            "evaluation_key_bytes": len(circuit.client.evaluation_keys.serialize()),
            "bootstrap_key_bytes": circuit.size_of_bootstrap_keys,
            "keyswitch_key_bytes": circuit.size_of_keyswitch_keys,
            "input_bytes_per_value": circuit.size_of_inputs / len(self.inputs),
        }


def main() -> None:
    # The library's own messages go to stderr, so that stdout holds answers alone.
    answers = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = os.fdopen(answers, "w")
    settings = json.loads(sys.argv[1])
    lookup = Lookup(settings["bits"], settings["p_error"], settings["batch"])
    answer(lookup.description())
    for _ in sys.stdin:
        answer(lookup.run())


if __name__ == "__main__":
    main()
