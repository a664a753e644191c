"""Training that knows the noise: what encryption will add where an activation is read, added while the network is trained.

    with noise.inject(net, relative_sigma=2**-7.5):              # or polynomial_size=1024
        for x, labels in batches:
            ...                                                  # an ordinary training loop

    module = compile_brevitas_qat_model(net, calibration, precision="tolerant", tolerance=2**-7.5)
    noise.sigma_of(module)                                       # {"relu1": 0.0051, ...}

A lookup of precision "tolerant" reads its table at an accumulator plus Gaussian noise, of a standard deviation that is a
fraction of the accumulator's interval: `tolerance` at most. inject() adds the same in front of every activation, in
training mode only; the width of the interval is followed while the network trains. docs/noise.md has where the noise comes
from.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .. import _core
from ..errors import InvalidArgument, WrongDtype

# Activations of torch that work element by element; Brevitas' are found by the name of their class.
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink, nn.Threshold,
    nn.Softplus, nn.Softsign, nn.LogSigmoid,
)  # fmt: skip
_BREVITAS = ("QuantReLU", "QuantSigmoid", "QuantTanh", "QuantHardTanh")

Layers = Iterable[nn.Module] | Callable[[str, nn.Module], bool] | None


@contextmanager
def inject(
    net: nn.Module,
    relative_sigma: float | Mapping[str, float] | None = None,
    *,
    polynomial_size: int | None = None,
    layers: Layers = None,
    decay: float = 0.99,
) -> Iterator[dict[str, float]]:
    """Adds Gaussian noise to the input of every activation of `net` while the context lasts and the module trains.

    relative_sigma: standard deviation as a fraction of the interval of that input, 0 to 0.25; or by module name, then only
    modules named are given noise. polynomial_size, in its place: what tolerance_at() says for it. layers: the modules in
    question, or a predicate of name and module, in place of the activations that are found by themselves (those of torch.nn
    and of Brevitas, but not QuantIdentity, which often quantizes the network's input, where there is no noise). Modules
    within other activations are left to them.

    The interval is the difference between the largest and the least value of a tensor: of a batch, or `decay` times what
    it was before, if that is more; decay=1 never forgets. Compilation widens intervals by `margin` (0.05) on each side of
    what calibration reaches, and the noise with them: 1 + 2 margin is a factor for those who choose a large one. Gives a
    dictionary that is kept up to date: by module name, the standard deviation that the last batch got, in units of the
    tensor.

    The noise comes from torch's generator of the tensor's device, so torch.manual_seed makes it the same again. Gradients
    pass unchanged, and the width is a constant for them. Evaluation mode is left as it is, parameters, buffers and
    state_dict are untouched, and hooks are removed however the context is left. Contexts may be nested: variances add up.
    Errors: TML-E001 for a network without activations, a sigma out of range, unknown names.
    """
    _check(relative_sigma, polynomial_size, decay)
    if polynomial_size is not None:
        relative_sigma = tolerance_at(polynomial_size)
    sigmas = _sigmas(_find(net, layers), relative_sigma)
    used: dict[str, float] = {}
    hooks = []
    try:
        for name, (module, sigma) in sigmas.items():
            hooks.append(module.register_forward_pre_hook(_Noise(name, sigma, decay, used)))
        yield used
    finally:
        for hook in hooks:
            hook.remove()


def sigma_of(compiled: Any) -> dict[str, float]:
    """By lookup of a compiled model or quantized module: the standard deviation of the noise that its key set brings, as a
    fraction of the interval. Under precision "exact" it is too small to matter."""
    return dict(getattr(compiled, "fhe_circuit", compiled).relative_noise)


def tolerance_at(polynomial_size: int) -> float:
    """A tolerance at which networks find key sets of this degree N with tables of N entries, where results of other lookups
    bring little noise: a quarter above the least noise of keyswitch and modulus switch that published key sets of the degree
    reach, as a fraction of the interval; about 5.7 / N. Error TML-E001 for a degree that no published key set has."""
    if not isinstance(polynomial_size, numbers.Integral):
        raise WrongDtype(f"a degree is an integer, got {polynomial_size!r}", "polynomial_size")
    if not 0 < polynomial_size < 2**32:
        raise InvalidArgument(f"a degree is positive and small, got {polynomial_size}", "polynomial_size")
    return _core.tolerance_at(int(polynomial_size))


class _Noise:
    """A forward pre-hook; it knows how wide its module's input is."""

    def __init__(self, name: str, sigma: float, decay: float, used: dict[str, float]):
        self.name, self.sigma, self.decay, self.used = name, sigma, decay, used
        self.width = 0.0

    def __call__(self, module: nn.Module, arguments: tuple) -> tuple | None:
        if not module.training or self.sigma == 0 or not arguments:
            return None
        # A quantized tensor of Brevitas carries its values beside scale and zero point.
        x = arguments[0] if isinstance(arguments[0], torch.Tensor) else arguments[0].value
        if x.numel() == 0:
            return None
        least, most = torch.aminmax(x.detach())
        self.width = max(float(most - least), self.decay * self.width)
        self.used[self.name] = deviation = self.sigma * self.width
        return (x + deviation * torch.randn_like(x), *arguments[1:])


def _check(relative_sigma: Any, polynomial_size: Any, decay: Any) -> None:
    if (relative_sigma is None) == (polynomial_size is None):
        raise InvalidArgument("either relative_sigma or polynomial_size says how much noise", "relative_sigma")
    given = relative_sigma.values() if isinstance(relative_sigma, Mapping) else [relative_sigma]
    for sigma in [] if relative_sigma is None else given:
        if not isinstance(sigma, numbers.Real):
            raise WrongDtype(f"a number expected, got {sigma!r}", "relative_sigma")
        if not 0 <= sigma <= 0.25:
            raise InvalidArgument(
                f"relative_sigma is {sigma}; it is a fraction of the interval, 0 to 0.25", "relative_sigma",
                "the tolerance that the network will be compiled with, such as 2**-7.5",
            )  # fmt: skip
    if not isinstance(decay, numbers.Real) or not 0 <= decay <= 1 or math.isnan(decay):
        raise InvalidArgument(f"decay is {decay}; it lies between 0 and 1", "decay")


def _is_activation(module: nn.Module) -> bool:
    bases = {base.__name__ for base in type(module).__mro__}
    return isinstance(module, _ACTIVATIONS) or not bases.isdisjoint(_BREVITAS)


def _find(net: nn.Module, layers: Layers) -> dict[str, nn.Module]:
    named = dict(net.named_modules())
    if layers is None:
        found = {name: module for name, module in named.items() if _is_activation(module)}
        # Brevitas' activations hold torch's.
        return {
            name: module
            for name, module in _or_refuse(found, net).items()
            if not any(name != other and (other == "" or name.startswith(f"{other}.")) for other in found)
        }
    if callable(layers):
        return _or_refuse({name: module for name, module in named.items() if layers(name, module)}, net)
    names = {id(module): name for name, module in named.items()}
    found = {}
    for module in layers:
        if id(module) not in names:
            raise InvalidArgument(f"{type(module).__name__} is not a module of the network", "layers")
        found[names[id(module)]] = module
    return _or_refuse(found, net)


def _or_refuse(found: dict[str, nn.Module], net: nn.Module) -> dict[str, nn.Module]:
    if not found:
        kinds = sorted({type(module).__name__ for module in net.modules()})
        raise InvalidArgument(
            f"no activation among the modules of {type(net).__name__} ({', '.join(kinds)})", "net",
            "activations as modules (nn.ReLU in place of functional.relu), or layers= to say which modules",
        )  # fmt: skip
    return found


def _sigmas(found: dict[str, nn.Module], sigma: float | Mapping[str, float]) -> dict[str, tuple[nn.Module, float]]:
    if not isinstance(sigma, Mapping):
        return {name: (module, float(sigma)) for name, module in found.items()}
    unknown = [name for name in sigma if name not in found]
    if unknown:
        raise InvalidArgument(
            f"no activation is named {unknown[0]!r}", "relative_sigma", f"names are {', '.join(map(repr, found))}"
        )
    return {name: (found[name], float(value)) for name, value in sigma.items()}
