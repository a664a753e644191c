#include "tfhe/validate.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>

#include "tfhe/fft_plan.h"
#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::uint64_t kLargestDimension = 1u << 20;  // without bootstrap
constexpr double kLargestVariance = 0x1p-10;           // what the noise sampler covers

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::invalid_argument, message, "parameters of a key set");
}

void check_variance(const char* name, Variance variance) {
  if (!(variance.value >= 0 && variance.value <= kLargestVariance)) {
    refuse(fmt::format("{} is {}, not in [0, 2^-10]", name, variance.value));
  }
}

void check_circuit_bootstrap(const TfheParameters& p) {
  if (p.glwe_dimension.value != 1 || p.accumulator_bits != 64) {
    refuse(
        fmt::format("circuit bootstrapping with GLWE dimension {} and accumulators of {} bits; it "
                    "takes dimension 1 and 64 bits",
                    p.glwe_dimension.value, p.accumulator_bits));
  }
}

void check_trace(const TfheParameters& p) {
  if (p.glwe_dimension.value != 1) {
    refuse(fmt::format("a trace with GLWE dimension {}; it takes dimension 1",
                       p.glwe_dimension.value));
  }
}

// level_bits: of one level at most; all_bits: of all levels together.
std::string fault_of(const char* name, const Gadget& gadget, std::uint32_t level_bits,
                     std::uint32_t all_bits) {
  const std::uint64_t bits = std::uint64_t{gadget.base_log2} * gadget.level_count;
  if (gadget.base_log2 >= 1 && gadget.base_log2 <= level_bits && gadget.level_count >= 1 &&
      bits <= all_bits) {
    return "";
  }
  return fmt::format(
      "'{}' has {} levels of {} bits; a level has 1 to {} bits, all together at most {}", name,
      gadget.level_count, gadget.base_log2, level_bits, all_bits);
}

}  // namespace

std::string gadget_fault(const TfheParameters& p) {
  if (!p.has_bootstrap()) return "";
  std::string fault = fault_of("bootstrap", p.bootstrap, 31, p.accumulator_bits - 1);
  if (fault.empty()) fault = fault_of("keyswitch", p.keyswitch, 16, 32);
  if (fault.empty() && p.has_circuit_bootstrap())
    fault = fault_of("circuit_bootstrap", p.circuit_bootstrap, 31, 63);
  if (fault.empty() && (p.has_circuit_bootstrap() || p.has_trace()))
    fault = fault_of("trace", p.trace, 31, 63);
  return fault;
}

void check_parameters(const TfheParameters& p) {
  const std::uint64_t size = p.polynomial_size.value, k = p.glwe_dimension.value;
  if (k == 0 || !std::has_single_bit(size)) {
    refuse(fmt::format("GLWE dimension {} and polynomial size {}; the size must be a power of two",
                       k, size));
  }
  check_variance("the GLWE variance", p.glwe_variance);
  if (!p.has_bootstrap()) {
    if (k * size > kLargestDimension) {
      refuse(fmt::format("dimension {} is above {}", k * size, kLargestDimension));
    }
    if (p.has_circuit_bootstrap() || p.has_trace()) {
      refuse(
          fmt::format("circuit bootstrapping of {} levels and a trace of {} without bootstrap; "
                      "they need one",
                      p.circuit_bootstrap.level_count, p.trace.level_count));
    }
    return;
  }
  if (size < kSmallestPolynomial || k * size > kLargestPolynomial) {
    refuse(
        fmt::format("polynomial size {} with GLWE dimension {}; sizes are {} to {}, and so is "
                    "size times dimension",
                    size, k, kSmallestPolynomial, kLargestPolynomial));
  }
  if (p.small_dimension.value == 0 || p.small_dimension.value > k * size) {
    refuse(fmt::format("small dimension {}, not in 1 to {}", p.small_dimension.value, k * size));
  }
  if (p.grouping_factor < 1 || p.grouping_factor > 2 ||
      p.small_dimension.value % p.grouping_factor != 0) {
    refuse(
        fmt::format("grouping factor {} with small dimension {}; it is 1 or 2 and divides the "
                    "dimension",
                    p.grouping_factor, p.small_dimension.value));
  }
  if (p.accumulator_bits != 32 && p.accumulator_bits != 64) {
    refuse(fmt::format("accumulators of {} bits; 32 and 64 exist", p.accumulator_bits));
  }
  check_variance("the small key's variance", p.small_variance);
  if (p.has_circuit_bootstrap()) check_circuit_bootstrap(p);
  if (p.has_trace()) check_trace(p);
  if (const std::string fault = gadget_fault(p); !fault.empty()) refuse(fault);
}

KeySizes::KeySizes(const TfheParameters& p) {
  if (!p.has_bootstrap()) return;
  const std::size_t k = p.glwe_dimension.value, size = p.polynomial_size.value;
  glwe_rows = std::size_t{p.small_dimension.value} / p.grouping_factor * p.keys_per_step() *
              p.bootstrap.level_count * (k + 1);
  bootstrap_bodies = glwe_rows * size * p.body_bytes();
  bootstrap_mask_bytes = glwe_rows * size * k * sizeof(Torus);
  keyswitch_bodies = (k * size - p.small_dimension.value) * p.keyswitch.level_count;
  keyswitch_mask_bytes = keyswitch_bodies * p.small_dimension.value * sizeof(std::uint32_t);
  if (!p.has_trace()) return;
  trace_keys = static_cast<std::size_t>(std::countr_zero(size)) + p.has_circuit_bootstrap();
  trace_bodies = trace_keys * p.trace.level_count * size * p.body_bytes();
}

}  // namespace torusml
