#include "tfhe/linear_kernels.h"

#include <algorithm>

#include "hwy/cache_control.h"
#include "tfhe/kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tfhe/linear_kernels.cc"
#include "hwy/foreach_target.h"
// foreach_target must come first.
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace torusml::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Words = hn::CappedTag<std::uint64_t, 8>;

void add_multiple_words(std::int64_t factor, const Torus* x, std::size_t words, Torus* sums) {
  const Words d;
  const auto word = hn::Set(d, static_cast<Torus>(factor));
  std::size_t j = 0;
  for (; j + hn::Lanes(d) <= words; j += hn::Lanes(d)) {
    const auto product = hn::Mul(hn::LoadU(d, x + j), word);
    hn::StoreU(hn::Add(hn::LoadU(d, sums + j), product), d, sums + j);
  }
  for (; j < words; ++j) sums[j] += static_cast<Torus>(factor) * x[j];
}

#if HWY_TARGET == HWY_SCALAR

// One lane cannot hold two halves; here the machine multiplies words.
void add_dense(const DenseMatrix& matrix, const Strip& strip, Torus*) {
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    for (std::size_t c = 0; c < matrix.columns; ++c) {
      add_multiple_words(matrix.weights[row * matrix.columns + c], strip.x + c * strip.pitch,
                         strip.words, strip.sums + row * strip.pitch);
    }
  }
}

void add_sparse(const SparseMatrix& matrix, const Strip& strip, Torus*) {
  for (std::size_t row = 0; row < matrix.rows; ++row) {
    for (std::size_t entry = matrix.first_entry(row); entry < matrix.end_entry(row); ++entry) {
      const auto column = static_cast<std::size_t>(matrix.shift[row] + matrix.offset[entry]);
      add_multiple_words(matrix.weights[entry], strip.x + column * strip.pitch, strip.words,
                         strip.sums + row * strip.pitch);
    }
  }
}

#else

using Longs = hn::RebindToSigned<Words>;
using Halves = hn::Repartition<std::int32_t, Words>;

// A group is two vectors of words. Its cell in a panel: a vector with the lower halves, those of
// the first vector's words in even lanes and those of the second's in odd lanes, then a vector with
// the upper halves in the same order. A word is 2^32 * upper + lower with a signed lower half, so
// upper is one more than the word's own upper half where lower is negative.
constexpr std::size_t kGroupWords = 2 * hn::MaxLanes(Words());

HWY_INLINE hn::Vec<Words> lower_mask() { return hn::Set(Words(), 0xFFFFFFFF); }

HWY_INLINE hn::Vec<Words> carried(hn::Vec<Words> word) {
  const auto carry = hn::And(word, hn::Set(Words(), 0x80000000));
  return hn::Add(word, hn::Add(carry, carry));
}

HWY_INLINE void pack_group(const Torus* x, Torus* cell) {
  const Words d;
  const auto first = hn::LoadU(d, x), second = hn::LoadU(d, x + hn::Lanes(d));
  hn::Store(hn::Or(hn::And(first, lower_mask()), hn::ShiftLeft<32>(second)), d, cell);
  const auto upper = hn::AndNot(lower_mask(), carried(second));
  hn::Store(hn::Or(hn::ShiftRight<32>(carried(first)), upper), d, cell + hn::Lanes(d));
}

void pack_last_group(const Torus* x, std::size_t words, Torus* cell) {
  Torus padded[kGroupWords] = {};
  std::copy_n(x, words, padded);
  pack_group(padded, cell);
}

// The sums of one row over one group.
struct Sums {
  hn::Vec<Longs> even, odd;
  hn::Vec<Halves> upper;

  HWY_INLINE void clear() {
    even = odd = hn::Zero(Longs());
    upper = hn::Zero(Halves());
  }

  HWY_INLINE void add(hn::Vec<Halves> weight, hn::Vec<Halves> lower_even, hn::Vec<Halves> lower_odd,
                      hn::Vec<Halves> upper_halves) {
    even = hn::Add(even, hn::MulEven(lower_even, weight));
    odd = hn::Add(odd, hn::MulEven(lower_odd, weight));
    upper = hn::Add(upper, hn::Mul(upper_halves, weight));
  }

  HWY_INLINE void add_to(Torus* words) const {
    const Words d;
    const auto high = hn::BitCast(d, upper);
    const auto first = hn::Add(hn::BitCast(d, even), hn::ShiftLeft<32>(high));
    const auto second = hn::Add(hn::BitCast(d, odd), hn::AndNot(lower_mask(), high));
    Torus* next = words + hn::Lanes(d);
    hn::StoreU(hn::Add(hn::LoadU(d, words), first), d, words);
    hn::StoreU(hn::Add(hn::LoadU(d, next), second), d, next);
  }

  void add_to_last(std::size_t count, Torus* words) const {
    Torus padded[kGroupWords] = {};
    add_to(padded);
    for (std::size_t j = 0; j < count; ++j) words[j] += padded[j];
  }
};

// The lower half is all that matters of a weight that fits.
HWY_INLINE hn::Vec<Halves> broadcast(const std::int64_t& weight) {
  return hn::Set(Halves(), static_cast<std::int32_t>(weight));
}

HWY_INLINE hn::Vec<Halves> odd_to_even(hn::Vec<Halves> halves) {
  return hn::BitCast(Halves(), hn::ShiftRight<32>(hn::BitCast(Words(), halves)));
}

// Columns first .. first + count - 1 of the strip, group after group, each with all its columns.
void pack_dense(const Strip& strip, std::size_t first, std::size_t count, Torus* panel) {
  for (std::size_t c = 0; c < count; ++c) {
    const Torus* x = strip.x + (first + c) * strip.pitch;
    Torus* cell = panel + c * kGroupWords;
    std::size_t j = 0;
    for (; j + kGroupWords <= strip.words; j += kGroupWords, cell += count * kGroupWords)
      pack_group(x + j, cell);
    if (j < strip.words) pack_last_group(x + j, strip.words - j, cell);
  }
}

// `Rows` rows from `row` on, over the panel's columns.
template <std::size_t Rows>
void add_dense_rows(const DenseMatrix& matrix, std::size_t row, std::size_t first,
                    std::size_t count, const Strip& strip, const Torus* panel) {
  const Halves d;
  const std::int64_t* weights = matrix.weights.data() + row * matrix.columns + first;
  Torus* target = strip.sums + row * strip.pitch;
  const auto* cell = reinterpret_cast<const std::int32_t*>(panel);
  for (std::size_t j = 0; j < strip.words; j += kGroupWords) {
    Sums sums[Rows];
    for (Sums& sum : sums) sum.clear();
    for (std::size_t c = 0; c < count; ++c, cell += 2 * hn::Lanes(d)) {
      const auto lower = hn::Load(d, cell), upper = hn::Load(d, cell + hn::Lanes(d));
      const auto lower_odd = odd_to_even(lower);
      for (std::size_t r = 0; r < Rows; ++r)
        sums[r].add(broadcast(weights[r * matrix.columns + c]), lower, lower_odd, upper);
    }
    const std::size_t left = strip.words - j;
    for (std::size_t r = 0; r < Rows; ++r) {
      Torus* words = target + r * strip.pitch + j;
      left >= kGroupWords ? sums[r].add_to(words) : sums[r].add_to_last(left, words);
    }
  }
}

// As many rows at once as have their sums in registers.
constexpr std::size_t kDenseRows = HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM_A64 ? 8 : 3;

void add_dense(const DenseMatrix& matrix, const Strip& strip, Torus* panel) {
  for (std::size_t first = 0; first < matrix.columns; first += kPanelColumns) {
    const std::size_t count = std::min(kPanelColumns, matrix.columns - first);
    pack_dense(strip, first, count, panel);
    std::size_t row = 0;
    for (; row + kDenseRows <= matrix.rows; row += kDenseRows)
      add_dense_rows<kDenseRows>(matrix, row, first, count, strip, panel);
    for (; row + 2 <= matrix.rows; row += 2)
      add_dense_rows<2>(matrix, row, first, count, strip, panel);
    if (row < matrix.rows) add_dense_rows<1>(matrix, row, first, count, strip, panel);
  }
}

// A strip in parts of `Groups` groups: part after part, each with all columns.
template <std::size_t Groups>
void pack_sparse(const Strip& strip, std::size_t columns, Torus* panel) {
  const std::size_t part = Groups * kGroupWords;
  for (std::size_t c = 0; c < columns; ++c) {
    const Torus* x = strip.x + c * strip.pitch;
    for (std::size_t j = 0; j < strip.words; j += kGroupWords) {
      Torus* cell = panel + j / part * columns * part + c * part + j % part;
      if (j + kGroupWords <= strip.words)
        pack_group(x + j, cell);
      else
        pack_last_group(x + j, strip.words - j, cell);
    }
  }
}

// Of a row's sums; a strip is too short for the machine to foresee the next row's.
constexpr std::size_t kRowsAhead = 2;

HWY_INLINE void prefetch(const Torus* sums, const Strip& strip) {
  constexpr std::size_t kLineWords = 8;
  for (std::size_t j = 0; j < strip.words; j += kLineWords) hwy::Prefetch(sums + j);
}

template <std::size_t Groups>
void add_sparse_row(const SparseMatrix& matrix, std::size_t row, const Strip& strip,
                    const Torus* panel) {
  const Halves d;
  Sums sums[Groups];
  for (Sums& sum : sums) sum.clear();
  if (row + kRowsAhead < matrix.rows)
    prefetch(strip.sums + (row + kRowsAhead) * strip.pitch, strip);
  const std::size_t end = matrix.end_entry(row);
  const auto shift = static_cast<std::size_t>(matrix.shift[row]);
  for (std::size_t entry = matrix.first_entry(row); entry < end; ++entry) {
    const auto weight = broadcast(matrix.weights[entry]);
    const std::size_t column = shift + static_cast<std::size_t>(matrix.offset[entry]);
    const auto* cell = reinterpret_cast<const std::int32_t*>(panel + column * Groups * kGroupWords);
    for (std::size_t g = 0; g < Groups; ++g, cell += 2 * hn::Lanes(d)) {
      const auto lower = hn::Load(d, cell), upper = hn::Load(d, cell + hn::Lanes(d));
      sums[g].add(weight, lower, odd_to_even(lower), upper);
    }
  }
  Torus* words = strip.sums + row * strip.pitch;
  for (std::size_t g = 0; g < Groups; ++g, words += kGroupWords) {
    const std::size_t j = g * kGroupWords;
    if (j + kGroupWords <= strip.words)
      sums[g].add_to(words);
    else if (j < strip.words)
      sums[g].add_to_last(strip.words - j, words);
  }
}

template <std::size_t Groups>
void add_sparse_parts(const SparseMatrix& matrix, const Strip& strip, Torus* panel) {
  pack_sparse<Groups>(strip, matrix.columns, panel);
  for (std::size_t j = 0; j < strip.words; j += Groups * kGroupWords) {
    const Strip part{strip.x + j, strip.sums + j, strip.pitch,
                     std::min(Groups * kGroupWords, strip.words - j)};
    for (std::size_t row = 0; row < matrix.rows; ++row)
      add_sparse_row<Groups>(matrix, row, part, panel + j * matrix.columns);
  }
}

void add_sparse(const SparseMatrix& matrix, const Strip& strip, Torus* panel) {
  if (sparse_panel_words(matrix.columns) == matrix.columns * kStripWords)
    return add_sparse_parts<3>(matrix, strip, panel);  // as many as have their sums in registers
  for (std::size_t j = 0; j < strip.words; j += kGroupWords) {
    const Strip part{strip.x + j, strip.sums + j, strip.pitch,
                     std::min(kGroupWords, strip.words - j)};
    add_sparse_parts<1>(matrix, part, panel);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace

const LinearKernels* linear_kernel_table() {
  static const LinearKernels kTable = {add_dense, add_sparse, add_multiple_words,
                                       hwy::TargetName(HWY_TARGET)};
  return &kTable;
}

}  // namespace torusml::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace torusml {
namespace {

HWY_EXPORT(linear_kernel_table);

// The most words of two vectors on any instruction set.
constexpr std::size_t kLargestGroup = 16;
// A sparse matrix's panel holds the whole strip up to this size, and one group beyond it.
constexpr std::size_t kWidePanelWords = std::size_t{1} << 17;

}  // namespace

const LinearKernels& current_linear_kernels() {
  current_kernels();  // which chooses the instruction set
  return *HWY_DYNAMIC_DISPATCH(linear_kernel_table)();
}

std::size_t dense_panel_words(std::size_t columns) {
  return std::min(columns, kPanelColumns) * kStripWords;
}

std::size_t sparse_panel_words(std::size_t columns) {
  const std::size_t wide = columns * kStripWords;
  return wide <= kWidePanelWords ? wide : columns * kLargestGroup;
}

}  // namespace torusml
#endif
