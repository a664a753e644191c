#include "parameters/cost.h"

#include <cmath>

namespace torusml {
namespace {

// Measured with AVX2 on Zen3, one core, batches of 8 and more: 25 to 28 GFLOP/s over external
// products of degree 512 to 2048, and 17.8 G multiply-adds a second in a 2048 -> 780 keyswitch.
constexpr double kFlopPerMs = 25e6;
constexpr double kMultiplyAddsPerMs = 18e6;

}  // namespace

double external_product_ms(const TfheParameters& p) {
  const double points = 0.5 * p.polynomial_size.value;
  const double polynomials = p.glwe_dimension.value + 1;
  const double levels = p.bootstrap.level_count;
  const double transform = 4 * points * std::log2(points) + 6 * points;  // FFT and twist
  const double products = 8 * points * polynomials * polynomials * levels;
  return (polynomials * (levels + 1) * transform + products) / kFlopPerMs;
}

double keyswitch_ms(const TfheParameters& p) {
  return 1.0 * p.big_dimension().value * p.keyswitch.level_count * (p.small_dimension.value + 1) /
         kMultiplyAddsPerMs;
}

double lookup_ms(const TfheParameters& p, std::uint32_t extension_log2) {
  const double products = std::ldexp(p.small_dimension.value, static_cast<int>(extension_log2));
  return products * external_product_ms(p) + keyswitch_ms(p);
}

double evaluation_key_bytes(const TfheParameters& p) {
  const double polynomials = p.glwe_dimension.value + 1;
  const double bootstrap = polynomials * polynomials * p.bootstrap.level_count *
                           p.polynomial_size.value * sizeof(double) * p.small_dimension.value;
  const double keyswitch = 1.0 * p.big_dimension().value * p.keyswitch.level_count *
                           (p.small_dimension.value + 1) * sizeof(std::uint32_t);
  return bootstrap + keyswitch;
}

}  // namespace torusml
