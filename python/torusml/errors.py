"""Errors: one class per code of the C++ core, each also the built-in exception that Concrete ML raises there.

    try:
        compile_torch_model(net, data, n_bits=8)
    except torusml.errors.AccumulatorTooWide as error:   # a RuntimeError too
        print(error.code, error.where, error.hint)

docs/errors.md has a section per code.
"""

from __future__ import annotations

from . import _core


class Error(Exception):
    """Base of all errors of this package.

    code: "TML-E017 accumulator-too-wide"; message: what happened; where: the layer, file or argument; hint: the way out.
    """

    name = "internal"  # of the error code

    def __init__(self, message: str, where: str = "", hint: str = ""):
        self.code = _core.error_codes[self.name][1]
        self.message = message
        self.where = where
        self.hint = hint
        text = f"{self.code}: {message}"
        if where:
            text += f" ({where})"
        if hint:
            text += f". Try: {hint}"
        super().__init__(text)

    def __str__(self) -> str:  # OSError would print errno and file name
        return str(self.args[0])

    def __reduce__(self):
        return type(self), (self.message, self.where, self.hint)


class InvalidArgument(Error, ValueError):
    name = "invalid_argument"


class WrongShape(Error, ValueError):
    name = "wrong_shape"


class WrongDtype(Error, TypeError):
    name = "wrong_dtype"


class NonFiniteValue(Error, ValueError):
    name = "non_finite_value"


class EmptyCalibration(Error, ValueError):
    name = "empty_calibration"


class ConstantCalibration(Error, ValueError):
    name = "constant_calibration"


class UnsupportedBits(Error, ValueError):
    name = "unsupported_bits"


class UnknownOption(Error, ValueError):
    name = "unknown_option"


class PErrorOutOfRange(Error, ValueError):
    name = "p_error_out_of_range"


class FileUnreadable(Error, OSError):
    name = "file_unreadable"


class FileTruncated(Error, ValueError):
    name = "file_truncated"


class FileForeign(Error, ValueError):
    name = "file_foreign"


class FileVersion(Error, ValueError):
    name = "file_version"


class FileCorrupt(Error, ValueError):
    name = "file_corrupt"


class UnsupportedOperator(Error, ValueError):
    name = "unsupported_operator"


class DynamicShape(Error, ValueError):
    name = "dynamic_shape"


class AccumulatorTooWide(Error, RuntimeError):
    name = "accumulator_too_wide"


class NoParameters(Error, RuntimeError):
    name = "no_parameters"


class AccumulatorOutOfRange(Error, RuntimeError):
    name = "accumulator_out_of_range"


class WrongKey(Error, ValueError):
    name = "wrong_key"


class WrongModel(Error, ValueError):
    name = "wrong_model"


class NotSupported(Error, NotImplementedError):
    name = "not_supported"


class NotCompiled(Error, AttributeError):
    name = "not_compiled"


class MissingQuantizer(Error, ValueError):
    name = "missing_quantizer"


class InvalidCircuit(Error, ValueError):
    name = "invalid_circuit"


class PathOutsideModelFolder(Error, ValueError):
    name = "path_outside_model_folder"


class ProfileForbids(Error, ValueError):
    name = "profile_forbids"


class FileUnwritable(Error, OSError):
    name = "file_unwritable"


class InvalidModel(Error, ValueError):
    name = "invalid_model"


class MemoryLimitExceeded(Error, MemoryError):
    name = "memory_limit_exceeded"


class CalibrationTooSmall(Error, ValueError):
    name = "calibration_too_small"


class TargetNotMet(Error, RuntimeError):
    name = "target_not_met"


class Unauthorized(Error, PermissionError):
    name = "unauthorized"


class NotFound(Error, LookupError):
    name = "not_found"


class QuotaExceeded(Error, RuntimeError):
    name = "quota_exceeded"


class ServerBusy(Error, RuntimeError):
    name = "server_busy"


class DeadlineExceeded(Error, TimeoutError):
    name = "deadline_exceeded"


class Cancelled(Error, RuntimeError):
    name = "cancelled"


class RequestInvalid(Error, ValueError):
    name = "request_invalid"


class WrongPassphrase(Error, ValueError):
    name = "wrong_passphrase"


class KeyExposed(Error, PermissionError):
    name = "key_exposed"


class FileTooLarge(Error, ValueError):
    name = "file_too_large"


class ServerRefused(Error, RuntimeError):
    name = "server_refused"


class RateLimited(Error, RuntimeError):
    name = "rate_limited"


class Internal(Error, RuntimeError):
    name = "internal"


class RefusedArgument(InvalidArgument, AssertionError):
    """An argument out of place, where Concrete ML fails an assertion."""


class RefusedType(WrongDtype, AssertionError):
    """An object of the wrong type, where Concrete ML fails an assertion."""


class InvalidCall(InvalidArgument, TypeError):
    """Arguments that are missing, unknown or do not fit together."""


class UnknownKey(UnknownOption, KeyError):
    """A dictionary with a key that is not known or without one that is needed."""


_CLASSES = {
    _core.error_codes[cls.name][0]: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Error) and "name" in vars(cls)
}


def make_error(number: int, message: str, where: str, hint: str) -> Error:
    """The error of a code; called by the C++ core."""
    return _CLASSES.get(number, Error)(message, where, hint)
