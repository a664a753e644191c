#include "quantization/integer_fit.h"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <functional>

#include "base/threads.h"

namespace torusml {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

// Of the mean of the features' variances: how much weights are held back where samples are silent.
constexpr double kRidge = 1e-4;
// Steps that are tried, by that which gives the largest weight the largest integer.
constexpr double kSteps[] = {1, 0.85, 0.7, 0.6, 0.5, 0.4, 0.3};
constexpr double kWiderSteps[] = {1.4, 2, 2.8, 4, 5.6, 8, 16, 32};
constexpr double kEnough = 1e-9;  // relative gain of a move

// Normal equations of centred numbers.
struct Equations {
  MatrixXd gram;   // parameters x parameters
  MatrixXd right;  // parameters x channels
  VectorXd feature_mean, target_mean;
  double target_squares = 0;

  Equations(const RowMatrix& features, const RowMatrix& targets, const RowMatrix& weights) {
    feature_mean = features.colwise().mean();
    target_mean = targets.colwise().mean();
    const RowMatrix x = features.rowwise() - feature_mean.transpose();
    const RowMatrix y = targets.rowwise() - target_mean.transpose();
    gram.noalias() = x.transpose() * x;
    right.noalias() = x.transpose() * y;
    const auto count = static_cast<double>(gram.rows());
    const double mean = gram.trace() / count;
    const double ridge = mean > 0 ? kRidge * mean : 1;
    gram.diagonal().array() += ridge;
    right += ridge * weights.transpose();
    target_squares = y.squaredNorm() + ridge * weights.squaredNorm();
  }
};

struct Candidate {
  VectorXd integers;
  double gain = 0;  // by how much it lowers the squared error
};

class ChannelFit {
 public:
  ChannelFit(const Equations& equations, const MatrixXd& follow, Eigen::Index channel,
             VectorXd start, std::vector<bool> is_zero, int bits)
      : gram_(equations.gram),
        follow_(follow),
        right_(equations.right.col(channel)),
        start_(std::move(start)),
        is_zero_(std::move(is_zero)),
        lowest_(-std::ldexp(1.0, bits - 1)),
        highest_(std::ldexp(1.0, bits - 1) - 1) {}

  double largest() const { return start_.cwiseAbs().maxCoeff(); }
  double highest() const { return highest_; }

  // One weight after the other; `follow` says how the rest make up for a rounding.
  VectorXd rounded(double scale) const {
    VectorXd rest = start_ / scale, integers(rest.size());
    for (Eigen::Index i = 0; i < rest.size(); ++i) {
      integers[i] = is_zero_[static_cast<std::size_t>(i)]
                        ? 0
                        : std::clamp(std::nearbyint(rest[i]), lowest_, highest_);
      const double error = (rest[i] - integers[i]) / follow_(i, i);
      const Eigen::Index left = rest.size() - i - 1;
      if (error != 0) rest.tail(left) -= error * follow_.row(i).tail(left).transpose();
    }
    return integers;
  }

  double norm(const VectorXd& integers) const { return integers.dot(gram_ * integers); }
  double product(const VectorXd& integers) const { return integers.dot(right_); }

  // With the best step for the integers.
  double gain(const VectorXd& integers) const {
    const double p = product(integers), n = norm(integers);
    return n > 0 ? p * p / n : 0;
  }

  // Moves of one integer, the best first, while they raise `gain` (scale == 0) or lower the error
  // under a given scale.
  void improve(VectorXd& integers, double scale) const {
    VectorXd g = gram_ * integers;
    double n = integers.dot(g), p = product(integers);
    for (Eigen::Index moves = 0; moves < 8 * integers.size() + 64; ++moves) {
      const double now = value(p, n, scale);
      double best = now;
      Eigen::Index at = -1;
      double by = 0;
      for (Eigen::Index i = 0; i < integers.size(); ++i) {
        if (is_zero_[static_cast<std::size_t>(i)]) continue;
        for (const double d : {1.0, -1.0}) {
          if (integers[i] + d < lowest_ || integers[i] + d > highest_) continue;
          const double found = value(p + d * right_[i], n + 2 * d * g[i] + gram_(i, i), scale);
          if (found <= best) continue;
          best = found;
          at = i;
          by = d;
        }
      }
      if (at < 0 || best - now <= kEnough * std::abs(best)) return;
      p += by * right_[at];
      n += 2 * by * g[at] + gram_(at, at);
      g += by * gram_.col(at);
      integers[at] += by;
    }
  }

 private:
  static double value(double p, double n, double scale) {
    if (scale != 0) return 2 * scale * p - scale * scale * n;
    return n > 0 ? p * p / n : 0;
  }

  const MatrixXd& gram_;
  const MatrixXd& follow_;
  const VectorXd right_, start_;
  const std::vector<bool> is_zero_;
  const double lowest_, highest_;
};

double width_of(const RowMatrix& features, const VectorXd& integers) {
  const VectorXd sums = features * integers;
  return sums.maxCoeff() - sums.minCoeff();
}

class Fit {
 public:
  Fit(const RowMatrix& features, const RowMatrix& targets, const RowMatrix& weights,
      const IntegerFitOptions& options)
      : features_(features), equations_(features, targets, weights), options_(options) {
    const Eigen::LLT<MatrixXd> solver(equations_.gram);
    const MatrixXd solution = solver.solve(equations_.right);
    const MatrixXd inverse = solver.solve(MatrixXd::Identity(weights.cols(), weights.cols()));
    follow_ = inverse.llt().matrixU();
    for (Eigen::Index c = 0; c < weights.rows(); ++c) {
      std::vector<bool> is_zero;
      for (Eigen::Index k = 0; k < weights.cols(); ++k) is_zero.push_back(weights(c, k) == 0);
      const bool is_pruned = std::ranges::find(is_zero, true) != is_zero.end();
      channels_.emplace_back(equations_, follow_, c,
                             is_pruned ? VectorXd(weights.row(c)) : VectorXd(solution.col(c)),
                             std::move(is_zero), options.bits);
    }
  }

  IntegerFit run() {
    std::vector<VectorXd> integers = options_.has_one_scale ? with_one_scale() : with_own_scales();
    IntegerFit fit;
    for (std::size_t c = 0; c < channels_.size(); ++c) {
      const double norm = channels_[c].norm(integers[c]);
      const double own = norm > 0 ? channels_[c].product(integers[c]) / norm : 0;
      fit.scale.push_back(options_.has_one_scale ? scale_ : own != 0 ? own : 1);
      const auto row = static_cast<Eigen::Index>(c);
      fit.shift.push_back(equations_.target_mean[row] -
                          fit.scale[c] * integers[c].dot(equations_.feature_mean));
      for (const double v : integers[c]) fit.integers.push_back(static_cast<std::int64_t>(v));
    }
    return fit;
  }

 private:
  std::vector<VectorXd> with_own_scales() const {
    std::vector<VectorXd> integers(channels_.size());
    parallel_for(channels_.size(), [&](std::size_t c) { integers[c] = of_channel(channels_[c]); });
    return integers;
  }

  bool fits(const VectorXd& integers) const {
    return options_.most_width == 0 || width_of(features_, integers) <= options_.most_width;
  }

  VectorXd of_channel(const ChannelFit& channel) const {
    const VectorXd nothing = VectorXd::Zero(equations_.gram.rows());
    if (channel.largest() == 0) return nothing;
    std::vector<Candidate> candidates;
    for (const double step : kSteps) {
      for (const double sign : {1.0, -1.0}) {  // there is one more integer below zero
        VectorXd integers = channel.rounded(sign * step * channel.largest() / channel.highest());
        const double gain = channel.gain(integers);
        candidates.push_back({std::move(integers), gain});
      }
    }
    std::ranges::stable_sort(candidates, std::greater(), &Candidate::gain);
    constexpr std::size_t kImproved = 4;
    for (std::size_t i = 0; i < std::min(kImproved, candidates.size()); ++i) {
      channel.improve(candidates[i].integers, 0);
      candidates[i].gain = channel.gain(candidates[i].integers);
    }
    std::ranges::stable_sort(candidates, std::greater(), &Candidate::gain);
    for (const Candidate& candidate : candidates) {
      if (fits(candidate.integers)) return candidate.integers;
    }
    for (const double step : kWiderSteps) {
      VectorXd integers = channel.rounded(step * channel.largest() / channel.highest());
      if (fits(integers)) return integers;
    }
    return nothing;
  }

  // The step of all channels with the least error.
  std::vector<VectorXd> with_one_scale() {
    double largest = 0;
    for (const ChannelFit& channel : channels_) largest = std::max(largest, channel.largest());
    std::vector<VectorXd> best(channels_.size(), VectorXd::Zero(equations_.gram.rows()));
    scale_ = 1;
    if (largest == 0) return best;
    double most = 0;
    for (const double step : kSteps) {
      std::vector<VectorXd> integers(channels_.size());
      double scale = step * largest / channels_[0].highest();
      parallel_for(channels_.size(), [&](std::size_t c) {
        integers[c] = channels_[c].rounded(scale);
        channels_[c].improve(integers[c], scale);
      });
      double product = 0, norm = 0;
      for (std::size_t c = 0; c < channels_.size(); ++c) {
        product += channels_[c].product(integers[c]);
        norm += channels_[c].norm(integers[c]);
      }
      if (!(norm > 0) || product <= 0 || product * product / norm <= most) continue;
      most = product * product / norm;
      scale_ = product / norm;
      best = std::move(integers);
    }
    return best;
  }

  const RowMatrix& features_;
  const Equations equations_;
  const IntegerFitOptions options_;
  MatrixXd follow_;
  std::vector<ChannelFit> channels_;
  double scale_ = 1;
};

}  // namespace

IntegerFit fit_integers(const RowMatrix& features, const RowMatrix& targets,
                        const RowMatrix& weights, const IntegerFitOptions& options) {
  return Fit(features, targets, weights, options).run();
}

double least_squares_error(const RowMatrix& features, const RowMatrix& targets,
                           const RowMatrix& weights) {
  const Equations equations(features, targets, weights);
  const MatrixXd solution = equations.gram.llt().solve(equations.right);
  return std::max(0.0, equations.target_squares - equations.right.cwiseProduct(solution).sum());
}

}  // namespace torusml
