#include "tfhe/secret/exact_product.h"

#include <algorithm>
#include <bit>

#include "tfhe/kernels.h"

namespace torusml {
namespace {

constexpr int kLimbBits = 22, kLimbs = 3;
constexpr std::uint64_t kHalfLimb = std::uint64_t{1} << (kLimbBits - 1);
constexpr std::uint64_t kLimbMask = (std::uint64_t{1} << kLimbBits) - 1;
// With half a limb added to every limb, the signed limbs are bit fields minus half a limb. The last
// one has 20 bits only; what is lost there is a multiple of 2^64.
constexpr std::uint64_t kOffset = kHalfLimb | kHalfLimb << kLimbBits | std::uint64_t{1} << 63;

double signed_limb(Torus word, int limb) {
  const std::uint64_t field = (word + kOffset) >> (kLimbBits * limb) & kLimbMask;
  const std::uint64_t half = limb == kLimbs - 1 ? std::uint64_t{1} << 19 : kHalfLimb;
  return static_cast<double>(static_cast<std::int64_t>(field - half));
}

// Nearest integer of |value| < 2^51, without a branch.
std::uint64_t nearest_integer(double value) {
  constexpr double kMagic = 0x1.8p52;
  return std::bit_cast<std::uint64_t>(value + kMagic) - std::bit_cast<std::uint64_t>(kMagic);
}

}  // namespace

ExactProduct::Scratch::Scratch(const ExactProduct& product)
    : limb(product.size_),
      work(product.size_),
      transformed(product.size_),
      sum(product.size_),
      secret_work(product.size_),
      values(product.size_) {}

ExactProduct::ExactProduct(PolynomialSize size, std::span<const std::uint64_t> key)
    : size_(size.value), count_(key.size() / size.value), plan_(fft_plan(size)), key_(key.size()) {
  const double scale = 1.0 / static_cast<double>(plan_.points);  // a power of two
  SecretBuffer<double> values(size_), work(size_);
  for (std::size_t r = 0; r < count_; ++r) {
    for (std::size_t j = 0; j < size_; ++j) {
      values[j] = static_cast<double>(static_cast<std::int64_t>(key[r * size_ + j])) * scale;
    }
    current_kernels().forward(plan_, values.data(), work.data(), key_.data() + r * size_);
  }
}

void ExactProduct::multiply_limb(std::span<const Torus> masks, int limb, Scratch& scratch) const {
  std::fill_n(scratch.sum.data(), size_, 0.0);
  for (std::size_t r = 0; r < count_; ++r) {
    const Torus* mask = masks.data() + r * size_;
    for (std::size_t j = 0; j < size_; ++j) scratch.limb[j] = signed_limb(mask[j], limb);
    current_kernels().forward(plan_, scratch.limb.data(), scratch.work.data(),
                              scratch.transformed.data());
    add_product(scratch.transformed.data(), key_.data() + r * size_, scratch.sum.data());
  }
  current_kernels().inverse(plan_, scratch.sum.data(), scratch.secret_work.data(),
                            scratch.values.data());
}

// Groups of kGroupPoints real parts and as many imaginary parts.
void ExactProduct::add_product(const double* a, const double* s, double* sum) const {
  for (std::size_t group = 0; group < size_; group += 2 * kGroupPoints) {
    for (std::size_t re = group; re < group + kGroupPoints; ++re) {
      const std::size_t im = re + kGroupPoints;
      sum[re] += a[re] * s[re] - a[im] * s[im];
      sum[im] += a[re] * s[im] + a[im] * s[re];
    }
  }
}

void ExactProduct::set_sum(std::span<const Torus> masks, std::span<Torus> out,
                           Scratch& scratch) const {
  std::fill(out.begin(), out.end(), Torus{0});
  for (int limb = 0; limb < kLimbs; ++limb) {
    multiply_limb(masks, limb, scratch);
    for (std::size_t j = 0; j < size_; ++j) {
      out[j] += nearest_integer(scratch.values[j]) << (kLimbBits * limb);
    }
  }
}

}  // namespace torusml
