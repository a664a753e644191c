"""The largest p_error that a network can live with.

    search = BinarySearch(net, metric=accuracy_score, predict=lambda y: y.argmax(1), n_bits=4)
    p_error = search.run(x, labels)
    search.module.forward(x, fhe="execute")     # compiled at that p_error

Under precision "exact" a larger p_error takes cheaper keys, and now and then a lookup is wrong. precision="auto" spends such
errors layer by layer and costs less; this search is for those who want one number for all layers.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .arrays import to_numpy
from .errors import InvalidArgument, NotSupported, RefusedType, TargetNotMet, WrongDtype, WrongShape
from .quantization.quantized_module import QuantizedModule

SMALLEST_P_ERROR = 2.0**-40
CLOSE_ENOUGH = 1.1  # ratio of the ends at which the search stops


class BinarySearch:
    """Names and arguments are those of Concrete ML, but for `predict`.

    estimator: a torch.nn.Module, an ONNX model or path, or a QuantizedModule. metric: metric(ground_truth, predictions),
    larger is better. predict: from the network's float outputs (samples, ...) to predictions; the outputs themselves where
    it is missing. n_bits, is_qat: how an estimator that is not quantized yet is quantized. lower, upper: ends of the search,
    2^-40 at least. max_iter: trials at most. n_simulation: simulated runs in each trial, with the noise of seeds 0, 1, ...
    strategy: from their list of verdicts to one, `all` or `any` for instance. max_metric_loss: what metric may lose against
    exact integers. save: run() writes the trials to `log_file` in `directory`, as JSON. verbose: prints them.
    compile_options: of QuantizedModule.compile.
    """

    def __init__(
        self,
        estimator: Any,
        predict: Callable[[Any], Any] | None = None,
        metric: Callable[[Any, Any], float] | None = None,
        n_bits: int | dict[str, int] = 4,
        is_qat: bool = True,
        lower: float = 0.0,
        upper: float = 0.9,
        max_iter: int = 20,
        n_simulation: int = 5,
        strategy: Callable[[Sequence[bool]], bool] = all,
        max_metric_loss: float = 0.01,
        save: bool = False,
        log_file: str = "p_error_search.json",
        directory: str | os.PathLike = ".",
        verbose: bool = False,
        **compile_options: Any,
    ):
        if isinstance(predict, str):
            raise NotSupported(f"the name of a method, {predict!r}", "predict", "a function of the network's outputs")
        for name, value in (("predict", predict), ("metric", metric), ("strategy", strategy)):
            if value is not None and not callable(value):
                raise WrongDtype(f"a function expected, got {value!r}", name)
        if metric is None:
            raise InvalidArgument("there is no metric to judge by", "metric", "metric=accuracy_score, say")
        for name, value in (("lower", lower), ("upper", upper), ("max_metric_loss", max_metric_loss)):
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise WrongDtype(f"a number expected, got {value!r}", name)
        for name, value in (("max_iter", max_iter), ("n_simulation", n_simulation)):
            if isinstance(value, bool) or not isinstance(value, numbers.Integral):
                raise WrongDtype(f"a whole number expected, got {value!r}", name)
            if value < 1:
                raise InvalidArgument(f"{name} is {value}; it must be 1 at least", name)
        if not 0 <= lower < upper < 1:
            raise InvalidArgument(f"lower is {lower} and upper {upper}; 0 <= lower < upper < 1 is needed", "lower")
        if not max_metric_loss >= 0:
            raise InvalidArgument(f"max_metric_loss is {max_metric_loss}; it must not be negative", "max_metric_loss")
        for name in ("p_error", "global_p_error", "tolerance", "search"):
            if compile_options.get(name) is not None:
                raise InvalidArgument(f"{name} excludes a search of p_error", name)
        if compile_options.get("precision") not in (None, "exact"):
            raise InvalidArgument(f"precision {compile_options['precision']!r} does not trade p_error for time", "precision")
        self.metric, self.predict, self.strategy = metric, predict, strategy
        self.lower, self.upper = max(float(lower), SMALLEST_P_ERROR), float(upper)
        if self.lower >= self.upper:
            raise InvalidArgument(f"upper is {upper}; 2^-40 is the least p_error", "upper")
        self.max_iter, self.n_simulation = int(max_iter), int(n_simulation)
        self.max_metric_loss, self.verbose = float(max_metric_loss), verbose
        self.log_path = pathlib.Path(directory) / log_file if save else None
        self.compile_options = compile_options
        self.module: QuantizedModule | None = estimator if isinstance(estimator, QuantizedModule) else None
        self._estimator, self._n_bits, self._is_qat = estimator, n_bits, is_qat
        self.history: list[dict[str, Any]] = []

    def run(self, x: Any, ground_truth: Any, **compile_options: Any) -> float:
        """The largest p_error of the trials that passed; `module` is then compiled at it, and `history` has the trials.

        x: calibration data, floats, batch axis first; a tuple for several inputs. ground_truth: one entry per sample.
        Error TargetNotMet when p_error = lower already loses too much.
        """
        inputs = x if isinstance(x, tuple) else (x,)
        truth = to_numpy(ground_truth, "ground_truth")
        samples = len(to_numpy(inputs[0], "x"))
        if truth.ndim == 0 or len(truth) != samples:
            raise WrongShape(f"ground_truth of shape {truth.shape} for {samples} samples", "ground_truth")
        self._quantize(x)
        self.history = []
        reference = self._score(truth, self.module.forward(*inputs))
        options = {**self.compile_options, **compile_options}
        best = self._search(inputs, truth, reference, options)
        self.module.compile(x, p_error=best, **options)
        if self.log_path is not None:
            self.log_path.write_text(json.dumps({"exact_metric": reference, "trials": self.history}, indent=1))
        return best

    def _search(self, inputs: tuple, truth: Any, reference: float, options: dict) -> float:
        def passes(p_error: float) -> bool:
            return self._trial(inputs, truth, reference, p_error, options)

        if not passes(self.lower):
            loss = reference - min(self.history[0]["metrics"])
            raise TargetNotMet(
                f"at p_error {self.lower:.3g} the metric loses up to {loss:.4g}, more than {self.max_metric_loss:.4g}",
                "max_metric_loss", "a larger max_metric_loss, or a smaller lower",
            )  # fmt: skip
        if self.max_iter == 1:
            return self.lower
        if passes(self.upper):
            return self.upper
        low, high = self.lower, self.upper
        while len(self.history) < self.max_iter and high / low > CLOSE_ENOUGH:
            middle = math.sqrt(low * high)
            if passes(middle):
                low = middle
            else:
                high = middle
        return low

    def _trial(self, inputs: tuple, truth: Any, reference: float, p_error: float, options: dict) -> bool:
        given = inputs if len(inputs) > 1 else inputs[0]
        circuit = self.module.compile(given, p_error=p_error, **options)
        q_x = self.module.quantize_input(*inputs)
        q_x = q_x if isinstance(q_x, tuple) else (q_x,)
        metrics = []
        for seed in range(self.n_simulation):
            q_y = circuit.simulate(*q_x, seed=seed)
            outputs = self.module.dequantize_output(*(q_y if isinstance(q_y, tuple) else (q_y,)))
            metrics.append(self._score(truth, outputs))
        verdict = bool(self.strategy([reference - value <= self.max_metric_loss for value in metrics]))
        trial = {"p_error": p_error, "metrics": metrics, "accepted": verdict, "complexity": circuit.statistics["complexity"]}
        self.history.append(trial)
        if self.verbose:
            outcome = "accepted" if verdict else "refused"
            print(f"p_error {p_error:.3g}: metric {np.mean(metrics):.4f} (exact {reference:.4f}), {outcome}")
        return verdict

    def _score(self, truth: Any, outputs: Any) -> float:
        value = float(self.metric(truth, self.predict(outputs) if self.predict else outputs))
        if not math.isfinite(value):
            raise InvalidArgument(f"the metric is {value}", "metric", "a metric that is finite on any prediction")
        return value

    def _quantize(self, x: Any) -> None:
        if self.module is not None:
            return
        from .torch.compile import build_quantized_module

        if self._estimator is None:
            raise RefusedType("a network expected, got None", "estimator")
        self.module = build_quantized_module(self._estimator, x, import_qat=self._is_qat, n_bits=self._n_bits)
