#include "tfhe/kernels.h"

#include <cstdlib>
#include <mutex>

#include "torusml/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tfhe/kernels.cc"
#include "hwy/foreach_target.h"
// foreach_target must come first.
#include "hwy/highway.h"
#include "tfhe/fft-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torusml::HWY_NAMESPACE {

void forward(const FftPlan& plan, double* work, double* out) {
  forward_from(plan, DoublesSource{work, work + plan.points}, work, out);
}

void inverse(const FftPlan& plan, const double* in, double* out) {
  inverse_to(plan, in, out, DoublesSink{out, out + plan.points});
}

// Adds the fraction of a value to a torus word. The value's integer part is dropped first: only
// then does the fraction keep all its bits when it is moved to the fixed exponent of [2, 4).
struct TorusSink {
  const std::uint64_t* addend;
  std::uint64_t* result;
  std::size_t points;

  template <class D>
  HWY_INLINE void accumulate(D d, std::size_t j, hn::Vec<D> value) const {
    const hn::RebindToUnsigned<D> du;
    const auto fraction = hn::Sub(value, hn::Round(value));
    const auto bits = hn::BitCast(du, hn::Add(fraction, hn::Set(d, 3.0)));
    const auto word = hn::ShiftLeft<13>(bits);
    hn::StoreU(hn::Add(hn::LoadU(du, addend + j), word), du, result + j);
  }
  template <class D>
  HWY_INLINE void operator()(D d, std::size_t j, Complex<D> z) const {
    accumulate(d, j, z.re);
    accumulate(d, j + points, z.im);
  }
};

void inverse_add(const FftPlan& plan, const double* in, double* work, const std::uint64_t* addend,
                 std::uint64_t* result) {
  inverse_to(plan, in, work, TorusSink{addend, result, plan.points});
}

// Digits by offset: with half a unit of the last digit (rounding) and B/2 in every digit added,
// each digit of a word is a plain bit field minus B/2.
//
// That alone would round all halves up and give digits a mean of -1/2 grid step. Neither is small:
// the transform leaves words that are coarse multiples of 2^-64, and a bias shared by all
// coefficients meets the key's mean of 1/2 and adds up over the whole polynomial. So every second
// coefficient is negated before the cut and its digits after it.
template <class D>
struct Alternation {
  hn::Vec<D> sign, centre;                         // +-1, and +-(2^52 + B/2) with the other sign
  hn::Vec<hn::RebindToUnsigned<D>> flip, offsets;  // x ^ flip + offsets = offset +- x
};

struct DigitCutter {
  std::size_t size;
  int base_log2, levels;
  std::uint64_t offset, mask;

  DigitCutter(std::size_t size, const Gadget& gadget)
      : size(size),
        base_log2(static_cast<int>(gadget.base_log2)),
        levels(static_cast<int>(gadget.level_count)),
        offset(std::uint64_t{1} << (63 - base_log2 * levels)),
        mask((std::uint64_t{1} << base_log2) - 1) {
    for (int level = 1; level <= levels; ++level) {
      offset += std::uint64_t{1} << (63 - base_log2 * (level - 1));
    }
  }

  // For coefficients j, j + 1, ...
  template <class D>
  HWY_INLINE Alternation<D> alternation([[maybe_unused]] D d, std::size_t j) const {
    const hn::RebindToUnsigned<D> du;
    const auto one = hn::Set(du, 1);
    const auto odd = hn::And(hn::Iota(du, j), one);
    const auto sign_bit = hn::ShiftLeft<63>(odd);
    const double centre = 0x1p52 + static_cast<double>(std::uint64_t{1} << (base_log2 - 1));
    return {hn::BitCast(d, hn::Xor(hn::BitCast(du, hn::Set(d, 1.0)), sign_bit)),
            hn::BitCast(d, hn::Xor(hn::BitCast(du, hn::Set(d, -centre)), sign_bit)),
            hn::Sub(hn::Zero(du), odd), hn::Add(hn::Set(du, offset), odd)};
  }

  // An unsigned field below 2^52 becomes a double through the mantissa of 2^52.
  template <class D>
  HWY_INLINE void cut(D d, const Alternation<D>& alternation, hn::Vec<hn::RebindToUnsigned<D>> word,
                      double* digits) const {
    const hn::RebindToUnsigned<D> du;
    const auto exponent = hn::BitCast(du, hn::Set(d, 0x1p52));
    int shift = 64 - base_log2;
    auto field = hn::ShiftRightSame(word, shift);
    for (int level = 1;; ++level, digits += size) {
      const auto value = hn::BitCast(d, hn::Or(field, exponent));
      hn::StoreU(hn::MulAdd(value, alternation.sign, alternation.centre), d, digits);
      if (level == levels) return;
      shift -= base_log2;
      field = hn::And(hn::ShiftRightSame(word, shift), hn::Set(du, mask));
    }
  }

  template <class D>
  HWY_INLINE void step(D d, const Alternation<D>& alternation, const std::uint64_t* source,
                       bool negate, const std::uint64_t* subtrahend, double* digits) const {
    const hn::RebindToUnsigned<D> du;
    const auto rotated = hn::LoadU(du, source), other = hn::LoadU(du, subtrahend);
    const auto difference =
        negate ? hn::Sub(hn::Sub(hn::Zero(du), other), rotated) : hn::Sub(rotated, other);
    cut(d, alternation, hn::Add(hn::Xor(difference, alternation.flip), alternation.offsets),
        digits);
  }

  // The last vector of a segment overlaps its neighbour: digits never alias the words.
  void segment(const std::uint64_t* source, bool negate, const std::uint64_t* subtrahend,
               std::size_t count, double* digits) const {
    const Wide d;
    const std::size_t lanes = hn::Lanes(d);
    if (count < lanes || lanes == 1) {
      const hn::CappedTag<double, 1> one;
      for (std::size_t j = 0; j < count; ++j) {
        step(one, alternation(one, j), source + j, negate, subtrahend + j, digits + j);
      }
      return;
    }
    const auto alternating = alternation(d, 0);
    std::size_t j = 0;
    for (; j + lanes <= count; j += lanes) {
      step(d, alternating, source + j, negate, subtrahend + j, digits + j);
    }
    if (j < count) {
      j = count - lanes;
      step(d, alternating, source + j, negate, subtrahend + j, digits + j);
    }
  }
};

void rotated_digits(std::size_t size, const Gadget& gadget, const std::uint64_t* source,
                    std::size_t shift, const std::uint64_t* subtrahend, double* digits) {
  const DigitCutter cutter(size, gadget);
  const bool negate = shift >= size;
  const std::size_t wrapped = negate ? shift - size : shift;
  cutter.segment(source + (size - wrapped), !negate, subtrahend, wrapped, digits);
  cutter.segment(source, negate, subtrahend + wrapped, size - wrapped, digits + wrapped);
}

// `Columns` results at once, so that a digit is loaded once for all of them.
template <std::size_t Columns>
void multiply_columns(const ProductShape& shape, std::size_t first, const double* digits,
                      const double* matrix, double* out) {
  const Wide d;
  const std::size_t points = shape.points, row_doubles = shape.columns * 2 * kGroupPoints;
  for (std::size_t j = 0; j < points; j += hn::Lanes(d)) {
    const double* cell = matrix + j / kGroupPoints * shape.group_doubles() +
                         first * 2 * kGroupPoints + j % kGroupPoints;
    Complex<Wide> sums[Columns];
    for (std::size_t c = 0; c < Columns; ++c) sums[c] = {hn::Zero(d), hn::Zero(d)};
    for (std::size_t row = 0; row < shape.rows; ++row, cell += row_doubles) {
      const auto digit = load(d, digits + row * 2 * points, digits + (row * 2 + 1) * points, j);
      for (std::size_t c = 0; c < Columns; ++c) {
        const auto key = load(d, cell + c * 2 * kGroupPoints, cell + (c * 2 + 1) * kGroupPoints, 0);
        sums[c].re = hn::NegMulAdd(digit.im, key.im, hn::MulAdd(digit.re, key.re, sums[c].re));
        sums[c].im = hn::MulAdd(digit.im, key.re, hn::MulAdd(digit.re, key.im, sums[c].im));
      }
    }
    for (std::size_t c = 0; c < Columns; ++c) {
      double* result = out + (first + c) * 2 * points;
      store(d, sums[c], result, result + points, j);
    }
  }
}

void multiply(const ProductShape& shape, const double* digits, const double* matrix, double* out) {
  std::size_t column = 0;
  for (; column + 4 <= shape.columns; column += 4) {
    multiply_columns<4>(shape, column, digits, matrix, out);
  }
  switch (shape.columns - column) {
    case 3:
      return multiply_columns<3>(shape, column, digits, matrix, out);
    case 2:
      return multiply_columns<2>(shape, column, digits, matrix, out);
    case 1:
      return multiply_columns<1>(shape, column, digits, matrix, out);
  }
}

// Rows go in blocks that stay in the first cache while all ciphertexts of the batch use them.
constexpr std::size_t kRowBlock = 8;

template <std::size_t Rows>
void subtract_row_block(const std::int32_t* digits, const std::uint32_t* key, std::size_t pitch,
                        std::uint32_t* sums) {
  const hn::CappedTag<std::uint32_t, 16> d;
  hn::Vec<decltype(d)> digit[Rows];
  for (std::size_t r = 0; r < Rows; ++r) {
    digit[r] = hn::Set(d, static_cast<std::uint32_t>(digits[r]));
  }
  for (std::size_t j = 0; j < pitch; j += hn::Lanes(d)) {
    auto product = hn::Mul(digit[0], hn::LoadU(d, key + j));
    for (std::size_t r = 1; r < Rows; ++r) {
      product = hn::Add(product, hn::Mul(digit[r], hn::LoadU(d, key + r * pitch + j)));
    }
    hn::StoreU(hn::Sub(hn::LoadU(d, sums + j), product), d, sums + j);
  }
}

void subtract_products(const std::int32_t* digits, std::size_t rows, std::size_t count,
                       const std::uint32_t* key, std::size_t pitch, std::uint32_t* sums) {
  std::size_t row = 0;
  for (; row + kRowBlock <= rows; row += kRowBlock) {
    for (std::size_t c = 0; c < count; ++c) {
      subtract_row_block<kRowBlock>(digits + c * rows + row, key + row * pitch, pitch,
                                    sums + c * pitch);
    }
  }
  for (; row < rows; ++row) {
    for (std::size_t c = 0; c < count; ++c) {
      subtract_row_block<1>(digits + c * rows + row, key + row * pitch, pitch, sums + c * pitch);
    }
  }
}

const Kernels* kernel_table() {
  static const Kernels kTable = {
      forward,
      inverse,
      inverse_add,
      rotated_digits,
      multiply,
      subtract_products,
      hwy::TargetName(HWY_TARGET),
  };
  return &kTable;
}

}  // namespace torusml::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torusml {
namespace {

HWY_EXPORT(kernel_table);

void choose(std::string_view name) {
  hwy::SetSupportedTargetsForTest(0);
  if (name.empty()) return;
  bool compiled = false;
  std::string runnable;
  for (std::int64_t rest = HWY_TARGETS; rest != 0; rest &= rest - 1) {
    const std::int64_t target = rest & -rest;
    const bool runs = (hwy::SupportedTargets() & target) != 0;
    if (runs) runnable += std::string(runnable.empty() ? "" : ", ") + hwy::TargetName(target);
    if (name != hwy::TargetName(target)) continue;
    if (runs) return hwy::SetSupportedTargetsForTest(target);
    compiled = true;
  }
  throw Error(compiled ? ErrorCode::not_supported : ErrorCode::unknown_option,
              "the instruction set '" + std::string(name) +
                  (compiled ? "' is not available on this machine" : "' is unknown"),
              "TORUSML_TARGET", "use one of " + runnable);
}

void choose_by_environment() {
  static std::once_flag once;
  std::call_once(once, [] {
    const char* name = std::getenv("TORUSML_TARGET");
    choose(name == nullptr ? "" : name);
  });
}

}  // namespace

const Kernels& current_kernels() {
  choose_by_environment();
  return *HWY_DYNAMIC_DISPATCH(kernel_table)();
}

std::vector<TargetName> compiled_targets() {
  choose_by_environment();
  const std::int64_t chosen = hwy::SupportedTargets();
  hwy::SetSupportedTargetsForTest(0);
  const std::int64_t supported = hwy::SupportedTargets();
  hwy::SetSupportedTargetsForTest(chosen);
  std::vector<TargetName> names, missing;
  for (std::int64_t rest = HWY_TARGETS; rest != 0; rest &= rest - 1) {
    const std::int64_t target = rest & -rest;
    const bool runs = (supported & target) != 0;
    (runs ? names : missing).push_back({hwy::TargetName(target), runs});
  }
  names.insert(names.end(), missing.begin(), missing.end());
  return names;
}

void set_target(std::string_view name) {
  choose_by_environment();
  choose(name);
}

}  // namespace torusml
#endif
