"""Writes checkerboard_qat_seed0_integers.txt: what Brevitas computes at every layer, for C++ tests.

    python tests/models/make_integer_fixture.py

Takes the first points of checkerboard_qat_seed0.npz. A line is a name, the width, and the integers of all
points one after the other (`points` are floats).
"""

from pathlib import Path

import numpy as np

POINTS = 60
LAYERS = ["int_input", "int_fc1", "int_relu1", "int_fc2", "int_relu2", "int_fc3"]

folder = Path(__file__).parent
arrays = np.load(folder / "checkerboard_qat_seed0.npz")
lines = [f"points 2 {' '.join(f'{float(v):.9g}' for v in arrays['points'][:POINTS].reshape(-1))}"]
lines += [f"calibration 2 {' '.join(f'{float(v):.9g}' for v in arrays['calibration'][:300].reshape(-1))}"]
for name in LAYERS:
    values = arrays[name][:POINTS]
    lines.append(f"{name} {values.shape[1]} {' '.join(str(v) for v in values.reshape(-1))}")
(folder / "checkerboard_qat_seed0_integers.txt").write_text("\n".join(lines) + "\n")
