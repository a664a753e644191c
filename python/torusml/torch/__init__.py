"""PyTorch and ONNX networks: torusml.torch.compile; training with quantizers: to_qat; pruning: prune_to_accumulator."""

from __future__ import annotations

from typing import Any

_HOMES = {
    "finish_pruning": "pruning",
    "products_within": "pruning",
    "prune_to_accumulator": "pruning",
    "to_qat": "qat",
}


def __getattr__(name: str) -> Any:
    """Imports torch and Brevitas only when they are needed."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["finish_pruning", "products_within", "prune_to_accumulator", "to_qat"]  # noqa: F822
