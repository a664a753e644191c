#include "quantization/step_thresholds.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "torusml/error.h"

namespace torusml {
namespace {

constexpr int kBisections = 40;

class Bisection {
 public:
  Bisection(const FloatTensor& values, const UniformQuantizer& quantizer,
            const std::function<std::vector<double>(const FloatTensor&)>& function)
      : values_(values),
        quantizer_(quantizer),
        function_(function),
        elements_(values.values.data.size() / static_cast<std::size_t>(values.values.shape[0])),
        steps_(static_cast<std::size_t>(quantizer.highest() - quantizer.lowest())) {}

  std::optional<Eigen::ArrayXXf> run() {
    const MinMaxQuantizationStats range = min_max_stats(values_.values.data);
    const double margin = 0.5 * (range.rmax - range.rmin) + 1e-6;
    std::vector<double> below(steps_ * elements_, range.rmin - margin);
    std::vector<double> above(steps_ * elements_, range.rmax + margin);
    const std::vector<bool> always = reached(below), ever = reached(above);
    for (int i = 0; i < kBisections; ++i) {
      std::vector<double> middle(below.size());
      for (std::size_t j = 0; j < middle.size(); ++j) middle[j] = (below[j] + above[j]) / 2;
      const std::vector<bool> is_reached = reached(middle);
      for (std::size_t j = 0; j < middle.size(); ++j)
        (is_reached[j] ? above : below)[j] = middle[j];
    }
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    Eigen::ArrayXXf thresholds(static_cast<Eigen::Index>(elements_),
                               static_cast<Eigen::Index>(steps_));
    for (std::size_t step = 0; step < steps_; ++step) {
      for (std::size_t e = 0; e < elements_; ++e) {
        const std::size_t j = step * elements_ + e;
        thresholds(static_cast<Eigen::Index>(e), static_cast<Eigen::Index>(step)) =
            always[j] ? -kInfinity
            : ever[j] ? static_cast<float>(above[j])
                      : kInfinity;
      }
    }
    return reproduces(thresholds) ? std::optional(std::move(thresholds)) : std::nullopt;
  }

 private:
  // steps x elements: whether the integer is at least lowest + step + 1.
  std::vector<bool> reached(const std::vector<double>& y) const {
    FloatTensor tensor{ElementType::floating, {values_.values.shape, y}};
    tensor.values.shape[0] = static_cast<std::int64_t>(steps_);
    const std::vector<std::int64_t> q = quantizer_.quantize(function_(tensor));
    std::vector<bool> result(q.size());
    for (std::size_t j = 0; j < q.size(); ++j)
      result[j] = q[j] > quantizer_.lowest() + static_cast<std::int64_t>(j / elements_);
    return result;
  }

  // Float32 thresholds may misjudge a number that lies on one.
  bool reproduces(const Eigen::ArrayXXf& thresholds) const {
    const std::vector<double>& y = values_.values.data;
    const std::vector<std::int64_t> q = quantizer_.quantize(function_(values_));
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const auto row = thresholds.row(static_cast<Eigen::Index>(i % elements_));
      const auto count = (row <= static_cast<float>(y[i])).count();
      wrong += q[i] != quantizer_.lowest() + count;
    }
    return wrong * 1000 <= y.size();
  }

  const FloatTensor& values_;
  const UniformQuantizer& quantizer_;
  const std::function<std::vector<double>(const FloatTensor&)>& function_;
  const std::size_t elements_, steps_;
};

}  // namespace

std::optional<Eigen::ArrayXXf> step_thresholds(
    const FloatTensor& values, const UniformQuantizer& quantizer,
    const std::function<std::vector<double>(const FloatTensor&)>& function) {
  try {
    return Bisection(values, quantizer, function).run();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::non_finite_value) throw;
    return std::nullopt;
  }
}

}  // namespace torusml
