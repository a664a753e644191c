// Uniform quantizers: floats to integers and back. Numbers only; used by the compiler and by
// clients.
//
//   UniformQuantizer q = UniformQuantizer::fit({.n_bits = 7}, values);
//   std::vector<std::int64_t> integers = q.quantize(values);
//   std::vector<double> back = q.dequantize(integers);
//
// Formulas: docs/concepts.md, "Quantization"; float64 maths, rounding half to even.
// Thread rule: const methods are concurrent.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "torusml/export.h"

namespace torusml {

struct QuantizationOptions {
  int n_bits = 8;             // 1..32
  bool is_signed = false;     // integers may be negative
  bool is_symmetric = false;  // needs is_signed; zero_point is 0
  bool is_qat = false;        // values come from quantization-aware training; not with is_symmetric
  bool is_narrow = false;     // drops the lowest integer of the range
  bool is_precomputed_qat = false;

  friend bool operator==(const QuantizationOptions&, const QuantizationOptions&) = default;
};

struct MinMaxQuantizationStats {
  double rmin = 0, rmax = 0;

  friend bool operator==(const MinMaxQuantizationStats&, const MinMaxQuantizationStats&) = default;
};

// scale and zero_point have one element (per tensor) or one per channel (last axis unless said).
struct UniformQuantizationParameters {
  std::vector<double> scale{1.0};
  std::vector<std::int64_t> zero_point{0};
  std::int64_t offset = 0;

  friend bool operator==(const UniformQuantizationParameters&,
                         const UniformQuantizationParameters&) = default;
};

// MinMaxQuantizationStats of values. Errors: empty_calibration, non_finite_value.
TORUSML_EXPORT MinMaxQuantizationStats min_max_stats(std::span<const double> values);

// scale, zero point and offset from a range. Errors: unsupported_bits, invalid_argument.
TORUSML_EXPORT UniformQuantizationParameters
quantization_parameters(const QuantizationOptions& options, const MinMaxQuantizationStats& stats);

class TORUSML_EXPORT UniformQuantizer {
 public:
  UniformQuantizer() = default;
  // Errors: unsupported_bits, invalid_argument (options that exclude each other; a scale that is
  // zero or not finite; a negative scale is that of constant negative data).
  UniformQuantizer(QuantizationOptions options, UniformQuantizationParameters parameters);
  static UniformQuantizer fit(const QuantizationOptions& options, std::span<const double> values);

  const QuantizationOptions& options() const { return options_; }
  const UniformQuantizationParameters& parameters() const { return parameters_; }

  std::int64_t lowest() const;  // least integer of the range
  std::int64_t highest() const;

  // rint(v / scale + zero_point), clipped to [lowest, highest] unless no_clipping.
  // With per-channel parameters, element i uses channel (i / inner) % channels, where inner is the
  // number of elements behind the channel axis (1: the channel axis is last). Error
  // non_finite_value.
  std::vector<std::int64_t> quantize(std::span<const double> values, std::int64_t inner = 1,
                                     bool no_clipping = false) const;
  // scale * (q - zero_point)
  std::vector<double> dequantize(std::span<const std::int64_t> integers,
                                 std::int64_t inner = 1) const;
  // How many of the values quantize() would clip.
  std::int64_t count_clipped(std::span<const double> values, std::int64_t inner = 1) const;

  friend bool operator==(const UniformQuantizer&, const UniformQuantizer&) = default;

 private:
  QuantizationOptions options_;
  UniformQuantizationParameters parameters_;
};

}  // namespace torusml
