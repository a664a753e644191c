#include "parameters/noise.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "torusml/error.h"

namespace torusml {
namespace {

// log2 sigma = slope * dimension + offset, never below the floor: a 64-bit word has room for no
// less.
struct SecurityLine {
  int bits;
  double slope, offset;
};

// Fits to lattice-estimator figures under the MATZOV cost model, binary secret, Gaussian error. See
// docs/security-parameters.md.
constexpr SecurityLine kLines[] = {
    {128, -0.025696778711484593, 2.675931372549016},
    {132, -0.024891456582633045, 2.65734593837534},
};
constexpr double kFloorLog2 = -62;

// Squared units of one word, 1 / q^2.
constexpr double kWord64 = 0x1p-128;
constexpr double kWord32 = 0x1p-64;

// Moments of a binary secret bit s: E[s^2] = 1/2; Var(s) = E[(s - 1/2)^2] = 1/4.
constexpr double kBitSecondMoment = 0.5;
constexpr double kBitVariance = 0.25;

// Whatever is multiplied by X^e - 1 meets itself at another place, with the other sign.
constexpr double kDifference = 2;

// Concrete's fit of the FFT error of an external product: 2^constant * 2^(2 (64 - 53)) l B^2 N^2 (k
// + 1) / q^2.
constexpr double kConcreteFftLog2 = -2.57722494;
// Ours, of one GGSW times X^e - 1: 2 * 2^constant * passes(N) k times the same. The constant was
// fitted to products with one GGSW against exact integers (docs/noise.md).
constexpr double kFftErrorLog2 = -6.82;

double square(double x) { return x * x; }

double polynomial_size(const TfheParameters& p) { return p.polynomial_size.value; }
double glwe_dimension(const TfheParameters& p) { return p.glwe_dimension.value; }
double big_dimension(const TfheParameters& p) { return p.big_dimension().value; }

double base(const Gadget& gadget) { return std::ldexp(1, static_cast<int>(gadget.base_log2)); }

// B^(-2 l): square of the gadget's last step.
double last_step2(const Gadget& gadget) {
  return std::ldexp(1, -2 * static_cast<int>(gadget.base_log2 * gadget.level_count));
}

// E[digit^2]: uniform on [-B/2, B/2], both ends at half weight.
double digit_second_moment(const Gadget& gadget) { return (square(base(gadget)) + 2) / 12; }

// Rounding to the gadget's grid: variance of the error, uniform over q / B^l words.
double gadget_rounding_variance(const Gadget& gadget) {
  return (last_step2(gadget) - kWord64) / 12;
}

double concrete_external_product_exact(const TfheParameters& p) {
  const double kN = big_dimension(p);
  const double key_noise = p.bootstrap.level_count * (glwe_dimension(p) + 1) * polynomial_size(p) *
                           digit_second_moment(p.bootstrap) * p.glwe_variance.value;
  // The GGSW's bit (1/2) times body and mask, the mask again times bits of the key.
  const double rounding =
      kBitSecondMoment * gadget_rounding_variance(p.bootstrap) * (1 + kN * kBitSecondMoment);
  // Half a word of bias in each rounding.
  const double bias = (kN / 8 + square(1 - kN) / 16) / 4 * kWord64;
  return key_noise + rounding + bias;
}

// Of the transform of N / 2 complex points: four-way, and one two-way where their number asks for
// it (tfhe/fft-inl.h).
double transform_passes(const TfheParameters& p) {
  return std::ceil((std::log2(polynomial_size(p)) - 1) / 2);
}

double fft_error(const TfheParameters& p, double constant_log2) {
  return std::exp2(constant_log2 + 2 * (64 - 53)) * p.bootstrap.level_count *
         square(base(p.bootstrap)) * square(polynomial_size(p)) * (glwe_dimension(p) + 1) * kWord64;
}

}  // namespace

Variance minimal_variance(std::uint32_t dimension, int security_bits) {
  const auto line = std::find_if(std::begin(kLines), std::end(kLines),
                                 [&](const SecurityLine& l) { return l.bits == security_bits; });
  if (line == std::end(kLines)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("security is {} bits; 128 and 132 are supported", security_bits));
  }
  if (dimension < kLeastSecureDimension) {
    throw Error(ErrorCode::no_parameters,
                fmt::format("a key of dimension {} has no known security; {} is the least",
                            dimension, kLeastSecureDimension));
  }
  const double sigma_log2 = std::max(line->slope * dimension + line->offset, kFloorLog2);
  return {std::exp2(2 * sigma_log2)};
}

double tail_probability(double sigmas) {
  return sigmas <= 0 ? 1 : std::erfc(sigmas * std::sqrt(0.5));
}

double kappa(double p_error) {
  if (!(p_error >= 0x1p-1000 && p_error < 1)) {
    throw Error(ErrorCode::p_error_out_of_range,
                fmt::format("p_error is {}, it must lie between 2^-1000 and 1", p_error));
  }
  // Newton on log(tail), which is concave and falls: from an upper bound of the root (the tail is
  // below exp(-x^2 / 2)) the steps come down to it without overshooting, at any p.
  const double goal = std::log(p_error);
  double x = std::sqrt(-2 * goal);
  for (int step = 0; step < 100; ++step) {
    const double tail = tail_probability(x);
    const double slope = -std::sqrt(2 / M_PI) * std::exp(-0.5 * x * x) / tail;
    const double next = x - (std::log(tail) - goal) / slope;
    if (!(next < x)) break;
    x = std::max(next, 0.0);
  }
  return x;
}

namespace concrete_form {

Variance external_product(const TfheParameters& p) { return {concrete_external_product_exact(p)}; }

Variance external_product_fft(const TfheParameters& p) { return {fft_error(p, kConcreteFftLog2)}; }

Variance blind_rotation(const TfheParameters& p) {
  return {p.small_dimension.value * (external_product(p).value + external_product_fft(p).value)};
}

Variance keyswitch(const TfheParameters& p) {
  const double rounding = gadget_rounding_variance(p.keyswitch) * kBitSecondMoment;
  const double bias = kBitVariance / 4 * kWord64;
  const double key_noise =
      p.keyswitch.level_count * p.small_variance.value * digit_second_moment(p.keyswitch);
  return {big_dimension(p) * (rounding + bias + key_noise)};
}

Variance modulus_switch(LweDimension n, std::uint64_t modulus) {
  const double step2 = 1 / square(static_cast<double>(modulus));
  return {(1.0 / 12 + n.value / 24.0) * step2 + (-1.0 / 12 + n.value / 48.0) * kWord64};
}

}  // namespace concrete_form

RotationStepNoise rotation_step_noise(const TfheParameters& p) {
  const double ggsws = (1u << p.grouping_factor) - 1;
  const double kN = big_dimension(p);
  const double word2 = p.accumulator_bits == 32 ? kWord32 : kWord64;
  // A mask's error meets bits of the key.
  const double of_body_and_mask = 1 + kN * kBitSecondMoment;
  const double gadget_rounding = (last_step2(p.bootstrap) - word2) / 12 * of_body_and_mask;
  const double is_nonzero = 1 - std::exp2(-static_cast<double>(p.grouping_factor));

  RotationStepNoise noise;
  noise.key.value = ggsws * kDifference * p.bootstrap.level_count * (glwe_dimension(p) + 1) *
                    polynomial_size(p) * digit_second_moment(p.bootstrap) * p.glwe_variance.value;
  noise.rounding.value = is_nonzero * kDifference * gadget_rounding;
  noise.fft.value =
      ggsws * kDifference * fft_error(p, kFftErrorLog2) * transform_passes(p) * glwe_dimension(p);
  if (p.accumulator_bits == 32) noise.words.value = kWord32 / 12 * of_body_and_mask;
  // Halves are rounded up: half a word of mean, whose sign alternates from coefficient to
  // coefficient, so that it meets the key's variance only.
  noise.common.value = is_nonzero * kDifference * word2 / 4 * (1 + kN * kBitVariance);
  return noise;
}

Variance blind_rotation_variance(const TfheParameters& p) {
  const double steps = p.small_dimension.value / static_cast<double>(p.grouping_factor);
  return {steps * rotation_step_noise(p).total()};
}

// Results of one rotation are neighbouring coefficients. What the mean of the key's bits, 1/2,
// makes of errors of masks, rounding errors and those of the transforms, is a sum over all
// coefficients, the same for neighbours but for a few. Errors of transforms meet the key: half of
// them is that.
Variance shared_rotation_covariance(const TfheParameters& p) {
  constexpr double kBitMean2 = kBitSecondMoment - kBitVariance;
  const double word2 = p.accumulator_bits == 32 ? kWord32 : kWord64;
  const double is_nonzero = 1 - std::exp2(-static_cast<double>(p.grouping_factor));
  const double of_digits = is_nonzero * kDifference * (last_step2(p.bootstrap) - word2) / 12;
  const double of_words = p.accumulator_bits == 32 ? kWord32 / 12 : 0;
  const double of_fft = rotation_step_noise(p).fft.value * kBitMean2 / kBitSecondMoment;
  const double steps = p.small_dimension.value / static_cast<double>(p.grouping_factor);
  return {steps * ((of_digits + of_words) * big_dimension(p) * kBitMean2 + of_fft)};
}

// Centring leaves e (s - 1/2) of each rounding error e, so E[e^2] = Var(e) + E[e]^2 counts 1/4
// times. The key's Gaussian and the input's body are each rounded once to a 32-bit word.
Variance keyswitch_variance(const TfheParameters& p) {
  const double to_32_bits = kWord32 / 12;
  const double n = p.small_dimension.value;
  const double rounding = (gadget_rounding_variance(p.keyswitch) + kWord64 / 4) * kBitVariance;
  const double key_noise = p.keyswitch.level_count * (p.small_variance.value + to_32_bits) *
                           digit_second_moment(p.keyswitch);
  // The first n words of the mask stand under the small key already; they are only rounded.
  return {(big_dimension(p) - n) * (rounding + key_noise) +
          (n * kBitSecondMoment + 1) * to_32_bits};
}

// Masks are 32-bit words: rounding w of them to one step, halves upwards, has E[e^2] = w^2/12 +
// 1/6.
Variance modulus_switch_mask_variance(LweDimension n, std::uint64_t modulus) {
  const double step2 = 1 / square(static_cast<double>(modulus));
  return {n.value * kBitVariance * (step2 / 12 + kWord32 / 6)};
}

// The body plus its centring term is a multiple of half a 32-bit word.
Variance modulus_switch_variance(LweDimension n, std::uint64_t modulus) {
  const double step2 = 1 / square(static_cast<double>(modulus));
  const double body = step2 / 12 + kWord32 / 4 / 6;
  return {modulus_switch_mask_variance(n, modulus).value + body};
}

namespace {

// Digits of one polynomial times rows of keys: the keys' errors and the transforms'.
double keyed_product(const TfheParameters& p, const Gadget& gadget) {
  TfheParameters row = p;
  row.bootstrap = gadget;
  row.glwe_dimension = {0};  // a single polynomial is cut
  return gadget.level_count * polynomial_size(p) * digit_second_moment(gadget) *
             p.glwe_variance.value +
         fft_error(row, kFftErrorLog2) * transform_passes(p);
}

}  // namespace

Variance trace_step_variance(const TfheParameters& p) {
  const double rounding = gadget_rounding_variance(p.trace) * polynomial_size(p) * kBitSecondMoment;
  return {keyed_product(p, p.trace) + rounding};
}

// After step i of log2 N come log2 N - i more, so that 2^(log2 N - i) images of its error, which
// has N coefficients, add up: coefficient 0 of all of them, the others at different places or with
// different signs. So the norm is that of as many independent errors.
Variance trace_norm2(const TfheParameters& p) {
  const double size = polynomial_size(p);
  return {(square(size) - size) * trace_step_variance(p).value};
}

namespace {

// Squared norms of what a product is multiplied by, and of that times S and S^2. Coefficient j of
// S^2 is (2 j - N) / 4 on average.
struct Multiplier {
  double norm2, secret_norm2, square_norm2;
};

double square_noise2(double size) { return square(size) * 3 / 8; }  // about these averages

Multiplier one(double size) {
  return {1, size * kBitSecondMoment, size * square(size) / 48 + square_noise2(size)};
}

// X^e - 1, e at most N: bits of the key less others, but for e sums. The averages of S^2 rise and
// fall by 1/2 from one to the next.
Multiplier difference(double size, double e) {
  return {kDifference, kDifference * kBitVariance * size + e,
          size * square(e) / 4 - e * square(e) / 6 + kDifference * square_noise2(size)};
}

}  // namespace

Variance secret_square_variance(const TfheParameters& p) {
  return {keyed_product(p, p.trace) +
          gadget_rounding_variance(p.trace) * one(polynomial_size(p)).square_norm2};
}

PackingNoise packing_noise(const TfheParameters& p, const WideShape& shape) {
  const Gadget& gadget = p.circuit_bootstrap;
  const double size = polynomial_size(p);
  const double digits = gadget.level_count * digit_second_moment(gadget);
  const auto rotated = std::min(shape.index_bits, static_cast<std::uint32_t>(std::log2(size)));
  // Sums over the products; the first one's operand has no mask.
  Multiplier masks{};
  double bodies = 0;
  const auto add = [&](const Multiplier& m) {
    if (bodies != 0) {
      masks.norm2 += m.norm2;
      masks.secret_norm2 += m.secret_norm2;
      masks.square_norm2 += m.square_norm2;
    }
    bodies += m.norm2;
  };
  for (std::uint32_t bit = rotated; bit < shape.index_bits; ++bit) add(one(size));
  for (std::uint32_t bit = 0; bit < rotated; ++bit) add(difference(size, std::exp2(bit)));

  const double all = bodies + masks.secret_norm2;
  const double of_square = size * (masks.norm2 * keyed_product(p, p.trace) +
                                   masks.square_norm2 * gadget_rounding_variance(p.trace));
  const double rounding = gadget_rounding_variance(gadget) * all;
  TfheParameters cut = p;
  cut.bootstrap = gadget;
  const double fft = bodies * fft_error(cut, kFftErrorLog2) * transform_passes(p);
  return {digits * all, {digits * (all * trace_norm2(p).value + of_square) + rounding + fft}};
}

}  // namespace torusml
