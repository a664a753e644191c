#include "plan/torus_scales.h"

#include <algorithm>
#include <cmath>

namespace torusml {

bool is_odd(const Reader& reader, bool may_use_wide) {
  return reader.odd_half != 0 && !(may_use_wide && may_be_wide(reader));
}

Placement placement(const Reader& reader, bool may_use_wide) {
  if (!reader.is_lookup) return {1, reader.values};
  if (is_odd(reader, may_use_wide)) return {1, 2 * reader.odd_half};
  return {0.5, reader.values};
}

double largest_scale(const Placement& placement, double guard_torus) {
  const double boxes = placement.room / static_cast<double>(placement.values);
  if (placement.values == 1) return boxes;
  return std::min(boxes, (placement.room - 2 * guard_torus) / placement.width());
}

double power_of_two_below(double scale) { return std::exp2(std::floor(std::log2(scale))); }

void shrink(std::map<ValueId, double>& scales, ValueId group, double scale) {
  const auto [found, is_new] = scales.emplace(group, scale);
  if (!is_new) found->second = std::min(found->second, scale);
}

Scales scales_by_policy(const std::vector<Reader>& readers, double kappa, bool may_use_wide) {
  std::map<ValueId, std::vector<const Reader*>> groups;
  for (const Reader& reader : readers) groups[reader.group].push_back(&reader);
  const auto tolerant_scale = [&](const Reader& reader) {
    const Placement place = placement(reader, may_use_wide);
    const double sigma = reader.tolerance * place.room / (1 + 2 * kappa * reader.tolerance);
    return largest_scale(place, kappa * sigma);
  };
  Scales scales;
  for (const auto& [group, members] : groups) {
    const bool is_aligned = may_use_wide && std::ranges::any_of(members, [](const Reader* member) {
                              return may_be_wide(*member);
                            });
    for (const Reader* reader : members) {
      shrink(scales.tolerant, group, tolerant_scale(*reader));
      double exact = largest_scale(placement(*reader, may_use_wide), 0);
      for (const Reader* other : members)
        if (other != reader) exact = std::min(exact, tolerant_scale(*other));
      scales.exact[reader->node] = is_aligned ? power_of_two_below(exact) : exact;
    }
  }
  return scales;
}

double exact_limit(const Reader& reader, const Scales& scales, double kappa) {
  return scales.exact.at(reader.node) / (2 * kappa);
}

NoiseLimit noise_limit(const Reader& reader, const Scales& scales, double kappa) {
  const double exact = exact_limit(reader, scales, kappa);
  const double tolerant = reader.tolerance * reader.width() * scales.tolerant.at(reader.group);
  if (reader.policy == Precision::exact || exact >= tolerant) return {exact, true};
  return {tolerant, false};
}

}  // namespace torusml
