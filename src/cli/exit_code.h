// What the command's exit status says: docs/deployment.md has the table.
#pragma once

#include "torusml/error.h"

namespace torusml {

inline constexpr int kFailure = 1, kWrongUsage = 2, kBadInput = 3, kWrongKey = 4, kRefused = 5,
                     kInterrupted = 130;

inline int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::unsupported_bits:
    case ErrorCode::unknown_option:
    case ErrorCode::p_error_out_of_range:
      return kWrongUsage;
    case ErrorCode::wrong_shape:
    case ErrorCode::wrong_dtype:
    case ErrorCode::non_finite_value:
    case ErrorCode::empty_calibration:
    case ErrorCode::constant_calibration:
    case ErrorCode::calibration_too_small:
    case ErrorCode::file_unreadable:
    case ErrorCode::file_truncated:
    case ErrorCode::file_foreign:
    case ErrorCode::file_version:
    case ErrorCode::file_corrupt:
    case ErrorCode::file_too_large:
    case ErrorCode::unsupported_operator:
    case ErrorCode::dynamic_shape:
    case ErrorCode::missing_quantizer:
    case ErrorCode::invalid_circuit:
    case ErrorCode::invalid_model:
    case ErrorCode::path_outside_model_folder:
      return kBadInput;
    case ErrorCode::wrong_key:
    case ErrorCode::wrong_model:
    case ErrorCode::wrong_passphrase:
    case ErrorCode::key_exposed:
      return kWrongKey;
    case ErrorCode::unauthorized:
    case ErrorCode::not_found:
    case ErrorCode::quota_exceeded:
    case ErrorCode::rate_limited:
    case ErrorCode::server_busy:
    case ErrorCode::deadline_exceeded:
    case ErrorCode::request_invalid:
    case ErrorCode::server_refused:
      return kRefused;
    case ErrorCode::cancelled:
      return kInterrupted;
    default:
      return kFailure;
  }
}

}  // namespace torusml
