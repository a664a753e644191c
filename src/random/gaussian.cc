#include "random/gaussian.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "random/gaussian.cc"
#include "hwy/foreach_target.h"
// foreach_target must come first.
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torusml::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Integers of up to 51 bits pass through the mantissa of 2^52: exact, and without a branch on the
// sign as some scalar conversions have.
template <class D, class VU = hn::Vec<hn::RebindToUnsigned<D>>>
hn::Vec<D> small_integer_to_double(D d, VU v) {
  const hn::RebindToUnsigned<D> du;
  const auto magic = hn::Set(d, 0x1p52);
  return hn::Sub(hn::BitCast(d, hn::Or(v, hn::BitCast(du, magic))), magic);
}

template <class D, class V = hn::Vec<D>>
hn::Vec<hn::RebindToUnsigned<D>> small_double_to_integer(D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto magic = hn::Set(d, 0x1.8p52);
  return hn::Sub(hn::BitCast(du, hn::Add(v, magic)), hn::BitCast(du, magic));
}

// A double below 2^62 in size, rounded to nearest, as a word modulo 2^64.
template <class D, class V = hn::Vec<D>>
hn::Vec<hn::RebindToUnsigned<D>> to_word(D d, V value) {
  const auto rounded = hn::Round(value);
  const auto high = hn::Round(hn::Mul(rounded, hn::Set(d, 0x1p-32)));
  const auto low = hn::Sub(rounded, hn::Mul(high, hn::Set(d, 0x1p32)));
  return hn::Add(hn::ShiftLeft<32>(small_double_to_integer(d, high)),
                 small_double_to_integer(d, low));
}

void uniform_to_gaussian_kernel(const std::uint64_t* uniform, std::size_t pairs, double sigma,
                                std::uint64_t* words) {
  const hn::ScalableTag<double> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  for (std::size_t i = 0; i < pairs; i += hn::Lanes(d)) {
    const auto radius_bits = hn::LoadU(du, uniform + i);
    const auto high = small_integer_to_double(d, hn::ShiftRight<32>(radius_bits));
    const auto low = small_integer_to_double(d, hn::And(radius_bits, hn::Set(du, 0xffffffffull)));
    // u = (bits + 1/2) / 2^64, so that the logarithm is finite.
    const auto sum = hn::Add(hn::Mul(high, hn::Set(d, 0x1p32)), hn::Add(low, hn::Set(d, 0.5)));
    const auto u = hn::Mul(sum, hn::Set(d, 0x1p-64));
    const auto square = hn::Max(hn::Mul(hn::Set(d, -2.0), hn::Log(d, u)), hn::Zero(d));
    const auto radius = hn::Mul(hn::Sqrt(square), hn::Set(d, sigma));

    const auto angle_bits = hn::ShiftRight<12>(hn::LoadU(du, uniform + pairs + i));
    const auto turn = hn::Sub(hn::Mul(small_integer_to_double(d, angle_bits), hn::Set(d, 0x1p-52)),
                              hn::Set(d, 0.5));
    const auto angle = hn::Mul(turn, hn::Set(d, 6.283185307179586));
    hn::StoreU(to_word(d, hn::Mul(radius, hn::Cos(d, angle))), du, words + i);
    hn::StoreU(to_word(d, hn::Mul(radius, hn::Sin(d, angle))), du, words + pairs + i);
  }
}

}  // namespace torusml::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torusml {

HWY_EXPORT(uniform_to_gaussian_kernel);

void uniform_to_gaussian(const std::uint64_t* uniform, std::size_t pairs, double sigma,
                         std::uint64_t* words) {
  HWY_DYNAMIC_DISPATCH(uniform_to_gaussian_kernel)(uniform, pairs, sigma, words);
}

}  // namespace torusml
#endif
