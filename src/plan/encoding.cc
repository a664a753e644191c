#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plan/client_spec.h"
#include "torusml/error.h"

namespace torusml {
namespace {

Shape batch_shape(std::int64_t batch, const Shape& sample) {
  Shape shape{batch};
  shape.insert(shape.end(), sample.begin(), sample.end());
  return shape;
}

template <class T>
void check_batch(const Tensor<T>& tensor, const Shape& sample, const std::string& name) {
  const bool matches = tensor.shape.size() == sample.size() + 1 && tensor.shape[0] > 0 &&
                       std::equal(sample.begin(), sample.end(), tensor.shape.begin() + 1);
  if (matches && static_cast<std::int64_t>(tensor.data.size()) == number_of_elements(tensor.shape))
    return;
  throw Error(ErrorCode::wrong_shape,
              fmt::format("shape {} was given, {} is expected, the first axis being the batch",
                          to_string(tensor.shape), to_string(batch_shape(-1, sample))),
              fmt::format("'{}'", name), sample == tensor.shape ? "add a batch axis: x[None]" : "");
}

}  // namespace

Torus encode_units(long double units, double torus_scale) {
  const long double phase = static_cast<long double>(torus_scale) * units;
  const long double fraction = phase - std::floor(phase);  // [0, 1)
  // Rounding up to 2^64 wraps to 0, as the torus does.
  const long double word = std::round(std::ldexp(fraction, 64));
  return word >= 0x1p64L ? 0 : static_cast<Torus>(word);
}

Torus encode(std::int64_t value, double torus_scale, double center) {
  return encode_units(static_cast<long double>(value) - static_cast<long double>(center),
                      torus_scale);
}

std::int64_t decode(Torus phase, double torus_scale, double center, Interval interval) {
  const long double signed_phase =
      std::ldexp(static_cast<long double>(static_cast<std::int64_t>(phase)), -64);
  const long double value = std::round(signed_phase / static_cast<long double>(torus_scale) +
                                       static_cast<long double>(center));
  if (value <= static_cast<long double>(interval.lower)) return interval.lower;
  if (value >= static_cast<long double>(interval.upper)) return interval.upper;
  return static_cast<std::int64_t>(value);
}

Tensor<double> dequantize_output(const OutputSpec& spec, const Tensor<std::int64_t>& integers) {
  check_batch(integers, spec.shape, spec.name);
  Tensor<double> result{integers.shape, std::vector<double>(integers.data.size())};
  for (std::size_t i = 0; i < result.data.size(); ++i) {
    const double scale = spec.scale[i % spec.scale.size()];
    const double zero_point = spec.zero_point[i % spec.zero_point.size()];
    result.data[i] = scale * (static_cast<double>(integers.data[i]) - zero_point);
  }
  return result;
}

Tensor<std::int64_t> quantize_input(const InputSpec& spec, const Tensor<double>& values) {
  check_batch(values, spec.shape, spec.name);
  for (std::size_t i = 0; i < values.data.size(); ++i) {
    if (!std::isfinite(values.data[i])) {
      throw Error(ErrorCode::non_finite_value, fmt::format("element {} is {}", i, values.data[i]),
                  fmt::format("'{}'", spec.name));
    }
  }
  return {values.shape, spec.quantizer.quantize(values.data)};
}

}  // namespace torusml
