// Concrete's engine, for the search: its noise formulas, its count of operations, its domain. The
// peer's published choices must come out, which is how we know that the search is right.
#pragma once

#include <cmath>

#include "parameters/noise.h"
#include "parameters/search.h"

namespace torusml {

class ConcreteModel final : public SearchModel {
 public:
  ConcreteModel() {
    domain_.min_small_dimension = 512;
    domain_.max_small_dimension = 2047;
    domain_.max_bootstrap_levels = domain_.max_keyswitch_levels = 64;
    domain_.max_digit_bits = domain_.max_keyswitch_bits = 64;
    for (std::uint32_t size = 256; size <= 131072; size *= 2) {
      for (std::uint32_t k = 1; k <= 6; ++k) {
        if (k * size < 512) continue;
        TfheParameters ring;
        ring.glwe_dimension = {k};
        ring.polynomial_size = {size};
        ring.glwe_variance = minimal_variance(k * size, 128);
        domain_.rings.push_back(ring);
      }
    }
  }

  const Domain& domain() const override { return domain_; }
  std::uint32_t max_bootstrap_bits(const TfheParameters&) const override { return 64; }
  Variance small_variance(std::uint32_t n) const override { return minimal_variance(n, 128); }

  double rotation_variance(const TfheParameters& p) const override {
    return concrete_form::external_product(p).value + concrete_form::external_product_fft(p).value;
  }
  std::uint32_t max_small_dimension(const TfheParameters&) const override {
    return domain_.max_small_dimension;
  }
  Line keyswitch_variance(const TfheParameters& p) const override {
    TfheParameters one = p;
    one.glwe_dimension = {1};
    one.polynomial_size = {1};
    return {0, concrete_form::keyswitch(one).value};
  }
  Line switch_variance(std::uint64_t modulus) const override {
    const double fixed = concrete_form::modulus_switch({0}, modulus).value;
    return {fixed, concrete_form::modulus_switch({1}, modulus).value - fixed};
  }

  double rotation_cost(const TfheParameters& p) const override {
    const double size = p.polynomial_size.value, polynomials = p.glwe_dimension.value + 1;
    const double levels = p.bootstrap.level_count;
    const double transform = size * std::log2(size) + size;
    return polynomials * (levels + 1) * transform + polynomials * polynomials * levels * size;
  }
  double expected_shards(std::uint32_t, std::uint32_t) const override { return 1; }
  double keyswitch_cost(const TfheParameters& p) const override {
    const double rows = 1.0 * p.big_dimension().value * p.keyswitch.level_count;
    const double words = p.small_dimension.value + 1;
    return rows + rows * words + (rows - 1) * words + 1;
  }
  double linear_cost(const TfheParameters& p, double multiplications) const override {
    return multiplications * p.big_dimension().value;
  }
  KeyBytes key_bytes(const TfheParameters&) const override { return {}; }

 private:
  Domain domain_;
};

}  // namespace torusml
