// How large one integer is on the torus, and so how much noise a reader bears.
//
// `may_use_wide`: lookups that may be wide are planned as such; their values lie a power of two of
// the torus apart, and they are not odd, because bits are read of the half torus. `kappa`: guard
// bands are so many standard deviations wide. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "plan/readers.h"

namespace torusml {

bool is_odd(const Reader& reader, bool may_use_wide);

// How an interval lies on the torus: the part that it may fill, 1/2 before a lookup that is not
// odd, and its values, before an odd lookup those of an interval that is as long on both sides.
struct Placement {
  double room = 1;
  std::uint64_t values = 1;

  double width() const { return static_cast<double>(values - 1); }
};
Placement placement(const Reader& reader, bool may_use_wide);

// Largest scale at which the interval and its guard bands (at least half a box each) fit.
double largest_scale(const Placement& placement, double guard_torus);

double power_of_two_below(double scale);

// Keeps the smaller of the group's scale so far and this one.
void shrink(std::map<ValueId, double>& scales, ValueId group, double scale);

// Torus scales before the noise is known.
struct Scales {
  std::map<ValueId, double> tolerant;  // by group: guard bands as wide as tolerances allow
  // By node: its own guard bands half a box, those of the others in its group as wide as
  // tolerances allow.
  std::map<std::size_t, double> exact;
};
Scales scales_by_policy(const std::vector<Reader>& readers, double kappa, bool may_use_wide);

// exact: kappa sigma within half a box. tolerant: sigma within its tolerance * interval, where
// the interval is what guard bands of kappa sigma leave of the room; or the exact limit where
// that is weaker.
struct NoiseLimit {
  double sigma = 0;
  bool is_exact = true;
};
double exact_limit(const Reader& reader, const Scales& scales, double kappa);
NoiseLimit noise_limit(const Reader& reader, const Scales& scales, double kappa);

}  // namespace torusml
