// Our engine, for the search: the formulas of noise.h, the cost model of cost.h in milliseconds.
#pragma once

#include "parameters/cost_table.h"
#include "parameters/search.h"

namespace torusml {

class TorusmlModel final : public SearchModel {
 public:
  // Error invalid_argument for levels of security other than 128 and 132.
  TorusmlModel(int security_bits, const CostTable& table);

  const Domain& domain() const override { return domain_; }
  std::uint32_t max_bootstrap_bits(const TfheParameters& ring) const override;
  Variance small_variance(std::uint32_t n) const override;
  double rotation_variance(const TfheParameters& p) const override;
  std::uint32_t max_small_dimension(const TfheParameters& ring) const override;
  Line keyswitch_variance(const TfheParameters& p) const override;
  Line switch_variance(std::uint64_t modulus) const override;
  double rotation_cost(const TfheParameters& p) const override;
  double expected_shards(std::uint32_t grouping_factor, std::uint32_t h) const override;
  double keyswitch_cost(const TfheParameters& p) const override;
  double linear_cost(const TfheParameters& p, double multiplications) const override;
  KeyBytes key_bytes(const TfheParameters& p) const override;

 private:
  int security_bits_;
  CostTable table_;
  Domain domain_;
};

// Rings that the search considers, of secure dimension: k * N up to 4096, and k = 1 beyond.
std::vector<TfheParameters> secure_rings(int security_bits);

constexpr std::uint32_t kMaxExtensionLog2 = 12;
// Entries of a table: 16 bits need 2^23, and an accumulator is k + 1 times as long.
constexpr std::uint64_t kMaxTableSize = std::uint64_t{1} << 24;

}  // namespace torusml
