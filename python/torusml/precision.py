"""What precision="auto" is to reach, and how long it may look.

module = torusml.compile(net, calibration, agreement=0.999)
module = compile_torch_model(net, calibration, precision="auto", search=PrecisionSearch(agreement=0.999))

from sklearn.metrics import f1_score
module = torusml.compile(net, calibration, metric=lambda y, p: f1_score(y, p.argmax(1)), labels=labels, max_loss=0.005)
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import to_numpy
from .errors import InvalidArgument, InvalidCall, WrongDtype, WrongShape


@dataclasses.dataclass(frozen=True)
class PrecisionSearch:
    """One target at most; without one, agreement=0.995 for a network with one output of several elements, and
    relative_error=0.01 for others.

    agreement: least share of samples whose largest output is the one of the exact circuit. relative_error: of all
    outputs, root mean square. metric: metric(y_true, y_pred), larger is better, with labels (one per calibration
    sample; the exact circuit's outputs where there are none) and float outputs (a tuple for several), may lose max_loss.
    max_trials: simulations at most. seed: of the samples that are held out and of the noise.
    """

    agreement: float | None = None
    relative_error: float | None = None
    metric: Callable[[Any, Any], float] | None = None
    labels: Any = None
    max_loss: float = 0.01
    max_trials: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("agreement", "relative_error", "max_loss"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real)):
                raise WrongDtype(f"a number expected, got {value!r}", name)
            if value is not None and not 0 < value < (1 if name != "max_loss" else float("inf")):
                raise InvalidArgument(f"{name} is {value}; it must be above 0 and, but for max_loss, below 1", name)
        for name in ("max_trials", "seed"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise WrongDtype(f"a whole number expected, got {value!r}", name)
        if not 0 <= self.seed < 2**63:
            raise InvalidArgument(f"seed is {self.seed}; it must not be negative", "seed")
        if self.metric is not None and not callable(self.metric):
            raise WrongDtype(f"a function of labels and outputs expected, got {self.metric!r}", "metric")
        if self.labels is not None and self.metric is None:
            raise InvalidCall("labels are for a metric, and there is none", "labels", "metric=")

    def arguments(self, samples: int) -> dict[str, Any]:
        """For the core, which knows samples by their index."""
        return {
            "agreement": float(self.agreement or 0),
            "relative_error": float(self.relative_error or 0),
            "metric": self._indexed_metric(samples),
            "max_loss": float(self.max_loss),
            "max_trials": int(self.max_trials),
            "seed": int(self.seed),
        }

    def _indexed_metric(self, samples: int) -> Callable[[list, list], float] | None:
        if self.metric is None:
            return None
        labels = None if self.labels is None else to_numpy(self.labels, "labels")
        if labels is not None and (labels.ndim == 0 or len(labels) != samples):
            raise WrongShape(f"labels of shape {labels.shape} for {samples} calibration samples", "labels")

        # The first call is with the exact circuit's outputs of some samples; they are the truth where labels are missing.
        exact: dict[tuple[int, ...], Any] = {}

        def metric(outputs: list[np.ndarray], indices: list[int]) -> float:
            predicted = outputs[0] if len(outputs) == 1 else tuple(outputs)
            truth = exact.setdefault(tuple(indices), predicted) if labels is None else labels[indices]
            value = self.metric(truth, predicted)
            try:
                return float(value)
            except (TypeError, ValueError) as error:
                raise WrongDtype(f"the metric gave {value!r}, a number is expected", "metric") from error

        return metric
