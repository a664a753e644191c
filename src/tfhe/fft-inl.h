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

template <class D>
HWY_INLINE Twiddles<D> load_twiddles(D d, const double* t, std::size_t stride, std::size_t b) {
  return {load(d, t, t + stride, b), load(d, t + 2 * stride, t + 3 * stride, b),
          load(d, t + 4 * stride, t + 5 * stride, b)};
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

// Where a pass reads or leaves its points: arrays of real and imaginary parts.
struct DoublesSource {
  const double *re, *im;
  template <class D>
  HWY_INLINE Complex<D> operator()(D d, std::size_t j) const {
    return load(d, re, im, j);
  }
};

struct DoublesSink {
  double *re, *im;
  template <class D>
  HWY_INLINE void operator()(D d, std::size_t j, Complex<D> z) const {
    store(d, z, re, im, j);
  }
};

template <class D, class Source, class Sink>
HWY_INLINE void split_four_pass(D d, std::size_t points, const FftPlan::Level& level,
                                const Source& source, const Sink& sink) {
  const std::size_t quarter = level.block / 4;
  const double* twiddles = level.twiddles.data();
  for (std::size_t first = 0; first < points; first += level.block, twiddles += 6) {
    const auto w = broadcast_twiddles(d, twiddles);
    for (std::size_t j = first; j < first + quarter; j += hn::Lanes(d)) {
      const Quad<D> z = {source(d, j), source(d, j + quarter), source(d, j + 2 * quarter),
                         source(d, j + 3 * quarter)};
      const auto y = split_four<D>(z, w);
      sink(d, j, y.z0);
      sink(d, j + quarter, y.z1);
      sink(d, j + 2 * quarter, y.z2);
      sink(d, j + 3 * quarter, y.z3);
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
      const Quad<D> y = {source(d, j), source(d, j + quarter), source(d, j + 2 * quarter),
                         source(d, j + 3 * quarter)};
      const auto z = join_four<D>(y, w);
      sink(d, j, z.z0);
      sink(d, j + quarter, z.z1);
      sink(d, j + 2 * quarter, z.z2);
      sink(d, j + 3 * quarter, z.z3);
    }
  }
}

template <class Source, class Sink>
HWY_INLINE void split_two_pass(const FftPlan& plan, const Source& source, const Sink& sink) {
  const Wide d;
  const std::size_t half = plan.points / 2;
  const Complex<Wide> u = {hn::Set(d, plan.head_re), hn::Set(d, plan.head_im)};
  for (std::size_t j = 0; j < half; j += hn::Lanes(d)) {
    const auto z0 = source(d, j), t1 = mul<Wide>(source(d, j + half), u);
    sink(d, j, add<Wide>(z0, t1));
    sink(d, j + half, sub<Wide>(z0, t1));
  }
}

template <class Source, class Sink>
HWY_INLINE void join_two_pass(const FftPlan& plan, const Source& source, const Sink& sink) {
  const Wide d;
  const std::size_t half = plan.points / 2;
  const Complex<Wide> u = {hn::Set(d, plan.head_re), hn::Set(d, plan.head_im)};
  for (std::size_t j = 0; j < half; j += hn::Lanes(d)) {
    const auto y0 = source(d, j), y1 = source(d, j + half);
    sink(d, j, add<Wide>(y0, y1));
    sink(d, j + half, mul_conj<Wide>(sub<Wide>(y0, y1), u));
  }
}

// A level with the widest vector that fits between its quarters.
template <class Source, class Sink>
HWY_INLINE void split_level(std::size_t points, const FftPlan::Level& level, const Source& source,
                            const Sink& sink) {
  if (level.block / 4 >= hn::Lanes(Wide())) {
    split_four_pass(Wide(), points, level, source, sink);
  } else {
    split_four_pass(Narrow(), points, level, source, sink);
  }
}

template <class Source, class Sink>
HWY_INLINE void join_level(std::size_t points, const FftPlan::Level& level, const Source& source,
                           const Sink& sink) {
  if (level.block / 4 >= hn::Lanes(Wide())) {
    join_four_pass(Wide(), points, level, source, sink);
  } else {
    join_four_pass(Narrow(), points, level, source, sink);
  }
}

// Blocks of four neighbours: a vector holds one point of several blocks. Result s of block b goes
// to s * points / 4 + b.
template <class D>
HWY_INLINE void split_last(D d, const FftPlan& plan, const double* in, double* out) {
  const std::size_t points = plan.points, blocks = points / 4;
  for (std::size_t b = 0; b < blocks; b += hn::Lanes(d)) {
    Quad<D> z;
    hn::LoadInterleaved4(d, in + 4 * b, z.z0.re, z.z1.re, z.z2.re, z.z3.re);
    hn::LoadInterleaved4(d, in + points + 4 * b, z.z0.im, z.z1.im, z.z2.im, z.z3.im);
    const auto y = split_four<D>(z, load_twiddles(d, plan.last_level.data(), blocks, b));
    store(d, y.z0, out, out + points, b);
    store(d, y.z1, out, out + points, b + blocks);
    store(d, y.z2, out, out + points, b + 2 * blocks);
    store(d, y.z3, out, out + points, b + 3 * blocks);
  }
}

template <class D>
HWY_INLINE void join_last(D d, const FftPlan& plan, const double* in, double* out) {
  const std::size_t points = plan.points, blocks = points / 4;
  for (std::size_t b = 0; b < blocks; b += hn::Lanes(d)) {
    const Quad<D> y = {load(d, in, in + points, b), load(d, in, in + points, b + blocks),
                       load(d, in, in + points, b + 2 * blocks),
                       load(d, in, in + points, b + 3 * blocks)};
    const auto z = join_four<D>(y, load_twiddles(d, plan.last_level.data(), blocks, b));
    hn::StoreInterleaved4(z.z0.re, z.z1.re, z.z2.re, z.z3.re, d, out + 4 * b);
    hn::StoreInterleaved4(z.z0.im, z.z1.im, z.z2.im, z.z3.im, d, out + points + 4 * b);
  }
}

// The first level reads from `source`; the others work in place in `work`.
template <class Source>
HWY_INLINE void forward_from(const FftPlan& plan, const Source& source, double* work, double* out) {
  const std::size_t points = plan.points;
  const DoublesSource from_work{work, work + points};
  const DoublesSink to_work{work, work + points};
  std::size_t next = 0;
  if (plan.has_head) {
    split_two_pass(plan, source, to_work);
  } else {
    split_level(points, plan.levels[next++], source, to_work);
  }
  for (; next < plan.levels.size(); ++next) {
    split_level(points, plan.levels[next], from_work, to_work);
  }
  if (points / 4 >= hn::Lanes(Wide())) {
    split_last(Wide(), plan, work, out);
  } else {
    split_last(Narrow(), plan, work, out);
  }
}

// The last level writes to `sink`; the others work in place in `work`.
template <class Sink>
HWY_INLINE void inverse_to(const FftPlan& plan, const double* in, double* work, const Sink& sink) {
  const std::size_t points = plan.points;
  if (points / 4 >= hn::Lanes(Wide())) {
    join_last(Wide(), plan, in, work);
  } else {
    join_last(Narrow(), plan, in, work);
  }
  const DoublesSource from_work{work, work + points};
  const DoublesSink to_work{work, work + points};
  const std::size_t kept = plan.has_head ? 0 : 1;
  for (std::size_t next = plan.levels.size(); next-- > kept;) {
    join_level(points, plan.levels[next], from_work, to_work);
  }
  if (plan.has_head) {
    join_two_pass(plan, from_work, sink);
  } else {
    join_level(points, plan.levels[0], from_work, sink);
  }
}

}  // namespace torusml::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
