"""examples/transformer: hardly trained, but through all its steps."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "transformer"))
import transformer  # noqa: E402


def test_runs(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["transformer.py", "--epochs", "2", "--bits", "7", "--simulate", "6"])
    transformer.main()
    text = capsys.readouterr().out
    assert "7 bits:" in text and "6 bits, simulated:" in text and "1110 lookups a sequence" in text


def test_classes():
    tokens, classes = transformer.sequences()
    assert len(tokens) == 728
    first = [next(token for token in sequence if token) for sequence in tokens]
    assert (classes == [token - 1 for token in first]).all()
