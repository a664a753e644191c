#include "quantization/output_loss.h"

#include <algorithm>

namespace torusml {
namespace {

using Eigen::ArrayXXf;

constexpr double kSquaredShare = 0.2;     // of the loss of a classifier
constexpr double kDivergenceShare = 0.2;  // beside the probabilities' squared differences
constexpr double kLeastUnit = 1e-12;

// Logarithms of the classes' probabilities.
ArrayXXf log_softmax(const ArrayXXf& x) {
  const ArrayXXf shifted = x.colwise() - x.rowwise().maxCoeff();
  return shifted.colwise() - shifted.exp().rowwise().sum().log();
}

}  // namespace

OutputLoss::OutputLoss(const std::vector<double>& outputs, std::int64_t samples, bool is_classifier)
    : samples_(samples), is_classifier_(is_classifier), expected_(to_array(outputs)) {
  if (!is_classifier_) return;
  const ArrayXXf logarithm = log_softmax(expected_);
  probability_ = logarithm.exp();
  entropy_ = (probability_ * logarithm).sum() / static_cast<double>(samples);
}

ArrayXXf OutputLoss::to_array(const std::vector<double>& outputs) const {
  const auto elements = static_cast<Eigen::Index>(outputs.size()) / samples_;
  return Eigen::Map<const Eigen::Array<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>(
             outputs.data(), samples_, elements)
      .cast<float>();
}

void OutputLoss::relate_to(const ArrayXXf& found) {
  squared_unit_ = std::max(squared_error(found), kLeastUnit);
  if (is_classifier_) class_unit_ = std::max(class_error(found), kLeastUnit);
}

double OutputLoss::of(const ArrayXXf& found) const {
  const double squared = squared_error(found) / squared_unit_;
  if (!is_classifier_) return squared;
  return kSquaredShare * squared + (1 - kSquaredShare) * class_error(found) / class_unit_;
}

double OutputLoss::squared_error(const ArrayXXf& found) const {
  return (found - expected_).square().mean();
}

double OutputLoss::class_error(const ArrayXXf& found) const {
  const ArrayXXf logarithm = log_softmax(found);
  const double squared = (logarithm.exp() - probability_).square().sum();
  const double cross = (probability_ * logarithm).sum();
  const auto samples = static_cast<double>(samples_);
  return squared / samples + kDivergenceShare * std::max(0.0, entropy_ - cross / samples);
}

}  // namespace torusml
