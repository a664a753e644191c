"""Writes the tables of docs/operators.md from operator_table.py, each row compiled and counted.

python tests/python/operators_page.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from operator_table import FAMILIES, Row

from torusml.torch.compile import compile_onnx_model

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"
BEGIN = "<!-- Written by tests/python/operators_page.py. Do not edit. -->"
END = "<!-- End of what operators_page.py writes. -->"
HEAD = "| operator | inputs | result | lookups | for each element of the result |\n|---|---|---|---|---|\n"


def shape(sizes) -> str:
    return " x ".join(str(size) for size in sizes)


def cells(row: Row) -> list[str]:
    x = row.samples(200)
    module = compile_onnx_model(row.model(), x, n_bits=row.encrypted_bits, precision="exact")
    lookups = module.fhe_circuit.statistics["table_lookup_count"]
    results = module.forward(*(array[:1] for array in x))
    results = results if isinstance(results, tuple) else (results,)
    elements = sum(result[0].size for result in results)
    name = f"{row.operator}, {row.case.replace('_', ' ')}" if row.case else row.operator
    return [
        name,
        ", ".join(shape(sizes) for sizes in row.inputs.values()),
        ", ".join(shape(np.shape(result)[1:]) for result in results),
        str(lookups),
        f"{lookups / elements:.4g}",
    ]


def tables() -> str:
    parts = []
    for heading, text, rows in FAMILIES:
        lines = "".join(f"| {' | '.join(cells(row))} |\n" for row in rows)
        parts.append(f"### {heading}\n\n{text}\n\n{HEAD}{lines}")
    return "\n".join(parts)


def rewritten(page: str) -> str:
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
