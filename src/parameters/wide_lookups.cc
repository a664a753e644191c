#include "parameters/wide_lookups.h"

#include <algorithm>
#include <cmath>

#include "parameters/noise.h"

namespace torusml {
namespace {

constexpr std::uint32_t kLeastDigitBits = 3, kMostTriedDigitBits = 4, kMostTriedBits = 2;

double square(double x) { return x * x; }
double power_of_4(std::uint32_t exponent) { return std::exp2(2.0 * exponent); }

// Part of a group's half box that the lower bits of the groups before it take, which stay in the
// input: (2^(w - 1) - 1) / 2 steps of each.
double taken_part(const WideShape& shape, std::uint32_t rotation) {
  const double step = std::exp2(shape.bits_per_rotation);
  double taken = 0, half_box = 0.5;
  for (std::uint32_t r = 0; r < rotation; ++r, half_box *= step)
    taken += (step / 2 - 1) / 2 * (2 * half_box);
  return taken / half_box;
}

double input_scale2(const WideEvent& event) { return power_of_4(event.scale_log2); }

// At the table of one event.
double noise_at(const WideEvent& event, const TfheParameters& p, const PackingNoise& packing,
                double input_variance) {
  const double rotation = blind_rotation_variance(p).value;
  const double switched =
      keyswitch_variance(p).value + modulus_switch_variance(p.small_dimension, event.modulus).value;
  if (event.reads_digit) return packing.gain * rotation + packing.floor.value + switched;
  return input_scale2(event) * (input_variance + event.rotations * rotation) + switched;
}

}  // namespace

std::vector<WideShape> wide_shapes(const NoiseConstraint& c) {
  std::vector<WideShape> shapes;
  for (std::uint32_t bits = 1; bits <= std::min(kMostTriedBits, c.index_bits); ++bits) {
    for (std::uint32_t digit = kLeastDigitBits; digit <= kMostTriedDigitBits; ++digit) {
      const std::uint32_t digits = std::max(1u, (c.result_bits + digit - 1) / digit);
      shapes.push_back({c.index_bits, bits, digit, digits});
    }
  }
  return shapes;
}

std::vector<WideEvent> wide_events(const TfheParameters& p, const WideShape& shape) {
  std::vector<WideEvent> events;
  const std::uint64_t whole = 2 * std::uint64_t{p.polynomial_size.value};
  for (std::uint32_t r = 0; r < shape.rotations(); ++r) {
    const std::uint32_t first = r * shape.bits_per_rotation;
    const std::uint32_t bits = std::min(shape.bits_per_rotation, shape.index_bits - first);
    events.push_back({.scale_log2 = shape.index_bits + 1 - first - bits,
                      .rotations = r,
                      .half_box = std::exp2(-(bits + 1.0)) * (1 - taken_part(shape, r)),
                      .modulus = whole >> rotation_stride_log2(bits, p)});
  }
  for (std::uint32_t s = 0; s < shape.digit_count; ++s) {
    events.push_back(
        {.reads_digit = true, .half_box = std::exp2(-(shape.digit_bits + 2.0)), .modulus = whole});
  }
  return events;
}

Variance wide_input_noise(const TfheParameters& p, const WideShape& shape, double input_variance) {
  const WideEvent first = wide_events(p, shape).front();
  return {noise_at(first, p, {}, input_variance) / input_scale2(first)};
}

double wide_failure(const TfheParameters& p, const WideShape& shape, double input_variance) {
  const PackingNoise packing = packing_noise(p, shape);
  double failure = 0;
  for (const WideEvent& event : wide_events(p, shape)) {
    const double sigma = std::sqrt(noise_at(event, p, packing, input_variance));
    failure += tail_probability(event.half_box / sigma);
  }
  return failure;
}

double allowed_failure(const NoiseConstraint& c) {
  return tail_probability(std::exp2(-(c.index_bits + 2.0)) / c.limit_sigma);
}

std::vector<TfheParameters> circuit_bootstrap_options() {
  constexpr std::uint32_t kSize = 2048;
  std::vector<TfheParameters> options;
  for (const Gadget gadget : {Gadget{8, 2}, Gadget{6, 3}, Gadget{7, 3}, Gadget{6, 4}}) {
    for (const Gadget trace : {Gadget{9, 4}, Gadget{7, 6}}) {
      TfheParameters p;
      p.glwe_dimension = {1};
      p.polynomial_size = {kSize};
      p.circuit_bootstrap = gadget;
      p.trace = trace;
      options.push_back(p);
    }
  }
  return options;
}

std::vector<NoiseConstraint> wide_constraints(const NoiseConstraint& c, const TfheParameters& p,
                                              const WideShape& shape) {
  const std::vector<WideEvent> events = wide_events(p, shape);
  const double sigmas = kappa(allowed_failure(c) / static_cast<double>(events.size()));
  const PackingNoise packing = packing_noise(p, shape);
  std::vector<NoiseConstraint> constraints;
  for (const WideEvent& event : events) {
    NoiseConstraint part;
    part.name = c.name;
    part.lookup_count = event.reads_digit ? c.lookup_count * c.tables : c.lookup_count;
    part.limit_sigma = event.half_box / sigmas;
    part.fixed_modulus = event.modulus;
    part.fixed_polynomial_size = p.polynomial_size.value;
    if (event.reads_digit) {
      part.bootstrap_norm2 = packing.gain;
      part.extra_variance = packing.floor.value;
    } else {
      part.extra_variance = input_scale2(event) * c.extra_variance;
      part.fresh_norm2 = input_scale2(event) * c.fresh_norm2;
      part.bootstrap_norm2 = input_scale2(event) * (c.bootstrap_norm2 + event.rotations);
    }
    if (part.extra_variance >= square(part.limit_sigma)) return {};
    constraints.push_back(part);
  }
  return constraints;
}

}  // namespace torusml
