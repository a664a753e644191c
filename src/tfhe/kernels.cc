#include "tfhe/kernels.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <mutex>
#include <type_traits>

#include "torusml/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tfhe/kernels.cc"
#include "hwy/foreach_target.h"
// foreach_target must come first.
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "tfhe/fft-inl.h"

HWY_BEFORE_NAMESPACE();
namespace torusml::HWY_NAMESPACE {

void forward(const FftPlan& plan, const double* values, double* work, double* out) {
  split_levels(plan, NaturalArray<const double>{values, plan.points, first_part(plan)}, work);
  const Wide d;
  for (std::size_t b = 0; b < plan.points / 4; b += hn::Lanes(d)) {
    const auto y = split_last(d, plan, work, b);
    const Complex<Wide> roots[4] = {y.z0, y.z1, y.z2, y.z3};
    for (std::size_t s = 0; s < 4; ++s) {
      double* group = out + group_index(b, s);
      store(d, roots[s], group, group + kGroupPoints, 0);
    }
  }
}

void inverse(const FftPlan& plan, const double* in, double* work, double* out) {
  const Wide d;
  const auto root = [&](std::size_t b, std::size_t s) HWY_ATTR {
    const double* group = in + group_index(b, s);
    return load(d, group, group + kGroupPoints, 0);
  };
  for (std::size_t b = 0; b < plan.points / 4; b += hn::Lanes(d)) {
    join_last(d, plan, Quad<Wide>{root(b, 0), root(b, 1), root(b, 2), root(b, 3)}, b, work);
  }
  join_levels(plan, work, NaturalArray<double>{out, plan.points, first_part(plan)});
}

template <class Word>
using WordTag = hn::Rebind<Word, Wide>;

HWY_INLINE hn::Vec<hn::RebindToUnsigned<Wide>> load_words(const std::uint64_t* words) {
  return hn::LoadU(hn::RebindToUnsigned<Wide>(), words);
}
HWY_INLINE hn::Vec<hn::RebindToUnsigned<Wide>> load_words(const std::uint32_t* words) {
  return hn::PromoteTo(hn::RebindToUnsigned<Wide>(), hn::LoadU(WordTag<std::uint32_t>(), words));
}

// Digits of one level by offset: with half a unit of the last digit (rounding) and B/2 in every
// digit added, each digit of a word is a plain bit field minus B/2.
//
// That alone would round all halves up and give digits a mean of -1/2 grid step. Neither is small:
// the transform leaves words that are coarse multiples of 2^-64, and a bias shared by all
// coefficients meets the key's mean of 1/2 and adds up over the whole polynomial. So every second
// coefficient is negated before the cut and its digits after it.
template <class Word>
class DigitSource {
 public:
  DigitSource(const FftPlan& plan, const Gadget& gadget, const Word* words, std::size_t level)
      : words_(words), points_(plan.points), part_points_(first_part(plan)) {
    constexpr int kBits = 8 * sizeof(Word);
    const int base_log2 = static_cast<int>(gadget.base_log2);
    const int levels = static_cast<int>(gadget.level_count);
    const int kept = base_log2 * levels;
    std::uint64_t offset = kept < kBits ? std::uint64_t{1} << (kBits - 1 - kept) : 0;
    for (int l = 1; l <= levels; ++l) {
      offset += std::uint64_t{1} << (kBits - 1 - base_log2 * (l - 1));
    }
    const hn::RebindToUnsigned<Wide> du;
    const double centre = 0x1p52 + static_cast<double>(std::uint64_t{1} << (base_log2 - 1));
    for (std::size_t start = 0; start < kStarts; ++start) {
      cuts_[start] = Cut(offset, centre, hn::And(hn::Iota(du, start), hn::Set(du, 1)));
    }
    shift_ = kBits - base_log2 * static_cast<int>(level);
    mask_ = hn::Set(du, (std::uint64_t{1} << base_log2) - 1);
  }

  template <class D>
  HWY_INLINE Complex<D> get(D d, std::size_t first, std::size_t part) const {
    static_assert(std::is_same_v<D, Wide>);
    const Word* words = words_ + first + part * part_points_;
    const Cut& cut = cuts_[first % kStarts];
    return {digit(d, cut, words), digit(d, cut, words + points_)};
  }

 private:
  // Vectors start at even coefficients, unless they have a single lane.
  static constexpr std::size_t kStarts = hn::MaxLanes(Wide()) == 1 ? 2 : 1;

  struct Cut {
    Cut() = default;
    Cut(std::uint64_t offset, double centre, hn::Vec<hn::RebindToUnsigned<Wide>> odd) {
      const Wide d;
      const hn::RebindToUnsigned<Wide> du;
      const auto sign_bit = hn::ShiftLeft<63>(odd);
      signs = hn::BitCast(d, hn::Xor(hn::BitCast(du, hn::Set(d, 1.0)), sign_bit));
      centres = hn::BitCast(d, hn::Xor(hn::BitCast(du, hn::Set(d, -centre)), sign_bit));
      flips = hn::Sub(hn::Zero(du), odd);
      offsets = hn::Add(hn::Set(du, offset), odd);
    }
    hn::Vec<Wide> signs, centres;                        // +-1, +-(2^52 + B/2) the other way
    hn::Vec<hn::RebindToUnsigned<Wide>> flips, offsets;  // x ^ flip + offset = offset +- x
  };

  // An unsigned field below 2^52 becomes a double through the mantissa of 2^52.
  HWY_INLINE hn::Vec<Wide> digit(Wide d, const Cut& cut, const Word* words) const {
    const hn::RebindToUnsigned<Wide> du;
    const auto word = hn::Add(hn::Xor(load_words(words), cut.flips), cut.offsets);
    const auto field = hn::And(hn::ShiftRightSame(word, shift_), mask_);
    const auto value = hn::BitCast(d, hn::Or(field, hn::BitCast(du, hn::Set(d, 0x1p52))));
    return hn::MulAdd(value, cut.signs, cut.centres);
  }

  const Word* words_;
  std::size_t points_, part_points_;
  int shift_;
  Cut cuts_[kStarts];
  hn::Vec<hn::RebindToUnsigned<Wide>> mask_;
};

template <class Word>
void split_words(const FftPlan& plan, const Gadget& gadget, const Word* words, double* rows,
                 std::size_t pitch) {
  for (std::size_t level = 1; level <= gadget.level_count; ++level) {
    split_levels(plan, DigitSource<Word>(plan, gadget, words, level), rows + (level - 1) * pitch);
  }
}

void split_digits(const FftPlan& plan, const Gadget& gadget, std::uint32_t word_bits,
                  const void* words, double* rows, std::size_t pitch) {
  if (word_bits == 32) {
    split_words(plan, gadget, static_cast<const std::uint32_t*>(words), rows, pitch);
  } else {
    split_words(plan, gadget, static_cast<const std::uint64_t*>(words), rows, pitch);
  }
}

// Adds the fraction of a value to a torus word. The value's integer part is dropped first: only
// then does the fraction keep all its bits when it is moved to a fixed exponent.
template <class Word>
struct TorusSink {
  Word* words;
  std::size_t points, part_points;

  static HWY_INLINE void accumulate(Wide d, std::uint64_t* words, hn::Vec<Wide> fraction) {
    const hn::RebindToUnsigned<Wide> du;
    const auto bits = hn::BitCast(du, hn::Add(fraction, hn::Set(d, 3.0)));
    hn::StoreU(hn::Add(hn::LoadU(du, words), hn::ShiftLeft<13>(bits)), du, words);
  }
  static HWY_INLINE void accumulate(Wide d, std::uint32_t* words, hn::Vec<Wide> fraction) {
    const WordTag<std::uint32_t> dw;
    const auto bits =
        hn::BitCast(hn::RebindToUnsigned<Wide>(), hn::Add(fraction, hn::Set(d, 0x1.8p20)));
    hn::StoreU(hn::Add(hn::LoadU(dw, words), hn::TruncateTo(dw, bits)), dw, words);
  }
  template <class D>
  HWY_INLINE void put(D d, std::size_t first, std::size_t part, Complex<D> z) const {
    static_assert(std::is_same_v<D, Wide>);
    Word* target = words + first + part * part_points;
    accumulate(d, target, hn::Sub(z.re, hn::Round(z.re)));
    accumulate(d, target + points, hn::Sub(z.im, hn::Round(z.im)));
  }
};

void join_add(const FftPlan& plan, std::uint32_t word_bits, double* work, void* words) {
  const std::size_t part = first_part(plan);
  if (word_bits == 32) {
    join_levels(plan, work,
                TorusSink<std::uint32_t>{static_cast<std::uint32_t*>(words), plan.points, part});
  } else {
    join_levels(plan, work,
                TorusSink<std::uint64_t>{static_cast<std::uint64_t*>(words), plan.points, part});
  }
}

// In a register: the compiler would rather read a memory operand twice, but reads are what the
// products wait for.
template <class V>
HWY_INLINE V keep(V v) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(v.raw));
#elif HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
  asm("" : "+v"(v.raw));
#endif
  return v;
}

// Values of Y^c, less a constant, at the points of all blocks: at the root i^s r_b, Y^c is
// i^(s c) r_b^c. r_b^c is the product of a factor for the run of kRun blocks that b lies in and
// another for its place in the run.
class Monomial {
 public:
  static constexpr std::size_t kRun = 32;
  // Doubles of the tables that `make` writes.
  static std::size_t table_doubles(std::size_t points) {
    const std::size_t blocks = points / 4, run = std::min(kRun, blocks);
    return 2 * run + 2 * (blocks / run);
  }

  Monomial() = default;
  Monomial(const FftPlan& plan, std::uint32_t exponent, double less, double* tables)
      : places_(tables), runs_(tables + 2 * std::min(kRun, plan.points / 4)), less_(less) {
    const std::uint32_t turns = exponent % 4;
    constexpr std::uint64_t kSign = std::uint64_t{1} << 63;
    swap_ = turns % 2 == 1 ? ~std::uint64_t{0} : 0;
    sign_re_ = turns == 1 || turns == 2 ? kSign : 0;
    sign_im_ = turns == 2 || turns == 3 ? kSign : 0;
    sign_square_ = turns % 2 == 1 ? kSign : 0;
    make(plan, exponent, tables);
  }

  // At roots s = 0 .. 3: out[2 s] and out[2 s + 1], in steps of kGroupPoints.
  HWY_INLINE void values(Wide d, std::size_t b, double* out) const {
    const hn::RebindToUnsigned<Wide> du;
    const auto bits = [&](std::uint64_t word)
                          HWY_ATTR { return hn::BitCast(d, hn::Set(du, word)); };
    const double* place = places_ + 2 * (b % kRun / kGroupPoints * kGroupPoints) + b % kGroupPoints;
    const double* run = runs_ + 2 * (b / kRun);
    const auto one = mul<Wide>(load(d, place, place + kGroupPoints, 0),
                               {hn::Set(d, run[0]), hn::Set(d, run[1])});
    // (re, im) or, for odd exponents, (im, re).
    const auto difference = hn::And(hn::Xor(one.re, one.im), bits(swap_));
    const Complex<Wide> turned = {hn::Xor(hn::Xor(one.re, difference), bits(sign_re_)),
                                  hn::Xor(hn::Xor(one.im, difference), bits(sign_im_))};
    const auto square = bits(sign_square_);
    put(d, one, out, 0);
    put(d, turned, out, 1);
    put(d, {hn::Xor(one.re, square), hn::Xor(one.im, square)}, out, 2);
    put(d, {hn::Xor(turned.re, square), hn::Xor(turned.im, square)}, out, 3);
  }

 private:
  static void make(const FftPlan& plan, std::uint32_t exponent, double* places) {
    const Wide d;
    const auto modulus_mask = static_cast<std::uint32_t>(4 * plan.points - 1);
    const std::size_t blocks = plan.points / 4, run = std::min(kRun, blocks);
    const auto unit = [&](std::size_t b, std::uint32_t base) {
      return plan.units.data() + 2 * ((exponent * (plan.exponents[b] - base)) & modulus_mask);
    };
    const double* steps = plan.steps.data() + exponent % 64 * 2 * kGroupPoints;
    for (std::size_t b = 0; b < run; b += kGroupPoints) {
      const double* u = unit(b, plan.exponents[0]);
      const Complex<Wide> first = {hn::Set(d, u[0]), hn::Set(d, u[1])};
      for (std::size_t lane = 0; lane < kGroupPoints; lane += hn::Lanes(d)) {
        const auto value = mul<Wide>(load(d, steps, steps + kGroupPoints, lane), first);
        store(d, value, places + 2 * b, places + 2 * b + kGroupPoints, lane);
      }
    }
    double* runs = places + 2 * run;
    for (std::size_t b = 0; b < blocks; b += run, runs += 2) {
      const double* u = unit(b, 0);
      runs[0] = u[0];
      runs[1] = u[1];
    }
  }

  HWY_INLINE void put(Wide d, Complex<Wide> z, double* out, std::size_t s) const {
    store(d, {hn::Sub(z.re, hn::Set(d, less_)), z.im}, out + 2 * s * kGroupPoints,
          out + (2 * s + 1) * kGroupPoints, 0);
  }

  const double *places_ = nullptr, *runs_ = nullptr;
  double less_ = 0;
  std::uint64_t swap_ = 0, sign_re_ = 0, sign_im_ = 0, sign_square_ = 0;
};

// One step on one ciphertext for as many blocks as a vector has lanes.
//
// Scratch: the last level's results, [shard][row][root s][re, im][kGroupPoints].
template <bool kSharded, std::size_t Keys>
class GroupStep {
 public:
  static std::size_t table_doubles(std::size_t points) {
    return Keys * kWraps * Monomial::table_doubles(points);
  }

  GroupStep() = default;
  GroupStep(const FftPlan& plan, const StepShape& shape, const double* matrix, const StepItem& item,
            double* scratch, double* tables)
      : plan_(&plan), shape_(shape), matrix_(matrix), rows_(item.rows), scratch_(scratch) {
    const std::size_t shards = std::size_t{1} << shape.shards_log2;
    for (std::size_t j = 0; j < Keys; ++j) {
      const std::uint32_t turns = item.exponents[j] >> shape.shards_log2;
      offsets_[j] = item.exponents[j] & (shards - 1);
      monomials_[j][0] = Monomial(plan, turns, kSharded ? 0 : 1, tables);
      tables += Monomial::table_doubles(plan.points);
      if constexpr (kSharded) {
        monomials_[j][1] = Monomial(plan, (turns + 1) & (4 * plan.points - 1), 0, tables);
        tables += Monomial::table_doubles(plan.points);
      }
    }
  }

  // Asks for the points of a group of blocks in the rows of shard 0.
  HWY_INLINE void prefetch_rows(std::size_t b) const {
    const double* row = rows_ + work_index(4 * b);
    for (std::size_t r = 0; r < shape_.rows; ++r, row += shape_.row_pitch) {
      for (std::size_t i = 0; i < 2 * kWorkPoints; i += 8) hwy::Prefetch(row + i);
    }
  }

  HWY_INLINE void run(std::size_t b) const {
    const Wide d;
    split_rows(d, b);
    alignas(64) double monomials[Keys][kWraps][8 * kGroupPoints];
    for (std::size_t j = 0; j < Keys; ++j) {
      for (std::size_t wrap = 0; wrap < kWraps; ++wrap) {
        monomials_[j][wrap].values(d, b, monomials[j][wrap]);
      }
    }
    const std::size_t shards = kSharded ? std::size_t{1} << shape_.shards_log2 : 1;
    for (std::size_t shard = 0; shard < shards; ++shard) {
      Sources sources;
      for (std::size_t j = 0; j < Keys; ++j) {
        const std::size_t wraps = kSharded && shard < offsets_[j] ? 1 : 0;
        const std::size_t from = kSharded ? shard + (wraps ? shards : 0) - offsets_[j] : shard;
        sources.digits[j] = scratch_ + from * shape_.rows * kRowScratch;
        sources.monomial[j] = monomials[j][kSharded ? wraps : 0];
      }
      sources.own = scratch_ + shard * shape_.rows * kRowScratch;
      columns(d, b, sources, rows_ + shard * shape_.shard_pitch);
    }
  }

 private:
  static constexpr std::size_t kWraps = kSharded ? 2 : 1;
  static constexpr bool kBundled = !kSharded && Keys > 1;
  // Rows of shards are too far apart for the hardware to foresee.
  static constexpr std::size_t kRowsAhead = 6;
  static HWY_INLINE void prefetch_work(const double* row, std::size_t b) {
    const double* p = row + work_index(4 * b);
    for (std::size_t i = 0; i < 4 * hn::MaxLanes(Wide()); i += 8) {
      hwy::Prefetch(p + i);
      hwy::Prefetch(p + kWorkPoints + i);
    }
  }

  static constexpr std::size_t kRowScratch = 4 * 2 * kGroupPoints;

  struct Sources {
    const double *own, *digits[Keys], *monomial[Keys];
  };

  HWY_INLINE void split_rows(Wide d, std::size_t b) const {
    const std::size_t shards = kSharded ? std::size_t{1} << shape_.shards_log2 : 1;
    double* out = scratch_;
    for (std::size_t shard = 0; shard < shards; ++shard) {
      const double* rows = rows_ + shard * shape_.shard_pitch;
      for (std::size_t row = 0; row < shape_.rows; ++row, out += kRowScratch) {
        if constexpr (kSharded) prefetch_work(rows + (row + kRowsAhead) * shape_.row_pitch, b);
        const auto y = split_last(d, *plan_, rows + row * shape_.row_pitch, b);
        const Complex<Wide> roots[4] = {y.z0, y.z1, y.z2, y.z3};
        for (std::size_t s = 0; s < 4; ++s) {
          store(d, roots[s], out + 2 * s * kGroupPoints, out + (2 * s + 1) * kGroupPoints, 0);
        }
      }
    }
  }

  HWY_INLINE void columns(Wide d, std::size_t b, const Sources& sources, double* rows) const {
    std::size_t column = 0;
    while (column + 4 <= shape_.columns && shape_.columns != 5) {
      some_columns<4>(d, b, sources, column, rows);
      column += 4;
    }
    switch (shape_.columns - column) {
      case 5:
        some_columns<3>(d, b, sources, column, rows);
        return some_columns<2>(d, b, sources, column + 3, rows);
      case 3:
        return some_columns<3>(d, b, sources, column, rows);
      case 2:
        return some_columns<2>(d, b, sources, column, rows);
      case 1:
        return some_columns<1>(d, b, sources, column, rows);
    }
  }

  template <std::size_t Columns>
  HWY_INLINE void some_columns(Wide d, std::size_t b, const Sources& sources, std::size_t first,
                               double* rows) const {
    alignas(64) double sums[Columns][4][2 * kGroupPoints];
    // Few columns leave registers for two roots at once, whose sums do not wait for each other.
    constexpr std::size_t kRoots = Columns <= 2 && !kBundled ? 2 : 1;
    for (std::size_t s = 0; s < 4; s += kRoots) {
      if constexpr (kBundled) {
        add_bundled<Columns>(d, b, s, sources, first, sums);
      } else {
        add_products<Columns, kRoots>(d, b, s, sources, first, sums);
      }
    }
    for (std::size_t c = 0; c < Columns; ++c) {
      const auto sum = [&](std::size_t s)
                           HWY_ATTR { return load(d, sums[c][s], sums[c][s] + kGroupPoints, 0); };
      join_last(d, *plan_, Quad<Wide>{sum(0), sum(1), sum(2), sum(3)}, b,
                rows + (first + c) * shape_.row_pitch);
    }
  }

  // At roots s, s + 1, ... of each block: sum over keys and rows of (Y^c * digit - own digit) *
  // key.
  template <std::size_t Columns, std::size_t Roots>
  HWY_INLINE void add_products(Wide d, std::size_t b, std::size_t s, const Sources& sources,
                               std::size_t first, double (*sums)[4][2 * kGroupPoints]) const {
    const std::size_t cell_doubles = shape_.columns * 2 * kGroupPoints;
    const std::size_t key_doubles = shape_.rows * cell_doubles;
    const std::size_t group_doubles = Keys * key_doubles;
    const double* cell = matrix_ + (4 * (b / kGroupPoints) + s) * group_doubles +
                         first * 2 * kGroupPoints + b % kGroupPoints;
    Complex<Wide> total[Roots][Columns];
    for (std::size_t t = 0; t < Roots; ++t) {
      for (std::size_t c = 0; c < Columns; ++c) total[t][c] = {hn::Zero(d), hn::Zero(d)};
    }
    for (std::size_t row = 0; row < shape_.rows; ++row, cell += cell_doubles) {
      const std::size_t in = row * kRowScratch + 2 * s * kGroupPoints;
      HWY_UNROLL(3)
      for (std::size_t j = 0; j < Keys; ++j) {
        HWY_UNROLL(2)
        for (std::size_t t = 0; t < Roots; ++t) {
          const std::size_t at = in + 2 * t * kGroupPoints;
          const double* power = sources.monomial[j] + 2 * (s + t) * kGroupPoints;
          const auto factor = difference(d, sources.digits[j] + at, power, sources.own + at);
          const double* key = cell + t * group_doubles + j * key_doubles;
          HWY_UNROLL(4)
          for (std::size_t c = 0; c < Columns; ++c) {
            const double* at_column = key + c * 2 * kGroupPoints;
            const Complex<Wide> k = {keep(hn::LoadU(d, at_column)),
                                     keep(hn::LoadU(d, at_column + kGroupPoints))};
            total[t][c] = mul_add<Wide>(k, factor, total[t][c]);
          }
        }
      }
    }
    for (std::size_t t = 0; t < Roots; ++t) {
      for (std::size_t c = 0; c < Columns; ++c) {
        store(d, total[t][c], sums[c][s + t], sums[c][s + t] + kGroupPoints, 0);
      }
    }
  }

  // The same for one shard and several keys: the sum of the keys times Y^c - 1 first, then the
  // digits.
  template <std::size_t Columns>
  HWY_INLINE void add_bundled(Wide d, std::size_t b, std::size_t s, const Sources& sources,
                              std::size_t first, double (*sums)[4][2 * kGroupPoints]) const {
    const std::size_t cell_doubles = shape_.columns * 2 * kGroupPoints;
    const std::size_t key_doubles = shape_.rows * cell_doubles;
    const double* cell = matrix_ + (4 * (b / kGroupPoints) + s) * Keys * key_doubles +
                         first * 2 * kGroupPoints + b % kGroupPoints;
    const std::size_t at = 2 * s * kGroupPoints;
    Complex<Wide> powers[Keys], total[Columns];
    for (std::size_t j = 0; j < Keys; ++j) {
      powers[j] = load(d, sources.monomial[j] + at, sources.monomial[j] + at + kGroupPoints, 0);
    }
    for (std::size_t c = 0; c < Columns; ++c) total[c] = {hn::Zero(d), hn::Zero(d)};
    for (std::size_t row = 0; row < shape_.rows; ++row, cell += cell_doubles) {
      const double* digits = sources.own + row * kRowScratch + at;
      const auto digit = load(d, digits, digits + kGroupPoints, 0);
      HWY_UNROLL(4)
      for (std::size_t c = 0; c < Columns; ++c) {
        Complex<Wide> bundle = {hn::Zero(d), hn::Zero(d)};
        HWY_UNROLL(3)
        for (std::size_t j = 0; j < Keys; ++j) {
          const double* key = cell + j * key_doubles + c * 2 * kGroupPoints;
          const Complex<Wide> k = {keep(hn::LoadU(d, key)), keep(hn::LoadU(d, key + kGroupPoints))};
          bundle = j == 0 ? mul<Wide>(k, powers[0]) : mul_add<Wide>(k, powers[j], bundle);
        }
        total[c] = mul_add<Wide>(bundle, digit, total[c]);
      }
    }
    for (std::size_t c = 0; c < Columns; ++c) {
      store(d, total[c], sums[c][s], sums[c][s] + kGroupPoints, 0);
    }
  }

  // Y^c * digit - own digit; with one shard, own is the digit and the monomial is less one already.
  static HWY_INLINE Complex<Wide> difference(Wide d, const double* digits, const double* powers,
                                             const double* owns) {
    const Complex<Wide> power = {keep(hn::LoadU(d, powers)),
                                 keep(hn::LoadU(d, powers + kGroupPoints))};
    if constexpr (!kSharded) return mul<Wide>(load(d, owns, owns + kGroupPoints, 0), power);
    const auto digit = load(d, digits, digits + kGroupPoints, 0);
    const auto own = load(d, owns, owns + kGroupPoints, 0);
    return {hn::NegMulAdd(digit.im, power.im, hn::MulSub(digit.re, power.re, own.re)),
            hn::MulAdd(digit.im, power.re, hn::MulSub(digit.re, power.im, own.im))};
  }

  const FftPlan* plan_ = nullptr;
  StepShape shape_;
  const double* matrix_ = nullptr;
  double *rows_ = nullptr, *scratch_ = nullptr;
  Monomial monomials_[Keys][kWraps];
  std::size_t offsets_[Keys] = {};
};

// Asks for one of `shares` equal parts of an array of doubles.
HWY_INLINE void prefetch_share(const double* array, std::size_t size, std::size_t share,
                               std::size_t shares) {
  constexpr std::size_t kLine = 8;
  const std::size_t part = (size / kLine + shares - 1) / shares * kLine;
  const std::size_t end = std::min(size, (share + 1) * part);
  for (std::size_t i = share * part; i < end; i += kLine) hwy::Prefetch(array + i);
}

template <bool kSharded, std::size_t Keys>
void multiply_items(const FftPlan& plan, const StepShape& shape, const double* matrix,
                    std::span<const StepItem> items, double* scratch) {
  for (std::size_t first = 0; first < items.size(); first += kMostItems) {
    const auto some = items.subspan(first, std::min(kMostItems, items.size() - first));
    std::array<GroupStep<kSharded, Keys>, kMostItems> steps;
    double* tables = scratch + (shape.rows << shape.shards_log2) * 4 * 2 * kGroupPoints;
    for (std::size_t i = 0; i < some.size(); ++i) {
      steps[i] = {plan, shape, matrix, some[i], scratch, tables};
      tables += GroupStep<kSharded, Keys>::table_doubles(plan.points);
    }
    const std::size_t group_doubles = 4 * 2 * kGroupPoints * Keys * shape.rows * shape.columns;
    const double* group_keys = matrix;
    for (std::size_t group = 0; group < plan.points / 4; group += kGroupPoints) {
      group_keys += group_doubles;
      for (std::size_t i = 0; i < some.size(); ++i) {
        prefetch_share(group_keys, group_doubles, i, some.size());
        steps[i + 1 < some.size() ? i + 1 : 0].prefetch_rows(
            i + 1 < some.size() ? group : group + kGroupPoints);
        for (std::size_t b = group; b < group + kGroupPoints; b += hn::Lanes(Wide())) {
          steps[i].run(b);
        }
      }
    }
  }
}

// Groups of points go one after the other through all ciphertexts, so that a group of the keys
// stays in the first cache while they use it.
void multiply_step(const FftPlan& plan, const StepShape& shape, const double* matrix,
                   std::span<const StepItem> items, double* scratch) {
  if (shape.shards_log2 == 0) {
    const auto run = shape.keys == 1 ? multiply_items<false, 1> : multiply_items<false, 3>;
    run(plan, shape, matrix, items, scratch);
  } else {
    const auto run = shape.keys == 1 ? multiply_items<true, 1> : multiply_items<true, 3>;
    run(plan, shape, matrix, items, scratch);
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
      split_digits,
      multiply_step,
      join_add,
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
