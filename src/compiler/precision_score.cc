#include "compiler/precision_score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr std::size_t kLeastSamples = 20;

Criterion resolve(Criterion criterion, const std::vector<Tensor<double>>& exact) {
  if (criterion != Criterion::automatic) return criterion;
  const bool is_classifier =
      exact.size() == 1 && exact[0].shape.size() >= 2 && exact[0].shape.back() > 1;
  return is_classifier ? Criterion::argmax : Criterion::relative_error;
}

[[noreturn]] void refuse(const char* name, double value, const char* range) {
  throw Error(ErrorCode::invalid_argument, fmt::format("{} is {}; {}", name, value, range),
              "precision \"auto\"");
}

// By row of the last axis.
double argmax_loss(const Tensor<double>& exact, const Tensor<double>& simulated) {
  const auto width = static_cast<std::ptrdiff_t>(exact.shape.back());
  const auto largest = [&](const Tensor<double>& y, std::size_t row) {
    const auto first = y.data.begin() + static_cast<std::ptrdiff_t>(row) * width;
    return std::max_element(first, first + width) - first;
  };
  const std::size_t rows = exact.data.size() / static_cast<std::size_t>(width);
  std::size_t wrong = 0;
  for (std::size_t row = 0; row < rows; ++row)
    wrong += largest(exact, row) == largest(simulated, row) ? 0 : 1;
  return static_cast<double>(wrong) / static_cast<double>(rows);
}

double relative_error(const Tensor<double>& exact, const Tensor<double>& simulated) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < exact.data.size(); ++i) {
    difference += (simulated.data[i] - exact.data[i]) * (simulated.data[i] - exact.data[i]);
    size += exact.data[i] * exact.data[i];
  }
  if (difference == 0) return 0;
  return size == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(difference / size);
}

}  // namespace

PrecisionScore::PrecisionScore(const PrecisionTarget& target,
                               const std::vector<Tensor<double>>& exact)
    : target_(target), exact_(exact), criterion_(resolve(target.criterion, exact)) {
  if (criterion_ == Criterion::argmax) {
    for (const Tensor<double>& output : exact) {
      if (output.shape.size() >= 2 && output.shape.back() > 1) continue;
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("an output of shape {} has no classes to compare", to_string(output.shape)),
          "precision \"auto\"", "relative_error, or a metric of your own");
    }
    if (!(target.least_agreement > 0 && target.least_agreement < 1))
      refuse("agreement", target.least_agreement, "it must lie between 0 and 1");
    most_loss_ = 1 - target.least_agreement;
  } else if (criterion_ == Criterion::relative_error) {
    if (!(target.most_relative_error > 0 && target.most_relative_error < 1))
      refuse("relative_error", target.most_relative_error, "it must lie between 0 and 1");
    most_loss_ = target.most_relative_error;
  } else {
    if (!target.metric)
      throw Error(ErrorCode::invalid_argument, "there is no metric", "precision \"auto\"");
    if (!(target.max_loss > 0) || !std::isfinite(target.max_loss))
      refuse("max_loss", target.max_loss, "it must be above 0");
    most_loss_ = target.max_loss;
  }
}

std::size_t PrecisionScore::least_samples() const {
  if (criterion_ != Criterion::argmax) return kLeastSamples;
  // One sample that differs is within the target.
  return std::max(kLeastSamples, static_cast<std::size_t>(std::ceil(1 / most_loss_ - 1e-6)));
}

std::string PrecisionScore::loss_text() const {
  return criterion_ == Criterion::argmax ? "a share of differing predictions"
                                         : "a loss of the " + to_string(criterion_);
}

SampleSplit PrecisionScore::split(std::size_t samples, std::size_t most, std::uint64_t seed) const {
  std::vector<std::size_t> all(samples);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  std::mt19937_64 random(seed);
  for (std::size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[random() % i]);
  const std::size_t first = all.size() / 3;
  const std::size_t needed = least_samples();
  if (all.size() - first < needed || first == 0) {
    std::size_t enough = std::max<std::size_t>(needed, 3);
    while (enough - enough / 3 < needed) ++enough;
    throw Error(ErrorCode::calibration_too_small,
                fmt::format("{} calibration samples are too few to judge {} of {:.4g}: {} would do",
                            all.size(), loss_text(), most_loss(), enough),
                "precision \"auto\"",
                "more samples, a looser target, or precision \"exact\" or \"tolerant\"");
  }
  const auto take = [&](std::size_t from, std::size_t count) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(from);
    return std::vector(begin, begin + static_cast<std::ptrdiff_t>(count));
  };
  return {take(0, std::min(first, most)), take(first, std::min(all.size() - first, 2 * most))};
}

double PrecisionScore::metric_of(const std::vector<Tensor<double>>& outputs,
                                 const std::vector<std::size_t>& samples, const char* which) const {
  const double value = target_.metric(outputs, samples);
  if (std::isfinite(value)) return value;
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("the metric is {} on {} outputs of {} samples", value, which, samples.size()),
      "metric", "a metric that is finite on outputs of this network");
}

double PrecisionScore::loss(const std::vector<Tensor<double>>& simulated,
                            const std::vector<std::size_t>& samples) const {
  const std::vector<Tensor<double>> exact = take_samples(exact_, samples);
  if (criterion_ == Criterion::metric)
    return metric_of(exact, samples, "exact") - metric_of(simulated, samples, "simulated");
  double worst = 0;
  for (std::size_t o = 0; o < exact.size(); ++o) {
    worst =
        std::max(worst, criterion_ == Criterion::argmax ? argmax_loss(exact[o], simulated[o])
                                                        : relative_error(exact[o], simulated[o]));
  }
  return worst;
}

}  // namespace torusml
