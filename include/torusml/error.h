// Errors: one exception type with a stable code. docs/errors.md has a section per code.
//
//   try {
//     module.compile(options);
//   } catch (const torusml::Error& error) {
//     std::cerr << error.what();       // "TML-E017 accumulator-too-wide: ... (layer 'fc2'). Try:
//     ..." if (error.code() == torusml::ErrorCode::accumulator_too_wide) { ... }
//   }
//
// Thrown at public boundaries only; never inside kernels, and never across the Python or C
// boundary.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "torusml/export.h"

namespace torusml {

// X(enumerator, number, slug). Numbers are stable: never reuse one.
#define TORUSML_ERROR_CODES(X)                                  \
  X(invalid_argument, 1, "invalid-argument")                    \
  X(wrong_shape, 2, "wrong-shape")                              \
  X(wrong_dtype, 3, "wrong-dtype")                              \
  X(non_finite_value, 4, "non-finite-value")                    \
  X(empty_calibration, 5, "empty-calibration")                  \
  X(constant_calibration, 6, "constant-calibration")            \
  X(unsupported_bits, 7, "unsupported-bits")                    \
  X(unknown_option, 8, "unknown-option")                        \
  X(p_error_out_of_range, 9, "p-error-out-of-range")            \
  X(file_unreadable, 10, "file-unreadable")                     \
  X(file_truncated, 11, "file-truncated")                       \
  X(file_foreign, 12, "file-foreign")                           \
  X(file_version, 13, "file-version")                           \
  X(file_corrupt, 14, "file-corrupt")                           \
  X(unsupported_operator, 15, "unsupported-operator")           \
  X(dynamic_shape, 16, "dynamic-shape")                         \
  X(accumulator_too_wide, 17, "accumulator-too-wide")           \
  X(no_parameters, 18, "no-parameters")                         \
  X(accumulator_out_of_range, 19, "accumulator-out-of-range")   \
  X(wrong_key, 20, "wrong-key")                                 \
  X(wrong_model, 21, "wrong-model")                             \
  X(not_supported, 22, "not-supported")                         \
  X(not_compiled, 23, "not-compiled")                           \
  X(missing_quantizer, 24, "missing-quantizer")                 \
  X(invalid_circuit, 25, "invalid-circuit")                     \
  X(path_outside_model_folder, 26, "path-outside-model-folder") \
  X(profile_forbids, 27, "profile-forbids")                     \
  X(file_unwritable, 28, "file-unwritable")                     \
  X(invalid_model, 29, "invalid-model")                         \
  X(memory_limit_exceeded, 30, "memory-limit-exceeded")         \
  X(calibration_too_small, 31, "calibration-too-small")         \
  X(target_not_met, 32, "target-not-met")                       \
  X(unauthorized, 33, "unauthorized")                           \
  X(not_found, 34, "not-found")                                 \
  X(quota_exceeded, 35, "quota-exceeded")                       \
  X(server_busy, 36, "server-busy")                             \
  X(deadline_exceeded, 37, "deadline-exceeded")                 \
  X(cancelled, 38, "cancelled")                                 \
  X(request_invalid, 39, "request-invalid")                     \
  X(wrong_passphrase, 40, "wrong-passphrase")                   \
  X(key_exposed, 41, "key-exposed")                             \
  X(file_too_large, 42, "file-too-large")                       \
  X(server_refused, 43, "server-refused")                       \
  X(rate_limited, 44, "rate-limited")                           \
  X(internal, 99, "internal")

enum class ErrorCode {
#define TORUSML_ENUMERATOR(name, number, slug) name = number,
  TORUSML_ERROR_CODES(TORUSML_ENUMERATOR)
#undef TORUSML_ENUMERATOR
};

// "TML-E017 accumulator-too-wide"
TORUSML_EXPORT std::string error_code_name(ErrorCode code);

class TORUSML_EXPORT Error : public std::runtime_error {
 public:
  // `where` names the layer, file or argument; `hint` is the way out. Either may be empty.
  Error(ErrorCode code, std::string message, std::string where = "", std::string hint = "");

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& where() const { return where_; }
  const std::string& hint() const { return hint_; }

 private:
  ErrorCode code_;
  std::string message_, where_, hint_;
};

}  // namespace torusml
