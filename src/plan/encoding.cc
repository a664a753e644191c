#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "plan/client_spec.h"
#include "quantizer/finite.h"
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

// Values are plaintexts: encode and decode have no branch and no conversion that depends on them.
// Scale and centre are the model's.
__extension__ using Int128 = __int128;
__extension__ using Uint128 = unsigned __int128;

// mantissa * 2^exponent, |mantissa| < 2^53.
struct Dyadic {
  std::int64_t mantissa;
  int exponent;

  explicit Dyadic(double value) {
    mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(value, &exponent), 53));
    exponent -= 53;
  }
};

// value * 2^bits modulo 2^128; what falls below 1 is lost.
Uint128 shifted(Int128 value, int bits) {
  if (bits >= 128) return 0;
  return bits >= 0 ? static_cast<Uint128>(value) << bits
                   : static_cast<Uint128>(value >> std::min(-bits, 127));
}

Int128 least(Int128 a, Int128 b) {
  const Int128 difference = a - b;
  return b + (difference & (difference >> 127));
}

}  // namespace

Torus encode_units(long double units, double torus_scale) {
  const long double phase = static_cast<long double>(torus_scale) * units;
  const long double fraction = phase - std::floor(phase);  // [0, 1)
  // Rounding up to 2^64 wraps to 0, as the torus does.
  const long double word = std::round(std::ldexp(fraction, 64));
  return word >= 0x1p64L ? 0 : static_cast<Torus>(word);
}

// In units of 2^-128, so that products with scales of 2^-75 and more are exact.
Torus encode(std::int64_t value, double torus_scale, double center) {
  const Dyadic scale(torus_scale), origin(center);
  const Uint128 step = shifted(scale.mantissa, 128 + scale.exponent);
  const Uint128 start =
      shifted(Int128{scale.mantissa} * origin.mantissa, 128 + scale.exponent + origin.exponent);
  const Uint128 phase = step * static_cast<Uint128>(Int128{value}) - start;
  return static_cast<Torus>((phase + (Uint128{1} << 63)) >> 64);
}

// phase * (2^112 / mantissa) is phase / scale with `places` binary places, off by 2^-59 of itself.
std::int64_t decode(Torus phase, double torus_scale, double center, Interval interval) {
  // Integers on a smaller scale share their words, and centres end with int64.
  const Dyadic scale(std::clamp(torus_scale, 0x1p-64, 1.0));
  const double whole = std::floor(std::clamp(center, -0x1p62, 0x1p62));
  const Dyadic part(std::clamp(center - whole, 0.0, 1.0));
  const int places = 112 + 64 + scale.exponent;
  const Int128 inverse = (Int128{1} << 112) / scale.mantissa;
  const Int128 rounding = static_cast<Int128>(shifted(part.mantissa, places + part.exponent)) +
                          (Int128{1} << (places - 1));
  const Int128 product = Int128{static_cast<std::int64_t>(phase)} * inverse;
  const Int128 value = ((product + rounding) >> places) + static_cast<std::int64_t>(whole);
  return static_cast<std::int64_t>(-least(-least(value, interval.upper), -Int128{interval.lower}));
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
  check_finite(values.data, spec.name);
  return {values.shape, spec.quantizer.quantize(values.data)};
}

}  // namespace torusml
