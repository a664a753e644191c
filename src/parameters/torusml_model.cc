#include "parameters/torusml_model.h"

#include <algorithm>

#include "parameters/cost.h"
#include "parameters/noise.h"

namespace torusml {
namespace {

constexpr std::uint32_t kMaxGlweDimension = 6;
constexpr std::uint32_t kMinPolynomialSize = 256, kMaxPolynomialSize = 65536;
// A longer key than the floor of the security line asks for buys nothing.
constexpr std::uint32_t kMaxBigDimension = 4096;
constexpr std::uint32_t kMaxSmallDimension = 1500;
// Digits are kept in 32-bit words; the keyswitch key's torus has 32 bits.
constexpr std::uint32_t kMaxDigitBits = 31, kMaxKeyswitchBits = 31;
constexpr double kNsPerMs = 1e6;

SearchModel::Domain make_domain(int security_bits) {
  SearchModel::Domain domain{.min_small_dimension = kLeastSecureDimension,
                             .max_small_dimension = kMaxSmallDimension,
                             .max_bootstrap_levels = 6,
                             .max_keyswitch_levels = 16,
                             .max_digit_bits = kMaxDigitBits,
                             .max_keyswitch_bits = kMaxKeyswitchBits,
                             .max_table_size = kMaxTableSize};
  for (TfheParameters ring : secure_rings(security_bits)) {
    for (const std::uint32_t group : {1, 2}) {
      for (const std::uint32_t bits : {32, 64}) {
        ring.grouping_factor = group;
        ring.accumulator_bits = bits;
        domain.rings.push_back(ring);
      }
    }
  }
  return domain;
}

}  // namespace

std::vector<TfheParameters> secure_rings(int security_bits) {
  std::vector<TfheParameters> rings;
  for (std::uint32_t size = kMinPolynomialSize; size <= kMaxPolynomialSize; size *= 2) {
    for (std::uint32_t k = 1; k <= kMaxGlweDimension; ++k) {
      const std::uint32_t dimension = k * size;
      if (dimension < kLeastSecureDimension || (k > 1 && dimension > kMaxBigDimension)) continue;
      rings.push_back({.glwe_dimension = {k},
                       .polynomial_size = {size},
                       .glwe_variance = minimal_variance(dimension, security_bits)});
    }
  }
  return rings;
}

TorusmlModel::TorusmlModel(int security_bits, const CostTable& table)
    : security_bits_(security_bits), table_(table), domain_(make_domain(security_bits)) {}

std::uint32_t TorusmlModel::max_bootstrap_bits(const TfheParameters& ring) const {
  return ring.accumulator_bits - 1;
}

Variance TorusmlModel::small_variance(std::uint32_t n) const {
  return minimal_variance(n, security_bits_);
}

double TorusmlModel::rotation_variance(const TfheParameters& p) const {
  return rotation_step_noise(p).total() / p.grouping_factor;
}

// The small key is a part of the big one.
std::uint32_t TorusmlModel::max_small_dimension(const TfheParameters& ring) const {
  return std::min(domain_.max_small_dimension, ring.big_dimension().value);
}

SearchModel::Line TorusmlModel::keyswitch_variance(const TfheParameters& p) const {
  TfheParameters q = p;
  q.glwe_dimension = {1};
  q.polynomial_size = {0};
  const double intercept = torusml::keyswitch_variance(q).value;
  q.polynomial_size = {1};
  return {intercept, torusml::keyswitch_variance(q).value - intercept};
}

SearchModel::Line TorusmlModel::switch_variance(std::uint64_t modulus) const {
  return {modulus_switch_variance({0}, modulus).value,
          modulus_switch_mask_variance({1}, modulus).value};
}

double TorusmlModel::rotation_cost(const TfheParameters& p) const {
  return shard_step_ns(p, table_) / p.grouping_factor / kNsPerMs;
}

double TorusmlModel::expected_shards(std::uint32_t grouping_factor, std::uint32_t h) const {
  return torusml::expected_shards(grouping_factor, h);
}

double TorusmlModel::keyswitch_cost(const TfheParameters& p) const {
  return keyswitch_ms(p, table_);
}

double TorusmlModel::linear_cost(const TfheParameters& p, double multiplications) const {
  return linear_ms(p, multiplications, table_);
}

KeyBytes TorusmlModel::key_bytes(const TfheParameters& p) const { return torusml::key_bytes(p); }

}  // namespace torusml
