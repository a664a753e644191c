// Nanoseconds of the kernels on one core, from which the cost model adds up a lookup.
//
//   CostTable table = kShippedCostTable;
//   table.keyswitch_ns = 0.04;
//   double ms = lookup_ms(p, h, table);
//
// Plain data, any thread.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace torusml {

constexpr std::uint32_t kLeastPolynomialSize = 64, kLargestPolynomialSize = 65536;

struct PolynomialCost {
  double transform_ns = 0;  // one transform, forward with its digits or inverse with its rounding
  double multiply_ns = 0;   // one complex multiply-add at all N / 2 points
};

struct CostTable {
  // By log2(N / kLeastPolynomialSize).
  std::array<PolynomialCost, 11> polynomials;
  double keyswitch_ns = 0;  // one 32-bit multiply-add of a batched keyswitch
  double linear_ns = 0;     // one 64-bit multiply-add of a linear layer
  // Time of a step with a 32-bit accumulator, relative to 64 bits.
  double narrow_accumulator = 1;

  const PolynomialCost& at(std::uint32_t polynomial_size) const {
    constexpr int kFirst = std::bit_width(kLeastPolynomialSize);
    return polynomials.at(static_cast<std::size_t>(std::bit_width(polynomial_size) - kFirst));
  }
};

}  // namespace torusml
