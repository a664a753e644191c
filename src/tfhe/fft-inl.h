// Passes of the negacyclic transform for the instruction set being compiled. No include guard of
// the usual kind: kernels.cc includes this once per instruction set.
#if defined(TORUSML_FFT_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef TORUSML_FFT_INL_H
#undef TORUSML_FFT_INL_H
#else
#define TORUSML_FFT_INL_H
#endif

#include "hwy/highway.h"
#include "tfhe/fft_plan.h"

HWY_BEFORE_NAMESPACE();
namespace torusml::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// 512 bits at most, so that a vector never exceeds a group of transformed key points.
using Wide = hn::CappedTag<double, 8>;
// Inner dimension of four points.
using Narrow = hn::CappedTag<double, 4>;

template <class D>
struct Complex {
  hn::Vec<D> re, im;
};

template <class D>
HWY_INLINE Complex<D> add(Complex<D> a, Complex<D> b) {
  return {hn::Add(a.re, b.re), hn::Add(a.im, b.im)};
}

template <class D>
HWY_INLINE Complex<D> sub(Complex<D> a, Complex<D> b) {
  return {hn::Sub(a.re, b.re), hn::Sub(a.im, b.im)};
}

template <class D>
HWY_INLINE Complex<D> mul(Complex<D> a, Complex<D> w) {
  return {hn::NegMulAdd(a.im, w.im, hn::Mul(a.re, w.re)),
          hn::MulAdd(a.im, w.re, hn::Mul(a.re, w.im))};
}

template <class D>
HWY_INLINE Complex<D> mul_add(Complex<D> a, Complex<D> w, Complex<D> c) {
  return {hn::NegMulAdd(a.im, w.im, hn::MulAdd(a.re, w.re, c.re)),
          hn::MulAdd(a.im, w.re, hn::MulAdd(a.re, w.im, c.im))};
}

template <class D>
HWY_INLINE Complex<D> mul_conj(Complex<D> a, Complex<D> w) {
  return {hn::MulAdd(a.im, w.im, hn::Mul(a.re, w.re)),
          hn::NegMulAdd(a.re, w.im, hn::Mul(a.im, w.re))};
}

// a + i b and a - i b.
template <class D>
HWY_INLINE Complex<D> add_i(Complex<D> a, Complex<D> b) {
  return {hn::Sub(a.re, b.im), hn::Add(a.im, b.re)};
}

template <class D>
HWY_INLINE Complex<D> sub_i(Complex<D> a, Complex<D> b) {
  return {hn::Add(a.re, b.im), hn::Sub(a.im, b.re)};
}

template <class D>
HWY_INLINE Complex<D> load(D d, const double* re, const double* im, std::size_t j) {
  return {hn::LoadU(d, re + j), hn::LoadU(d, im + j)};
}

template <class D>
HWY_INLINE void store(D d, Complex<D> z, double* re, double* im, std::size_t j) {
  hn::StoreU(z.re, d, re + j);
  hn::StoreU(z.im, d, im + j);
}

template <class D>
struct Quad {
  Complex<D> z0, z1, z2, z3;
};

template <class D>
struct Twiddles {
  Complex<D> r1, r2, r3;
};

template <class D>
HWY_INLINE Twiddles<D> broadcast_twiddles(D d, const double* t) {
  return {{hn::Set(d, t[0]), hn::Set(d, t[1])},
          {hn::Set(d, t[2]), hn::Set(d, t[3])},
          {hn::Set(d, t[4]), hn::Set(d, t[5])}};
}

// Of the last level: blocks b, b + 1, ... in the lanes.
template <class D>
HWY_INLINE Twiddles<D> last_twiddles(D d, const FftPlan& plan, std::size_t b) {
  const double* t = plan.last_level.data() + b / kGroupPoints * 6 * kGroupPoints + b % kGroupPoints;
  return {load(d, t, t + kGroupPoints, 0), load(d, t + 2 * kGroupPoints, t + 3 * kGroupPoints, 0),
          load(d, t + 4 * kGroupPoints, t + 5 * kGroupPoints, 0)};
}

template <class D>
HWY_INLINE Quad<D> split_four(Quad<D> z, const Twiddles<D>& w) {
  const auto t1 = mul<D>(z.z1, w.r1), t2 = mul<D>(z.z2, w.r2), t3 = mul<D>(z.z3, w.r3);
  const auto s02 = add<D>(z.z0, t2), d02 = sub<D>(z.z0, t2);
  const auto s13 = add<D>(t1, t3), d13 = sub<D>(t1, t3);
  return {add<D>(s02, s13), add_i<D>(d02, d13), sub<D>(s02, s13), sub_i<D>(d02, d13)};
}

template <class D>
HWY_INLINE Quad<D> join_four(Quad<D> y, const Twiddles<D>& w) {
  const auto s02 = add<D>(y.z0, y.z2), d02 = sub<D>(y.z0, y.z2);
  const auto s13 = add<D>(y.z1, y.z3), d13 = sub<D>(y.z1, y.z3);
  return {add<D>(s02, s13), mul_conj<D>(sub_i<D>(d02, d13), w.r1),
          mul_conj<D>(sub<D>(s02, s13), w.r2), mul_conj<D>(add_i<D>(d02, d13), w.r3)};
}

// Between levels, points lie in runs of kWorkPoints: real parts, then imaginary parts.
inline constexpr std::size_t kWorkPoints = 32;

HWY_INLINE std::size_t work_index(std::size_t j) {
  return j / kWorkPoints * 2 * kWorkPoints + j % kWorkPoints;
}

// Doubles from a point to the one `distance` further, for distances between the parts of a block.
// Blocks are aligned to their size, so that a distance below a run never leaves it.
HWY_INLINE std::size_t work_distance(std::size_t distance) {
  return distance < kWorkPoints ? distance : 2 * distance;
}

// Where a pass reads or leaves its points. `part` is the quarter (or half) of a block, `first` the
// index of the point in part 0.
template <class Double>
struct WorkArray {
  Double* work;
  std::size_t distances[4];

  WorkArray(Double* work, std::size_t part)
      : work(work),
        distances{0, work_distance(part), work_distance(2 * part),
                  work_distance(2 * part) + work_distance(part)} {}

  template <class D>
  HWY_INLINE Complex<D> get(D d, std::size_t first, std::size_t part) const {
    const double* p = work + work_index(first) + distances[part];
    return load(d, p, p + kWorkPoints, 0);
  }
  template <class D>
  HWY_INLINE void put(D d, std::size_t first, std::size_t part, Complex<D> z) const {
    double* p = work + work_index(first) + distances[part];
    store(d, z, p, p + kWorkPoints, 0);
  }
};

// A polynomial in natural order: coefficients j and j + points are the parts of point j.
template <class Double>
struct NaturalArray {
  Double* values;
  std::size_t points, part_points;

  template <class D>
  HWY_INLINE Complex<D> get(D d, std::size_t first, std::size_t part) const {
    return load(d, values, values + points, first + part * part_points);
  }
  template <class D>
  HWY_INLINE void put(D d, std::size_t first, std::size_t part, Complex<D> z) const {
    store(d, z, values, values + points, first + part * part_points);
  }
};

// With eight lanes the two lowest levels are one pass over runs: a vector holds the same part, four
// points, of two blocks of 16. Forward, the level before leaves a run that way.
#undef TORUSML_PAIRS
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX3
#define TORUSML_PAIRS 1
#else
#define TORUSML_PAIRS 0
#endif

#if TORUSML_PAIRS

inline constexpr std::size_t kPairBlock = 16;

// The halves of a vector to places of their own. Halves cost no shuffle on their way to memory.
HWY_INLINE void store_halves(hn::Vec<Wide> v, double* lower, double* upper) {
  const hn::Half<Wide> d;
  hn::StoreU(hn::LowerHalf(d, v), d, lower);
  hn::StoreU(hn::UpperHalf(d, v), d, upper);
}

// Points j to j + 7 of part `part`, a block of 16 points, of a larger block whose runs begin at
// `run`: to both places of the parts that they are.
HWY_INLINE void store_paired(Complex<Wide> z, double* run, std::size_t part, std::size_t j) {
  double* p = run + part / 2 * 2 * kWorkPoints + part % 2 * 4 + 2 * j;
  store_halves(z.re, p, p + 8);
  store_halves(z.im, p + kWorkPoints, p + kWorkPoints + 8);
}

// What a first pass leaves where its parts are blocks of 16 points.
struct PairedArray {
  double* work;

  HWY_INLINE void put(Wide, std::size_t first, std::size_t part, Complex<Wide> z) const {
    store_paired(z, work, part, first);
  }
};

#endif

template <class D, class Source, class Sink>
HWY_INLINE void split_four_pass(D d, std::size_t points, const FftPlan::Level& level,
                                const Source& source, const Sink& sink) {
  const std::size_t quarter = level.block / 4;
  const double* twiddles = level.twiddles.data();
  for (std::size_t first = 0; first < points; first += level.block, twiddles += 6) {
    const auto w = broadcast_twiddles(d, twiddles);
    for (std::size_t j = first; j < first + quarter; j += hn::Lanes(d)) {
      const Quad<D> z = {source.get(d, j, 0), source.get(d, j, 1), source.get(d, j, 2),
                         source.get(d, j, 3)};
      const auto y = split_four<D>(z, w);
      sink.put(d, j, 0, y.z0);
      sink.put(d, j, 1, y.z1);
      sink.put(d, j, 2, y.z2);
      sink.put(d, j, 3, y.z3);
    }
  }
}

template <class D, class Source, class Sink>
HWY_INLINE void join_four_pass(D d, std::size_t points, const FftPlan::Level& level,
                               const Source& source, const Sink& sink) {
  const std::size_t quarter = level.block / 4;
  const double* twiddles = level.twiddles.data();
  for (std::size_t first = 0; first < points; first += level.block, twiddles += 6) {
    const auto w = broadcast_twiddles(d, twiddles);
    for (std::size_t j = first; j < first + quarter; j += hn::Lanes(d)) {
      const Quad<D> y = {source.get(d, j, 0), source.get(d, j, 1), source.get(d, j, 2),
                         source.get(d, j, 3)};
      const auto z = join_four<D>(y, w);
      sink.put(d, j, 0, z.z0);
      sink.put(d, j, 1, z.z1);
      sink.put(d, j, 2, z.z2);
      sink.put(d, j, 3, z.z3);
    }
  }
}

template <class Source, class Sink>
HWY_INLINE void split_two_pass(const FftPlan& plan, const Source& source, const Sink& sink) {
  const Wide d;
  const Complex<Wide> u = {hn::Set(d, plan.head_re), hn::Set(d, plan.head_im)};
  for (std::size_t j = 0; j < plan.points / 2; j += hn::Lanes(d)) {
    const auto z0 = source.get(d, j, 0), t1 = mul<Wide>(source.get(d, j, 1), u);
    sink.put(d, j, 0, add<Wide>(z0, t1));
    sink.put(d, j, 1, sub<Wide>(z0, t1));
  }
}

template <class Source, class Sink>
HWY_INLINE void join_two_pass(const FftPlan& plan, const Source& source, const Sink& sink) {
  const Wide d;
  const Complex<Wide> u = {hn::Set(d, plan.head_re), hn::Set(d, plan.head_im)};
  for (std::size_t j = 0; j < plan.points / 2; j += hn::Lanes(d)) {
    const auto y0 = source.get(d, j, 0), y1 = source.get(d, j, 1);
    sink.put(d, j, 0, add<Wide>(y0, y1));
    sink.put(d, j, 1, mul_conj<Wide>(sub<Wide>(y0, y1), u));
  }
}

// The four parts of a block from p on, vector by vector: offsets are doubles from part to part.
template <class D>
HWY_INLINE void split_parts(D d, double* p, const std::size_t (&offsets)[3], std::size_t count,
                            const Twiddles<D>& w) {
  for (std::size_t j = 0; j < count; j += hn::Lanes(d)) {
    double *p0 = p + j, *p1 = p0 + offsets[0], *p2 = p0 + offsets[1], *p3 = p0 + offsets[2];
    const auto y =
        split_four<D>({load(d, p0, p0 + kWorkPoints, 0), load(d, p1, p1 + kWorkPoints, 0),
                       load(d, p2, p2 + kWorkPoints, 0), load(d, p3, p3 + kWorkPoints, 0)},
                      w);
    store(d, y.z0, p0, p0 + kWorkPoints, 0);
    store(d, y.z1, p1, p1 + kWorkPoints, 0);
    store(d, y.z2, p2, p2 + kWorkPoints, 0);
    store(d, y.z3, p3, p3 + kWorkPoints, 0);
  }
}

#if TORUSML_PAIRS
// A block of 64 points from p on, whose parts are left in pairs.
HWY_INLINE void split_into_pairs(double* p, const Twiddles<Wide>& w) {
  const Wide d;
  const WorkArray<double> parts(p, kPairBlock);
  // All points are read before the first is written: pairs lie elsewhere.
  const auto read = [&](std::size_t j) HWY_ATTR {
    return Quad<Wide>{parts.get(d, j, 0), parts.get(d, j, 1), parts.get(d, j, 2),
                      parts.get(d, j, 3)};
  };
  const auto low = split_four<Wide>(read(0), w), high = split_four<Wide>(read(8), w);
  store_paired(low.z0, p, 0, 0);
  store_paired(low.z1, p, 1, 0);
  store_paired(low.z2, p, 2, 0);
  store_paired(low.z3, p, 3, 0);
  store_paired(high.z0, p, 0, 8);
  store_paired(high.z1, p, 1, 8);
  store_paired(high.z2, p, 2, 8);
  store_paired(high.z3, p, 3, 8);
}
#endif

template <class D>
HWY_INLINE void join_parts(D d, double* p, const std::size_t (&offsets)[3], std::size_t count,
                           const Twiddles<D>& w) {
  for (std::size_t j = 0; j < count; j += hn::Lanes(d)) {
    double *p0 = p + j, *p1 = p0 + offsets[0], *p2 = p0 + offsets[1], *p3 = p0 + offsets[2];
    const auto z =
        join_four<D>({load(d, p0, p0 + kWorkPoints, 0), load(d, p1, p1 + kWorkPoints, 0),
                      load(d, p2, p2 + kWorkPoints, 0), load(d, p3, p3 + kWorkPoints, 0)},
                     w);
    store(d, z.z0, p0, p0 + kWorkPoints, 0);
    store(d, z.z1, p1, p1 + kWorkPoints, 0);
    store(d, z.z2, p2, p2 + kWorkPoints, 0);
    store(d, z.z3, p3, p3 + kWorkPoints, 0);
  }
}

// A level in place. Blocks of 16 and of 64 points have loops of their own, since most of their time
// would go into the bookkeeping of short loops.
template <bool kForward>
HWY_INLINE void level_in_place(std::size_t points, const FftPlan::Level& level, double* work) {
  const auto parts = [](auto d, double* p, const std::size_t(&offsets)[3], std::size_t count,
                        const auto& w) HWY_ATTR {
    if constexpr (kForward) {
      split_parts(d, p, offsets, count, w);
    } else {
      join_parts(d, p, offsets, count, w);
    }
  };
  constexpr std::size_t kRun = 2 * kWorkPoints;
  const double* twiddles = level.twiddles.data();
  double* const end = work + points / kWorkPoints * kRun;
  if (level.block == 16) {
    const Narrow d;
    constexpr std::size_t kOffsets[3] = {4, 8, 12};
    for (double* p = work; p < end; p += kRun, twiddles += 12) {
      parts(d, p, kOffsets, 4, broadcast_twiddles(d, twiddles));
      parts(d, p + 16, kOffsets, 4, broadcast_twiddles(d, twiddles + 6));
    }
    return;
  }
  const Wide d;
  if (level.block == 64) {
    constexpr std::size_t kOffsets[3] = {16, kRun, kRun + 16};
    for (double* p = work; p < end; p += 2 * kRun, twiddles += 6) {
      const auto w = broadcast_twiddles(d, twiddles);
#if TORUSML_PAIRS
      if constexpr (kForward) {
        split_into_pairs(p, w);
        continue;
      }
#endif
      parts(d, p, kOffsets, 16, w);
    }
    return;
  }
  const std::size_t part = level.block / 4 / kWorkPoints * kRun;
  const std::size_t offsets[3] = {part, 2 * part, 3 * part};
  for (double* first = work; first < end; first += 4 * part, twiddles += 6) {
    const auto w = broadcast_twiddles(d, twiddles);
    for (double* p = first; p < first + part; p += kRun) parts(d, p, offsets, kWorkPoints, w);
  }
}

// Part size of the first level, that is, of the arrays that it reads and the last inverse level
// writes: a vector or more at every size.
HWY_INLINE std::size_t first_part(const FftPlan& plan) {
  return plan.points / (plan.has_head ? 2 : 4);
}

// Levels that a pass over runs leaves to the passes before it: not the last nor, in pairs, that of
// blocks of 16.
HWY_INLINE std::size_t levels_before_runs(const FftPlan& plan) {
  return plan.levels.size() - TORUSML_PAIRS;
}

template <class Source, class Sink>
HWY_INLINE void split_first(const FftPlan& plan, const Source& source, const Sink& sink) {
  if (plan.has_head) {
    split_two_pass(plan, source, sink);
  } else {
    split_four_pass(Wide(), plan.points, plan.levels[0], source, sink);
  }
}

// All levels before the pass over runs; the first reads from `source`, the others work in place.
template <class Source>
HWY_INLINE void split_levels(const FftPlan& plan, const Source& source, double* work) {
  const std::size_t part = first_part(plan);
#if TORUSML_PAIRS
  if (part == kPairBlock) return split_first(plan, source, PairedArray{work});
#endif
  split_first(plan, source, WorkArray<double>(work, part));
  for (std::size_t next = plan.has_head ? 0 : 1; next < levels_before_runs(plan); ++next)
    level_in_place<true>(plan.points, plan.levels[next], work);
}

// The inverse of split_levels; the level that comes first in the forward direction writes to
// `sink`.
template <class Sink>
HWY_INLINE void join_levels(const FftPlan& plan, double* work, const Sink& sink) {
  for (std::size_t next = levels_before_runs(plan); next-- > (plan.has_head ? 0 : 1);) {
    level_in_place<false>(plan.points, plan.levels[next], work);
  }
  const WorkArray<double> array(work, first_part(plan));
  if (plan.has_head) {
    join_two_pass(plan, array, sink);
  } else {
    join_four_pass(Wide(), plan.points, plan.levels[0], array, sink);
  }
}

#if TORUSML_PAIRS

// Twiddles of two blocks of 16 points, each in its half.
HWY_INLINE Twiddles<Wide> pair_twiddles(Wide d, const FftPlan& plan, std::size_t b) {
  const double* t = plan.levels.back().twiddles.data() + b / 4 * 6;
  const auto first_half = hn::FirstN(d, 4);
  const auto both = [&](std::size_t i) HWY_ATTR {
    return hn::IfThenElse(first_half, hn::Set(d, t[i]), hn::Set(d, t[6 + i]));
  };
  return {{both(0), both(1)}, {both(2), both(3)}, {both(4), both(5)}};
}

// In each half: lane t of vector s against lane s of vector t.
HWY_INLINE void transpose_halves(Wide d, hn::Vec<Wide>& v0, hn::Vec<Wide>& v1, hn::Vec<Wide>& v2,
                                 hn::Vec<Wide>& v3) {
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
  const __m512i high = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);
  const auto even01 = hn::InterleaveLower(d, v0, v1), odd01 = hn::InterleaveUpper(d, v0, v1);
  const auto even23 = hn::InterleaveLower(d, v2, v3), odd23 = hn::InterleaveUpper(d, v2, v3);
  v0.raw = _mm512_permutex2var_pd(even01.raw, low, even23.raw);
  v1.raw = _mm512_permutex2var_pd(odd01.raw, low, odd23.raw);
  v2.raw = _mm512_permutex2var_pd(even01.raw, high, even23.raw);
  v3.raw = _mm512_permutex2var_pd(odd01.raw, high, odd23.raw);
}

HWY_INLINE Quad<Wide> transpose_halves(Wide d, Quad<Wide> z) {
  transpose_halves(d, z.z0.re, z.z1.re, z.z2.re, z.z3.re);
  transpose_halves(d, z.z0.im, z.z1.im, z.z2.im, z.z3.im);
  return z;
}

#endif

// The pass over runs, and the last level of it: a vector holds one point of the blocks of four b,
// b + 1, ..., as many as it has lanes.
template <class D>
HWY_INLINE Quad<D> split_last(D d, const FftPlan& plan, const double* work, std::size_t b) {
  const double* in = work + work_index(4 * b);
#if TORUSML_PAIRS
  const WorkArray<const double> pairs(in, 8);
  const Quad<D> parts = {pairs.get(d, 0, 0), pairs.get(d, 0, 1), pairs.get(d, 0, 2),
                         pairs.get(d, 0, 3)};
  const auto z = transpose_halves(d, split_four<D>(parts, pair_twiddles(d, plan, b)));
#else
  Quad<D> z;
  hn::LoadInterleaved4(d, in, z.z0.re, z.z1.re, z.z2.re, z.z3.re);
  hn::LoadInterleaved4(d, in + kWorkPoints, z.z0.im, z.z1.im, z.z2.im, z.z3.im);
#endif
  return split_four<D>(z, last_twiddles(d, plan, b));
}

template <class D>
HWY_INLINE void join_last(D d, const FftPlan& plan, Quad<D> y, std::size_t b, double* work) {
  double* out = work + work_index(4 * b);
  const auto z = join_four<D>(y, last_twiddles(d, plan, b));
#if TORUSML_PAIRS
  const auto parts = join_four<D>(transpose_halves(d, z), pair_twiddles(d, plan, b));
  const Complex<D> in_order[4] = {parts.z0, parts.z1, parts.z2, parts.z3};
  for (std::size_t part = 0; part < 4; ++part) {
    double* p = out + 4 * part;
    store_halves(in_order[part].re, p, p + kPairBlock);
    store_halves(in_order[part].im, p + kWorkPoints, p + kWorkPoints + kPairBlock);
  }
#else
  hn::StoreInterleaved4(z.z0.re, z.z1.re, z.z2.re, z.z3.re, d, out);
  hn::StoreInterleaved4(z.z0.im, z.z1.im, z.z2.im, z.z3.im, d, out + kWorkPoints);
#endif
}

// Point s of blocks b, b + 1, ... in a transformed polynomial.
HWY_INLINE std::size_t group_index(std::size_t b, std::size_t s) {
  return (4 * (b / kGroupPoints) + s) * 2 * kGroupPoints + b % kGroupPoints;
}

}  // namespace torusml::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
